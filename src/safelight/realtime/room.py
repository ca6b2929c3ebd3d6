"""One project as its subscribers see it: one follower of the log, lanes of members, and catching up (S2, S7).

Every member stands at a cursor. A live one stands where the room stands and gets each batch as it comes, as bytes
made once a lane. One that is behind (it named an old cursor, or read too slowly) is brought up from the log by a task
of its own, at the speed at which it reads, and then is live again, in the same turn of the loop: nothing is missed,
nothing comes twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any, Final, Protocol
from uuid import UUID

import asyncpg
import msgspec
import structlog

from safelight.changes.log import Head, MustRefetch, NoLog
from safelight.realtime.feed import Feed
from safelight.realtime.lane import LaneKey, Touched, broadcast, render
from safelight.realtime.outlet import Batch, Outlet
from safelight.realtime.phoenix import Vsn
from safelight.realtime.session import Join
from safelight.realtime.tail import Beat, Changes, Entry, Event, Progress
from safelight.stopping import end

__all__ = ["AWAY", "HubStats", "Member", "Room", "Seat", "rest_s"]

log = structlog.get_logger("realtime")

BEAT_S: Final = 5.0
"""Between two looks whether a beat is due."""
QUIET_BEATS: Final = 2
"""A project where nothing happens is told of every second time: every 10 s (realtime-protocol.md §2)."""
ACTIVE_S: Final = 60.0
"""After its last change or progress a project counts as active for this long."""
ENTER_TIMEOUT_S: Final = 8.0
"""Below the clients' 10 s for a join."""
GATHER_S: Final = 0.1
"""Results that land within this share one GENERATIONS_UPDATED."""
PROGRESS_S: Final = 0.25
"""Between two words about one job."""
PROGRESS_JOBS_MAX: Final = 500
REST_EACH_S: Final = 40e-6
"""After telling of changes, for each member: some four times what telling one costs. However fast a log grows, those
who write have most of the loop, and what comes meanwhile is told in one write. With 1,000 members on one core, 100
writes a second were answered after 1.3 s without it and after 16 ms with it."""
REST_MIN_S: Final = 0.004
REST_MAX_S: Final = 0.05
CATCH_UP_ENTRIES: Final = 200
RETRY_S: Final = (0.2, 5.0)
AWAY: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""The database does not answer: try again."""


def rest_s(members: int) -> float:
    """How long a room of that size lets others work after it has told of changes; a small one need not."""
    wanted_s = REST_EACH_S * members
    return min(wanted_s, REST_MAX_S) if wanted_s >= REST_MIN_S else 0.0


class HubStats:
    """Counters since the start, for metrics."""

    def __init__(self) -> None:
        self.entries = 0
        self.frames = 0
        self.broadcasts = 0
        self.gaps = 0
        self.catch_ups = 0
        self.refetches = 0
        self.dropped = 0
        self.faults = 0


class Seat(Protocol):
    """A socket, as rooms see it."""

    outlet: Outlet
    vsn: Vsn

    def end(self, join: Join, message: str) -> None:
        """End this join in the way that heals."""
        ...


class Member:
    """One joined channel of one socket."""

    __slots__ = ("catch_up", "cursor", "has_presence", "is_live", "join", "key", "seat", "touched")

    def __init__(self, seat: Seat, join: Join, cursor: int) -> None:
        self.seat = seat
        self.join = join
        self.key = LaneKey(seat.vsn, join.topic, join.has_feed, join.config.events, frozenset(join.config.bindings))
        self.cursor = cursor
        """Only of one that is behind; a live one stands where the room stands."""
        self.is_live = True
        self.has_presence = join.config.has_presence
        self.catch_up: asyncio.Task[None] | None = None
        self.touched: Touched | None = None


class Room:
    """`open` it, `enter`, then `attach` and `detach` members; `close` it."""

    def __init__(self, project: UUID, feed: Feed, stats: HubStats, clock: Callable[[], float]) -> None:
        self.project = project
        self.epoch: UUID | None = None
        self.cursor = 0
        self.members: dict[int, Member] = {}
        """By the address of the join: unique while it lives."""
        self.idle_since = clock()
        self._lanes: dict[LaneKey, dict[int, Member]] = {}
        self._feed = feed
        self._stats = stats
        self._clock = clock
        self._stands = asyncio.Event()
        self._is_gone = False
        self._task: asyncio.Task[None] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._touched = Touched()
        self._progress: dict[str, bytes] = {}
        self._active_at = clock()
        self._beats = 0
        self._owed_beat: int | None = None

    # -- life

    def open(self) -> None:
        self._task = asyncio.create_task(self._run(), name="room")

    async def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        await end(self._task, *(member.catch_up for member in self.members.values()))

    async def enter(self) -> Head:
        """Where the room stands, once it does. Raises NoLog, TimeoutError."""
        async with asyncio.timeout(ENTER_TIMEOUT_S):
            await self._stands.wait()
        if self._is_gone or self.epoch is None:
            raise NoLog(str(self.project))
        return Head(self.epoch, self.cursor)

    async def _run(self) -> None:
        tries = 0
        while True:
            try:
                after = self.cursor if self.epoch is not None else None
                async with contextlib.aclosing(
                    self._feed.follow(self.project, epoch=self.epoch, after=after, beat_s=BEAT_S)
                ) as events:
                    async for event in events:
                        tries = 0
                        self._on(event)
                        if isinstance(event, Changes) and (pause_s := rest_s(len(self.members))):
                            await asyncio.sleep(pause_s)
                return  # the process is about to end
            except MustRefetch as lost:
                self._lose(lost)
            except NoLog:
                self._is_gone = True
                self._stands.set()
                self._end_all("The project is gone")
                return
            except AWAY as error:
                if tries == 0:
                    log.warning("realtime.room_waits", project=str(self.project), error=repr(error))
                await asyncio.sleep(random.uniform(0, min(RETRY_S[1], RETRY_S[0] * 2**tries)))
                tries = min(tries + 1, 10)
            except Exception:
                # A fault of ours, at an entry that is passed by now: nobody may stay joined and hear nothing.
                self._stats.faults += 1
                log.exception("realtime.room_failed", project=str(self.project))
                self._end_all("Something went wrong: join again")
                await asyncio.sleep(RETRY_S[0])

    def _lose(self, lost: MustRefetch) -> None:
        """The log is another one now: everybody is told to read anew, and to join again."""
        self._stats.refetches += 1
        self.epoch, self.cursor = None, 0
        self._stands.clear()
        for member in list(self.members.values()):
            self._tell_gap(member, lost.epoch, member.cursor, lost.head, must_refetch=True)
        self._end_all("The change log was replaced: read anew")

    def _end_all(self, message: str) -> None:
        for member in list(self.members.values()):
            member.seat.end(member.join, message)

    # -- members

    def attach(self, member: Member) -> None:
        """From here on the member gets everything after the room's cursor, or after its own."""
        self.members[id(member.join)] = member
        start = self._start(member.join)
        if start is None:
            self._lanes.setdefault(member.key, {})[id(member.join)] = member
        else:
            member.cursor = start[1]
            self._fall_behind(member, start[0], replay_to=self.cursor)

    def detach(self, join: Join) -> Member | None:
        member = self.members.pop(id(join), None)
        if member is not None:
            self._leave_lane(member)
            if member.catch_up is not None:
                member.catch_up.cancel()
            self.idle_since = self._clock()
        return member

    def _start(self, join: Join) -> tuple[UUID | None, int] | None:
        """Where the client asked to begin; None: here and now."""
        if join.config.cursor is not None:
            epoch, after = join.config.cursor
            return None if after == self.cursor and epoch in (None, self.epoch) else (epoch, after)
        if join.config.replay_since_ms is not None and join.config.replay_limit > 0:
            return None, -1  # found out by the catch-up
        return None

    def _leave_lane(self, member: Member) -> None:
        lane = self._lanes.get(member.key)
        if lane is not None and lane.pop(id(member.join), None) is not None and not lane:
            del self._lanes[member.key]

    # -- what happens

    def _on(self, event: Event) -> None:
        match event:
            case Changes(epoch, entries):
                self._deliver(epoch, entries)
            case Beat(epoch, head):
                self._beat(epoch, head)
            case Progress(data):
                self._take_progress(data)
            case _:
                pass  # a slow turn of ours (the feed goes on from the log), or nothing to say

    def _deliver(self, epoch: UUID, entries: list[Entry]) -> None:
        before, self.cursor = self.cursor, entries[-1].seq
        self._active_at = self._clock()
        self._stats.entries += len(entries)
        for key, lane in list(self._lanes.items()):
            batch = Batch(render(key, epoch, entries))
            if not batch:
                continue
            for member in list(lane.values()):
                if member.seat.outlet.offer(batch):
                    self._stats.frames += len(batch)
                else:
                    self._gap(member, before)
        for entry in entries:
            self._touched.add(entry.change)
        if self._touched:
            self._after(GATHER_S, "touched", self._flush_touched)
        if self._owed_beat is not None and self.cursor >= self._owed_beat:
            self._tell_head()

    def _beat(self, epoch: UUID, head: int) -> None:
        if self.epoch is None:
            self.epoch, self.cursor = epoch, head
            self._stands.set()
            return
        self._beats += 1
        is_active = self._clock() - self._active_at < ACTIVE_S
        if is_active or self._beats % QUIET_BEATS == 0:
            self._owed_beat = head  # not before everything up to it was sent
            if self.cursor >= head:
                self._tell_head()

    def _tell_head(self) -> None:
        self._owed_beat = None
        self._broadcast_live("head", b'{"epoch":"%s","seq":%d}' % (str(self.epoch).encode(), self.cursor))

    def _flush_touched(self) -> None:
        touched, self._touched = self._touched, Touched()
        for body in touched.bodies(self.project):
            self._broadcast_live("GENERATIONS_UPDATED", body)

    def _take_progress(self, data: bytes) -> None:
        self._active_at = self._clock()
        try:
            job = str(msgspec.json.decode(data, type=dict[str, Any]).get("job_id"))
        except msgspec.MsgspecError:
            return
        if job in self._progress or len(self._progress) < PROGRESS_JOBS_MAX:
            self._progress[job] = data
        if "progress" not in self._timers:
            self._flush_progress()

    def _flush_progress(self) -> None:
        waiting, self._progress = self._progress, {}
        for data in waiting.values():
            self._broadcast_live("progress", data)
        if waiting:
            self._after(PROGRESS_S, "progress", self._flush_progress)

    def _broadcast_live(self, event: str, body: bytes) -> None:
        """Ours, to the live members of the main topic. Whoever has no room for it does without."""
        for key, lane in self._lanes.items():
            if key.wants(event):
                batch = Batch((broadcast(key.vsn, key.topic, event, body),))
                for member in lane.values():
                    self._offer(member, batch)

    def tell(self, event: str, body: bytes) -> None:
        """A broadcast of ours to every member of the main topic, also those behind."""
        for member in self.members.values():
            if member.key.wants(event):
                self._offer(member, Batch((broadcast(member.key.vsn, member.key.topic, event, body),)))

    def _offer(self, member: Member, batch: Batch) -> None:
        if member.seat.outlet.offer(batch):
            self._stats.frames += 1
        else:
            self._stats.dropped += 1

    def _after(self, delay_s: float, name: str, act: Callable[[], None]) -> None:
        def fire() -> None:
            del self._timers[name]
            act()

        if name not in self._timers:
            self._timers[name] = asyncio.get_running_loop().call_later(delay_s, fire)

    # -- catching up

    def _gap(self, member: Member, cursor: int) -> None:
        """Its queue is full: it is told, and gets the rest from the log as it reads."""
        self._stats.gaps += 1
        member.cursor = cursor
        self._tell_gap(member, self.epoch, cursor, self.cursor, must_refetch=False)
        self._leave_lane(member)
        self._fall_behind(member, self.epoch, replay_to=0)

    def _tell_gap(self, member: Member, epoch: UUID | None, after: int, head: int, *, must_refetch: bool) -> None:
        if member.key.wants("gap"):
            body = msgspec.json.encode({"epoch": epoch, "after": after, "head": head, "must_refetch": must_refetch})
            member.seat.outlet.put(broadcast(member.key.vsn, member.key.topic, "gap", body))

    def _fall_behind(self, member: Member, epoch: UUID | None, *, replay_to: int) -> None:
        """Up to `replay_to` it gets what was before it joined."""
        self._stats.catch_ups += 1
        member.is_live = False
        member.touched = Touched()
        member.touched.merge(self._touched)
        member.catch_up = asyncio.create_task(self._catch_up(member, epoch, replay_to), name="catch-up")

    async def _catch_up(self, member: Member, epoch: UUID | None, replay_to: int) -> None:
        tries = 0
        while True:
            try:
                if member.cursor < 0:
                    member.cursor = await self._replay_start(member.join, replay_to)
                found = await self._feed.read(self.project, epoch=epoch, after=member.cursor, limit=CATCH_UP_ENTRIES)
                tries = 0
                for entry in found.entries:
                    is_replay = entry.seq <= replay_to
                    if entry.seq <= self.cursor and not await self._send_past(member, found.epoch, entry, is_replay):
                        return
                # From here to the end of the turn nobody else moves.
                if member.cursor >= self.cursor and found.epoch == self.epoch:
                    self._go_live(member)
                    return
                epoch = found.epoch
                if not found.entries:
                    await asyncio.sleep(RETRY_S[0])  # the room knows more than the log: it is about to hear why
            except MustRefetch as lost:
                self._stats.refetches += 1
                self._tell_gap(member, lost.epoch, max(member.cursor, 0), lost.head, must_refetch=True)
                member.catch_up = None
                member.seat.end(member.join, "The cursor cannot be continued: read anew")
                return
            except NoLog:
                member.catch_up = None
                member.seat.end(member.join, "The project is gone")
                return
            except AWAY:
                await asyncio.sleep(random.uniform(0, min(RETRY_S[1], RETRY_S[0] * 2**tries)))
                tries = min(tries + 1, 10)

    async def _send_past(self, member: Member, epoch: UUID, entry: Entry, is_replay: bool) -> bool:
        """Send one entry that the room has passed already, once there is room; false if the socket is ending."""
        outlet = member.seat.outlet
        batch = Batch(render(member.key, epoch, (entry,), is_replay=is_replay))
        while not outlet.offer(batch):
            if outlet.is_over:
                return False
            await outlet.roomy()
        self._stats.frames += len(batch)
        if member.touched is not None:
            member.touched.add(entry.change)
        member.cursor = entry.seq
        return True

    def _go_live(self, member: Member) -> None:
        member.is_live = True
        member.catch_up = None
        if member.touched and member.key.wants("GENERATIONS_UPDATED"):
            for body in member.touched.bodies(self.project):
                told = broadcast(member.key.vsn, member.key.topic, "GENERATIONS_UPDATED", body)
                self._offer(member, Batch((told,)))
        member.touched = None
        self._lanes.setdefault(member.key, {})[id(member.join)] = member

    async def _replay_start(self, join: Join, upto: int) -> int:
        """The cursor for "since then, at most so many before it joined"."""
        since_ms, limit = join.config.replay_since_ms or 0, join.config.replay_limit
        after = await self._feed.replay_start(self.project, since_ms / 1000, limit, upto)
        return upto if after is None else after
