"""What runs beside the requests and keeps the house: hints to the queue, what is learnt, what has served its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from safelight.changes import log as change_log
from safelight.credits import audit as ledger_audit
from safelight.db import embedded, task_queue
from safelight.db.pool import Database
from safelight.jobs.breakers import Breakers
from safelight.jobs.learning import Durations
from safelight.jobs.offered import Offered
from safelight.jobs.pull_outputs import PullOutputs
from safelight.jobs.pulling import PullDesk
from safelight.media.uploads import Uploads
from safelight.observe.metrics import Metrics
from safelight.server.settings import Settings
from safelight.stopping import end_if_canceled

log: Final = structlog.get_logger("server")

HOUSEKEEPING_S: Final = 3600.0
GATHER_S: Final = 0.003
"""Tasks enqueued within this long share one NOTIFY."""


class QueueHint:
    """Many commits, one NOTIFY: called after each commit that enqueued a task."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting = asyncio.Event()

    def __call__(self) -> None:
        self._waiting.set()

    async def run(self) -> None:
        while True:
            await self._waiting.wait()
            await asyncio.sleep(GATHER_S)
            self._waiting.clear()
            try:
                await task_queue.notify(self._db)
            except Exception as error:
                end_if_canceled()
                # The queue is looked at every two seconds anyway.
                log.warning("queue.notify_failed", error=repr(error))


async def learn(durations: Durations, breakers: Breakers, offered: Offered) -> None:
    """What a worker's sweep asks anyway."""
    while True:
        try:
            await durations.flush()
            await breakers.refresh()
            await offered.refresh()
        except Exception as error:
            end_if_canceled()
            log.warning("durations.failed", error=repr(error))
        await asyncio.sleep(5)


async def keep_desk(desk: PullDesk, outputs: PullOutputs) -> None:
    """Hourly, of pull workers: ended tasks, and files that became nothing (O3)."""
    while True:
        try:
            await desk.sweep()
            await outputs.sweep()
        except Exception as error:
            end_if_canceled()
            log.warning("desk.housekeeping_failed", error=repr(error))
        await asyncio.sleep(HOUSEKEEPING_S)


async def keep_house(
    settings: Settings,
    db: Database,
    uploads: Uploads,
    metrics: Metrics,
    server: embedded.Embedded | None,
    now: Callable[[], datetime],
) -> None:
    """Hourly: nothing grows without bound (O3)."""
    while True:
        try:
            await change_log.ensure_partitions(db)
            await change_log.retention(db, timedelta(days=settings.changes_kept_days))
            await uploads.sweep(now())
            async with db.connection() as conn:
                mismatches = await ledger_audit.audit(conn)
            metrics.ledger_mismatch = len(mismatches)
            if mismatches:
                log.error("ledger.mismatch", found=[str(each) for each in mismatches[:10]])
            if server is not None:
                await asyncio.to_thread(server.trim_log)
        except Exception as error:
            end_if_canceled()
            log.warning("housekeeping.failed", error=repr(error))
        await asyncio.sleep(HOUSEKEEPING_S)
