"""A trace in words (D1)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from safelight.jobs.lifecycle import Stage
from safelight.jobs.words import where_it_stands

START = datetime(2026, 1, 1, tzinfo=UTC)


def job(stage: Stage, **given: Any) -> dict[str, Any]:
    return {"stage": stage.value, "created_at": START, "completed_at": START, "attempt": 1, "error": None} | given


def steps(*names: str) -> list[dict[str, Any]]:
    return [{"step": name, "at": START} for name in names]


def test_a_completed_job_says_how_long_it_took_and_how_we_heard():
    ended = job(Stage.COMPLETED, completed_at=START + timedelta(seconds=12.34))
    said = where_it_stands(ended, steps("submitted", "webhook", "committed"), START)
    assert said == "Completed 12.3 s after the submit; the provider's webhook told of it."


def test_a_lost_webhook_is_visible_in_the_words():
    ended = job(Stage.COMPLETED, attempt=2, completed_at=START + timedelta(minutes=3))
    said = where_it_stands(ended, steps("submitted", "committed"), START)
    assert said == "Completed 3 min after the submit in 2 attempts; found by looking at the provider."


def test_a_failed_job_says_how_far_it_came_and_why_it_ended():
    failed = job(Stage.FAILED, error={"message": "The provider's content policy refused this."})
    said = where_it_stands(failed, steps("submitted", "sending", "accepted", "failed"), START)
    assert said.startswith("Ended after the step “accepted”: The provider's content policy refused this.")
    assert "released" in said


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_can_be_said(stage: Stage):
    said = where_it_stands(job(stage), [], START + timedelta(milliseconds=250))
    assert said.endswith(".")
    assert "None" not in said


def test_an_unfinished_job_says_what_it_waits_for_and_since_when():
    said = where_it_stands(job(Stage.RUNNING), steps("submitted", "running"), START + timedelta(seconds=7))
    assert said == "The provider is working on it. The last step was 7.0 s ago."
