"""What the steps of a job are given: made once by the composition root."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from safelight.db.pool import Database
from safelight.jobs.aftermath import Aftermath
from safelight.jobs.breakers import Breakers
from safelight.jobs.learning import Durations
from safelight.jobs.offered import Offered
from safelight.jobs.policy import JobPolicy
from safelight.jobs.progress import ProgressBoard
from safelight.jobs.settler import Settler
from safelight.jobs.storing import MediaRoom
from safelight.observe.metrics import Metrics
from safelight.providers.base import Provider
from safelight.providers.registry import Registry


@dataclass(frozen=True, slots=True)
class Parts:
    db: Database
    providers: Mapping[str, Provider]
    models: Registry
    policy: JobPolicy
    media: MediaRoom
    settler: Settler
    board: ProgressBoard
    aftermath: Aftermath
    metrics: Metrics
    durations: Durations
    breakers: Breakers
    offered: Offered
    now: Callable[[], datetime]
    webhook_url: Callable[[str, UUID, str], str | None]
    """`webhook_url(provider, attempt, token)`; None where the outside cannot reach us."""
    media_url: Callable[[str], str]
    """An absolute signed URL of a stored file, for a provider to fetch."""
    worker: str
    """Names this process in leases."""
    allow_emulator: bool = False
    is_reachable: bool = False
    """Providers can reach us with webhooks."""
