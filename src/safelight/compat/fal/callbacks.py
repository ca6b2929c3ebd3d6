"""Callbacks: whoever gave a `fal_webhook` is told how the request ended, as fal tells it (providers.md §1.10).

The row is there before the job is; the database makes it due in the very commit that ends the job (0009_fal_door.sql);
sending repeats until the receiver has said yes or three days are over. So nothing that dies can lose it, and a receiver
may hear of the same request twice: it goes by `request_id`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

import structlog

from safelight.compat.fal.answers import has_ended
from safelight.compat.fal.signing import Signer
from safelight.compat.fal.wire import Answer, encode
from safelight.db.pool import Database, Row
from safelight.jobs import reads, trace
from safelight.jobs.errors import InvalidSubmission
from safelight.jobs.stopping import end_if_canceled
from safelight.outgoing.address import Addresses, AddressRefused
from safelight.outgoing.post import GuardedPost, Posted
from safelight.outgoing.schedule import verdict

log: Final = structlog.get_logger("compat")

AT_ONCE: Final = 16
"""Tries under way in one process: each is a connection to a stranger's server."""
LEASE_S: Final = 60.0
"""Longer than a try may take: then another process tries."""
LOOK_S: Final = 5.0
"""Between two looks where nothing is known to be open; what this process commits is looked for at once."""
GATHER_S: Final = 0.02
KEPT_DAYS: Final = 30
UNBORN_DAYS: Final = 8
"""A row whose job never came to be, or whose job is gone: no job lives longer than a week."""
SWEEP_S: Final = 3600.0

Output = Callable[[Row], Awaitable[Answer]]
"""What the model answered, for a job that has ended."""


