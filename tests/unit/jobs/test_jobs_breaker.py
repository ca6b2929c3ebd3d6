"""When to stop asking a provider that is down, and how to try it again (P6): by example, and for every history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.jobs import decide
from safelight.jobs.breaker import (
    ITS_FAULT,
    OF_TASKS,
    WELL,
    Answered,
    Breaker,
    Dropped,
    Event,
    Failed,
    Gate,
    Probing,
    Rule,
    State,
    after,
    gate,
    of_end,
    strictest,
)
from safelight.providers.base import Failure
from safelight.providers.failures import CODES, failure

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
RULE = Rule(failures_max=3, window_s=60.0, cool_down_s=10.0, cool_down_max_s=60.0, probe_s=30.0)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def told(breaker: Breaker, *events: tuple[float, Event]) -> Breaker:
    for seconds, event in events:
        breaker = after(breaker, event, at(seconds), RULE)
    return breaker


def failures(*seconds: float) -> list[tuple[float, Event]]:
    return [(each, Failed(at(each))) for each in seconds]


def opened() -> Breaker:
    return told(WELL, *failures(0, 1, 2))


def test_failures_in_a_row_open_it_and_one_good_answer_between_them_does_not():
    assert opened().state is State.OPEN
    assert opened().until == at(12)
    assert told(WELL, *failures(0, 1), (1.5, Answered(at(1.5))), *failures(2, 3)).state is State.CLOSED


def test_failures_that_are_far_apart_are_not_in_a_row():
    assert told(WELL, *failures(0, 61, 122, 183)).state is State.CLOSED


def test_it_is_shut_for_the_cool_down_and_then_lets_one_through():
    breaker = opened()
    assert gate(breaker, at(11)) is Gate.SHUT
    assert gate(breaker, at(12)) is Gate.PROBE
    assert after(breaker, Probing(), at(11), RULE) is breaker
    probing = after(breaker, Probing(), at(12), RULE)
    assert probing.state is State.HALF_OPEN
    assert gate(probing, at(13)) is Gate.SHUT, "one is enough"
    assert after(probing, Probing(), at(13), RULE) is probing


def test_a_probe_that_is_answered_closes_it_and_one_that_fails_opens_it_for_twice_as_long():
    probing = told(opened(), (12, Probing()))
    well = told(probing, (13, Answered(at(12))))
    assert (well.state, well.failures, well.trips, well.until) == (State.CLOSED, 0, 0, None)
    ill = told(probing, (13, Failed(at(12))))
    assert ill.state is State.OPEN
    assert ill.until == at(13 + 20)


def test_a_probe_that_never_comes_back_makes_room_for_another():
    probing = told(opened(), (12, Probing()))
    assert gate(probing, at(42)) is Gate.PROBE
    assert after(probing, Probing(), at(42), RULE).until == at(72)


def test_a_probe_that_was_not_sent_after_all_makes_room_at_once():
    dropped = told(opened(), (12, Probing()), (12.5, Dropped()))
    assert gate(dropped, at(12.5)) is Gate.PROBE


def test_what_was_asked_before_the_outage_was_known_says_nothing_afterwards():
    late = told(opened(), (5, Failed(at(1))), (6, Answered(at(1))))
    assert late == opened()
    probing = told(opened(), (12, Probing()))
    assert told(probing, (13, Failed(at(2)))) == probing, "the outage's last victims"
    well = told(probing, (13, Answered(at(12))))
    assert told(well, *((14 + n, Failed(at(11))) for n in range(9))).state is State.CLOSED


def test_a_task_that_may_have_been_the_probe_makes_room_only_if_it_was():
    probing = told(opened(), (12, Probing()))
    assert told(probing, (13, Dropped(at(2)))) == probing, "asked before the outage was known"
    assert gate(told(probing, (13, Dropped(at(12.1)))), at(13)) is Gate.PROBE
    assert told(WELL, (13, Dropped(at(12)))) is WELL


def test_of_two_breakers_in_one_way_the_stricter_counts():
    assert strictest([Gate.GO, Gate.GO]) is Gate.GO
    assert strictest([Gate.GO, Gate.PROBE]) is Gate.PROBE
    assert strictest([Gate.SHUT, Gate.PROBE]) is Gate.SHUT


# --- what the ends of tasks say


@pytest.mark.parametrize("code", ["provider_failed", "provider_timeout", "provider_unavailable"])
def test_a_task_that_fails_by_the_providers_fault_counts(code: str):
    assert of_end(NOW, failure(code)) == Failed(NOW)


@pytest.mark.parametrize("its", [decide.TOO_SLOW, decide.FORGOTTEN], ids=lambda its: its.code)
def test_a_task_that_it_lost_or_sat_on_counts(its: Failure):
    assert of_end(NOW, its) == Failed(NOW)


@pytest.mark.parametrize(
    "said",
    [
        failure("content_policy"),
        failure("invalid_input"),
        failure("input_unreachable"),
        failure("provider_refused"),
        failure("provider_failed", transient=False),
        decide.EXPIRED,
        decide.STOPPED,
        decide.WORKER_LOST,
        None,
    ],
    ids=lambda said: said.code if said else "canceled",
)
def test_what_a_user_can_bring_about_says_nothing_of_the_provider(said: Failure | None):
    assert of_end(NOW, said) == Dropped(NOW)


def test_the_codes_that_count_are_codes_there_are():
    ours = {decide.TOO_SLOW.code, decide.FORGOTTEN.code}
    assert set(CODES) | ours >= ITS_FAULT


def test_who_takes_everything_and_makes_nothing_of_it_is_found_out():
    breaker = WELL
    for minute in range(OF_TASKS.failures_max):
        assert gate(breaker, at(60 * minute)) is Gate.GO
        breaker = after(breaker, of_end(at(60 * minute - 50), failure("provider_failed")), at(60 * minute), OF_TASKS)
    assert breaker.state is State.OPEN
    # Its probe is judged by what becomes of the task, however long that takes.
    asked_at = 60 * OF_TASKS.failures_max
    probing = after(breaker, Probing(), at(asked_at), OF_TASKS)
    assert gate(probing, at(asked_at + 200)) is Gate.SHUT
    assert after(probing, Answered(at(asked_at)), at(asked_at + 200), OF_TASKS).state is State.CLOSED


def test_one_success_among_its_failures_keeps_it_in_service():
    breaker = WELL
    for n in range(5 * OF_TASKS.failures_max):
        is_well = n % OF_TASKS.failures_max == OF_TASKS.failures_max - 1
        end: Event = Answered(at(n)) if is_well else of_end(at(n), failure("provider_failed"))
        breaker = after(breaker, end, at(n + 30), OF_TASKS)
    assert breaker.state is State.CLOSED


moments = st.floats(0, 400)
events = st.one_of(
    st.builds(lambda age_s: ("failed", age_s), st.floats(0, 90)),
    st.builds(lambda age_s: ("answered", age_s), st.floats(0, 90)),
    st.just(("probing", 0.0)),
    st.just(("dropped", 0.0)),
    st.builds(lambda age_s: ("ended", age_s), st.floats(0, 90)),
)
histories = st.lists(st.tuples(moments, events), max_size=40).map(lambda them: sorted(them, key=lambda each: each[0]))


@given(history=histories)
def test_whatever_happens_it_is_never_shut_for_longer_than_its_limits_and_probes_are_one_at_a_time(history):
    breaker, probe_until = WELL, None
    for seconds, (kind, age_s) in history:
        now, sent_at = at(seconds), at(seconds - age_s)
        event: Event = {
            "failed": Failed(sent_at),
            "answered": Answered(sent_at),
            "probing": Probing(),
            "dropped": Dropped(),
            "ended": Dropped(sent_at),
        }[kind]
        before, breaker = breaker, after(breaker, event, now, RULE)
        assert (breaker.state is State.CLOSED) is (breaker.until is None)
        if breaker.until is not None:
            longest = max(RULE.cool_down_max_s, RULE.probe_s)
            assert breaker.until <= now + timedelta(seconds=longest) or breaker == before
        if isinstance(event, Probing) and breaker is not before:
            assert probe_until is None or now >= probe_until, "two at once"
            probe_until = breaker.until
        elif breaker.state is not State.HALF_OPEN or (isinstance(event, Dropped) and breaker is not before):
            probe_until = None
        if breaker.state is not before.state:
            assert breaker.changed_at == now
            allowed = {
                State.CLOSED: {State.OPEN},
                State.OPEN: {State.HALF_OPEN},
                State.HALF_OPEN: {State.CLOSED, State.OPEN},
            }
            assert breaker.state in allowed[before.state]


@given(history=histories)
def test_a_provider_that_is_well_again_is_asked_again(history):
    breaker = WELL
    for seconds, (kind, _) in history:
        event: Event = Failed(at(seconds)) if kind == "failed" else Probing()
        breaker = after(breaker, event, at(seconds), RULE)
    later = 400 + max(RULE.cool_down_max_s, RULE.probe_s)
    breaker = told(breaker, (later, Probing()), (later + 1, Answered(at(later))))
    assert gate(breaker, at(later + 1)) is Gate.GO
    assert breaker.is_quiet
