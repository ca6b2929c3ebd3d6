"""Following one job: what each event of its stream means."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from safelight.sdk import JobCanceled, JobFailed
from safelight.sdk.follow import Changed, Follow, Logged, Progressed
from safelight.sdk.resources import Failure, JobInfo, Progress

BEGUN = msgspec.convert(
    {
        "id": "0197f6f0-0000-7000-8000-000000000001",
        "project_id": "0197f6f0-0000-7000-8000-00000000000f",
        "status": "pending",
        "stage": "queued",
        "model": "local/aurora",
        "credits": {"quoted": 5},
        "created_at": "2026-01-01T00:00:00Z",
    },
    JobInfo,
)


def job(**changed: Any) -> JobInfo:
    return msgspec.structs.replace(BEGUN, **changed)


def said(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def test_a_job_is_followed_from_queue_to_end() -> None:
    follow = Follow(BEGUN)
    running = job(status="processing", stage="running")
    done = job(status="completed", stage="completed")

    assert follow.heard("job", said(running)) == [Changed(running)]
    half = Progress(percent=50.0, eta_s=3.0)
    assert follow.heard("progress", said({"job_id": "x", "percent": 50.0, "eta_s": 3.0})) == [Progressed(half)]
    assert follow.job.progress == half
    assert follow.heard("log", said({"message": "warming up"})) == [Logged("warming up")]
    assert not follow.is_over
    assert follow.heard("end", said(done)) == [Changed(done)]
    assert follow.is_over
    assert follow.result() == done


def test_what_is_already_known_is_no_news() -> None:
    follow = Follow(BEGUN)
    assert follow.heard("job", said(BEGUN)) == []
    assert follow.looked(BEGUN) == []
    assert follow.heard("progress", said({"percent": None})) == []


def test_a_retry_is_news_although_the_stage_is_the_same() -> None:
    assert Follow(BEGUN).looked(job(attempt=2)) == [Changed(job(attempt=2))]


def test_news_of_the_job_do_not_take_a_large_input_away_from_who_has_it() -> None:
    follow = Follow(job(input={"image": "data:…whole"}))
    running = job(stage="running", input={"image": "data:… (2,000,000 characters)"}, left_out=["input"])
    follow.heard("job", said(running))
    assert (follow.job.stage, follow.job.input, follow.job.left_out) == ("running", {"image": "data:…whole"}, [])


@pytest.mark.parametrize(("name", "data"), [("job", "{"), ("progress", "nonsense"), ("end", "null"), ("log", "{")])
def test_an_event_that_cannot_be_read_makes_us_look_at_the_job_itself(name: str, data: str) -> None:
    follow = Follow(BEGUN)
    assert follow.heard(name, data) == []
    assert follow.must_look
    follow.looked(job(stage="running"))
    assert not follow.must_look


def test_an_event_of_a_kind_that_we_do_not_know_does_no_harm() -> None:
    follow = Follow(BEGUN)
    assert follow.heard("confetti", "") == []
    assert not follow.must_look


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ({"message": "a"}, ["a"]),
        ({"line": "a"}, ["a"]),
        ({"lines": ["a", "b"]}, ["a", "b"]),
        ("a", ["a"]),
        (["a"], ["a"]),
        (7, []),
        ({}, []),
    ],
)
def test_log_lines_are_found_however_they_come(data: Any, lines: list[str]) -> None:
    assert Follow(BEGUN).heard("log", said(data)) == [Logged(line) for line in lines]


def test_a_stream_that_dies_at_once_again_and_again_is_asked_for_ever_less_often_but_not_seldom() -> None:
    follow = Follow(BEGUN)
    pauses = []
    for _ in range(12):
        follow.closed(lived_s=0.0)
        pauses.append(follow.pause_s(0.999))
    assert pauses == sorted(pauses)
    assert 5 < pauses[-1] <= 8


def test_a_stream_that_ended_after_a_good_while_is_opened_again_at_once() -> None:
    follow = Follow(BEGUN)
    for _ in range(12):
        follow.closed(lived_s=0.0)
    follow.closed(lived_s=25.0)
    assert follow.pause_s(0.999) < 0.5


def test_a_failed_job_raises_what_the_server_said() -> None:
    failure = Failure(code="content_policy", message="The provider refused the prompt.", retryable=False)
    follow = Follow(job(status="failed", stage="failed", error=failure))
    with pytest.raises(JobFailed, match="refused the prompt") as caught:
        follow.result()
    assert (caught.value.code, caught.value.is_retryable) == ("content_policy", False)


def test_a_canceled_job_is_told_apart() -> None:
    with pytest.raises(JobCanceled):
        Follow(job(status="canceled", stage="canceled")).result()
