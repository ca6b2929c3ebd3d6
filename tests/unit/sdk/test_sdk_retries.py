"""When a request is sent again."""

from __future__ import annotations

import pytest

from safelight.sdk import calls
from safelight.sdk.retries import PAUSE_MAX_S, RETRY_AFTER_MAX_S, TRIES_MAX, Retries, pause_s

READ = calls.get_job("j")
SUBMIT = calls.submit("p", {"id": "x"})
ONCE = calls.retry_job("j")


@pytest.mark.parametrize("call", [READ, SUBMIT])
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_trouble_of_the_server_is_tried_again_where_a_second_time_changes_nothing(call, status) -> None:
    assert Retries(call).after_answer(status, {}, chance=0.5) is not None


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_write_that_would_count_twice_is_not_sent_again_after_an_answer_that_leaves_it_open(status) -> None:
    assert Retries(ONCE).after_answer(status, {}, chance=0.5) is None


@pytest.mark.parametrize("status", [429, 503])
def test_a_write_that_the_server_says_it_did_not_do_is_sent_again(status) -> None:
    assert Retries(ONCE).after_answer(status, {}, chance=0.5) is not None


@pytest.mark.parametrize("status", [200, 202, 400, 401, 402, 404, 409, 410, 422])
def test_an_answer_that_would_be_the_same_again_is_taken(status) -> None:
    assert Retries(READ).after_answer(status, {}, chance=0.5) is None


def test_a_line_that_broke_is_tried_again_only_if_the_server_cannot_have_acted_or_it_does_not_matter() -> None:
    assert Retries(SUBMIT).after_failure(is_unsent=False, chance=0.5) is not None
    assert Retries(ONCE).after_failure(is_unsent=False, chance=0.5) is None
    assert Retries(ONCE).after_failure(is_unsent=True, chance=0.5) is not None


def test_the_server_says_how_long_to_wait() -> None:
    pause = Retries(READ).after_answer(429, {"retry-after": "7"}, chance=0.0)
    assert pause == 7.0


def test_a_wait_longer_than_a_person_would_take_is_left_to_the_caller() -> None:
    assert Retries(READ).after_answer(429, {"retry-after": str(RETRY_AFTER_MAX_S + 1)}, chance=0.0) is None


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2026 07:28:00 GMT", "soon", ""])
def test_a_retry_after_that_is_no_number_of_seconds_is_not_believed(header) -> None:
    pause = Retries(READ).after_answer(503, {"retry-after": header}, chance=0.99)
    assert pause is not None
    assert pause <= PAUSE_MAX_S


def test_the_tries_end() -> None:
    retries = Retries(READ)
    pauses = []
    while (pause := retries.after_failure(is_unsent=True, chance=0.999)) is not None:
        pauses.append(pause)
    assert len(pauses) == TRIES_MAX - 1
    assert sum(pauses) < 40


@pytest.mark.parametrize("failures", [0, 1, 5, 50, 10_000])
@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_a_pause_is_never_nothing_and_never_long(failures: int, chance: float) -> None:
    assert 0 < pause_s(failures, chance) <= PAUSE_MAX_S
