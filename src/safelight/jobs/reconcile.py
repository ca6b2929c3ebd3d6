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
from typing import Any, Final
from uuid import UUID

import structlog

from safelight.db.pool import Conn, Row
from safelight.jobs import attempts, limits, said, work
from safelight.jobs.parts import Parts
from safelight.providers.base import Canceled, Failed, Missing, Provider, ProviderError, Succeeded, TaskRef, Unchanged
from safelight.stopping import end_if_canceled

log: Final = structlog.get_logger("jobs")

SWEEP_S: Final = 1.0
SWEEP_MIN_S: Final = 0.02
DUE_MAX: Final = 500
"""Jobs seen by one sweep: more than one worker takes up at once, so that those it has do not hide the others."""
WATCH_EVERY_S: Final = 300.0
WATCH_FOR: Final = timedelta(hours=24)
WATCH_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class Situation:
    """What a sweep found: jobs that are due, seconds until another is (None: none), and whether others wait."""

    has_due: bool
    next_due_s: float | None
    has_blocked: bool
    has_webhooks: bool
    has_deliveries: bool
    """Outgoing webhooks are due: asked here so that an idle installation asks one question and no more."""
    breakers: list[dict[str, Any]]
    """Rows, as `Breakers.learn` takes them: asked here, so that nobody asks for each job."""
    models_version: int


async def situation(conn: Conn) -> Situation:
    row = await conn.fetchrow(
        """
        select exists (select from job_work where look_at <= now() and (lease_until is null or lease_until < now()))
                   as has_due,
               extract(epoch from (select min(look_at) from job_work where look_at > now()) - now())::float8
                   as next_due_s,
               exists (select from job_work where blocked in ('provider', 'project', 'rate')) as has_blocked,
               exists (select from inbox where processed_at is null) as has_webhooks,
               exists (select from webhook_deliveries where state = 'pending' and due_at <= now()) as has_deliveries,
               (select coalesce(jsonb_agg(to_jsonb(b)), '[]') from provider_breakers b) as breakers,
               (select version from models_version where one) as models_version
        """
    )
    assert row is not None
    return Situation(**dict(row))


class Reconciler:
    """Sweeps until cancelled.

    `take_up(job)` returns at once: False if there is no room for it now, or it is being advanced already.
    `webhooks()` says that the inbox is not empty.
    """

    def __init__(self, parts: Parts, take_up: Callable[[UUID], bool], webhooks: Callable[[], None]) -> None:
        self._parts = parts
        self._take_up = take_up
        self._webhooks = webhooks
        self.deliveries: Callable[[], None] = _nobody
        """Called when outgoing webhooks are due."""
        self._hurry = asyncio.Event()
        self._has_blocked = True

    def place_freed(self) -> None:
        """Somebody may have been waiting for it. Where nobody was a moment ago, the next sweep is soon enough."""
        if self._has_blocked:
            self._hurry.set()

    def place_wanted(self) -> None:
        """A job found no place: from now on every place that becomes free is of interest."""
        self._has_blocked = True

    def hurry(self) -> None:
        """Something changed that a sweep would notice: do not wait for the next second."""
        self._hurry.set()

    async def run(self) -> None:
        while True:
            try:
                pause_s = await self.sweep()
            except Exception:
                end_if_canceled()
                log.exception("sweep.failed")
                pause_s = SWEEP_S
            await asyncio.sleep(SWEEP_MIN_S)  # bursts of hints share one sweep
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`: in Python 3.11 it loses a cancel that comes together with what it waits for.
                async with asyncio.timeout(max(pause_s - SWEEP_MIN_S, 0.0)):
                    await self._hurry.wait()
            self._hurry.clear()

    async def sweep(self) -> float:
        """Do what is due; returns the seconds until the next sweep."""
        next_turn_s = SWEEP_S
        async with self._parts.db.connection() as conn:
            self._has_blocked = False  # but for those who say so while we look
            asked_at = self._parts.now()
            now = await situation(conn)
            self._has_blocked = self._has_blocked or now.has_blocked
            self._parts.breakers.learn(now.breakers, asked_at)
            await self._parts.offered.learn(conn, now.models_version)
            if now.has_webhooks:
                self._webhooks()
            if now.has_deliveries:
                self.deliveries()
            if now.has_blocked:
                next_turn_s = await self._wake(conn)
            due = await work.due(conn, DUE_MAX) if now.has_blocked or now.has_due else []
        taken_up = [job_id for job_id in due if self._take_up(job_id)]
        if taken_up and len(due) == DUE_MAX:
            return SWEEP_MIN_S
        next_due_s = SWEEP_S if now.next_due_s is None else now.next_due_s
        return min(max(min(next_due_s, next_turn_s), SWEEP_MIN_S), SWEEP_S)

    async def _wake(self, conn: Conn) -> float:
        """Wake as many as may be sent now; seconds until one more may be."""
        parts, next_turn_s = self._parts, SWEEP_S
        for each in await limits.waiting(conn):
            provider = parts.providers.get(each.provider)
            if provider is None:
                continue
            able = provider.capabilities
            if free := each.free(able.concurrency, able.rate_per_s):
                await limits.wake(conn, each.provider, free, project_places=parts.policy.project_concurrency)
            elif each.taken < able.concurrency and able.rate_per_s is not None:
                next_turn_s = min(next_turn_s, 1.0 / able.rate_per_s)
        return next_turn_s

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
                returning id, provider, task_id, endpoint, handle, said, stop_asked_at
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
                await self._watch(provider, row)
            except ProviderError as error:
                log.info("watch.silent", attempt=str(row["id"]), error=repr(error))

    async def _watch(self, provider: Provider, row: Row) -> None:
        """See what became of a task that nobody waits for; one that still runs is asked to stop, once."""
        parts, ref = self._parts, TaskRef(row["task_id"], row["endpoint"], row["handle"] or {})
        seen = await provider.inspect(ref)
        if isinstance(seen, Unchanged) and row["said"] is not None:
            seen = said.from_json(row["said"])
        state, cost = _end_of(seen)
        if state is not None:
            made = seen if isinstance(seen, Succeeded) and not attempts.has_bytes_in_hand(seen) else None
            outputs = attempts.outputs_to_json(made) if made is not None else None
            async with parts.db.connection() as conn:
                await attempts.record_late_end(conn, row["id"], state, cost, outputs)
            log.info("watch.ended", attempt=str(row["id"]), state=state)
        elif provider.capabilities.cancel and row["stop_asked_at"] is None:
            await provider.cancel(ref)
            async with parts.db.connection() as conn:
                await conn.execute("update attempts set stop_asked_at = now() where id = $1", row["id"])


def _nobody() -> None:
    """Who sends nothing need not be told."""


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
