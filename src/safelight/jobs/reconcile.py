"""The sweep (P5): whatever was promised and not done is done, whoever died in between.

One cheap query says whether anything is due, waiting for a place, or lying in the inbox; only then more is asked.
An idle installation asks that one question a second and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from safelight.db.pool import Conn
from safelight.jobs import attempts, limits, work
from safelight.jobs.parts import Parts
from safelight.providers.base import Canceled, Failed, Missing, ProviderError, Succeeded, TaskRef

log: Final = structlog.get_logger("jobs")

SWEEP_S: Final = 1.0
SWEEP_MIN_S: Final = 0.02
DUE_MAX: Final = 200
"""Jobs taken up by one sweep; the rest by the next, which follows at once."""
WATCH_EVERY_S: Final = 300.0
WATCH_FOR: Final = timedelta(hours=24)
WATCH_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class Situation:
    """What a sweep found: seconds until the next job is due (None: no job), and whether others wait."""

    next_due_s: float | None
    has_blocked: bool
    has_webhooks: bool


async def situation(conn: Conn) -> Situation:
    row = await conn.fetchrow(
        """
        select extract(epoch from (select min(look_at) from job_work
                   where lease_until is null or lease_until < now()) - now())::float8 as next_due_s,
               exists (select from job_work where blocked in ('provider', 'project')) as has_blocked,
               exists (select from inbox where processed_at is null) as has_webhooks
        """
    )
    assert row is not None
    return Situation(row["next_due_s"], row["has_blocked"], row["has_webhooks"])


class Reconciler:
    """Sweeps until cancelled. `take_up(job)` must return at once; `webhooks()` says that the inbox is not empty."""

    def __init__(self, parts: Parts, take_up: Callable[[UUID], None], webhooks: Callable[[], None]) -> None:
        self._parts = parts
        self._take_up = take_up
        self._webhooks = webhooks
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """Something changed that a sweep would notice: do not wait for the next second."""
        self._hurry.set()

    async def run(self) -> None:
        while True:
            try:
                pause_s = await self.sweep()
            except Exception:
                log.exception("sweep.failed")
                pause_s = SWEEP_S
            await asyncio.sleep(SWEEP_MIN_S)  # bursts of hints share one sweep
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), max(pause_s - SWEEP_MIN_S, 0.0))
            self._hurry.clear()

    async def sweep(self) -> float:
        """Do what is due; returns the seconds until the next sweep."""
        parts = self._parts
        async with parts.db.connection() as conn:
            now = await situation(conn)
            if now.has_webhooks:
                self._webhooks()
            if now.has_blocked:
                await self._wake(conn)
            due = await work.due(conn, DUE_MAX) if now.has_blocked or _is_due(now.next_due_s) else []
        for job_id in due:
            self._take_up(job_id)
        if len(due) == DUE_MAX:
            return SWEEP_MIN_S
        if now.next_due_s is None or due:
            return SWEEP_S
        return min(max(now.next_due_s, SWEEP_MIN_S), SWEEP_S)

    async def _wake(self, conn: Conn) -> None:
        parts = self._parts
        for name, taken in await limits.waiting_providers(conn):
            provider = parts.providers.get(name)
            if provider is not None and taken < provider.capabilities.concurrency:
                free = provider.capabilities.concurrency - taken
                await limits.wake(conn, name, free, project_places=parts.policy.project_concurrency)

    async def watch_abandoned(self) -> None:
        """Look at attempts that nobody waits for any more, so that their cost becomes known (providers.md §7.3)."""
        parts = self._parts
        async with parts.db.connection() as conn:
            rows = await conn.fetch(
                """
                update attempts set watched_at = now() where id in (
                    select id from attempts
                    where state = 'abandoned' and task_id is not null and sent_at > now() - $1::interval
                      and (watched_at is null or watched_at < now() - make_interval(secs => $2))
                    order by watched_at nulls first limit $3 for update skip locked)
                returning id, provider, task_id, endpoint, handle
                """,
                WATCH_FOR,
                WATCH_EVERY_S,
                WATCH_MAX,
            )
        for row in rows:
            provider = parts.providers.get(row["provider"])
            if provider is None:
                continue
            try:
                seen = await provider.inspect(TaskRef(row["task_id"], row["endpoint"], row["handle"] or {}))
            except ProviderError as error:
                log.info("watch.silent", attempt=str(row["id"]), error=repr(error))
                continue
            state, cost = _end_of(seen)
            if state is not None:
                async with parts.db.connection() as conn:
                    await attempts.record_late_cost(conn, row["id"], state, cost)
                log.info("watch.ended", attempt=str(row["id"]), state=state)


def _is_due(next_due_s: float | None) -> bool:
    return next_due_s is not None and next_due_s <= 0


def _end_of(seen: object) -> tuple[str | None, object]:
    match seen:
        case Succeeded(cost=cost):
            return "succeeded", cost or {"note": "made after the job had ended; not stored"}
        case Failed() | Missing():
            return "failed", None
        case Canceled():
            return "canceled", None
        case _:
            return None, None
