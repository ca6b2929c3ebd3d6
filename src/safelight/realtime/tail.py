"""The recent end of one project's log in memory: a bounded ring of encoded entries. No I/O.

The ring is every follower's queue: a follower is a cursor into it and owns no memory, so a reader that stalls costs
nothing and delays nobody (S7). One that falls off the ring's far end re-reads the log from its cursor.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final
from uuid import UUID

from safelight.changes.log import Change, Head, NoLog
from safelight.realtime.line import Line

__all__ = [
    "TAKE_BYTES_MAX",
    "Beat",
    "Changes",
    "Channel",
    "Entry",
    "Event",
    "Gap",
    "Live",
    "Progress",
    "Quiet",
    "Ring",
    "RingBudget",
    "Slice",
    "piece",
]

RING_ENTRIES_MAX: Final = 1000
"""A second or two of the busiest project, or the minutes of a laptop's nap in an ordinary one."""
RING_BYTES_MAX: Final = 2 * 2**20
"""Encoded bytes of one project; decoded rows beside them weigh about three times that."""
RINGS_BYTES_MAX: Final = 12 * 2**20
"""Encoded bytes of all rings of a process (memory at rest, brief): past it, the ring that grows gives way."""
ENTRY_AGE_MAX_S: Final = 300.0
"""Presented rows carry signed addresses that expire: older entries are read and presented anew."""
PROGRESS_MAX: Final = 64
"""Pieces of progress kept for a follower that is busy; older ones are worth nothing any more."""
TAKE_BYTES_MAX: Final = 256 * 1024
"""One piece for a follower: large enough to save system calls, small enough not to fill a slow socket's buffer."""


class Entry:
    """A change with its JSON, encoded once, and its SSE frame, made once when somebody first wants it."""

    __slots__ = ("_frame", "change", "data", "seq", "taken_at")

    def __init__(self, change: Change, data: bytes, taken_at: float) -> None:
        self.seq = change.seq
        self.change = change
        self.data = data
        self.taken_at = taken_at
        self._frame: bytes | None = None

    def frame(self, epoch: UUID) -> bytes:
        """The entry as a Server-Sent Event."""
        if self._frame is None:
            self._frame = b"event: change\nid: %s:%d\ndata: %s\n\n" % (str(epoch).encode(), self.seq, self.data)
        return self._frame


@dataclass(frozen=True, slots=True)
class Slice:
    """An answer to a poll. More is waiting while the last entry's seq is below `head`."""

    epoch: UUID
    head: int
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class Changes:
    """The next entries, in order, without a hole."""

    epoch: UUID
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class Beat:
    """A proof of freshness: the log ended at `head` when this was made, at most a second ago."""

    epoch: UUID
    head: int


@dataclass(frozen=True, slots=True)
class Gap:
    """The reader was so slow that entries after `after` left memory; they follow, read from the log."""

    after: int
    head: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Ephemeral: not in the log, not repeated. JSON."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Quiet:
    """Time for a beat, but nothing could be proven (the database does not answer): keep the line, claim nothing."""


Event = Changes | Beat | Gap | Progress | Quiet


def piece(entries: Iterable[Entry], bytes_max: int = TAKE_BYTES_MAX) -> list[Entry]:
    """The first of them, as many as one piece holds, at least one: what a slow reader keeps is bounded (S7)."""
    taken: list[Entry] = []
    for entry in entries:
        bytes_max -= len(entry.data)
        if taken and bytes_max < 0:
            break
        taken.append(entry)
    return taken


