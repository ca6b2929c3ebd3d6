"""When a provider is looked at, and how long a job still takes (P5, J10)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from safelight.jobs.schedule import (
    GAP_MAX_S,
    GAP_MAX_WITHOUT_WEBHOOK_S,
    GAP_MIN_S,
    LIFETIME_SHARE,
    backoff_s,
    eta_s,
    expected_s,
    next_look,
    quantile,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
seconds = st.floats(0.05, 5_000)


def look_after(spent_s: float, looks: int, *, expected: float = 10, webhook: bool = True, life: float = 3600) -> float:
    """Seconds from now to the next look."""
    now = START + timedelta(seconds=spent_s)
    at = next_look(
        accepted_at=START,
        now=now,
        looks=looks,
        expected_duration_s=expected,
        has_webhook=webhook,
        result_lifetime_s=life,
    )
    return (at - now).total_seconds()


def test_the_first_look_comes_when_the_task_should_be_done():
    assert look_after(0, 0, expected=10, webhook=False) == 10
    # With a webhook expected, a little later: the webhook is cheaper.
    assert look_after(0, 0, expected=10, webhook=True) == 14


def test_no_task_is_looked_at_in_the_same_moment_that_it_was_accepted():
    assert look_after(0, 0, expected=0.01) == 0.5


def test_a_long_task_may_end_early_so_it_is_not_left_alone_for_longer_than_a_stall_may_last():
    assert look_after(0, 0, expected=600) == GAP_MAX_S == 30
    assert look_after(30, 1, expected=600) == 30
    assert look_after(0, 0, expected=600, webhook=False) == GAP_MAX_WITHOUT_WEBHOOK_S


def test_gaps_grow_with_the_time_spent():
    gaps = [look_after(spent, 3, expected=1) for spent in (2, 20, 60, 100, 1000)]
    assert gaps == [2, 5, 15, 25, 30]


@given(spent=seconds, looks=st.integers(0, 50), expected=seconds, webhook=st.booleans(), life=st.floats(1, 1e8))
def test_a_gap_is_never_too_long_nor_in_the_past(spent: float, looks: int, expected: float, webhook: bool, life: float):
    gap = look_after(spent, looks, expected=expected, webhook=webhook, life=life)
    assert 0 <= gap <= min(GAP_MAX_S, life * LIFETIME_SHARE) + 1e-3
    if looks:
        assert gap >= min(GAP_MIN_S, life * LIFETIME_SHARE) - 1e-3


@given(ends=seconds, expected=seconds, webhook=st.booleans(), life=st.floats(1, 1e5))
def test_a_finished_result_is_found_well_inside_its_lifetime(ends: float, expected: float, webhook: bool, life: float):
    at, looks = 0.0, 0
    while at < ends:
        at += look_after(at, looks, expected=expected, webhook=webhook, life=life)
        looks += 1
    assert at - ends <= min(GAP_MAX_S, life * LIFETIME_SHARE) + 1e-3


@given(expected=st.floats(0.5, 3000), late=st.floats(1, 4))
def test_a_task_is_not_looked_at_too_often(expected: float, late: float):
    ends, at, looks = expected * late, 0.0, 0
    while at < ends:
        at += look_after(at, looks, expected=expected)
        looks += 1
    # Every half minute while it should not be done; then each gap is a quarter of all that went before.
    assert looks <= 1 + ends / 30 + 16


# --- what history says ----------------------------------------------------------------------------------------


def test_history_is_trusted_from_the_third_job_on():
    assert expected_s([], 10) == 10
    assert expected_s([1, 1], 10) == 10
    assert expected_s([1, 2, 3], 10) == 2


@given(st.lists(seconds, min_size=1), st.floats(0, 1))
def test_a_quantile_is_one_of_the_values_and_grows(durations: list[float], q: float):
    found = quantile(durations, q)
    assert found in durations
    assert found <= (quantile(durations, 1.0) or 0)


def test_an_empty_history_has_no_quantile():
    assert quantile([], 0.5) is None


def test_the_time_left_is_that_of_jobs_that_took_at_least_as_long():
    history = [10.0, 10.0, 10.0, 60.0, 80.0]
    assert eta_s(history, None, 0) == 10
    assert eta_s(history, None, 9) == 1
    # It is late: compared with the late ones, not stuck at nought.
    assert eta_s(history, None, 30) == 30
    # It has outlived them all: nobody knows.
    assert eta_s(history, None, 100) is None


def test_without_a_history_the_time_left_is_the_registrys_word_until_that_is_over():
    assert eta_s([], 12, 2) == 10
    assert eta_s([], 12, 13) is None
    assert eta_s([], None, 1) is None


@given(st.lists(seconds), st.none() | seconds, seconds)
def test_the_time_left_is_never_below_nought(durations: list[float], prior: float | None, spent: float):
    left = eta_s(durations, prior, spent)
    assert left is None or left > 0


@given(st.integers(0, 10_000), st.floats(0.01, 10))
def test_backoff_doubles_and_is_bounded(tries: int, base: float):
    assert base <= backoff_s(tries, base) <= 60
    assert backoff_s(tries, base) <= backoff_s(tries + 1, base)


def test_backoff_begins_at_its_base():
    assert [backoff_s(tries, 2) for tries in (0, 1, 2, 3)] == [2, 2, 4, 8]
