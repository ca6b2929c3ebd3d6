"""Callbacks: whoever gave a `fal_webhook` is told how the request ended, as fal tells it (providers.md §1.10).

The row is there before the job is; the database makes it due in the very commit that ends the job (0009_fal_door.sql);
sending repeats until the receiver has said yes or three days are over. So nothing that dies can lose it, and a receiver
may hear of the same request twice: it goes by `request_id`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
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
from safelight.outgoing.address import Addresses, AddressRefused
from safelight.outgoing.lanes import Lanes
from safelight.outgoing.post import GuardedPost, Posted
from safelight.outgoing.schedule import verdict
from safelight.stopping import end_if_canceled

log: Final = structlog.get_logger("compat")

AT_ONCE: Final = 64
"""Tries under way in one process: each is a connection to a stranger's server."""
PER_LANE_MAX: Final = 4
"""Tries at once to one host that a project named: what hangs holds 4 of 64, and nobody waits for it."""
PER_PROJECT_MAX: Final = 24
"""Whatever one project's receivers do, others have room."""
CONNECTIONS_MAX: Final = 2
"""Of the database, at once: jobs go before callbacks."""
LEASE_S: Final = 60.0
"""Longer than a try may take: then another process tries."""
LOOK_S: Final = 5.0
"""Between two looks where nothing is known to be open; what this process commits is looked for at once."""
GATHER_S: Final = 0.02
PER_TAKE: Final = 16
"""Taken by one look, so that several processes share a crowd."""
END_S: Final = 5.0
KEPT_DAYS: Final = 30
UNBORN_DAYS: Final = 8
"""A row whose job never came to be, or whose job is gone: no job lives longer than a week."""
SWEEP_S: Final = 3600.0

Output = Callable[[Row], Awaitable[Answer]]
"""What the model answered, for a job that has ended."""

_LANES: Final = Lanes(
    "fal_callbacks",
    id_column="job_id",
    waits="due_at is not null",
    take="""
    update fal_callbacks set claim = $7, due_at = now() + make_interval(secs => $8), tries = tries + 1
    where job_id in (
        select c.job_id from fal_callbacks c where c.job_id = any (array(select id from due)) and c.due_at <= now()
        for update skip locked)
    returning *
    """,
)


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
        self._database = asyncio.Semaphore(CONNECTIONS_MAX)
        self._flying: dict[asyncio.Task[None], Row] = {}
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
        try:
            while True:
                pause_s = LOOK_S
                try:
                    await self._take(output)
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
        finally:
            await self._end()

    async def _take(self, output: Output) -> None:
        """Begin as many tries as there is room for."""
        while room := AT_ONCE - len(self._flying):
            lanes = Counter(str(row["lane"]) for row in self._flying.values())
            projects = Counter(row["project_id"] for row in self._flying.values())
            full = [project for project, count in projects.items() if count >= PER_PROJECT_MAX]
            async with self._database, self._db.connection() as conn:
                due = await _LANES.claim(
                    conn,
                    lanes,
                    full,
                    per_lane=PER_LANE_MAX,
                    limit=min(room, PER_TAKE),
                    given=(uuid4(), LEASE_S),
                )
            for row in due:
                trying = asyncio.create_task(self._try(row, output), name="callback")
                self._flying[trying] = row
                trying.add_done_callback(self._landed)
            if len(due) < min(room, PER_TAKE):
                return

    def _landed(self, trying: asyncio.Task[None]) -> None:
        del self._flying[trying]
        self._woken.set()  # its lane has room again

    async def _end(self) -> None:
        """Give back what was under way, so that the next process need not wait for the leases."""
        flying = dict(self._flying)
        for trying in flying:
            trying.cancel()
        if not flying:
            return
        await asyncio.wait(flying, timeout=END_S)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(END_S), self._db.connection() as conn:
                await conn.execute(
                    """
                    update fal_callbacks c set due_at = now(), claim = null
                    from unnest($1::uuid[], $2::uuid[]) as f (job_id, claim)
                    where c.job_id = f.job_id and c.claim = f.claim
                    """,
                    [row["job_id"] for row in flying.values()],
                    [row["claim"] for row in flying.values()],
                )

    async def _try(self, row: Row, output: Output) -> None:
        try:
            async with self._database:
                async with self._db.connection() as conn:
                    job = await reads.job(conn, row["job_id"])
                if job is None or not has_ended(job):
                    await self._note(row, None)  # retried meanwhile: its next end makes it due again
                    return
                body = _body(job, await output(job))
            headers = self.signer.headers(str(job["id"]), str(job["project_id"]), body, int(self._now().timestamp()))
            posted = await self._post.send(row["url"], headers, body)
            async with self._database:
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
        """Until the next try is due; commits are listened to while anything is open.

        What is due already waits for room in its lane: the try that lands says so.
        """
        async with self._db.connection() as conn:
            row = await conn.fetchrow(
                """
                select exists (select from fal_callbacks where ended_at is null) as open,
                    extract(epoch from (select min(due_at) from fal_callbacks where due_at > now()) - now())::float8
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
