"""A task whose worker fell silent (P3): another attempt while there may be one, and the old one is abandoned."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from safelight.jobs.decide import AttemptView, End, JobView, Progress, Requeue, after_look
from safelight.jobs.lifecycle import Stage
from safelight.jobs.policy import JobPolicy
from safelight.providers.base import Capabilities, Failure, Lost, Running, Waiting

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SILENT = Lost(Failure("worker_lost", "It fell silent.", transient=True))
JOB = JobView(
    stage=Stage.RUNNING,
    tries=1,
    deadline_at=NOW + timedelta(hours=1),
    cancel_requested_at=None,
    look_at=NOW,
    looked_at=None,
    attempt=AttemptView(1, "accepted", NOW, NOW, has_task=True, has_outputs=False),
    capabilities=Capabilities(cancel=True, webhooks=False, inspect=False),
)


@pytest.mark.parametrize("stage", [Stage.SUBMITTED, Stage.RUNNING])
def test_it_is_made_again_at_once(stage: Stage):
    verdict = after_look(replace(JOB, stage=stage), SILENT, NOW, JobPolicy())
    assert isinstance(verdict, Requeue)
    assert (verdict.delay_s, verdict.attempt_state) == (0.0, "abandoned")


def test_too_many_workers_died_under_it():
    verdict = after_look(replace(JOB, tries=JobPolicy().tries_max), SILENT, NOW, JobPolicy())
    assert verdict == End(Stage.FAILED, SILENT.failure, attempt_state="abandoned")


def test_one_that_nobody_wants_any_more_is_canceled():
    verdict = after_look(replace(JOB, cancel_requested_at=NOW), SILENT, NOW, JobPolicy())
    assert verdict == End(Stage.CANCELED, attempt_state="abandoned")


def test_a_provider_that_knows_when_a_look_is_worth_it_is_believed():
    later = NOW + timedelta(seconds=40)
    assert after_look(JOB, Running(30.0, look_at=later), NOW, JobPolicy()) == Progress(
        Stage.RUNNING, percent=30.0, look_at=later
    )
    assert after_look(JOB, Waiting(7, later), NOW, JobPolicy()) == Progress(
        Stage.SUBMITTED, queue_position=7, look_at=later
    )
