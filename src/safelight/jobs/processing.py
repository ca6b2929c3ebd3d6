"""Acting on stored webhooks (P4): most are hints, which make their job due; a proven result is settled at once.

A result is proven by its webhook's signature where that covers the body and the files are in our storage. Whoever
received it hands it over in memory and it is settled by one statement; the inbox is what is left of it if that process
dies. Hints take one statement for a whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from safelight.db.pool import Conn, Database, Row, Transaction
from safelight.jobs import attempts, settle
from safelight.jobs.aftermath import Aftermath
from safelight.jobs.inbox import Proven, arrival
from safelight.jobs.storing import as_stored
from safelight.stopping import end_if_canceled

log: Final = structlog.get_logger("jobs")

BATCH_MAX: Final = 100

# Makes the jobs due, and keeps what was said: the task id that a lost submit answer did not bring, the last word of
# each attempt. A late word about an attempt that is over has it watched once more, as its cost is still to be known.
# Lock order: inbox → job_work → attempts (of parts that nothing reads, PostgreSQL runs the last first).
_HINTS: Final = """
    with taken as (
        select * from inbox where processed_at is null and not is_proven order by id limit $1 for update skip locked
    ), known as (
        select i.id, i.attempt_id, i.job_id, i.received_at, i.task_id, i.observation, a.number,
            j.id is not null as is_there, w.job_id is not null as is_unfinished, a.number = j.attempt as is_current
        from taken i left join attempts a on a.id = i.attempt_id left join jobs j on j.id = i.job_id
        left join job_work w on w.job_id = i.job_id
    ), marked as (
        update inbox i set processed_at = $2, outcome = case when k.is_unfinished then 'hint' else 'late' end
        from known k where i.id = k.id
    ), last as (
        select attempt_id, bool_or(not (is_unfinished and is_current)) as is_late,
            (array_agg(task_id order by id desc) filter (where task_id is not null))[1] as task_id,
            (array_agg(observation order by id desc) filter (where observation is not null))[1] as observation
        from known where is_there group by attempt_id
    ), noted as (
        update attempts a set task_id = coalesce(a.task_id, l.task_id), said = coalesce(l.observation, a.said),
            watched_at = case when not l.is_late then a.watched_at end
        from last l where a.id = l.attempt_id
            and (l.is_late or l.observation is not null or (a.task_id is null and l.task_id is not null))
    ), poked as (
        update job_work w set look_at = least(look_at, now()), poked = poked or coalesce(lease_until >= now(), false)
        where w.job_id in (select job_id from known where is_unfinished and is_current)
    ), traced as (
        insert into job_trace (job_id, attempt, step, at, detail)
        select job_id, number, 'webhook', received_at, '{"verified": true}' from known where is_there
    )
    select k.job_id, k.received_at, k.is_unfinished, k.is_unfinished and k.is_current as is_due,
        p.are_there as has_proven
    from (select exists (select from inbox where processed_at is null and is_proven) as are_there) p
    left join known k on true order by k.id
"""
_PROVEN: Final = """
    with taken as (
        select * from inbox where processed_at is null and is_proven order by id limit $1 for update skip locked
    )
    select i.id, i.job_id, i.received_at, i.observation, a.number, a.number = j.attempt as is_current
    from taken i left join attempts a on a.id = i.attempt_id left join jobs j on j.id = i.job_id order by i.id
"""
# What was not settled (the job has ended, or has another attempt) is a hint like any other.
_SETTLED: Final = """
    update inbox set is_proven = job_id = any ($2::uuid[]),
        processed_at = case when job_id = any ($2::uuid[]) then $3::timestamptz end,
        outcome = case when job_id = any ($2::uuid[]) then 'settled' end
    where id = any ($1::bigint[])
