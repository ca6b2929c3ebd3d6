"""The desk where attempts lie for pull workers: offered, leased, told of, and taken back (P3).

To the engine it is what stands behind the adapter `pull`: it asks the desk how a task is. To workers it gives leases:
a token that proves whose task it is, until a time that heartbeats move. A lease that has ended is told to the engine
as `Lost`, which makes another attempt; whoever held it may say what it wants, it changes nothing.

Lock order: pull_tasks → job_work → attempts. What a worker says is written down with a hint to look; the engine does
the rest, as for every provider (jobs/decide.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from safelight.db.pool import AWAY, Conn, Database, Row, Transaction
from safelight.jobs import pull_leases, said, trace, work
from safelight.jobs.errors import JobConflict
from safelight.jobs.pull_leases import Again, Lease, Wish, hash_of, held
from safelight.jobs.pull_waiters import Waiter, Waiters
from safelight.providers.base import (
    Ambiguous,
    Canceled,
    Failed,
    Failure,
    Lost,
    Missing,
    Observation,
    Output,
    Running,
    Succeeded,
    Transient,
    Waiting,
)
from safelight.providers.failures import CODES, failure

log: Final = structlog.get_logger("jobs")

TOPIC: Final = "pull"
ROUNDS_MAX: Final = 5
LOOK_S: Final = 10.0
"""Between looks of a waiting claim that nobody woke: the net under a lost hint."""
POSITION_MAX: Final = 100
"""Counted no further: beyond it, it is a long queue."""
POSITION_LOOK_S: Final = (5.0, 300.0)
"""A waiting job's place is looked at again after 5 s for each before it, so a long queue costs no more than a short."""
KEPT: Final = timedelta(days=2)
"""Ended tasks: an abandoned attempt is asked about for a day (jobs/reconcile.py)."""
WORKER_LOST: Final = Failure(
    "worker_lost", "The worker making this fell silent and its lease ended. Retry to ask again.", transient=True
)
STATE_UNKNOWN: Final = failure("provider_unreachable", "our own database did not answer")


@dataclass(frozen=True, slots=True)
class Beat:
    """The answer to a heartbeat."""

    until: datetime
    is_canceled: bool


@dataclass(frozen=True, slots=True)
class Said:
    """What was written, and of which job: the engine is to look."""

    job_id: UUID
    project_id: UUID
    model: str


