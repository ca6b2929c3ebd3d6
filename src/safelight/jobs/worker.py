"""The worker role: the queue's consumer, the inbox, the sweep and the housekeeping, under one task group."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.models import Job as QueueJob

from safelight.db import task_queue
from safelight.db.pool import Database
from safelight.jobs import breakers, derivatives
from safelight.jobs.arrivals import Arrivals
from safelight.jobs.engine import Engine
from safelight.jobs.inbox import Proven
from safelight.jobs.parts import Parts
from safelight.jobs.processing import Processor
from safelight.jobs.reconcile import Reconciler
from safelight.jobs.sending import LAST_ANSWER_S, LAST_NOTE_S
from safelight.jobs.settler import SETTLING
from safelight.stopping import end, end_if_canceled, side_by_side

log: Final = structlog.get_logger("jobs")

PARALLEL_MAX: Final = 64
"""Jobs advanced at once by one worker. Most of that time is waiting for providers."""
BACKLOG_MAX: Final = 4 * PARALLEL_MAX
"""Jobs taken from the queue and waiting for their turn here; the rest stay in the queue, by priority."""
QUEUE_BATCH: Final = 20
QUEUE_LOOK_S: Final = 2.0
"""The net under a lost NOTIFY of the queue."""
END_S: Final = LAST_ANSWER_S + LAST_NOTE_S + 1.0
"""What a job that is being stopped may take to note a provider's last answer."""
QUEUE_END_S: Final = 2.0
RESTART_S: Final = 1.0
WATCH_S: Final = 60.0
HOUSEKEEPING_S: Final = 3600.0
INBOX_KEPT: Final = timedelta(days=7)
IDEMPOTENCY_KEPT: Final = timedelta(days=7)
TRACE_KEPT: Final = timedelta(days=90)
QUEUE_LOG_KEPT: Final = timedelta(days=2)


