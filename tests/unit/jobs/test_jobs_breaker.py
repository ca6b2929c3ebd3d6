"""When to stop asking a provider that is down, and how to try it again (P6): by example, and for every history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from safelight.jobs.breaker import (
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
)

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


moments = st.floats(0, 400)
events = st.one_of(
    st.builds(lambda age_s: ("failed", age_s), st.floats(0, 90)),
    st.builds(lambda age_s: ("answered", age_s), st.floats(0, 90)),
    st.just(("probing", 0.0)),
    st.just(("dropped", 0.0)),
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
        }[kind]
        before, breaker = breaker, after(breaker, event, now, RULE)
        assert (breaker.state is State.CLOSED) is (breaker.until is None)
        if breaker.until is not None:
            longest = max(RULE.cool_down_max_s, RULE.probe_s)
            assert breaker.until <= now + timedelta(seconds=longest) or breaker == before
        if isinstance(event, Probing) and breaker is not before:
            assert probe_until is None or now >= probe_until, "two at once"
            probe_until = breaker.until
        elif breaker.state is not State.HALF_OPEN or isinstance(event, Dropped):
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