"""


@dataclass(frozen=True, slots=True)
class Processed:
    """What one batch made: jobs that are due now, and whether the inbox may hold more."""

    due: list[UUID]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Processor:
    """Acts on stored webhooks."""

    db: Database
    aftermath: Aftermath
    now: Callable[[], datetime]

    async def process(self) -> Processed:
        """Take one batch.

        One webhook that cannot be processed is set aside with the reason and does not hold up the others.
        """
        try:
            return await self._hints(BATCH_MAX)
        except Exception:
            end_if_canceled()
            log.exception("inbox.batch_failed")
            return await self._one_hint()

    async def settle(self, proven: Sequence[Proven]) -> bool:
        """Settle these in one statement. False: of some the inbox has yet to be processed."""
        now = self.now()
        first = {each.result.job_id: each for each in reversed(proven)}
        results, inbox_ids = [each.result for each in first.values()], [each.inbox_id for each in first.values()]
        try:
            done = await self.db.run(
                lambda tx: settle.settle_at_once(tx, results, now, inbox_ids), is_one_statement=True
            )
        except Exception as error:
            end_if_canceled()
            log.warning("inbox.not_at_once", webhooks=len(proven), error=repr(error))
            return False
        for each in done:
            if each.is_ours:
                self.aftermath.webhook(each.job_id, first[each.job_id].received_at)
        self.aftermath.completed(done)
        return len(first) == len(proven) and all(each.is_ours for each in done)

    # --- hints

    async def _hints(self, limit: int) -> Processed:
        rows = await self.db.run(lambda tx: tx.conn.fetch(_HINTS, limit, self.now()), is_one_statement=True)
        has_proven, taken = rows[0]["has_proven"], [row for row in rows if row["job_id"] is not None]
        for row in taken:
            if row["is_unfinished"]:
                self.aftermath.webhook(row["job_id"], row["received_at"])
        has_more = len(taken) == limit
        if has_proven and await self._proven():
            has_more = True
        return Processed(sorted({row["job_id"] for row in taken if row["is_due"]}), has_more)

    async def _one_hint(self) -> Processed:
        try:
            return await self._hints(1)
        except Exception as error:
            end_if_canceled()
            log.exception("inbox.webhook_failed")
            async with self.db.connection() as conn:
                await _set_aside(conn, error, is_proven=False)
            return Processed([], True)

    # --- proven results that were not settled at once

    async def _proven(self) -> bool:
        try:
            return await self._settle_kept(BATCH_MAX)
        except Exception:
            end_if_canceled()
            log.exception("inbox.batch_failed")
        try:
            return await self._settle_kept(1)
        except Exception as error:
            end_if_canceled()
            log.exception("inbox.webhook_failed")
            async with self.db.connection() as conn:
                await _set_aside(conn, error, is_proven=True)
            return True

    async def _settle_kept(self, limit: int) -> bool:
        """Says whether there may be more, also of hints: those that somebody else is settling now are not ours."""

        async def whole(tx: Transaction) -> tuple[list[Row], list[settle.Completed], set[UUID]]:
            now, rows = self.now(), await tx.conn.fetch(_PROVEN, limit)
            results = _results(rows)
            completed = await settle.settle_many(tx, list(results.values()), now) if results else []
            done = {each.job_id for each in completed if each.is_ours}
            await tx.conn.execute(_SETTLED, [row["id"] for row in rows], list(done), now)
            return rows, completed, done

        rows, completed, done = await self.db.run(whole)
        for job_id, received_at in {row["job_id"]: row["received_at"] for row in reversed(rows)}.items():
            if job_id in done:
                self.aftermath.webhook(job_id, received_at)
        self.aftermath.completed(completed)
        return len(rows) == limit or any(row["job_id"] not in done for row in rows)


async def _set_aside(conn: Conn, error: Exception, *, is_proven: bool) -> None:
    """The oldest that waits, which is what could not be processed alone."""
    await conn.execute(
        """
        update inbox set processed_at = now(), outcome = $1
        where id = (select id from inbox where processed_at is null and is_proven = $2 order by id limit 1
                    for update skip locked)
        """,
        f"failed: {error!r}"[:500],
        is_proven,
    )


def _results(rows: Sequence[Row]) -> dict[UUID, settle.Result]:
    """The first of each job, if it is of the attempt that counts."""
    results: dict[UUID, settle.Result] = {}
    for row in rows:
        if not row["is_current"] or row["job_id"] in results:
            continue
        seen, step = row["observation"], arrival(row["job_id"], row["number"], row["received_at"])
        outputs = [as_stored(output) for output in attempts.outputs_from_json(seen["outputs"])]
        results[row["job_id"]] = settle.Result(row["job_id"], row["number"], outputs, seen["cost"], [step])
    return results
