"""What the steps of a job are given: made once by the composition root."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from safelight.db.pool import Database
from safelight.jobs.learning import Durations
from safelight.jobs.policy import JobPolicy
from safelight.jobs.progress import ProgressBoard
from safelight.jobs.settler import Settler
from safelight.jobs.storing import MediaRoom
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
    durations: Durations
    now: Callable[[], datetime]
    webhook_url: Callable[[str, UUID, str], str | None]
    """`webhook_url(provider, attempt, token)`; None where the outside cannot reach us."""
    media_url: Callable[[str], str]
    """An absolute signed URL of a stored file, for a provider to fetch."""
    worker: str
    """Names this process in leases."""
    allow_emulator: bool = False
    freed: Callable[[str], None] = field(default=lambda _provider: None)
    """A place at this provider became free: somebody may be waiting for it."""
    is_reachable: bool = False
    """Providers can reach us with webhooks."""
