"""Following a project's change log: nothing missed, nothing twice, whatever way the entries come (S2). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from safelight.sdk.errors import MustRefetch, UnexpectedAnswer
from safelight.sdk.resources import Change, ChangePage
from safelight.sdk.retries import pause_s

PAGE: Final = 500
STREAM_FAILURES_MAX: Final = 3
STREAM_AGAIN: Final = 5
PAUSE_MAX_S: Final = 1.0
WAIT_S: Final = 20
"""Of a long poll; no request stays open longer than 30 s (J1)."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in one life (`epoch`) of a project's log. `str()` of it may be kept and given back."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        epoch, _, seq = text.rpartition(":")
        if not epoch or not (seq.isascii() and seq.isdigit()):
            raise ValueError(f"{text!r} is not a cursor: expected EPOCH:SEQ")
        return cls(epoch, int(seq))


class Feed:
    """Takes entries from a stream or a poll, gives each exactly once and in order."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.must_pull = True
        """A stream is joined only after a pull, and left for one when an entry is missing in it."""
        self._failures = 0
        self._pulls = 0

    def pulled(self, page: ChangePage) -> list[Change]:
        """A page of the log after our cursor. Raises MustRefetch if the log began a new life."""
        if page.epoch != self.cursor.epoch:
            raise MustRefetch(
                "the change log began anew",
                code="must_refetch",
                extras={"epoch": page.epoch, "head": page.head},
            )
        fresh = [change for change in page.changes if change.seq > self.cursor.seq]
        for change in fresh:
            if change.seq != self.cursor.seq + 1:
                raise UnexpectedAnswer(
                    f"the log jumps from {self.cursor.seq} to {change.seq}", code="unexpected_answer"
                )
            self.cursor = Cursor(page.epoch, change.seq)
        fresh = [msgspec.structs.replace(change, epoch=page.epoch) for change in fresh]
        self._pulls += 1
        self.must_pull = self.cursor.seq < page.head and bool(fresh)
        return fresh

    def heard(self, name: str, data: str, event_id: str) -> list[Change]:
        """An event of the stream. `head` is its beat: it tells if we are behind without having been told."""
        self._failures = 0
        try:
            if name == "head":
                beat = msgspec.json.decode(data, type=ChangePage)
                self.must_pull = beat.epoch != self.cursor.epoch or beat.head > self.cursor.seq
                return []
            if name in ("must_refetch", "gone"):
                self.must_pull = True  # the pull says the same as an error
            if name != "change":
                return []
            change = msgspec.json.decode(data, type=Change)
        except msgspec.DecodeError:
            self.must_pull = True
            return []
        epoch = event_id.rpartition(":")[0]
        if epoch != self.cursor.epoch or change.seq > self.cursor.seq + 1:
            self.must_pull = True
            return []
        if change.seq <= self.cursor.seq:
            return []
        self.cursor = Cursor(epoch, change.seq)
        return [msgspec.structs.replace(change, epoch=epoch)]

    def lost(self) -> None:
        """The stream broke, or could not be had: poll, and try it again later."""
        self._failures += 1
        self.must_pull = False  # what comes next is a pull in any case

    @property
    def wants_stream(self) -> bool:
        """Streams that fail again and again (a proxy that buffers) are left for long polls, and tried now and then."""
        return not self.must_pull and (self._failures < STREAM_FAILURES_MAX or self._pulls % STREAM_AGAIN == 0)

    @property
    def wait_s(self) -> int:
        """For the next pull: none when a stream follows it, a long one when streams fail us."""
        return WAIT_S if self._failures >= STREAM_FAILURES_MAX and not self.must_pull else 0

    def pause_s(self, chance: float) -> float:
        """Between two pulls after a failure: never in a tight loop, never so long that polling feels dead."""
        return min(PAUSE_MAX_S, pause_s(self._failures - 1, chance)) if self._failures else 0.0
