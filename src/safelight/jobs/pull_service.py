"""What a pull worker may ask (P3): a job, its lease for longer, to hand in results, and to say how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog

from safelight.db.pool import Row
from safelight.jobs import pull_outputs, reads
from safelight.jobs.decide import Progress
from safelight.jobs.errors import JobNotFound
from safelight.jobs.lifecycle import Stage
from safelight.jobs.parts import Parts
from safelight.jobs.pull_leases import Lease, Wish
from safelight.jobs.pull_outputs import Arrived, PullOutputs, Underway
from safelight.jobs.pull_parts import Span
from safelight.jobs.pull_waiters import Waiter
from safelight.jobs.pulling import Beat, PullDesk, Said
from safelight.jobs.schedule import eta_s
from safelight.jobs.starts import start_url
from safelight.providers.model_input import InputInvalid, validate_input

log: Final = structlog.get_logger("jobs")

SETTLE_WAIT_S: Final = 2.5
"""A worker that hands in its last word waits so long for what becomes of it; the job goes on in any case."""
STORE_WAIT_S: Final = 20.0
"""A `complete` waits so long for outputs that are being stored (J1)."""
UNFIT_MAX: Final = 5
"""Jobs whose input no longer fits their model, passed over by one claim."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job for a worker. `input` is complete: defaults, count and start image are in it."""

    lease: Lease
    job: Row
    input: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Word:
    """Progress, as a worker tells it."""

    percent: float | None = None
    message: str | None = None
    logs: Sequence[str] = ()

    def __bool__(self) -> bool:
        return self.percent is not None or self.message is not None or bool(self.logs)


@dataclass(frozen=True, slots=True)
class PullService:
    """It checks no rights: the caller does, by the job's project."""

    parts: Parts
    desk: PullDesk
    outputs: PullOutputs
    advance: Callable[[UUID], Awaitable[None]]
    """`Engine.advance`."""
    _running: set[asyncio.Future[None]] = field(default_factory=set[asyncio.Future[None]])

    async def claim(
        self, wish: Wish, waiter: Waiter, *, wait_s: float, media_url: Callable[[str], str]
    ) -> Claimed | None:
        """`media_url`: a signed absolute address of a stored file, as this worker reaches it."""
        for _ in range(UNFIT_MAX):
            lease = await self.desk.claim(wish, waiter, wait_s)
            if lease is None:
                return None
            if waiter.is_gone:
                # Nobody is there to take it: it is the next one's, not lost until its lease ends.
                await self.desk.give_back(lease.job_id, lease.token)
                return None
            self._look(lease.job_id)
            async with self.parts.db.connection() as conn:
                job = await reads.job(conn, lease.job_id)
                if job is None:
                    return None
                given = await reads.whole_input(conn, job)
                url = None
                if job["start"] is not None:
                    url = await start_url(conn, job["project_id"], job["start"], media_url)
            try:
                return Claimed(lease, job, self._input(job, given, url))
            except InputInvalid as error:
                said = await self.desk.fail(lease.job_id, lease.token, "invalid_input", str(error), retryable=False)
                self._look(said.job_id)
        return None

    def _input(self, job: Row, given: dict[str, Any], url: str | None) -> dict[str, Any]:
        """Raises InputInvalid: the model, or the start image, is not what it was at the submit."""
        model = self.parts.models.get(job["model"])
        if model is None:
            return given
        return validate_input(model, given, n=job["n"], start_url=url, allow_emulator=self.parts.allow_emulator)

    async def beat(self, job: Row, token: str, word: Word, *, lease_s: float | None) -> Beat:
        """Extend the lease and tell the progress. Raises JobConflict."""
        beat = await self.desk.beat(job["id"], token, lease_s=lease_s)
        if word:
            told = Progress(Stage.RUNNING, None, word.percent, word.message, tuple(word.logs))
            async with self.parts.db.connection() as conn:
                await self.parts.board.report(conn, job, told, self._eta_s(job))
        return beat

    def _eta_s(self, job: Row) -> float | None:
        model = self.parts.models.get(job["model"])
        began_at: datetime | None = job["accepted_at"]
        spent_s = 0.0 if began_at is None else max(0.0, (self.parts.now() - began_at).total_seconds())
        return eta_s(self.parts.durations.of(job["provider"], job["endpoint"]), model.eta_s if model else None, spent_s)

    async def receive(
        self,
        job_id: UUID,
        token: str,
        index: int,
        body: AsyncIterable[bytes],
        *,
        declared: str | None,
        length: int | None,
        span: Span | None = None,
    ) -> Arrived | Underway:
        return await self.outputs.receive(job_id, token, index, body, declared=declared, length=length, span=span)

    async def complete(self, job_id: UUID, token: str, cost: Any) -> Row:
        """Raises JobConflict, InvalidSubmission, Slow (an output is still being stored)."""
        await self.outputs.settled(token, STORE_WAIT_S)
        return await self._settled(
            await self.desk.complete(job_id, token, lambda conn: pull_outputs.of_lease(conn, token), cost)
        )

    async def fail(self, job_id: UUID, token: str, code: str, message: str | None, *, retryable: bool | None) -> Row:
        """Raises JobConflict."""
        return await self._settled(await self.desk.fail(job_id, token, code, message, retryable=retryable))

    async def give_back(self, job_id: UUID, token: str) -> Row:
        """Raises JobConflict."""
        return await self._settled(await self.desk.give_back(job_id, token))

    def _look(self, job_id: UUID) -> asyncio.Future[None]:
        """The engine takes the job up, here and now; if this process dies, the sweep does."""
        looking = asyncio.ensure_future(self.advance(job_id))
        self._running.add(looking)
        looking.add_done_callback(self._running.discard)
        return looking

    async def _settled(self, said: Said) -> Row:
        await asyncio.wait([self._look(said.job_id)], timeout=SETTLE_WAIT_S)
        async with self.parts.db.connection() as conn:
            job = await reads.job(conn, said.job_id)
        if job is None:
            raise JobNotFound
        return job