class Worker:
    """Runs jobs until cancelled; what it was doing is taken up by the next worker."""

    def __init__(self, parts: Parts, engine: Engine) -> None:
        self._parts = parts
        self._engine = engine
        self._arrivals = Arrivals()
        self._gate = asyncio.Semaphore(PARALLEL_MAX)
        self._advancing: dict[UUID, asyncio.Task[None]] = {}
        self._again: set[UUID] = set()
        self._room = asyncio.Event()
        """Set when a job was done with: there may be room for another."""
        self._inbox = Processor(parts.db.lane(SETTLING), parts.aftermath, parts.now)
        self.reconciler = Reconciler(parts, self._take_up_due, self.webhook_arrived)
        parts.aftermath.freed = lambda _provider: self.reconciler.place_freed()
        parts.aftermath.wanted = self.reconciler.place_wanted

    def webhook_arrived(self, proven: Sequence[Proven] = (), has_hints: bool = True) -> None:
        """The inbox is not empty: it has these, and (`has_hints`) others."""
        self._arrivals.add(proven, has_hints)

    def take_up(self, job_id: UUID) -> None:
        """Advance a job soon. Returns at once; a job already being advanced here is looked at once more."""
        if job_id in self._advancing:
            self._again.add(job_id)
            return
        task = asyncio.create_task(self._advance(job_id))
        self._advancing[job_id] = task
        task.add_done_callback(lambda _: self._taken(job_id))

    def _take_up_due(self, job_id: UUID) -> bool:
        """What the sweep found. One that is being advanced here sees for itself what is due."""
        if job_id in self._advancing or len(self._advancing) >= BACKLOG_MAX:
            return False
        self.take_up(job_id)
        return True

    def _taken(self, job_id: UUID) -> None:
        self._advancing.pop(job_id, None)
        self._room.set()
        if job_id in self._again:
            self._again.discard(job_id)
            self.take_up(job_id)

    async def _advance(self, job_id: UUID) -> None:
        async with self._gate:
            try:
                await self._engine.advance(job_id)
            except Exception as error:
                # The database, if anything: the engine itself handles the rest. The sweep finds the job again.
                log.warning("advance.failed", job=str(job_id), error=repr(error))

    async def run(self) -> None:
        """Work until cancelled. A part that fails is started again; the others go on."""
        await self._parts.durations.reread()
        try:
            parts = (self._consume, self._process, self.reconciler.run, self._learn, self._keep_house)
            await side_by_side(self._parts.settler.run(), *map(_kept_up, parts), again_s=2 * QUEUE_END_S + 1.0)
        finally:
            # A job that was to be looked at once more starts again when it ends: so until there are none.
            while self._advancing:
                self._again.clear()
                await end(*self._advancing.values(), again_s=END_S)
                await asyncio.sleep(0)  # they leave by a callback: one that had just ended would keep us here for ever
            with contextlib.suppress(Exception):
                async with asyncio.timeout(2):
                    await self._parts.durations.flush()

    async def _consume(self) -> None:
        """Take tasks from the queue."""
        pool: Any = self._parts.db.pool
        manager = QueueManager(task_queue.queries(AsyncpgPoolDriver(pool)))

        @manager.entrypoint("advance")
        async def advance(task: QueueJob) -> None:  # pyright: ignore[reportUnusedFunction]
            while len(self._advancing) >= BACKLOG_MAX:
                # Not `asyncio.wait` on all of them: a hundred waiters on hundreds of tasks cost a core in a crowd.
                self._room.clear()
                await self._room.wait()
            self.take_up(UUID(bytes=task.payload))

        @manager.entrypoint("derive", concurrency_limit=2)
        async def derive(task: QueueJob) -> None:  # pyright: ignore[reportUnusedFunction]
            await derivatives.add_large(self._parts.db, self._parts.media, UUID(bytes=task.payload))

        running = asyncio.create_task(
            manager.run(
                dequeue_timeout=timedelta(seconds=QUEUE_LOOK_S),
                batch_size=QUEUE_BATCH,
                max_concurrent_tasks=2 * PARALLEL_MAX,
                heartbeat_timeout=timedelta(seconds=60),
                log_aggregation_interval=timedelta(minutes=5),
            )
        )
        running.add_done_callback(_heard_out)
        try:
            await asyncio.shield(running)
        finally:
            manager.shutdown.set()
            # It writes down what it has done; without a database that would take for ever.
            await asyncio.wait([running], timeout=QUEUE_END_S)
            running.cancel()
            await asyncio.wait([running], timeout=QUEUE_END_S)

    async def _process(self) -> None:
        """Act on webhooks as they arrive."""
        while True:
            await self._arrivals.wait()
            if (batch := self._arrivals.take_proven()) and not await self._inbox.settle(batch):
                self._arrivals.add()
            if self._arrivals.take_hints():
                processed = await self._inbox.process()
                for job_id in processed.due:
                    self.take_up(job_id)
                if processed.has_more:
                    self._arrivals.add()

    async def _learn(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            await self._parts.durations.flush()

    async def _keep_house(self) -> None:
        """Nothing grows without bound (O3)."""
        next_house = 0.0
        while True:
            await self.reconciler.watch_abandoned()
            if asyncio.get_running_loop().time() >= next_house:
                await sweep_old(self._parts.db)
                next_house = asyncio.get_running_loop().time() + HOUSEKEEPING_S
            await asyncio.sleep(WATCH_S)


async def sweep_old(db: Database) -> None:
    """Drop what has served its time."""
    async with db.connection() as conn:
        await conn.execute(
            "delete from inbox where received_at < now() - $1::interval and processed_at is not null", INBOX_KEPT
        )
        await conn.execute("delete from idempotency_keys where created_at < now() - $1::interval", IDEMPOTENCY_KEPT)
        await conn.execute(
            """
            delete from job_trace t using jobs j
            where j.id = t.job_id and j.completed_at < now() - $1::interval
            """,
            TRACE_KEPT,
        )
        await conn.execute("delete from pgqueuer.pgqueuer_log where created < now() - $1::interval", QUEUE_LOG_KEPT)
        await conn.execute(
            "delete from pgqueuer.pgqueuer_statistics where created < now() - $1::interval", QUEUE_LOG_KEPT
        )
        await breakers.forget_old(conn)
        await conn.execute("delete from studio_links where expires_at < now() - interval '1 day'")


def _heard_out(consumer: asyncio.Task[None]) -> None:
    """What a consumer that is being stopped says at its end (its connection is gone) is nobody's news."""
    if not consumer.cancelled() and (error := consumer.exception()) is not None:
        log.info("queue.ended", error=repr(error))


async def _kept_up(part: Any) -> None:
    while True:
        try:
            await part()
        except Exception:
            end_if_canceled()
            log.exception("worker.part_failed", part=getattr(part, "__name__", str(part)))
        await asyncio.sleep(RESTART_S)