class PullDesk:
    """Implements `providers.pull.Desk`, and what the worker API asks."""

    def __init__(self, db: Database, publish: Callable[[str, str], None]) -> None:
        """`publish(topic, payload)`: to every process of the installation, this one too."""
        self._db = db
        self._publish = publish
        self.waiters = Waiters()
        self.place_freed: Callable[[], None] = _nothing
        """Called when a job holds no place any more, though it has not ended."""

    def hear(self, payload: str) -> None:
        """A hint from the bus: `project model`; "" = anything may have come."""
        project, _, model = payload.partition(" ")
        if not model:
            self.waiters.wake_all()
            return
        self.waiters.wake(UUID(project), model)

    def close(self) -> None:
        self.waiters.close()

    # --- the provider's side ----------------------------------------------------------------------------------

    async def offer(self, attempt_id: UUID) -> None:
        async def note(tx: Transaction) -> Row | None:
            row = await tx.conn.fetchrow(
                """
                insert into pull_tasks (attempt_id, job_id, project_id, number, model, priority, created_at)
                select a.id, a.job_id, a.project_id, a.number, a.endpoint, j.priority, j.created_at
                from attempts a join jobs j on j.id = a.job_id where a.id = $1
                on conflict (attempt_id) do nothing
                returning job_id, project_id, model
                """,
                attempt_id,
            )
            if row is not None:
                # It waits for a machine that is nobody else's: it takes no place from the project's other jobs. And
                # whoever is offering it looks once more, so that its place in the queue is shown at once.
                await tx.conn.execute("update job_work set slot = false, poked = true where job_id = $1", row["job_id"])
            return row

        try:
            row = await self._db.run(note)
        except AWAY as error:
            raise Ambiguous(failure("submit_unknown", "our own database did not answer")) from error
        if row is not None:
            self.place_freed()
            self._publish(TOPIC, f"{row['project_id']} {row['model']}")

    async def state(self, attempt_id: UUID) -> Observation:
        try:
            async with self._db.connection() as conn:
                row = await conn.fetchrow(
                    """
                    select t.*, t.leased_until < now() as is_over, p.percent, p.message, now() as at
                    from pull_tasks t left join job_progress p on p.job_id = t.job_id where t.attempt_id = $1
                    """,
                    attempt_id,
                )
                if row is None:
                    return Missing()
                if row["state"] == "waiting":
                    return await _waiting(conn, row)
            if row["state"] == "leased" and row["is_over"]:
                return await self._db.run(lambda tx: _end_lease(tx, attempt_id))
        except AWAY as error:
            raise Transient(STATE_UNKNOWN) from error
        return _observed(row)

    async def stop(self, attempt_id: UUID) -> bool:
        try:
            async with self._db.connection() as conn:
                state = await conn.fetchval(
                    """
                    update pull_tasks set stop_asked = true,
                        state = case when state = 'waiting' then 'canceled' else state end,
                        ended_at = case when state = 'waiting' then now() end
                    where attempt_id = $1 and state in ('waiting', 'leased') returning state
                    """,
                    attempt_id,
                )
        except AWAY as error:
            raise Transient(STATE_UNKNOWN) from error
        return state is not None

    # --- the worker's side ------------------------------------------------------------------------------------

    async def claim(self, wish: Wish, waiter: Waiter, wait_s: float) -> Lease | None:
        """The next task for this worker, waiting for one if need be; None if there was none, or it has hung up.

        Raises TooManyWait, unless it does not want to wait.
        """
        if wait_s <= 0:
            return await self._claim_now(wish)
        clock = asyncio.get_running_loop().time
        ends_at = clock() + wait_s
        with self.waiters.waiting(waiter):
            while not waiter.is_gone:
                waiter.woken.clear()
                lease = await self._claim_now(wish)
                if lease is not None:
                    return lease
                left_s = ends_at - clock()
                if left_s <= 0 or self.waiters.is_closed:
                    return None
                await _set_within(waiter.woken, min(left_s, LOOK_S))
        return None

    async def _claim_now(self, wish: Wish) -> Lease | None:
        for _ in range(ROUNDS_MAX):
            found = await self._db.run(lambda tx: pull_leases.claim(tx, wish))
            if isinstance(found, Lease):
                # There may be more: hints of the same moment are one.
                self.waiters.wake(found.project_id, found.model)
            if not isinstance(found, Again):
                return found
        return None

    async def beat(self, job_id: UUID, token: str, *, lease_s: float | None) -> Beat:
        """Extend the lease. A canceled job's is extended too: its worker must still say that it has stopped.

        Raises JobConflict for a lease that has ended.
        """

        async def work_(tx: Transaction) -> Beat:
            task = await held(tx.conn, job_id, token)
            until: datetime = await tx.conn.fetchval(
                """
                update pull_tasks set lease_s = coalesce($2, lease_s),
                    leased_until = now() + make_interval(secs => coalesce($2, lease_s))
                where attempt_id = $1 returning leased_until
                """,
                task["attempt_id"],
                lease_s,
            )
            return Beat(until, bool(task["stop_asked"] or task["cancel_requested_at"] is not None))

        return await self._db.run(work_)

    async def complete(
        self, job_id: UUID, token: str, outputs: Callable[[Conn], Awaitable[Sequence[Output]]], cost: Any
    ) -> Said:
        """The task is done: `outputs` reads its results, which are in our storage. Raises JobConflict."""

        async def seen(conn: Conn) -> Observation:
            return Succeeded(await outputs(conn), cost)

        return await self._say(job_id, token, seen)

    async def fail(self, job_id: UUID, token: str, code: str, message: str | None, *, retryable: bool | None) -> Said:
        """The worker could not make it. Raises JobConflict."""
        known = failure(code if code in CODES else "provider_failed", message, transient=retryable)

        async def seen(_: Conn) -> Observation:
            return Failed(known)

        return await self._say(job_id, token, seen)

    async def give_back(self, job_id: UUID, token: str) -> Said:
        """The worker lets go: of a canceled job for good, else for another worker, at once. Raises JobConflict."""

        async def note(tx: Transaction) -> Said:
            task = await held(tx.conn, job_id, token)
            is_over = task["stop_asked"] or task["cancel_requested_at"] is not None
            await tx.conn.execute(
                """
                update pull_tasks set state = case when $2 then 'canceled' else 'waiting' end,
                    lease_hash = null, claim_hash = null, leased_until = null, ended_at = case when $2 then now() end
                where attempt_id = $1
                """,
                task["attempt_id"],
                is_over,
            )
            return await _hinted(tx, task, "given_back")

        told = await self._db.run(note)
        self._publish(TOPIC, f"{told.project_id} {told.model}")
        return told

    async def _say(self, job_id: UUID, token: str, seen: Callable[[Conn], Awaitable[Observation]]) -> Said:
        async def note(tx: Transaction) -> Said:
            try:
                task = await held(tx.conn, job_id, token)
            except JobConflict:
                # The same word again, because its answer was lost, is the same word.
                again = await tx.conn.fetchrow(
                    "select * from pull_tasks where job_id = $1 and lease_hash = $2 and state = 'done'",
                    job_id,
                    hash_of(token),
                )
                if again is None:
                    raise
                return Said(again["job_id"], again["project_id"], again["model"])
            await tx.conn.execute(
                "update pull_tasks set state = 'done', outcome = $2::jsonb, ended_at = now() where attempt_id = $1",
                task["attempt_id"],
                said.to_json(await seen(tx.conn)),
            )
            return await _hinted(tx, task, "reported")

        return await self._db.run(note)

    # --- housekeeping -----------------------------------------------------------------------------------------

    async def sweep(self) -> None:
        """Drop what has served its time; end what no job waits for any more."""
        async with self._db.connection() as conn:
            await conn.execute(
                """
                update pull_tasks t set state = 'canceled', ended_at = now()
                where state in ('waiting', 'leased') and coalesce(leased_until, '-infinity') < now()
                  and not exists (select from jobs j where j.id = t.job_id and j.attempt = t.number
                      and j.stage not in ('completed', 'failed', 'canceled', 'expired'))
                """
            )
            await conn.execute("delete from pull_tasks where ended_at < now() - $1::interval", KEPT)


