"""One pull of a project's log for all who wait for it: memory brought up to the log, and lines that are due written.

It looks again if a hint comes while it looks, so that nobody needs a second pull beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from safelight.changes import log as change_log
from safelight.changes.log import Head, MustRefetch, NoLog
from safelight.changes.present import Presenters
from safelight.db.pool import Database
from safelight.realtime.line import Told
from safelight.realtime.tail import TAKE_BYTES_MAX, Channel, Entry

log = structlog.get_logger("realtime")

FRESH_S: Final = 1.0
"""How long a look at the head counts as a proof."""
PULL_GAP_S: Final = 0.004
"""Between two pulls of one project: a busy one is read in batches, a quiet one at once."""
PULL_LIMIT: Final = 500
LIVE_AT_ONCE: Final = 500
"""Lines written to before others get a turn of the loop: some 5 ms."""
LOOK_TIMEOUT_S: Final = 8.0
"""A look at the log that takes longer is given up and tried again; who waited for it gets a TimeoutError."""


@dataclass(slots=True)
class Stats:
    """Counters since the start, for metrics."""

    pulls: int = 0
    entries: int = 0
    gaps: int = 0
    catch_ups: int = 0
    sweeps: int = 0
    sweep_found: int = 0
    """Projects in which the sweep found what no hint had told: other people's SQL, or lost hints."""
    progress_dropped: int = 0
    failures: int = 0


class Puller:
    """Drives the channels that the feed holds; `forget` is told of one that has no log and no reader."""

    def __init__(
        self,
        db: Database,
        presenters: Presenters,
        stats: Stats,
        forget: Callable[[Channel], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on_pushed: Callable[[list[change_log.Change], int], None] | None = None
        """Told which changes were just handed to how many followers, for traces (D1). Must not block."""
        self.on_told: Callable[[int], None] | None = None
        """Told how many changes were just written to lines, all readers together. Must not block."""
        self._db = db
        self._presenters = presenters
        self._stats = stats
        self._forget = forget
        self._clock = clock
        self._pulls: set[asyncio.Task[None]] = set()

    def under_way(self) -> set[asyncio.Task[None]]:
        """For who must end them."""
        return set(self._pulls)

    def entry(self, change: change_log.Change) -> Entry:
        return Entry(change, self._presenters.encode(change), self._clock())

    async def prove(self, channel: Channel) -> None:
        """Return when memory holds what was committed: by this process before the call, by others FRESH_S ago."""
        if channel.pull is None and not channel.dirty and self._clock() - channel.fresh_at <= FRESH_S:
            return
        await asyncio.shield(self.kick(channel))

    def kick(self, channel: Channel) -> asyncio.Task[None]:
        """The pull that is under way, or a new one. It looks again if a hint comes while it looks."""
        if channel.pull is None:
            channel.pull = asyncio.create_task(self._pull(channel), name="feed-pull")
            self._pulls.add(channel.pull)
            channel.pull.add_done_callback(lambda task: self._pulled(channel, task))
        return channel.pull

    def _pulled(self, channel: Channel, task: asyncio.Task[None]) -> None:
        self._pulls.discard(task)
        channel.pull = None
        if not task.cancelled() and (error := task.exception()) is not None:
            channel.dirty = True  # the sweep tries again
            if isinstance(error, NoLog):
                channel.wake()
                if not channel.users:
                    self._forget(channel)
            else:
                self._stats.failures += 1
                log.warning("realtime.pull_failed", project=str(channel.project), error=repr(error))
        elif channel.dirty and channel.users and not task.cancelled():
            self.kick(channel)  # hinted in the very last moment

    async def _pull(self, channel: Channel) -> None:
        while True:
            pause_s = channel.pulled_at + PULL_GAP_S - self._clock()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            channel.dirty = False
            channel.pulled_at = asked_at = self._clock()
            self._stats.pulls += 1
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                try:
                    has_more = await self._pull_page(channel)
                except MustRefetch as lost:
                    await self._begin_anew(channel, Head(lost.epoch, lost.head))
                    has_more = False
            if not has_more:
                channel.fresh_at = asked_at
                if not channel.dirty:
                    return

    async def _pull_page(self, channel: Channel) -> bool:
        async with self._db.connection() as conn:
            if channel.epoch is None:
                found = await change_log.heads(conn, [channel.project])
                if channel.project not in found:
                    raise NoLog(str(channel.project))
                channel.begin(found[channel.project])
                return False
            page = await change_log.read(conn, channel.project, channel.ring.last, PULL_LIMIT, channel.epoch)
        before, entries = channel.ring.last, [self.entry(change) for change in page.changes]
        for entry in entries:
            channel.ring.append(entry)
        self._stats.entries += len(entries)
        if entries:
            channel.wake_others()
            await self._tell(channel, before, entries)
            if channel.users and self.on_pushed is not None:
                self.on_pushed(page.changes, len(channel.users))
        return channel.ring.last < page.head

    async def _tell(self, channel: Channel, before: int, entries: list[Entry]) -> None:
        """Write these to who waits at `before`; wake whoever does not take them."""
        if not channel.live:
            return
        last, epoch, is_small = (
            entries[-1].seq,
            channel.epoch,
            sum(len(each.data) for each in entries) <= TAKE_BYTES_MAX,
        )
        told = Told(b"".join([each.frame(epoch) for each in entries])) if epoch is not None and is_small else None
        count = 0
        for at, (woken, live) in enumerate(list(channel.live.items()), 1):
            # Woken meanwhile: it reads for itself, and perhaps its right to is over.
            if woken.is_set() or channel.live.get(woken) is not live or live.cursor != before:
                woken.set()
            elif told is not None and live.line.write(told):
                live.cursor = last
                count += 1
            else:
                woken.set()
            if at % LIVE_AT_ONCE == 0:
                await asyncio.sleep(0)
        if self.on_told is not None:
            self.on_told(count * len(entries))

    async def _begin_anew(self, channel: Channel, now: Head) -> None:
        """Our cursor is of another life: the log was put back, rebuilt, or cut ahead of us. Followers are told."""
        seen = channel.known()
        if now.epoch == seen.epoch and now.head < seen.head:
            async with self._db.connection() as conn:
                await change_log.renew_epoch(conn, channel.project, seen)
                now = (await change_log.heads(conn, [channel.project]))[channel.project]
        log.error("realtime.log_replaced", project=str(channel.project), seen=seen.head, head=now.head)
        channel.begin(now)
        channel.wake()
