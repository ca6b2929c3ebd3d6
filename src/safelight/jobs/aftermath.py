"""What follows a commit that ended jobs: learn the duration, free the place, count it. Nothing that may be lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from safelight.jobs.learning import Durations
from safelight.jobs.settle import Completed
from safelight.observe.metrics import Metrics

ARRIVALS_MAX: Final = 10_000
"""Webhooks whose job has not been settled yet; beyond it the oldest are not measured."""


class Aftermath:
    """Called by whoever committed. `freed(provider)` is told of every place that became free."""

    def __init__(self, durations: Durations, metrics: Metrics, now: Callable[[], datetime]) -> None:
        self.freed: Callable[[str], None] = _nobody
        self.wanted: Callable[[], None] = _nothing
        """Called when a job found no place."""
        self._durations = durations
        self._metrics = metrics
        self._now = now
        self._arrivals: dict[UUID, datetime] = {}

    def webhook(self, job_id: UUID, received_at: datetime) -> None:
        """A webhook told of this job: from here the time to its commit is measured."""
        if len(self._arrivals) >= ARRIVALS_MAX:
            self._arrivals.pop(next(iter(self._arrivals)))
        self._arrivals[job_id] = received_at

    def completed(self, done: Sequence[Completed]) -> None:
        for each in done:
            received_at = self._arrivals.pop(each.job_id, None)
            if not each.is_ours or each.provider is None:
                continue
            if received_at is not None:
                self._metrics.webhook_committed(max(0.0, (self._now() - received_at).total_seconds()))
            if each.spent_s is not None and each.endpoint is not None:
                self._durations.learn(each.provider, each.endpoint, each.spent_s)
            self._metrics.job_ended(each.provider, "completed")
            self.freed(each.provider)

    def ended(self, job_id: UUID, provider: str, stage: str) -> None:
        """It ended otherwise than completed."""
        self._arrivals.pop(job_id, None)
        self._metrics.job_ended(provider, stage)
        self.freed(provider)


def _nobody(_provider: str) -> None:
    return None


def _nothing() -> None:
    return None
