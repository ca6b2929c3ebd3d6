"""The lease on an unfinished job and the time of its next look: table `job_work`.

Whoever holds the lease may act; a hint that comes meanwhile sets `poked`, and the holder looks again before it
lets go, so no hint is lost between two workers. Correctness never rests on the lease: every change of a job is a
compare-and-set on its stage and attempt. The lease only keeps two workers from doing the same work.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from safelight.db.pool import Conn, Row

_READ = """
    select j.*, w.look_at, w.looks, w.heard_at, w.cancel_sent_at, w.blocked, w.slot, w.provider as work_provider,
        a.id as attempt_id, a.state as attempt_state, a.provider as attempt_provider, a.endpoint as attempt_endpoint,
        a.sent_at, a.accepted_at, a.task_id, a.handle, a.outputs, a.said
    from mine w join jobs j on j.id = w.job_id
    left join attempts a on a.job_id = j.id and a.number = j.attempt
"""
_CLAIM = """
    with mine as (
        update job_work set lease_by = $2, lease_until = now() + make_interval(secs => $3), poked = false
        where job_id = any ($1::uuid[]) and (lease_until is null or lease_until < now()) and (select lazily())
        returning *
    )
"""
_RENEW = """
    with mine as (
        update job_work set lease_until = now() + make_interval(secs => $3), poked = false
        where job_id = $1 and lease_by = $2 and (select lazily())
        returning *
    )
