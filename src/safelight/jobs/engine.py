"""Runs one job until it must wait: the thin shell around `decide`.

`advance(job)` may be called by anybody at any time, any number of times: by the queue after a submit, by the inbox
after a webhook, by the reconciler's sweep, by a reader (J5). It takes the job's lease, does the next step, looks
again, and lets go. A process that dies in between leaves a lease that ends and a state that says what is next.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from safelight.db.group_commit import GroupCommit
from safelight.db.pool import Row, Transaction
from safelight.jobs import decide, work
from safelight.jobs.answering import Answering
from safelight.jobs.conclude import conclude, view
from safelight.jobs.keeping import store_kept
from safelight.jobs.lease import LET_GO, LeaseLost, LetGo
from safelight.jobs.looking import Looking
from safelight.jobs.parts import Parts
from safelight.jobs.sending import Sending

log: Final = structlog.get_logger("jobs")

STEPS_MAX: Final = 50
"""Steps in one turn. A job that wants more is looping: the sweep takes it up again, slower, and the log says so."""


CLAIMS_MAX: Final = 64
"""Jobs claimed in one transaction."""


class Engine:
    """Advances jobs. Safe to call concurrently, also for the same job."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._claims = GroupCommit(parts.db, self._claim, batch_max=CLAIMS_MAX, is_one_statement=True)
        self._answering = Answering(parts)
        self._sending = Sending(parts, self._answering)
        self._looking = Looking(parts)

    async def advance(self, job_id: UUID) -> None:
        """Do whatever this job needs next, until it must wait or has ended."""
        parts = self._parts
        job = await self._claims(job_id)
        if job is None:
            return
        try:
            await self._turn(job)
        except LeaseLost:
            log.info("lease.lost", job=str(job_id))
        except BaseException as error:
            if isinstance(error, Exception):
                log.exception("job.step_failed", job=str(job_id), stage=job["stage"])
            with contextlib.suppress(Exception):
                async with asyncio.timeout(5), parts.db.connection() as conn:
                    await work.drop_lease(conn, job_id, worker=parts.worker)
            if not isinstance(error, Exception):
                raise

    async def _claim(self, tx: Transaction, job_ids: Sequence[UUID]) -> list[Row | None]:
        return await work.claim(tx.conn, job_ids, worker=self._parts.worker, lease_s=self._parts.policy.lease_s)

    async def _turn(self, job: Row) -> None:
        parts, job_id = self._parts, job["id"]
        for _ in range(STEPS_MAX):
            step = decide.next_step(view(job, parts), parts.now(), parts.policy)
            look_at = await self._do(job, step)
            if look_at is LET_GO:
                return
            if look_at is not None:
                async with parts.db.connection() as conn:
                    if await work.let_go(conn, job_id, worker=parts.worker, look_at=_finite(look_at)):
                        return
            async with parts.db.connection() as conn:
                fresh = await work.reread(conn, job_id, worker=parts.worker, lease_s=parts.policy.lease_s)
            if fresh is None:
                return
            job = fresh
        log.error("job.looping", job=str(job_id), stage=job["stage"])
        async with parts.db.connection() as conn:
            await work.drop_lease(conn, job_id, worker=parts.worker)

    async def _do(self, job: Row, step: decide.Step) -> datetime | LetGo | None:
        """Do one step. Returns when to look again if there is nothing more to do now."""
        match step:
            case decide.Wait(until=until):
                return until
            case decide.Send():
                return await self._sending.send(job)
            case decide.LoseAnswer():
                await self._answering.lose(job)
            case decide.Adopt():
                await self._looking.adopt(job)
            case decide.Find():
                await self._looking.find(job)
            case decide.Look():
                return await self._looking.look(job)
            case decide.AskCancel():
                return await self._looking.ask_cancel(job)
            case decide.Store():
                return await store_kept(self._parts, job)
            case decide.Requeue() | decide.End():
                await conclude(self._parts, job, step)
        return None


def _finite(moment: datetime) -> datetime | None:
    return None if moment.year >= 9000 else moment
