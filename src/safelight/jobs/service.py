"""What people and apps may do with jobs: submit, cancel, retry, read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
import uuid_utils.compat as uuid7s

from safelight.credits import ledger
from safelight.credits.ledger import LedgerError
from safelight.db import task_queue
from safelight.db.group_commit import GroupCommit
from safelight.db.pool import Conn, Database, Row, Transaction
from safelight.jobs import decide, reads, settle, trace, work
from safelight.jobs.errors import IdempotencyMismatch, InvalidSubmission, JobConflict, JobError, JobNotFound
from safelight.jobs.lifecycle import AT_PROVIDER, TERMINAL, Stage
from safelight.jobs.policy import JobPolicy
from safelight.jobs.submission import Complete, Submission, complete, fingerprint
from safelight.jobs.taking import CameBefore, Draft, mark_origin
from safelight.library import template
from safelight.library.errors import LibraryError
from safelight.providers.base import Provider
from safelight.providers.registry import Registry

log: Final = structlog.get_logger("jobs")

READ_THROUGH_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Submitted:
    job: Row
    seq: int
    is_new: bool


async def _nothing_is_sent(url: str) -> None:
    raise ValueError("is not available here: this process has no outgoing webhooks")


@dataclass(frozen=True, slots=True)
class JobService:
    db: Database
    models: Registry
    providers: dict[str, Provider]
    enabled: frozenset[str]
    policy: JobPolicy
    now: Callable[[], datetime]
    tasks_waiting: Callable[[], None]
    """Called after a commit that enqueued a task: gathers many into one NOTIFY."""
    advance: Callable[[UUID], Any]
    """`Engine.advance`: a reader may make a look happen (J5)."""
    take: GroupCommit[Draft, tuple[Row, int]]
    """Submits (`taking.group`)."""
    check_webhook_url: Callable[[str], Awaitable[None]] = _nothing_is_sent
    """Raises ValueError, whose sentence says why nothing is sent there (J12)."""
    allow_emulator: bool = False

    # --- submit ---------------------------------------------------------------------------------------------

    async def quote(self, project_id: UUID, submission: Submission) -> int:
        """What this submit would hold. Raises as `submit` does, except for credits."""
        return (await self._complete(project_id, submission))[1].quoted

    async def submit(
        self,
        project_id: UUID,
        submission: Submission,
        *,
        job_id: UUID | None = None,
        idempotency_key: str | None = None,
        origin: str | None = None,
        actor: str = "",
    ) -> Submitted:
        """Job, hold and queue task in one transaction (J1, C1). The same request again is the same job (J2).

        Raises JobError (`unknown_model`, `invalid_input`, `idempotency_mismatch`, `not_found`) or
        InsufficientCredits; then nothing was changed.
        """
        identity = job_id or uuid7s.uuid7()
        fingerprinted = fingerprint(project_id, submission)
        try:
            filled, whole = await self._complete(project_id, submission)
            now = self.now()
            draft = Draft(project_id, identity, filled, whole, fingerprinted, idempotency_key, origin, actor, now)
            job, seq = await self.take(draft)
        except (CameBefore, JobError, LedgerError) as error:
            # A repetition is answered as the first time was, even where today it would be refused: the model may
            # have gone since. Looked up only here, because most submits are not repetitions.
            again = await self._known(project_id, job_id, idempotency_key, fingerprinted.digest)
            if again is not None:
                return again
            if isinstance(error, CameBefore):
                raise JobConflict("This id is taken. Choose another.") from None
            raise
        self.tasks_waiting()
        log.info("job.submitted", job=str(identity), model=whole.model.id, provider=whole.provider)
        return Submitted(job, seq, is_new=True)

    async def _complete(self, project_id: UUID, submission: Submission) -> tuple[Submission, Complete]:
        if submission.template is not None:
            submission = await self._filled(project_id, submission)
        elif submission.variables:
            raise InvalidSubmission(
                [{"loc": ["body", "variables"], "msg": "Variables need a template", "type": "unexpected"}]
            )
        whole = complete(submission, self.models, self.enabled, self.policy, allow_emulator=self.allow_emulator)
        if submission.webhook_url is not None:
            await self._check_webhook_url(submission.webhook_url)
        return submission, whole

    async def _check_webhook_url(self, url: str) -> None:
        try:
            await self.check_webhook_url(url)
        except ValueError as error:
            refused = {"loc": ["body", "webhook_url"], "msg": str(error), "type": "url_refused"}
            raise InvalidSubmission([refused]) from error

    async def _filled(self, project_id: UUID, submission: Submission) -> Submission:
        if submission.model is not None or submission.input:
            said = "With a template, the model and the input come from it"
            raise InvalidSubmission([{"loc": ["body", "template"], "msg": said, "type": "conflict"}])
        try:
            async with self.db.connection() as conn:
                kept = await template.get_template(conn, project_id, str(submission.template))
        except LibraryError as error:
            said = f"There is no template {submission.template!r} in this project"
            raise InvalidSubmission([{"loc": ["body", "template"], "msg": said, "type": "unknown_template"}]) from error
        try:
            filled = template.render(template.template_of(kept), submission.variables or {})
            start = submission.start or (UUID(filled.start) if filled.start else None)
        except LibraryError as error:
            raise InvalidSubmission(list(error.errors)) from error
        except ValueError as error:
            said = "The template's start image is no id of an upload or a generation"
            raise InvalidSubmission([{"loc": ["body", "start"], "msg": said, "type": "uuid"}]) from error
        return replace(submission, model=filled.model, input=filled.input, start=start)

    async def _known(self, project_id: UUID, job_id: UUID | None, key: str | None, digest: bytes) -> Submitted | None:
        if job_id is None and key is None:
            return None
        async with self.db.snapshot() as conn:
            seq = await reads.head(conn, project_id)
            if key is not None:
                kept = await conn.fetchrow(
                    "select job_id, request_hash from idempotency_keys where project_id = $1 and key = $2",
                    project_id,
                    key,
                )
                if kept is not None:
                    if kept["request_hash"] != digest:
                        raise IdempotencyMismatch("This Idempotency-Key came before with another body.")
                    job = await reads.job(conn, kept["job_id"])
                    if job is not None:
                        return Submitted(job, seq, is_new=False)
            if job_id is not None:
                job = await reads.job(conn, job_id)
                if job is not None:
                    if job["project_id"] != project_id or job["request_hash"] != digest:
                        raise IdempotencyMismatch("A job with this id exists with another body. Choose a new id.")
                    return Submitted(job, seq, is_new=False)
        return None

    # --- cancel and retry -----------------------------------------------------------------------------------

    async def cancel(self, job_id: UUID, origin: str | None = None) -> Submitted:
        """Stop a job (J6). At once where nothing was sent or the provider cannot be stopped; else it is asked to.

        A job that has ended as canceled is answered again; any other end is a conflict.
        """

        async def note(tx: Transaction) -> tuple[Row, bool]:
            conn = tx.conn
            await mark_origin(conn, origin)
            project_id = await conn.fetchval("select project_id from jobs where id = $1", job_id)
            if project_id is None:
                raise JobNotFound
            await ledger.lock_wallets(conn, [project_id])
            job = await conn.fetchrow("select * from jobs where id = $1 for no key update", job_id)
            assert job is not None
            stage = Stage(job["stage"])
            if stage is Stage.CANCELED:
                return job, False
            if stage in TERMINAL:
                raise JobConflict(f"The job has ended as {stage.value}; there is nothing to cancel.")
            if stage is Stage.STORING:
                raise JobConflict("The result is there and is being stored; it is too late to cancel.")
            can_stop = self.providers[job["provider"]].capabilities.cancel
            if stage in (Stage.QUEUED, Stage.UNKNOWN) or (stage in AT_PROVIDER and not can_stop):
                ended = await settle.end(
                    tx,
                    job_id,
                    Stage.CANCELED,
                    attempt=None,
                    attempt_state="canceled" if stage is Stage.QUEUED else "abandoned",
                    now=self.now(),
                )
                assert ended is not None
                return ended, False
            if job["cancel_requested_at"] is None:
                job = await conn.fetchrow(
                    "update jobs set cancel_requested_at = $2 where id = $1 returning *", job_id, self.now()
                )
                assert job is not None
                await work.look_now(conn, [job_id])
                await task_queue.enqueue(conn, [task_queue.Task("advance", job_id.bytes, 10)])
                await trace.write(conn, [trace.Step(job_id, job["attempt"], "cancel_requested")])
                tx.touch(project_id)
            return job, True

        (job, has_task), seq = await self.db.run_numbered(lambda noted: noted[0]["project_id"], note)
        answer = Submitted(job, seq, is_new=False)
        if has_task:
            self.tasks_waiting()
        return answer

    async def retry(self, job_id: UUID, origin: str | None = None) -> Submitted:
        """A new attempt of a job that failed, was canceled or expired (J6): a new hold, the same id."""

        async def begin_again(tx: Transaction) -> Row:
            conn = tx.conn
            await mark_origin(conn, origin)
            found = await conn.fetchrow("select project_id, model from jobs where id = $1", job_id)
            if found is None:
                raise JobNotFound
            project_id = found["project_id"]
            await ledger.lock_wallets(conn, [project_id])
            job = await conn.fetchrow("select * from jobs where id = $1 for no key update", job_id)
            assert job is not None
            if job["stage"] == Stage.COMPLETED.value:
                raise JobConflict("The job has completed; submit a new one for another result.")
            if Stage(job["stage"]) not in TERMINAL:
                raise JobConflict("The job is still going on.")
            # As long as it was given before: the last round began at its submit or its retry.
            began_at = await conn.fetchval(
                "select max(at) from job_trace where job_id = $1 and step in ('submitted', 'retried')", job_id
            )
            span = job["deadline_at"] - (began_at or job["created_at"])
            await ledger.hold(conn, project_id=project_id, job_id=job_id, round=job["round"] + 1, amount=job["quoted"])
            job = await conn.fetchrow(
                """
                update jobs set stage = 'queued', error = null, completed_at = null, cancel_requested_at = null,
                    submitted_at = null, tries = 0, round = round + 1, deadline_at = $2, provider = $3, endpoint = $4
                where id = $1 returning *
                """,
                job_id,
                self.now() + max(span, timedelta(seconds=1)),
                *self._first_choice(job),
            )
            assert job is not None
            await _begin_work(conn, job)
            await trace.write(conn, [trace.Step(job_id, job["attempt"], "retried")])
            tx.touch(project_id)
            return job

        job, seq = await self.db.run_numbered(lambda job: job["project_id"], begin_again)
        self.tasks_waiting()
        return Submitted(job, seq, is_new=False)

    def _first_choice(self, job: Row) -> tuple[str, str]:
        """Provider and endpoint to begin with: the model's order once more, whoever had the job last (P6)."""
        model = self.models.get(job["model"])
        routes = model.routes if model is not None and not job["pinned"] else ()
        ready = [(route.provider, route.endpoint) for route in routes if route.provider in self.enabled]
        return ready[0] if ready else (job["provider"], job["endpoint"])

    # --- read-through (J5) ----------------------------------------------------------------------------------

    async def refresh(self, job_id: UUID, stage: str) -> None:
        """Look at the provider if it has been silent, once for all readers, and wait a moment for the answer."""
        if Stage(stage) not in AT_PROVIDER:
            return
        async with self.db.connection() as conn:
            is_mine = await work.ask_for_look(conn, job_id, silent_for_s=self.policy.read_through_after_s)
        if not is_mine:
            return
        looking = asyncio.ensure_future(self.advance(job_id))
        # The look goes on when this reader gives up: its answer is for everybody.
        _running.add(looking)
        looking.add_done_callback(_running.discard)
        await asyncio.wait([looking], timeout=self.policy.read_through_wait_s)


_running: Final[set[asyncio.Future[Any]]] = set()


async def _begin_work(conn: Conn, job: Row) -> None:
    await conn.execute(
        """
        insert into job_work (job_id, project_id, provider, priority, look_at)
        values ($1, $2, $3, $4, now())
        """,
        job["id"],
        job["project_id"],
        job["provider"],
        job["priority"],
    )
    await task_queue.enqueue(conn, [task_queue.Task("advance", job["id"].bytes, job["priority"])])


__all__ = ["JobError", "JobService", "Submitted", "decide", "mark_origin"]
