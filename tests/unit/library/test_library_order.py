from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.library import order
from safelight.library.errors import LibraryError

counts = st.integers(1, 30)


def is_strictly_ascending(keys: list[str]) -> bool:
    return all(one < two for one, two in pairwise(keys))


@pytest.mark.parametrize("position", ["", "a", "a00", "0", "é0", "a0 ", "A" + "0" * 26, "a0-", "a" * 101, "\0"])
def test_what_is_no_key_is_refused_because_nothing_could_be_put_beside_it(position: str):
    with pytest.raises(LibraryError) as refused:
        order.check_position(position)
    assert refused.value.code == "invalid_input"


@given(counts, counts)
def test_things_are_added_at_the_end(first: int, more: int):
    keys = order.at_end(None, first)
    assert is_strictly_ascending(keys + order.at_end(keys[-1], more))


@given(counts, st.data(), counts)
def test_what_is_dropped_on_a_taken_place_goes_right_behind_it(size: int, data: st.DataObject, n: int):
    taken = order.at_end(None, size)
    wanted = data.draw(st.sampled_from(taken))
    fresh = order.from_position(wanted, taken, n)
    assert is_strictly_ascending([wanted, *fresh])
    behind = [key for key in taken if key > wanted]
    assert not behind or fresh[-1] < behind[0]


def test_a_free_place_is_given_as_wanted():
    assert order.from_position("a0V", ["a0", "a1"]) == ["a0V"]


@given(st.lists(st.one_of(st.none(), st.sampled_from(order.at_end(None, 12))), max_size=25))
def test_any_order_can_be_made_from_any_keys_even_absent_and_doubled_ones(current: list[str | None]):
    keys = order.rekey(current)
    assert len(keys) == len(current)
    assert is_strictly_ascending(keys)
    for key in keys:
        order.check_position(key)


@given(st.integers(2, 40), st.data())
def test_moving_one_thing_changes_one_key(size: int, data: st.DataObject):
    keys: list[str | None] = list(order.at_end(None, size))
    source, target = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    keys.insert(target, keys.pop(source))
    assert sum(old != new for old, new in zip(keys, order.rekey(keys), strict=True)) <= 1


def test_keys_that_grew_too_long_are_all_made_anew():
    grown = ["a0", "a0" + "0" * (order.LENGTH_MAX - 3) + "1"]
    keys = order.rekey([grown[0], None, grown[1]])
    assert is_strictly_ascending(keys)
    assert max(map(len, keys)) <= 3