async def _hinted(tx: Transaction, task: Row, step: str) -> Said:
    await work.look_now(tx.conn, [task["job_id"]])
    if task["claims"] <= pull_leases.CLAIMS_TRACED or step != "given_back":
        detail = {"worker": task["worker"]}
        await trace.write(tx.conn, [trace.Step(task["job_id"], task["number"], step, detail=detail)])
    return Said(task["job_id"], task["project_id"], task["model"])


async def _waiting(conn: Conn, row: Row) -> Waiting:
    before: int = await conn.fetchval(
        """
        select count(*) from (
            select from pull_tasks t
            where t.state = 'waiting' and t.project_id = $1 and t.model = $2
              and (t.priority > $3 or t.priority = $3 and (t.created_at, t.attempt_id) < ($4, $5))
            limit $6) as before
        """,
        row["project_id"],
        row["model"],
        row["priority"],
        row["created_at"],
        row["attempt_id"],
        POSITION_MAX,
    )
    shortest_s, longest_s = POSITION_LOOK_S
    return Waiting(before, row["at"] + timedelta(seconds=min(shortest_s * (before + 1), longest_s)))


async def _end_lease(tx: Transaction, attempt_id: UUID) -> Observation:
    """Its worker has fallen silent. Whatever it says from here on changes nothing."""
    row = await tx.conn.fetchrow(
        """
        update pull_tasks set state = case when stop_asked then 'canceled' else 'lost' end, ended_at = now()
        where attempt_id = $1 and state = 'leased' and leased_until < now() returning *
        """,
        attempt_id,
    )
    if row is None:
        # It has spoken in the last moment.
        row = await tx.conn.fetchrow(
            "select *, null::real as percent, null as message from pull_tasks where attempt_id = $1", attempt_id
        )
        return Missing() if row is None else _observed(row)
    log.warning("pull.lease_ended", job=str(row["job_id"]), attempt=row["number"], worker=row["worker"])
    detail = {"worker": row["worker"]}
    await trace.write(tx.conn, [trace.Step(row["job_id"], row["number"], "lease_ended", detail=detail)])
    return Canceled() if row["state"] == "canceled" else Lost(WORKER_LOST)


def _observed(row: Row) -> Observation:
    match row["state"]:
        case "waiting":
            return Waiting()
        case "leased":
            return Running(row["percent"], row["message"], look_at=row["leased_until"])
        case "done":
            return said.from_json(row["outcome"])
        case "canceled":
            return Canceled()
        case _:
            return Lost(WORKER_LOST)


async def _set_within(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return


def _nothing() -> None:
    return None
