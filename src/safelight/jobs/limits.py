"""Who may be sent now: places per provider and project, pace per provider, and pauses (J6).

A job that finds no place stays queued, marked `blocked`, and is taken up when a place is free. Places are counted
under a lock per provider and per project, so two workers cannot both take the last one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from safelight.db.pool import Conn

UNCOUNTED: Final = 1_000_000
"""As good as no limit; the database does not count up to it."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why not now, and when to ask again (None: when a place is freed)."""

    why: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A place at a provider for a job, and what the provider allows."""

    job_id: UUID
    provider: str
    project_id: UUID
    places: int
    rate_per_s: float | None


async def take_places(conn: Conn, wanted: Sequence[Wanted], *, project_places: int) -> list[Blocked | None]:
    """Mark these jobs, in this order, as holding places; or say why one cannot have one. None: it has one."""
    rows = await conn.fetch(
        "select job, why, until from take_places($1, $2, $3, $4, $5, $6, $7)",
        [each.job_id for each in wanted],
        [each.provider for each in wanted],
        [each.project_id for each in wanted],
        [min(each.places, UNCOUNTED) for each in wanted],
        min(project_places, UNCOUNTED),
        [None if each.rate_per_s is None else 1.0 / each.rate_per_s for each in wanted],
        [None if each.rate_per_s is None else _burst_s(each.rate_per_s) for each in wanted],
    )
    blocked = {row["job"]: Blocked(row["why"], row["until"]) for row in rows if row["why"] is not None}
    return [blocked.get(each.job_id) for each in wanted]


def _burst_s(rate_per_s: float) -> float:
    """A burst of one second's worth."""
    return max(1.0, 1.0 / rate_per_s)


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


async def block(conn: Conn, blocked: Mapping[UUID, Blocked]) -> None:
    """Remember why jobs wait. They are looked at again when they may have a place (`wake`), or at their deadline."""
    await conn.execute(
        """
        update job_work w set blocked = b.why, slot = false, look_at = least(b.until, j.deadline_at)
        from unnest($1::uuid[], $2::text[], $3::timestamptz[]) as b (job_id, why, until)
        join jobs j on j.id = b.job_id
        where w.job_id = b.job_id
        """,
        list(blocked),
        [each.why for each in blocked.values()],
        [each.until for each in blocked.values()],  # none: the deadline
    )


async def move(conn: Conn, moved: Sequence[tuple[UUID, str]]) -> None:
    """From now on these jobs wait for, and take, places at another provider."""
    await conn.execute(
        """
        update job_work w set provider = g.provider from unnest($1::uuid[], $2::text[]) as g (job_id, provider)
        where w.job_id = g.job_id
        """,
        [job_id for job_id, _ in moved],
        [provider for _, provider in moved],
    )


@dataclass(frozen=True, slots=True)
class Waiting:
    """Jobs wait for a place at this provider; `taken` are taken, and the next turn is in `next_turn_s` (or was)."""

    provider: str
    taken: int
    next_turn_s: float

    def free(self, places: int, rate_per_s: float | None) -> int:
        """How many could be sent now."""
        free = max(places - self.taken, 0)
        if rate_per_s is None:
            return free
        turns = (_burst_s(rate_per_s) - max(self.next_turn_s, 0.0)) * rate_per_s
        return min(free, max(0, math.floor(turns + 1e-6)))


async def waiting(conn: Conn) -> list[Waiting]:
    """Providers for which jobs wait for a place or a turn. Those that are paused are none."""
    rows = await conn.fetch(
        """
        select b.provider, (select count(*) from job_work s where s.slot and s.provider = b.provider) as taken,
            coalesce(extract(epoch from p.next_at - now()), 0)::float8 as next_turn_s
        from (select distinct provider from job_work where blocked in ('provider', 'project', 'rate')) as b
        left join provider_pace p on p.provider = b.provider
        where p.paused_until is null or p.paused_until <= now()
        """
    )
    return [Waiting(row["provider"], row["taken"], row["next_turn_s"]) for row in rows]


async def wake(conn: Conn, provider: str, places: int, *, project_places: int) -> list[UUID]:
    """Make due the `places` most urgent jobs (then oldest) that could have a place now.

    Whoever is just laying one of them down is poked, and picks it up again.
    """
    rows = await conn.fetch(
        """
        with candidates as (
            select w.job_id, w.priority, w.created_at from job_work w
            where w.provider = $1 and w.blocked in ('provider', 'project', 'rate')
              and (select count(*) from job_work s where s.slot and s.project_id = w.project_id)
                < coalesce((select concurrency from project_limits l where l.project_id = w.project_id), $3)
            order by w.priority desc, w.created_at, w.job_id limit $2
        ), woken as (
            update job_work w set look_at = least(look_at, now()),
                poked = poked or coalesce(lease_until >= now(), false)
            from candidates c where w.job_id = c.job_id
        )
        select job_id from candidates order by priority desc, created_at, job_id
        """,
        provider,
        places,
        project_places,
    )
    return [row["job_id"] for row in rows]
