"""When a delivery is tried again, and when an endpoint is given up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.outgoing.schedule import (
    DELAYS_S,
    FAILING_FOR,
    FAILURES_MIN,
    RETRY_AFTER_MAX_S,
    TRIES_MAX,
    Verdict,
    disabling,
    verdict,
)

NOW = datetime(2026, 11, 21, tzinfo=UTC)
chances = st.floats(0, 1, exclude_max=True)
failures = st.one_of(st.none(), st.integers(100, 199), st.integers(300, 409), st.integers(411, 599))


def after(status: int | None, tries: int = 1, **given: object) -> Verdict:
    return verdict(**{"status": status, "tries": tries, "is_test": False, "chance": 0.5, **given})  # type: ignore[arg-type]


@given(st.integers(200, 299), st.integers(1, TRIES_MAX), chances)
def test_any_2xx_is_a_delivery(status: int, tries: int, chance: float):
    assert after(status, tries, chance=chance) == Verdict("delivered")


@given(failures, st.integers(1, TRIES_MAX - 1), chances)
def test_any_other_answer_is_tried_again_about_when_the_schedule_says(status: int | None, tries: int, chance: float):
    due = after(status, tries, chance=chance)
    assert due.state == "pending"
    assert due.delay_s is not None
    assert 0.5 * DELAYS_S[tries - 1] <= due.delay_s <= 1.5 * DELAYS_S[tries - 1]


@given(failures, chances)
def test_the_last_try_is_the_last(status: int | None, chance: float):
    assert after(status, TRIES_MAX, chance=chance) == Verdict("failed")


def test_all_tries_together_take_about_three_days():
    assert 3 * 86_400 < sum(DELAYS_S) < 3.5 * 86_400
    assert TRIES_MAX == 10


def test_gone_is_not_tried_again():
    assert after(410) == Verdict("failed")


@pytest.mark.parametrize("status", [None, 500, 410])
def test_a_test_is_tried_once(status: int | None):
    assert after(status, is_test=True) == Verdict("failed")


def test_a_receiver_may_ask_for_more_time_but_not_for_less_nor_for_ever():
    assert after(429, 1, retry_after_s=120.0).delay_s == 120.0
    assert after(503, 4, retry_after_s=1.0).delay_s == DELAYS_S[3]
    assert after(503, 1, retry_after_s=1e9).delay_s == RETRY_AFTER_MAX_S


def of(status: int | None, since: timedelta | None, failures: int) -> str | None:
    failing_since = None if since is None else NOW - since
    return disabling(status=status, failing_since=failing_since, failures=failures, now=NOW)


def test_an_endpoint_that_says_gone_is_given_up_at_once():
    assert of(410, timedelta(), 1) == "gone"


def test_an_endpoint_is_given_up_after_five_days_of_nothing_but_failures():
    assert of(500, FAILING_FOR, FAILURES_MIN) == "failing"
    assert of(None, FAILING_FOR, FAILURES_MIN) == "failing"
    assert of(500, FAILING_FOR - timedelta(seconds=1), 1000) is None
    assert of(500, None, 0) is None


def test_a_server_that_slept_through_one_event_is_not_given_up_at_the_next():
    assert of(500, timedelta(days=30), TRIES_MAX + 1) is None
