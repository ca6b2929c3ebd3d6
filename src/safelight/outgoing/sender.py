"""The sender: sends what is due until cancelled. It sleeps until somebody says that something may be (J12).

Whoever says so: the sweep of the jobs' reconciler, which asks the database once a second in any case; a commit of a
project that was told something lately, so that it need not wait for that second; and a try that ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog

from safelight.db.pool import Database, Row
from safelight.library.page import instant
from safelight.outgoing import delivery, event, turn
from safelight.outgoing.figures import Figures
from safelight.outgoing.post import GuardedPost
from safelight.outgoing.secret import Signer
from safelight.stopping import end, end_if_canceled

log: Final = structlog.get_logger("outgoing")

IN_FLIGHT_MAX: Final = 128
"""Tries at once, mostly waiting; in memory each is a body of a few kilobytes."""
PER_LANE_MAX: Final = 4
"""Tries at once to one endpoint, or to one host that jobs named: what hangs holds 4 of 128."""
PER_PROJECT_MAX: Final = 48
"""Whatever one project's receivers do, others have room."""
CLAIMED_AT_ONCE: Final = 16
CONNECTIONS_MAX: Final = 2
"""Of the database, at once: jobs go before webhooks."""
GATHER_S: Final = 0.02
"""Many reasons to look share one look."""
KNOWN_MAX: Final = 1_000
"""Projects whose commits are worth a look at once; one that drops out waits for the sweep."""
RETRY_S: Final = 1.0
LAST_ANSWERS_S: Final = 1.0
"""Most receivers answer within it: what they have heard is noted, and not said again by the next sender."""
END_S: Final = 5.0
HOUSEKEEPING_S: Final = 3_600.0


class Sender:
    """One in each process with the worker role. `run` until cancelled."""

    def __init__(
        self,
        db: Database,
        post: GuardedPost,
        signer: Signer,
        figures: Figures,
        *,
        show_job: Callable[[dict[str, Any]], dict[str, Any]],
        show_generation: Callable[[Row], dict[str, Any]],
        now: Callable[[], datetime],
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`show_…`: rows as the API shows them."""
        self._db = db
        self._post = post
        self._signer = signer
        self._figures = figures
        self._show_job = show_job
        self._show_generation = show_generation
        self._now = now
        self._chance = chance
        self._wake = asyncio.Event()
        self._database = asyncio.Semaphore(CONNECTIONS_MAX)
        self._flying: dict[asyncio.Task[None], turn.Claimed] = {}
        self._known: OrderedDict[UUID, None] = OrderedDict()

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    def touched(self, projects: Iterable[UUID]) -> None:
        """These projects changed: a look is worth while if one of them has been told something before."""
        if any(project in self._known for project in projects):
            self._wake.set()

    async def run(self) -> None:
        housekeeping = asyncio.create_task(self._keep_house())
        try:
            while True:
                await self._wake.wait()
                await asyncio.sleep(GATHER_S)
                self._wake.clear()
                try:
                    await self._take()
                except Exception as error:
                    end_if_canceled()
                    log.warning("outgoing.claim_failed", error=repr(error))
                    await asyncio.sleep(RETRY_S)
        finally:
            await end(housekeeping)
            await self._end()

    async def _take(self) -> None:
        """Start as many tries as there is room for."""
        while room := min(IN_FLIGHT_MAX - len(self._flying), CLAIMED_AT_ONCE):
            lanes = Counter(each.lane for each in self._flying.values())
            projects = Counter(each.project_id for each in self._flying.values())
            async with self._database, self._db.connection() as conn:
                full = [project for project, count in projects.items() if count >= PER_PROJECT_MAX]
                claimed = await turn.claim(conn, lanes, full, per_lane=PER_LANE_MAX, limit=room)
            for each in claimed:
                self._remember(each.project_id)
                task = asyncio.create_task(self._try(each), name="webhook")
                self._flying[task] = each
                self._figures.in_flight = len(self._flying)
                task.add_done_callback(self._landed)
            if len(claimed) < room:
                return

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.pop(task, None)
        self._figures.in_flight = len(self._flying)
        self._wake.set()  # its lane has room again

    def _remember(self, project_id: UUID) -> None:
        self._known[project_id] = None
        self._known.move_to_end(project_id)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    async def _try(self, claimed: turn.Claimed) -> None:
        """One try, from the claim to its note. Where the database fails, the lease ends and it is tried again."""
        try:
            async with self._database:
                async with self._db.connection() as conn:
                    found = await turn.contents(conn, claimed)
                    if found is None:
                        await turn.stop(conn, claimed)
                        return
                body = self._body(claimed, found)
            owner = claimed.endpoint_id or claimed.project_id
            signed = self._signer.headers(owner, found.salts, message_id=str(claimed.id), at=self._now(), body=body)
            posted = await self._post.send(found.url, signed, body)
            async with self._database:
                disabled = await turn.note(self._db, claimed, posted, chance=self._chance(), now=self._now())
        except Exception as error:
            end_if_canceled()
            log.warning("outgoing.try_failed", delivery=str(claimed.id), error=repr(error))
            return
        self._figures.tried(posted.outcome, posted.duration_ms)
        log.info("outgoing.tried", delivery=str(claimed.id), outcome=posted.outcome, status=posted.status)
        if disabled is not None:
            self._figures.disabled(disabled)
            log.warning("outgoing.disabled", webhook=str(claimed.endpoint_id), why=disabled)

    def _body(self, claimed: turn.Claimed, found: turn.Contents) -> bytes:
        job = None if found.job is None else self._show_job(found.job)
        generations = [self._show_generation(row) for row in found.generations]
        return event.body(claimed.type, instant(found.at) or "", job, generations)

    async def _keep_house(self) -> None:
        """Hourly: the log does not grow without bound (O3)."""
        while True:
            try:
                await delivery.sweep(self._db)
            except Exception as error:
                end_if_canceled()
                log.warning("outgoing.sweep_failed", error=repr(error))
            await asyncio.sleep(HOUSEKEEPING_S)

    async def _end(self) -> None:
        """Give back what was under way, so that the next sender need not wait for the leases."""
        if not self._flying:
            return
        await asyncio.wait(self._flying, timeout=LAST_ANSWERS_S)
        flying = dict(self._flying)
        for task in flying:
            task.cancel()
        if not flying:
            return
        await asyncio.wait(flying, timeout=END_S)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(END_S), self._db.connection() as conn:
                await turn.give_back(conn, list(flying.values()))