class Callbacks:
    """`expect` before a submit; `run` beside, until cancelled; `hint` after every commit."""

    def __init__(
        self, db: Database, addresses: Addresses, post: GuardedPost, signer: Signer, now: Callable[[], datetime]
    ) -> None:
        self.signer = signer
        self._db = db
        self._addresses = addresses
        self._post = post
        self._now = now
        self._woken = asyncio.Event()
        self._is_any_open = False

    # --- before the job ---------------------------------------------------------------------------------------

    async def expect(self, project: UUID, job: UUID, url: str) -> None:
        """Tell this address how the job ends, which is about to be. Raises InvalidSubmission for a bad address."""
        try:
            await self._addresses.check(url)
        except AddressRefused as error:
            fault = {"loc": ["query", "fal_webhook"], "msg": f"The address {error}", "type": "url_refused"}
            raise InvalidSubmission([fault]) from error
        async with self._db.connection() as conn:
            await conn.execute(
                "insert into fal_callbacks (job_id, project_id, url) values ($1, $2, $3)", job, project, url
            )
        self._is_any_open = True

    async def forget_unborn(self, job: UUID) -> None:
        """The job did not come to be. Not where its submit may have been committed: then the row waits for it."""
        async with self._db.connection() as conn:
            await conn.execute(
                "delete from fal_callbacks where job_id = $1 and not exists (select from jobs where id = $1)", job
            )

    # --- sending ----------------------------------------------------------------------------------------------

    def hint(self, _projects: object = None) -> None:
        """Something was committed: an end may be among it."""
        if self._is_any_open:
            self._woken.set()

    async def run(self, output: Output) -> None:
        """Send what is due, until cancelled."""
        loop = asyncio.get_running_loop()
        swept_at = loop.time()
        while True:
            pause_s = LOOK_S
            try:
                while await self.send_due(output):
                    pass
                pause_s = await self._pause_s()
                if loop.time() - swept_at > SWEEP_S:
                    swept_at = loop.time()
                    await self.sweep()
            except Exception as error:
                end_if_canceled()
                log.warning("callbacks.failed", error=repr(error))
            try:
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(GATHER_S)
            self._woken.clear()

    async def send_due(self, output: Output) -> int:
        """One round of tries; how many there were."""
        claim = uuid4()
        async with self._db.connection() as conn:
            due = await conn.fetch(
                """
                update fal_callbacks set claim = $1, due_at = now() + make_interval(secs => $2), tries = tries + 1
                where job_id in (
                    select job_id from fal_callbacks where due_at <= now() order by due_at limit $3
                    for update skip locked)
                returning *
                """,
                claim,
                LEASE_S,
                AT_ONCE,
            )
        if due:
            async with asyncio.TaskGroup() as tries:
                for row in due:
                    tries.create_task(self._try(row, output))
        return len(due)

    async def _try(self, row: Row, output: Output) -> None:
        try:
            async with self._db.connection() as conn:
                job = await reads.job(conn, row["job_id"])
            if job is None or not has_ended(job):
                await self._note(row, None)  # retried meanwhile: its next end makes it due again
                return
            body = _body(job, await output(job))
            headers = self.signer.headers(str(job["id"]), str(job["project_id"]), body, int(self._now().timestamp()))
            posted = await self._post.send(row["url"], headers, body)
            await self._finish(row, job, posted)
        except Exception as error:
            end_if_canceled()
            log.error("callback.interrupted", job=str(row["job_id"]), exc_info=error)
            # Where not even this can be written its lease ends, and it is tried again.
            with contextlib.suppress(Exception):
                said = verdict(status=None, tries=row["tries"], is_test=False, chance=random.random())
                await self._note(row, _Next(said.state, said.delay_s))

    async def _finish(self, row: Row, job: Row, posted: Posted) -> None:
        tries: int = row["tries"]
        said = verdict(
            status=posted.status,
            tries=tries,
            is_test=False,
            chance=random.random(),
            retry_after_s=posted.retry_after_s,
        )
        log.info("callback.sent", job=str(job["id"]), tries=tries, status=posted.status, state=said.state)
        await self._note(row, _Next(said.state, said.delay_s))
        detail: dict[str, Any] = {"tries": tries, "status": posted.status, "ms": posted.duration_ms}
        if posted.error is not None:
            detail |= {"error": posted.error, "next_try_s": said.delay_s and round(said.delay_s)}
        step = "callback_delivered" if said.state == "delivered" else "callback_failed"
        async with self._db.connection() as conn:
            await trace.write_known(conn, [trace.Step(job["id"], job["attempt"], step, detail=detail)])

    async def _note(self, row: Row, now: _Next | None) -> None:
        """Unless the job has ended anew meanwhile: that claim is nobody's."""
        has_ended_now = now is not None and now.state != "pending"
        async with self._db.connection() as conn:
            await conn.execute(
                """
                update fal_callbacks set claim = null, due_at = now() + make_interval(secs => $3),
                    ended_at = case when $4 then now() end
                where job_id = $1 and claim = $2
                """,
                row["job_id"],
                row["claim"],
                now.delay_s if now is not None and not has_ended_now else None,
                has_ended_now,
            )

    async def _pause_s(self) -> float:
        """Until the next try is due; commits are listened to while anything is open."""
        async with self._db.connection() as conn:
            row = await conn.fetchrow(
                """
                select exists (select from fal_callbacks where ended_at is null) as open,
                    extract(epoch from (select min(due_at) from fal_callbacks where due_at is not null) - now())::float8
                        as wait_s
                """
            )
        assert row is not None
        self._is_any_open = row["open"]
        return LOOK_S if row["wait_s"] is None else min(max(row["wait_s"], GATHER_S), LOOK_S)

    async def sweep(self) -> None:
        """Nothing grows without bound (O3)."""
        async with self._db.connection() as conn:
            await conn.execute(
                "delete from fal_callbacks where ended_at < now() - make_interval(days => $1)", KEPT_DAYS
            )
            await conn.execute(
                """
                delete from fal_callbacks c
                where ended_at is null and created_at < now() - make_interval(days => $1)
                  and not exists (select from jobs j where j.id = c.job_id)
                """,
                UNBORN_DAYS,
            )


@dataclass(frozen=True, slots=True)
class _Next:
    state: str
    delay_s: float | None


def _body(job: Row, answer: Answer) -> bytes:
    identity = str(job["id"])
    head: dict[str, Any] = {"request_id": identity, "gateway_request_id": identity}
    if answer.status == 200:
        return encode({**head, "status": "OK", "payload": answer.body})
    return encode({**head, "status": "ERROR", "error": _said(job, answer), "payload": answer.body})


def _said(job: Row, answer: Answer) -> str:
    if job["error"]:
        return str(job["error"]["message"])
    return str(answer.body["detail"])
