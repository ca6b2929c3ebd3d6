"""Every reader's way to a project's changes: one pull from the log, shared by all who follow (S2, S7, F4).

A hint (a commit of this process, the bus) only says *look sooner*; what is handed out always comes from the log,
pulled after the cursor. The net under lost hints is one query a second for the heads of all followed projects.
Nothing is followed: no query, no timer.

How fresh an answer is: a poll never misses a commit that this process made before it asked (the hint marks the
project in the same turn of the loop, and the poll waits for the pull), and nobody else's that is older than
`puller.FRESH_S`. Within that second the head in memory answers without a query; that is what proofs are worth elsewhere
too (F4), and a write's `Safelight-Seq` tells its author when to ask again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Final
from uuid import UUID

import structlog

from safelight.changes import log as change_log
from safelight.changes.log import Head, NoLog
from safelight.changes.present import Presenters
from safelight.db.pool import Database
from safelight.realtime.line import Line
from safelight.realtime.puller import LOOK_TIMEOUT_S, Puller, Stats
from safelight.realtime.tail import (
    TAKE_BYTES_MAX,
    Beat,
    Changes,
    Channel,
    Entry,
    Event,
    Gap,
    Live,
    Progress,
    Quiet,
    RingBudget,
    Slice,
    piece,
)
from safelight.stopping import end

log = structlog.get_logger("realtime")

SWEEP_S: Final = 1.0
"""Between two looks at the heads of everything followed."""
BATCH_MAX: Final = 500
"""Entries a follower is handed at a time."""
CATCH_UPS_MAX: Final = 4
"""Readers of old entries share this many database connections, so that they cannot take the pool from the rest."""
IDLE_S: Final = 60.0
"""A project that nobody asked about for this long is forgotten."""
CHANNELS_MAX: Final = 20_000
"""Past it, the project that nobody follows and that was asked about longest ago is forgotten."""
WAIT_MAX_S: Final = 25.0
"""api.md: no request stays open for 30 s (J1)."""

_REPLAY_START: Final = """
select coalesce(max(seq) filter (where at < to_timestamp($3)), min(seq) - 1)
  from (select seq, at from changes where project_id = $1 and seq <= $4 order by seq desc limit $2) newest
