"""Who may be sent now: places per provider and project, pace per provider, and pauses (J6).

A job that finds no place stays queued, marked `blocked`, and is taken up when a place is free. Places are counted
under a lock per provider and per project, so two workers cannot both take the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from safelight.db.pool import Conn, Row

_LOCK_SPACE_PROVIDER = 0x5A01
_LOCK_SPACE_PROJECT = 0x5A02


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why not now, and when to ask again (None: when a place is freed)."""

    why: str
    until: datetime | None


async def take_place(
    conn: Conn, job: Row, *, provider_places: int, project_places: int, rate_per_s: float | None
) -> Blocked | None:
    """Mark the job as holding a place; or say why it cannot have one. None: it has one."""
    provider, project_id, job_id = job["provider"], job["project_id"], job["id"]
    pause = await conn.fetchrow(
        "select paused_until from provider_pace where provider = $1 and paused_until > now()", provider
    )
    if pause is not None:
        return Blocked("paused", pause["paused_until"])
    # Provider before project, always: two locks in one order cannot deadlock.
    await conn.execute(
        "select pg_advisory_xact_lock($1, hashtext($2)), pg_advisory_xact_lock($3, hashtext($4))",
        _LOCK_SPACE_PROVIDER,
        provider,
        _LOCK_SPACE_PROJECT,
        str(project_id),
    )
    counts = await conn.fetchrow(
        """
        select (select count(*) from job_work where slot and provider = $1) as at_provider,
               (select count(*) from job_work where slot and project_id = $2) as of_project,
               (select concurrency from project_limits where project_id = $2) as project_limit
        """,
        provider,
        project_id,
    )
    assert counts is not None
    if counts["at_provider"] >= provider_places:
        return Blocked("provider", None)
    if counts["of_project"] >= (counts["project_limit"] or project_places):
        return Blocked("project", None)
    if rate_per_s is not None:
        allowed_at = await _pace(conn, provider, 1.0 / rate_per_s)
        if allowed_at is not None:
            return Blocked("rate", allowed_at)
    await conn.execute("update job_work set slot = true, blocked = null where job_id = $1", job_id)
    return None


async def _pace(conn: Conn, provider: str, interval_s: float) -> datetime | None:
    """GCRA with a burst of one second's worth: take a turn now (None), or learn when there is one."""
    burst_s = max(1.0, interval_s)
    taken = await conn.fetchval(
        """
        insert into provider_pace as p (provider, next_at) values ($1, now() + make_interval(secs => $2))
        on conflict (provider) do update
            set next_at = greatest(p.next_at, now()) + make_interval(secs => $2)
            where p.next_at <= now() + make_interval(secs => $3 - $2)
        returning true
        """,
        provider,
        interval_s,
        burst_s,
    )
    if taken:
        return None
    return await conn.fetchval(
        "select next_at - make_interval(secs => $2) from provider_pace where provider = $1",
        provider,
        burst_s - interval_s,
    )


async def pause(conn: Conn, provider: str, *, for_s: float, why: str) -> None:
    """Stop sending to a provider for a while: our account there has a problem."""
    await conn.execute(
        """
        insert into provider_pace (provider, paused_until, paused_why)
        values ($1, now() + make_interval(secs => $2), $3)
        on conflict (provider) do update set paused_until = excluded.paused_until, paused_why = excluded.paused_why
        """,
        provider,
        for_s,
        why[:500],
    )


async def block(conn: Conn, job: Row, blocked: Blocked) -> None:
    """Remember why the job waits. It is looked at again when a place is free (`wake`), or at its deadline."""
    await conn.execute(
        "update job_work set blocked = $2, slot = false, look_at = least($3, $4) where job_id = $1",
        job["id"],
        blocked.why,
        blocked.until or job["deadline_at"],
        job["deadline_at"],
    )


async def waiting_providers(conn: Conn) -> list[tuple[str, int]]:
    """Providers for which jobs wait for a place, with the number of places taken."""
    rows = await conn.fetch(
        """
        select b.provider, (select count(*) from job_work s where s.slot and s.provider = b.provider) as taken
        from (select distinct provider from job_work where blocked in ('provider', 'project')) as b
        """
    )
    return [(row["provider"], row["taken"]) for row in rows]


async def wake(conn: Conn, provider: str, places: int, *, project_places: int) -> list[UUID]:
    """Make due the `places` most urgent jobs (then oldest) that could have a place now."""
    rows = await conn.fetch(
        """
        with candidates as (
            select w.job_id, w.priority, w.created_at from job_work w
            where w.provider = $1 and w.blocked in ('provider', 'project')
              and (w.blocked = 'provider' or
                   (select count(*) from job_work s where s.slot and s.project_id = w.project_id)
                   < coalesce((select concurrency from project_limits l where l.project_id = w.project_id), $3))
            order by w.priority desc, w.created_at, w.job_id limit $2
        ), woken as (
            update job_work w set look_at = now() from candidates c where w.job_id = c.job_id
        )
        select job_id from candidates order by priority desc, created_at, job_id
        """,
        provider,
        places,
        project_places,
    )
    return [row["job_id"] for row in rows]
