"""What Prometheus is told of outgoing webhooks (D3): `safelight_outgoing_…`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import asyncpg
import structlog
from prometheus_client import Counter, Histogram

from safelight.db.pool import Database
from safelight.observe.metrics import Metrics

log: Final = structlog.get_logger("outgoing")

EVERY_S: Final = 5.0
TIMEOUT_S: Final = 2.0
COUNT_MAX: Final = 100_000
"""Counting further would cost more than it tells."""
_TRY_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)


@dataclass(frozen=True, slots=True)
class _Standing:
    pending: float
    overdue_s: float
    disabled: float


class Figures:
    """`in_flight` is kept by the sender; what is in the database is read when somebody scrapes."""

    def __init__(self, db: Database, metrics: Metrics) -> None:
        self.in_flight = 0
        self._db = db
        self._asked_at: float | None = None
        self._last: _Standing | None = None
        self._tries = Counter(
            "outgoing_tries", "Tries to deliver a webhook to an app, by what came of them", ["outcome"],
            namespace="safelight", registry=metrics.registry,
        )  # fmt: skip
        self._try_s = Histogram(
            "outgoing_try_seconds", "Until the receiver answered", namespace="safelight", buckets=_TRY_S,
            registry=metrics.registry,
        )  # fmt: skip
        self._disabled = Counter(
            "outgoing_disabled",
            "Webhooks given up, by reason",
            ["why"],
            namespace="safelight",
            registry=metrics.registry,
        )
        metrics.before_scrape(self.refresh)
        gauge = metrics.read_at_scrape
        gauge("gauge", "outgoing_in_flight", "Tries under way in this process", lambda: self.in_flight)
        gauge("gauge", "outgoing_pending", "Deliveries not yet made", lambda: self._last and self._last.pending)
        gauge(
            "gauge",
            "outgoing_overdue_seconds",
            "How overdue the next try is",
            lambda: self._last and self._last.overdue_s,
        )
        gauge("gauge", "outgoing_endpoints_disabled", "Webhooks disabled", lambda: self._last and self._last.disabled)

    def tried(self, outcome: str, duration_ms: int) -> None:
        self._tries.labels(outcome).inc()
        self._try_s.observe(duration_ms / 1000)

    def disabled(self, why: str) -> None:
        self._disabled.labels(why).inc()

    async def refresh(self) -> None:
        """Ask the database if the last answer is old."""
        if self._asked_at is not None and time.monotonic() - self._asked_at < EVERY_S:
            return
        self._asked_at = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_S), self._db.connection() as conn:
                row = await conn.fetchrow(
                    """
                    select
                        (select count(*) from (
                            select from webhook_deliveries where state = 'pending' limit $1) p)::float8 as pending,
                        greatest(coalesce(extract(epoch from now() - (
                            select min(due_at) from webhook_deliveries where state = 'pending')), 0), 0)::float8
                            as overdue_s,
                        (select count(*) from webhook_endpoints where disabled_at is not null)::float8 as disabled
                    """,
                    COUNT_MAX,
                )
            assert row is not None
            self._last = _Standing(**dict(row))
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            self._last = None
            log.warning("scrape.no_database", error=repr(error))
