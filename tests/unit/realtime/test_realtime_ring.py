"""The ring that is every follower's queue (S7)."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.changes.log import Change
from safelight.realtime import tail
from safelight.realtime.tail import Channel, Entry, Ring, RingBudget

P = UUID("0197a000-0000-7000-8000-000000000001")
AT = datetime(2026, 1, 2, tzinfo=UTC)


def entry(seq: int, size: int = 10, taken_at: float = 0.0) -> Entry:
    return Entry(Change(P, seq, AT, "jobs", "insert", P, {}, None, None), b"x" * size, taken_at)


def filled(ring: Ring, count: int, size: int = 10) -> Ring:
    for _ in range(count):
        ring.append(entry(ring.last + 1, size))
    return ring


@given(st.integers(0, 50), st.lists(st.integers(1, 3 * 2**20), max_size=40), st.integers(0, 100), st.integers(1, 9))
def test_whatever_is_appended_a_covered_cursor_is_served_without_a_hole(start, sizes, after, limit):
    budget = RingBudget()
    ring = Ring(start, budget)
    for size in sizes:
        ring.append(entry(ring.last + 1, size))
    assert ring.last == start + len(sizes)
    if ring.covers(after):
        taken = ring.take(after, limit)
        assert [e.seq for e in taken] == list(range(after + 1, after + 1 + len(taken)))
        assert (len(taken) > 0) == (after < ring.last)
    held = sum(len(e.data) for e in ring.take(ring.first - 1, 1000, 10**9))
    assert held == budget.used
    assert len(ring) <= 1 or held <= tail.RING_BYTES_MAX


def test_an_entry_that_does_not_follow_is_refused():
    ring = filled(Ring(4, RingBudget()), 2)
    with pytest.raises(ValueError, match="does not follow"):
        ring.append(entry(8))


def test_the_oldest_entries_leave_a_full_ring():
    ring = filled(Ring(0, RingBudget()), tail.RING_ENTRIES_MAX + 5)
    assert ring.first == 6
    assert not ring.covers(4)
    assert ring.covers(5)


def test_all_rings_together_stay_inside_the_budget_of_the_process():
    budget = RingBudget()
    rings = [Ring(0, budget) for _ in range(20)]
    for _ in range(40):
        for ring in rings:
            filled(ring, 1, 100_000)
    assert budget.used <= tail.RINGS_BYTES_MAX + len(rings) * 100_000
    for ring in rings:
        ring.clear(ring.last)
    assert budget.used == 0


def test_what_is_too_old_to_be_shown_as_presented_is_let_go():
    ring = Ring(0, RingBudget())
    ring.append(entry(1, taken_at=0.0))
    ring.append(entry(2, taken_at=200.0))
    ring.expire(tail.ENTRY_AGE_MAX_S + 1)
    assert ring.first == 2


def test_one_piece_for_a_follower_is_bounded_but_never_empty():
    ring = filled(Ring(0, RingBudget()), 3, tail.TAKE_BYTES_MAX)
    assert [e.seq for e in ring.take(0, 10)] == [1]


def test_a_frame_is_made_once_and_names_the_cursor():
    epoch = uuid4()
    one = entry(7)
    assert one.frame(epoch) is one.frame(epoch)
    assert one.frame(epoch).startswith(f"event: change\nid: {epoch}:7\ndata: ".encode())


def test_progress_that_nobody_fetched_in_time_is_counted_as_lost_and_the_rest_is_given_in_order():
    channel = Channel(P, RingBudget())
    for i in range(tail.PROGRESS_MAX + 3):
        channel.add_progress(str(i).encode())
    lost, pieces = channel.progress_after(1)
    assert lost == 2
    assert pieces[0] == b"3"
    assert len(pieces) == tail.PROGRESS_MAX
    assert channel.progress_after(channel.progress_count) == (0, [])
