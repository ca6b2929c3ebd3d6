"""Figures that only the database knows, read when Prometheus asks, at most every five seconds (D3)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, cast

import asyncpg
import structlog

from safelight.db.pool import Conn, Database
from safelight.observe.metrics import Metrics

log: Final = structlog.get_logger("observe")

EVERY_S: Final = 5.0
TIMEOUT_S: Final = 2.0
"""Prometheus itself gives up after ten."""
COUNT_MAX: Final = 100_000
"""Counting further would cost more than it tells."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far behind the machinery is."""

    inbox_waiting: int
    inbox_oldest_s: float
    reconciler_lag_s: float
    """How long the look at a provider that is most overdue has been due (P5)."""
    unfinished: Mapping[str, float]


async def standing(conn: Conn) -> Standing:
    """One statement, over partial indexes."""
    row = await conn.fetchrow(
        """
        select
            (select count(*) from (select from inbox where processed_at is null limit $1) w) as inbox_waiting,
            coalesce((select extract(epoch from now() - received_at)::float8 from inbox where processed_at is null
                       order by id limit 1), 0) as inbox_oldest_s,
            coalesce((select extract(epoch from now() - look_at)::float8 from job_work
                       where look_at <= now() and blocked is null and (lease_until is null or lease_until < now())
                       order by look_at limit 1), 0) as reconciler_lag_s,
            (select coalesce(jsonb_object_agg(stage, n), '{}') from (
                select stage, count(*) as n from (
                    select stage from jobs where stage not in ('completed', 'failed', 'canceled', 'expired') limit $1) u
                group by stage) s) as unfinished
        """,
        COUNT_MAX,
    )
    assert row is not None
    return Standing(
        row["inbox_waiting"], max(row["inbox_oldest_s"], 0.0), max(row["reconciler_lag_s"], 0.0), row["unfinished"]
    )


class ScrapeSource:
    """Adds the database's figures to `metrics`. While it cannot be asked they are left out, and `database_up` is 0."""

    def __init__(self, db: Database, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._db = db
        self._clock = clock
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()
        self._last: Standing | None = None
        metrics.before_scrape(self.refresh)

        def gauge(
            name: str, help: str, read: Callable[[Standing], float | Mapping[str, float]], label: str | None
        ) -> None:
            metrics.read_at_scrape("gauge", name, help, lambda: read(self._last) if self._last else None, label=label)

        gauge("inbox_waiting", "Webhooks stored and not yet processed", lambda now: now.inbox_waiting, None)
        gauge("inbox_oldest_seconds", "Age of the oldest of them", lambda now: now.inbox_oldest_s, None)
        gauge("reconciler_lag_seconds", "How overdue the next look is (P5)", lambda now: now.reconciler_lag_s, None)
        gauge("jobs_unfinished", "Jobs by stage", lambda now: now.unfinished, "stage")
        metrics.read_at_scrape(
            "gauge", "database_up", "Whether the database answered", lambda: float(self._last is not None)
        )
        metrics.read_at_scrape(
            "gauge", "db_pool_connections", "Of this process's pool", lambda: pool_sizes(db), label="state"
        )
        metrics.read_at_scrape(
            "gauge", "asyncio_tasks", "Of this process's event loop: no job that waits has one", count_tasks
        )

    async def refresh(self) -> None:
        """Ask the database if the last answer is old. Many who scrape at once cost one question."""
        async with self._asking:
            if self._asked_at is not None and self._clock() - self._asked_at < EVERY_S:
                return
            self._asked_at = self._clock()
            try:
                async with asyncio.timeout(TIMEOUT_S), self._db.connection() as conn:
                    self._last = await standing(conn)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                self._last = None
                log.warning("scrape.no_database", error=repr(error))


class _Sizes(Protocol):
    """What asyncpg's pool says of itself."""

    def get_size(self) -> int: ...
    def get_idle_size(self) -> int: ...
    def get_max_size(self) -> int: ...


def pool_sizes(db: Database) -> dict[str, float]:
    """Connections `open`, `idle` and `max`."""
    pool = cast(_Sizes, db.pool)
    return {"open": pool.get_size(), "idle": pool.get_idle_size(), "max": pool.get_max_size()}


def count_tasks() -> float:
    """Unfinished tasks of the running loop."""
    return float(len(asyncio.all_tasks()))
