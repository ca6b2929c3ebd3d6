"""Proven results and hints are served in turns, in bounded memory, and none is forgotten."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from safelight.jobs.arrivals import BATCH_MAX, PROVEN_MAX, Arrivals
from safelight.jobs.inbox import Proven
from safelight.jobs.settle import Result

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def proven(*numbers: int) -> list[Proven]:
    return [Proven(number, NOW, Result(UUID(int=number), 1, [], None, [])) for number in numbers]


def numbers(batch: list[Proven]) -> list[int]:
    return [each.inbox_id for each in batch]


def test_hints_are_looked_for_though_proven_results_never_stop_coming():
    arrivals = Arrivals()
    arrivals.add(proven(*range(BATCH_MAX)), has_hints=True)
    for turn in range(10):
        assert len(arrivals.take_proven()) == BATCH_MAX, "the stream goes on"
        arrivals.add(proven(*range(BATCH_MAX)), has_hints=False)
        assert arrivals.take_hints() == (turn == 0), "the first turn already looks"


def test_proven_results_come_oldest_first_and_in_batches():
    arrivals = Arrivals()
    arrivals.add(proven(*range(100)), has_hints=False)
    assert numbers(arrivals.take_proven()) == list(range(BATCH_MAX))
    assert numbers(arrivals.take_proven()) == list(range(BATCH_MAX, 100))
    assert arrivals.take_proven() == []


def test_what_does_not_fit_into_memory_is_looked_for_in_the_inbox():
    arrivals = Arrivals()
    arrivals.add(proven(*range(PROVEN_MAX)), has_hints=False)
    assert not arrivals.take_hints()
    arrivals.add(proven(1, 2, 3), has_hints=False)
    assert arrivals.take_hints()
    taken = 0
    while batch := arrivals.take_proven():
        taken += len(batch)
    assert taken == PROVEN_MAX


async def has_some(arrivals: Arrivals) -> bool:
    waiting = arrivals.wait()
    try:
        waiting.send(None)
    except StopIteration:
        return True
    finally:
        waiting.close()
    return False


@given(st.lists(st.one_of(st.tuples(st.integers(0, 90), st.booleans()), st.sampled_from(["proven", "hints"]))))
async def test_it_says_that_there_is_something_exactly_while_there_is(
    steps: list[tuple[int, bool] | Literal["proven", "hints"]],
):
    arrivals = Arrivals()
    memory, hints = 0, False
    for step in steps:
        match step:
            case "proven":
                memory -= len(arrivals.take_proven())
            case "hints":
                assert arrivals.take_hints() == hints
                hints = False
            case (count, has_hints):
                fits = memory + count <= PROVEN_MAX
                arrivals.add(proven(*range(count)), has_hints)
                memory, hints = memory + (count if fits else 0), hints or has_hints or not fits
        assert await has_some(arrivals) == (memory > 0 or hints)
