"""Asking the provider how a task is. Reads only: they may be repeated freely."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Final

import structlog

from safelight.db.pool import Row, Transaction
from safelight.jobs import attempts, decide, said, trace, work
from safelight.jobs.conclude import conclude, view
from safelight.jobs.keeping import keep
from safelight.jobs.lease import LET_GO, LetGo, holding_lease
from safelight.jobs.lifecycle import Stage
from safelight.jobs.parts import Parts
from safelight.jobs.schedule import backoff_s, eta_s, next_look
from safelight.providers.base import AccountProblem, Observation, Provider, TaskRef, Transient, Unchanged

log: Final = structlog.get_logger("jobs")

SILENCE_GAP_S: Final = 2.0
SILENCE_GAP_MAX_S: Final = 30.0
FIND_GAP_S: Final = 10.0


class Looking:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def look(self, job: Row) -> LetGo | None:
        """Read the task and act on what is seen. Says if the lease was let go with that."""
        ref = attempts.task_ref(job)
        if ref is None:
            raise LookupError(f"job {job['id']} is {job['stage']} without a task")
        provider = self._parts.providers[job["provider"]]
        try:
            async with holding_lease(self._parts, job), asyncio.timeout(self._parts.policy.inspect_timeout_s):
                seen = await provider.inspect(ref)
            if isinstance(seen, Unchanged) and job["said"] is not None:
                # There is nobody to ask: what was proven by its signature is the last word.
                seen = said.from_json(job["said"])
        except (Transient, AccountProblem, TimeoutError) as error:
            await self._silent(job, error)
            return None
        return await self._seen(job, provider, seen)

    async def _seen(self, job: Row, provider: Provider, seen: Observation) -> LetGo | None:
        parts, now = self._parts, self._parts.now()
        verdict = decide.after_look(view(job, parts), seen, now, parts.policy)
        match verdict:
            case decide.Keep(observation=made):
                return await keep(parts, job, made)
            case decide.Requeue() | decide.End():
                await conclude(parts, job, verdict)
            case decide.Progress():
                look_at = verdict.look_at or self._next_look(job, provider, now)
                if (until := self._still_waits(job, verdict, look_at, now)) is not None:
                    return await self._still_going_on(job, verdict, until, now)
                await parts.db.run(lambda tx: self._going_on(tx, job, verdict, look_at, now))
            case decide.Wait():
                async with parts.db.connection() as conn:
                    await work.heard(conn, job["id"], self._next_look(job, provider, now))
        return None

    def _still_waits(self, job: Row, said: decide.Progress, look_at: datetime, now: datetime) -> datetime | None:
        """Until when, if all there is to say is that it goes on: what most looks find, of a thousand jobs all day."""
        if said.stage is Stage.RUNNING and job["stage"] == Stage.SUBMITTED.value:
            return None
        step = decide.next_step(
            view({**job, "look_at": look_at, "heard_at": now}, self._parts), now, self._parts.policy
        )
        return step.until if isinstance(step, decide.Wait) else None

    async def _still_going_on(self, job: Row, said: decide.Progress, until: datetime, now: datetime) -> LetGo | None:
        """Lost with the power, these words are replaced by the next look's: nobody waits for the disk."""
        parts = self._parts
        async with parts.db.connection() as conn:
            await parts.board.report(conn, job, said, self._eta_s(job, now), may_be_lost=True)
            return LET_GO if await work.heard_and_let_go(conn, job["id"], until, worker=parts.worker) else None

    async def _going_on(
        self, tx: Transaction, job: Row, said: decide.Progress, look_at: datetime, now: datetime
    ) -> None:
        # Back from running to submitted (fal requeues) changes progress only (providers.md §7.1).
        if said.stage is Stage.RUNNING and job["stage"] == Stage.SUBMITTED.value:
            changed = await tx.conn.fetchval(
                """
                update jobs set stage = 'running'
                where id = $1 and attempt = $2 and stage = 'submitted' returning true
                """,
                job["id"],
                job["attempt"],
            )
            if changed:
                await trace.write(tx.conn, [trace.Step(job["id"], job["attempt"], "running")])
                tx.touch(job["project_id"])
        await work.heard(tx.conn, job["id"], look_at)
        await self._parts.board.report(tx.conn, job, said, self._eta_s(job, now))

    def _next_look(self, job: Row, provider: Provider, now: datetime) -> datetime:
        able = provider.capabilities
        if not able.inspect:
            return job["deadline_at"]
        model = self._parts.models.get(job["model"])
        prior_s = model.eta_s if model is not None else able.first_look_s
        return next_look(
            accepted_at=job["accepted_at"] or now,
            now=now,
            looks=job["looks"] + 1,
            expected_duration_s=self._parts.durations.expected_s(job["provider"], job["endpoint"], prior_s),
            has_webhook=able.webhooks and self._parts.is_reachable,
            result_lifetime_s=able.result_lifetime_s,
        )

    def _eta_s(self, job: Row, now: datetime) -> float | None:
        model = self._parts.models.get(job["model"])
        spent_s = attempts.spent_s(job["accepted_at"], now) or 0.0
        durations = self._parts.durations.of(job["provider"], job["endpoint"])
        return eta_s(durations, model.eta_s if model else None, spent_s)

    async def _silent(self, job: Row, error: Exception) -> None:
        """The look did not get through. Nothing is known, so nothing changes but the time of the next look."""
        wait_s = getattr(error, "retry_after_s", None) or backoff_s(job["looks"] + 1, SILENCE_GAP_S, SILENCE_GAP_MAX_S)
        log.info("look.silent", job=str(job["id"]), provider=job["provider"], error=repr(error), wait_s=wait_s)
        async with self._parts.db.connection() as conn:
            await conn.execute(
                "update job_work set looks = looks + 1, look_at = now() + make_interval(secs => $2) where job_id = $1",
                job["id"],
                min(wait_s, SILENCE_GAP_MAX_S),
            )

    async def ask_cancel(self, job: Row) -> LetGo | None:
        """Ask the provider to stop, then see what became of it. As `look`."""
        ref = attempts.task_ref(job)
        if ref is None:
            raise LookupError(f"job {job['id']} is {job['stage']} without a task")
        try:
            async with holding_lease(self._parts, job), asyncio.timeout(self._parts.policy.inspect_timeout_s):
                answer = await self._parts.providers[job["provider"]].cancel(ref)
        except (Transient, AccountProblem, TimeoutError) as error:
            await self._silent(job, error)
            return None
        async with self._parts.db.connection() as conn:
            step = trace.Step(job["id"], job["attempt"], "cancel_sent", detail={"answer": answer.outcome})
            await trace.write(conn, [step])
            await conn.execute(
                "update job_work set cancel_sent_at = greatest($2::timestamptz, $3) where job_id = $1",
                job["id"],
                self._parts.now(),
                job["cancel_requested_at"],  # by another clock
            )
        return await self.look(job)

    async def adopt(self, job: Row) -> None:
        """The task is known after all: look at it now."""

        async def note(tx: Transaction) -> None:
            changed = await tx.conn.fetchval(
                """
                update jobs set stage = 'submitted'
                where id = $1 and attempt = $2 and stage in ('submitting', 'unknown') returning true
                """,
                job["id"],
                job["attempt"],
            )
            if changed:
                await tx.conn.execute("update job_work set look_at = now() where job_id = $1", job["id"])
                await attempts.accepted(tx.conn, job["id"], job["attempt"], _ref_of(job))
                await trace.write(tx.conn, [trace.Step(job["id"], job["attempt"], "found")])
                tx.touch(job["project_id"])

        await self._parts.db.run(note)

    async def find(self, job: Row) -> None:
        """Search the provider for the task whose submit answer was lost."""
        provider = self._parts.providers[job["provider"]]
        found: TaskRef | None = None
        try:
            async with holding_lease(self._parts, job), asyncio.timeout(self._parts.policy.inspect_timeout_s):
                found = await provider.find(
                    str(job["attempt_id"]), job["endpoint"], job["sent_at"] - timedelta(minutes=1)
                )
        except (Transient, AccountProblem, TimeoutError) as error:
            log.info("find.silent", job=str(job["id"]), error=repr(error))
        async with self._parts.db.connection() as conn:
            if found is not None:
                await attempts.accepted(conn, job["id"], job["attempt"], found)
            else:
                await conn.execute(
                    "update job_work set look_at = now() + make_interval(secs => $2) where job_id = $1",
                    job["id"],
                    FIND_GAP_S,
                )


def _ref_of(job: Row) -> TaskRef:
    ref = attempts.task_ref(job)
    if ref is None:
        raise LookupError(f"job {job['id']} has no task to adopt")
    return ref