"""


class Feed:
    """`start` it, `hint` it, read from it, `drain` it, `stop` it. One a process, all on one event loop."""

    def __init__(
        self,
        db: Database,
        presenters: Presenters,
        *,
        relay_progress: Callable[[UUID, bytes], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stats = Stats()
        self.puller = Puller(db, presenters, self.stats, self._forget, clock=clock)
        self._db = db
        self._relay_progress = relay_progress
        self._clock = clock
        self._budget = RingBudget()
        self._channels: dict[UUID, Channel] = {}
        self._catch_ups = asyncio.Semaphore(CATCH_UPS_MAX)
        self._somebody = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self.draining = False

    # -- life

    async def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name="feed-sweep")

    def drain(self) -> None:
        """End every wait and every follower now, politely; called when shutdown begins, before connections close."""
        self.draining = True
        for channel in self._channels.values():
            channel.wake()

    async def stop(self) -> None:
        self.drain()
        await end(self._keeper, *self.puller.under_way())
        for channel in self._channels.values():
            channel.forget()
        self._channels.clear()

    # -- hints

    def hint(self, projects: frozenset[UUID] | None) -> None:
        """These projects' logs grew (None: any may have). Idempotent, cheap, never wrong to call."""
        channels = self._channels.values() if projects is None else map(self._channels.get, projects)
        for channel in list(channels):
            if channel is not None:
                channel.dirty = True
                if channel.users:
                    self.puller.kick(channel)

    def publish_progress(self, project: UUID, payload: bytes) -> None:
        """Hand JSON to who follows the project now, here and (by the relay) in other processes. Never stored."""
        self.receive_progress(project, payload)
        if self._relay_progress is not None:
            self._relay_progress(project, payload)

    def receive_progress(self, project: UUID, payload: bytes) -> None:
        """Progress that another process published."""
        channel = self._channels.get(project)
        if channel is not None and channel.users:
            channel.add_progress(payload)

    def wake(self, project: UUID) -> None:
        """Followers of the project look whether they are over."""
        if (channel := self._channels.get(project)) is not None:
            channel.wake()

    # -- reading

    async def head(self, project: UUID) -> Head:
        """Where the log ends (see the module's promise of freshness). Raises NoLog."""
        channel = self._open(project)
        await self.puller.prove(channel)
        return channel.known()

    async def read(
        self, project: UUID, *, epoch: UUID | None, after: int, limit: int = 200, wait_s: float = 0.0
    ) -> Slice:
        """Entries after the cursor; if there is none, waits up to `wait_s` (at most 25) for the first.

        Raises MustRefetch, NoLog, or the database's error if it does not answer.
        """
        deadline = self._clock() + min(wait_s, WAIT_MAX_S)
        limit = max(1, min(limit, change_log.READ_LIMIT_MAX))
        channel = self._open(project)
        with self._follow(channel) if wait_s > 0 else contextlib.nullcontext(asyncio.Event()) as woken:
            while True:
                woken.clear()
                await self.puller.prove(channel)
                entries = await self._after(channel, epoch, after, limit)
                left_s = deadline - self._clock()
                if entries or left_s <= 0 or self.draining:
                    return Slice(
                        channel.known().epoch, max(channel.ring.last, entries[-1].seq if entries else 0), entries
                    )
                await _either(woken, left_s)

    async def replay_start(self, project: UUID, since_s: float, limit: int, upto: int) -> int | None:
        """The cursor for "the newest `limit` entries since then (seconds since 1970), of those up to the seq `upto`".

        None: there are no such entries.
        """
        async with self._catch_ups, self._db.connection() as conn:
            return await conn.fetchval(_REPLAY_START, project, limit, since_s, upto)

    async def follow(
        self,
        project: UUID,
        *,
        epoch: UUID | None,
        after: int | None,
        beat_s: float = 15.0,
        is_over: Callable[[], bool] = lambda: False,
        line: Line | None = None,
    ) -> AsyncGenerator[Event]:
        """Events from the cursor on (`after` None: from now on), a Beat first and then every `beat_s`.

        Changes that all followers are owed at once are written to `line` as Server-Sent Events, where it takes them,
        and are not among the events then.

        Ends when the feed drains, or when it `is_over` (looked at whenever something happens, and on `wake`).
        Raises NoLog or MustRefetch, at the start or whenever it becomes true. Close it (`aclose`) when done.
        """
        channel = self._open(project)
        with self._follow(channel) as woken:
            await self.puller.prove(channel)
            now = channel.known()
            epoch = epoch or now.epoch
            cursor = now.head if after is None else after
            progress = channel.progress_count
            await self._check(channel, epoch, cursor)
            yield Beat(now.epoch, now.head)
            is_live = False  # has been at the end once: from then on, leaving the ring is a gap
            live = Live(line) if line is not None else None
            beat_at = self._clock() + beat_s
            while not self.draining and not is_over():
                woken.clear()
                if is_live and cursor < channel.ring.first - 1 and epoch == channel.epoch:
                    self.stats.gaps += 1
                    is_live = False
                    yield Gap(cursor, channel.ring.last)
                entries = await self._after(channel, epoch, cursor, BATCH_MAX)
                if entries:
                    cursor = entries[-1].seq
                    yield Changes(epoch, entries)
                else:
                    is_live = True
                missed, pieces = channel.progress_after(progress)
                progress = channel.progress_count
                self.stats.progress_dropped += missed
                for each in pieces:
                    yield Progress(each)
                if self._clock() >= beat_at:
                    beat_at = self._clock() + beat_s
                    yield await self._beat(channel)
                elif not entries:
                    if live is not None and not missed and not pieces and epoch == channel.epoch:
                        live.cursor = cursor
                        channel.live[woken] = live
                    try:
                        await _either(woken, beat_at - self._clock())
                    finally:
                        if channel.live.pop(woken, None) is not None and live is not None:
                            cursor = live.cursor

    async def _beat(self, channel: Channel) -> Event:
        try:
            await self.puller.prove(channel)
        except NoLog:
            raise
        except Exception:
            return Quiet()
        now = channel.known()
        return Beat(now.epoch, now.head)

    async def _after(self, channel: Channel, epoch: UUID | None, after: int, limit: int) -> list[Entry]:
        """The next entries from memory, or from the log where memory does not reach back."""
        await self._check(channel, epoch, after)
        channel.ring.expire(self._clock())
        if channel.ring.covers(after):
            return channel.ring.take(after, limit)
        self.stats.catch_ups += 1
        async with self._catch_ups, self._db.connection() as conn:
            page = await change_log.read(conn, channel.project, after, limit, epoch, bytes_max=TAKE_BYTES_MAX)
        return piece(map(self.puller.entry, page.changes))

    async def _check(self, channel: Channel, epoch: UUID | None, after: int) -> None:
        if channel.known().head >= after and epoch in (None, channel.epoch):
            return
        channel.dirty = True  # another process may know more than we do: look before refusing
        await self.puller.prove(channel)
        now = channel.known()
        if now.head < after or epoch not in (None, now.epoch):
            async with self._db.connection() as conn:
                raise await change_log.must_refetch(conn, channel.project, now)

    # -- channels

    def _open(self, project: UUID) -> Channel:
        channel = self._channels.get(project)
        if channel is None:
            if len(self._channels) >= CHANNELS_MAX:
                self._forget_one()
            channel = self._channels[project] = Channel(project, self._budget)
            self._somebody.set()
        channel.asked_at = self._clock()
        return channel

    @contextlib.contextmanager
    def _follow(self, channel: Channel) -> Generator[asyncio.Event]:
        woken = asyncio.Event()
        channel.users.add(woken)
        self._somebody.set()
        try:
            yield woken
        finally:
            channel.users.discard(woken)
            channel.asked_at = self._clock()

    def _forget_one(self) -> None:
        unused = [channel for channel in self._channels.values() if not channel.users]
        if unused:
            self._forget(min(unused, key=lambda channel: channel.asked_at))

    def _forget(self, channel: Channel) -> None:
        channel.forget()
        self._channels.pop(channel.project, None)

    # -- the net

    async def _keep(self) -> None:
        is_failing = False
        while True:
            followed = [channel for channel in self._channels.values() if channel.users]
            if followed:
                try:
                    async with asyncio.timeout(LOOK_TIMEOUT_S):
                        await self._sweep(followed)
                    is_failing = False
                except Exception as error:
                    self.stats.failures += 1
                    if not is_failing:  # once per outage
                        log.warning("realtime.sweep_failed", error=repr(error))
                    is_failing = True
                await asyncio.sleep(SWEEP_S)
            elif self._channels:
                self._somebody.clear()
                await _either(self._somebody, IDLE_S)
            else:
                self._somebody.clear()
                await self._somebody.wait()
            now = self._clock()
            for channel in [c for c in self._channels.values() if not c.users and c.pull is None]:
                if channel.asked_at < now - IDLE_S:
                    self._forget(channel)

    async def _sweep(self, followed: list[Channel]) -> None:
        asked_at = self._clock()
        self.stats.sweeps += 1
        async with self._db.connection() as conn:
            found = await change_log.heads(conn, [channel.project for channel in followed])
        for channel in followed:
            if channel.pull is not None or channel.pulled_at > asked_at:
                continue  # somebody looks, or has looked after we did
            if not channel.dirty and channel.epoch is not None:
                if found.get(channel.project) == channel.known():
                    channel.fresh_at = max(channel.fresh_at, asked_at)
                    continue
                self.stats.sweep_found += 1
            channel.dirty = True
            self.puller.kick(channel)


async def _either(woken: asyncio.Event, timeout_s: float) -> None:
    """Wait for the event, but not longer than the time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(timeout_s, 0)):
            await woken.wait()
