"""How long a provider asks us to wait: whatever it says, it is a time we can wait, or nothing (J6)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.providers.http import RETRY_AFTER_MAX_S, Answer, retry_after_s
from safelight.providers.openai_answers import wait_s

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "waits_s"),
    [
        ("7", 7.0),
        (7, 7.0),
        ("0.5", 0.5),
        ("-30", 0.0),
        ("315360000", RETRY_AFTER_MAX_S),
        ("inf", RETRY_AFTER_MAX_S),
        ("1e400", RETRY_AFTER_MAX_S),
        ("nan", None),
        ("soon", None),
        ("", None),
        (True, None),
        (10**400, None),
        ([7], None),
        ("Thu, 01 Jan 2026 12:00:20 GMT", 20.0),
        ("Thu, 01 Jan 2026 13:00:20 +0100", 20.0),
        ("Thu, 01 Jan 2015 12:00:20 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_MAX_S),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
        ("Thu, 01 Jan 2026 12:00:20 +9999", None),
    ],
)
def test_what_a_provider_says_of_waiting_is_taken_within_reason(said: object, waits_s: float | None):
    assert retry_after_s(said, NOW) == waits_s


@given(said=st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.booleans(), st.lists(st.integers())))
def test_whatever_it_says_is_a_time_within_an_hour_or_nothing(said: object):
    wait = retry_after_s(said, NOW)
    assert wait is None or 0.0 <= wait <= RETRY_AFTER_MAX_S


@pytest.mark.parametrize("said", ["nan", "-1", "inf", "1e400", "x", ""])
def test_openais_milliseconds_are_taken_with_the_same_care(said: str):
    wait = wait_s(Answer(429, {"retry-after-ms": said}, None, ""))
    assert wait is None or 0.0 <= wait <= 3600.0