class RingBudget:
    """Bytes held by all rings of a process."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0


class Ring:
    """Entries `first … last` without a hole; empty it stands at `last`, the seq up to which nothing is missing."""

    __slots__ = ("_bytes", "_entries", "budget", "last")

    def __init__(self, last: int, budget: RingBudget) -> None:
        self.last = last
        self.budget = budget
        self._entries: deque[Entry] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def first(self) -> int:
        """Seq of the oldest entry held; `last + 1` when empty."""
        return self.last - len(self._entries) + 1

    def append(self, entry: Entry) -> None:
        """Add the entry that follows `last`; the oldest give way to the bounds."""
        if entry.seq != self.last + 1:
            raise ValueError(f"entry {entry.seq} does not follow {self.last}")
        self._entries.append(entry)
        self.last = entry.seq
        self._count(len(entry.data))
        while len(self._entries) > 1 and (
            len(self._entries) > RING_ENTRIES_MAX or self._bytes > RING_BYTES_MAX or self.budget.used > RINGS_BYTES_MAX
        ):
            self._drop_oldest()

    def expire(self, now: float) -> None:
        """Let go of what is too old to be shown as it was presented."""
        while self._entries and self._entries[0].taken_at < now - ENTRY_AGE_MAX_S:
            self._drop_oldest()

    def covers(self, after: int) -> bool:
        """Whether everything after this cursor is in here."""
        return self.first - 1 <= after <= self.last

    def take(self, after: int, limit: int, bytes_max: int = TAKE_BYTES_MAX) -> list[Entry]:
        """Up to `limit` entries after the cursor, which must be covered; at least one if there is one."""
        begin = after - self.first + 1
        return piece(islice(self._entries, begin, begin + limit), bytes_max)

    def clear(self, last: int) -> None:
        """Empty the ring and stand at `last`."""
        self._count(-self._bytes)
        self._entries.clear()
        self.last = last

    def _drop_oldest(self) -> None:
        self._count(-len(self._entries.popleft().data))

    def _count(self, bytes_more: int) -> None:
        self._bytes += bytes_more
        self.budget.used += bytes_more


class Live:
    """A follower that waits at the log's end and is owed nothing: what comes next may be written for it directly."""

    __slots__ = ("cursor", "line")

    def __init__(self, line: Line) -> None:
        self.line = line
        self.cursor = 0


class Channel:
    """What this process knows of one project's log, and who wants to hear of it. State only; the feed drives it."""

    __slots__ = (
        "_progress", "asked_at", "dirty", "epoch", "fresh_at", "live", "progress_count", "project", "pull",
        "pulled_at", "ring", "users",
    )  # fmt: skip

    def __init__(self, project: UUID, budget: RingBudget) -> None:
        self.project = project
        self.epoch: UUID | None = None
        self.ring = Ring(0, budget)
        self.users: set[asyncio.Event] = set()
        self.live: dict[asyncio.Event, Live] = {}
        """Of the users, those that need not be woken for the next entries."""
        self.dirty = True
        """The log may have grown since the last look began."""
        self.fresh_at = float("-inf")
        """When the last look began that found memory and log equal."""
        self.pulled_at = float("-inf")
        self.asked_at = 0.0
        self.pull: asyncio.Task[None] | None = None
        self.progress_count = 0
        self._progress: deque[bytes] = deque(maxlen=PROGRESS_MAX)

    def known(self) -> Head:
        """The log's end as far as memory goes. Raises NoLog before the first successful look."""
        if self.epoch is None:
            raise NoLog(str(self.project))
        return Head(self.epoch, self.ring.last)

    def begin(self, head: Head) -> None:
        """Stand at this head with nothing in memory: at first, or in another life of the log."""
        self.epoch = head.epoch
        self.ring.clear(head.head)

    def forget(self) -> None:
        """Give the memory back."""
        self.ring.clear(self.ring.last)
        self._progress.clear()

    def wake(self) -> None:
        for woken in self.users:
            woken.set()

    def wake_others(self) -> None:
        """Those that must read for themselves."""
        for woken in self.users:
            if woken not in self.live:
                woken.set()

    def add_progress(self, payload: bytes) -> None:
        self.progress_count += 1
        self._progress.append(payload)
        self.wake()

    def progress_after(self, count: int) -> tuple[int, list[bytes]]:
        """How many pieces after the `count`-th are lost, and those that are left."""
        wanted = self.progress_count - count
        held = min(wanted, len(self._progress))
        return wanted - held, list(islice(self._progress, len(self._progress) - held, None))
