"""What is charged, and which tile it becomes (C1, C3, api.md)."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.jobs.settle import charge, generation_id, shown_prompt


@given(quoted=st.integers(0, 10**15), n=st.integers(1, 100), made=st.integers(1, 200))
def test_never_more_than_the_quote_and_never_more_than_what_was_made(quoted: int, n: int, made: int):
    due = charge({"quoted": quoted, "n": n}, made)
    assert 0 <= due <= quoted
    assert due * n <= quoted * made
    if made >= n:
        assert due == quoted


@pytest.mark.parametrize(
    ("quoted", "n", "made", "due"), [(100, 1, 1, 100), (100, 4, 3, 75), (100, 3, 1, 33), (100, 2, 5, 100), (0, 1, 1, 0)]
)
def test_fewer_outputs_cost_their_share(quoted: int, n: int, made: int, due: int):
    assert charge({"quoted": quoted, "n": n}, made) == due


def test_a_tiles_id_is_known_before_its_result():
    job = uuid.UUID("0197a6a0-0000-7000-8000-000000000001")
    assert generation_id(job, 0) == uuid.uuid5(job, "0")
    assert len({generation_id(job, index) for index in range(100)}) == 100


def test_a_prompt_is_kept_for_searching():
    assert shown_prompt("a fox") == "a fox"
    assert shown_prompt(5) is None
    assert shown_prompt(None) is None
    assert len(shown_prompt("x" * 9999) or "") == 5000