"""


async def claim(conn: Conn, job_ids: Sequence[UUID], *, worker: str, lease_s: float) -> list[Row | None]:
    """Take the leases and read the jobs with their current attempts; None for one that has ended or is leased.

    Whoever holds such a lease is poked. Every statement stands for itself: not for the inside of a transaction.
    """
    claimed: dict[UUID, Row] = {}
    left = sorted(set(job_ids))
    for _ in range(3):
        claimed |= {row["id"]: row for row in await conn.fetch(_CLAIM + _READ, left, worker, lease_s)}
        left = [job_id for job_id in left if job_id not in claimed]
        if not left:
            break
        # One that has ended is not there; one that is neither leased nor ended was let go this very moment.
        rows = await conn.fetch(
            """
            with poked as (
                update job_work set poked = true
                where job_id = any ($1::uuid[]) and lease_until >= now() and (select lazily())
                returning job_id
            )
            select job_id from job_work where job_id = any ($1::uuid[])
            except select job_id from poked
            """,
            left,
        )
        if not rows:
            break
        left = sorted(row["job_id"] for row in rows)
    # Asked for twice at once, it is claimed once: whoever has it has yet to look.
    return [claimed.pop(job_id, None) for job_id in job_ids]


async def reread(conn: Conn, job_id: UUID, *, worker: str, lease_s: float) -> Row | None:
    """Renew the lease and read again; None if the job has ended or the lease was lost."""
    return await conn.fetchrow(_RENEW + _READ, job_id, worker, lease_s)


async def renew(conn: Conn, job_id: UUID, *, worker: str, lease_s: float) -> Row | None:
    """Keep the lease during long work; says what became known meanwhile: `cancel_requested_at`, `stage`."""
    return await conn.fetchrow(
        """
        with mine as (
            update job_work set lease_until = now() + make_interval(secs => $3)
            where job_id = $1 and lease_by = $2 and (select lazily())
            returning job_id
        )
        select j.cancel_requested_at, j.stage, j.deadline_at from mine join jobs j on j.id = mine.job_id
        """,
        job_id,
        worker,
        lease_s,
    )


async def let_go(conn: Conn, job_id: UUID, *, worker: str, look_at: datetime | None) -> bool:
    """Give the lease back, to be looked at again at `look_at`. False: a hint came meanwhile, go on."""
    released = await conn.fetchval(
        """
        update job_work set lease_by = null, lease_until = null, look_at = coalesce($3, look_at)
        where job_id = $1 and lease_by = $2 and not poked and (select lazily())
        returning true
        """,
        job_id,
        worker,
        look_at,
    )
    if released:
        return True
    still_mine = await conn.fetchval("select true from job_work where job_id = $1 and lease_by = $2", job_id, worker)
    return not still_mine


async def drop_lease(conn: Conn, job_id: UUID, *, worker: str) -> None:
    """After an unexpected error: let the sweep take it up soon, not at once (it may be a poisonous job)."""
    await conn.execute(
        """
        update job_work set lease_by = null, lease_until = null, look_at = now() + interval '5 seconds'
        where job_id = $1 and lease_by = $2
        """,
        job_id,
        worker,
    )


async def heard(conn: Conn, job_id: UUID, look_at: datetime) -> None:
    """The provider answered: count the look and set the next.

    That is now where somebody poked meanwhile, or wished the job to stop while we looked: the provider has yet to hear.
    """
    await conn.execute(
        """
        update job_work w set heard_at = now(), looks = w.looks + 1, look_at = case
            when w.poked or j.cancel_requested_at > coalesce(w.cancel_sent_at, '-infinity') then now() else $2 end
        from jobs j where w.job_id = $1 and j.id = w.job_id
        """,
        job_id,
        look_at,
    )


async def heard_and_let_go(conn: Conn, job_id: UUID, look_at: datetime, *, worker: str) -> bool:
    """As `heard`, and the lease is given back with it. False: somebody poked or wished it to stop meanwhile, go on."""
    return bool(
        await conn.fetchval(
            """
            with mine as (
                select w.job_id, w.poked
                    or coalesce(j.cancel_requested_at > coalesce(w.cancel_sent_at, '-infinity'), false) as has_more
                from job_work w join jobs j on j.id = w.job_id
                where w.job_id = $1 and w.lease_by = $3 and (select lazily()) for update of w
            )
            update job_work w set heard_at = now(), looks = w.looks + 1,
                look_at = case when has_more then now() else $2 end,
                lease_by = case when has_more then lease_by end,
                lease_until = case when has_more then lease_until end
            from mine where w.job_id = mine.job_id returning not has_more
            """,
            job_id,
            look_at,
            worker,
        )
    )


async def look_now(conn: Conn, job_ids: list[UUID]) -> None:
    """A hint: whatever was scheduled later is due now. Whoever holds a lease is poked."""
    await conn.execute(
        """
        update job_work set look_at = least(look_at, now()), poked = poked or coalesce(lease_until >= now(), false)
        where job_id = any ($1::uuid[])
        """,
        sorted(job_ids),
    )


async def ask_for_look(conn: Conn, job_id: UUID, *, silent_for_s: float) -> bool:
    """J5: make the job due if nothing was heard for so long. True for one of many readers."""
    return bool(
        await conn.fetchval(
            """
            update job_work set look_at = now()
            where job_id = $1 and look_at > now() and (lease_until is null or lease_until < now())
              and coalesce(heard_at, created_at) < now() - make_interval(secs => $2)
            returning true
            """,
            job_id,
            silent_for_s,
        )
    )


async def due(conn: Conn, limit: int) -> list[UUID]:
    """Jobs that should be looked at, oldest promise first; skips leased ones (P5). Locks nothing: the claim does."""
    rows = await conn.fetch(
        """
        select job_id from job_work
        where look_at <= now() and (lease_until is null or lease_until < now())
        order by look_at limit $1
        """,
        limit,
    )
    return [row["job_id"] for row in rows]


async def next_due_at(conn: Conn) -> datetime | None:
    return await conn.fetchval("select min(look_at) from job_work")


async def finish(conn: Conn, job_ids: list[UUID]) -> None:
    """The job has ended: nothing is left to do for it."""
    await conn.execute("delete from job_work where job_id = any ($1::uuid[])", job_ids)
    await conn.execute("delete from job_progress where job_id = any ($1::uuid[])", job_ids)
