"""One result on its way to the server: whole where it is small, else in parts, on from where it broke off. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PART_BYTES: Final = 8 * 1024 * 1024
"""What a broken line costs at most. A part should arrive within 20 s: on slower lines they become smaller."""
PART_BYTES_MIN: Final = 256 * 1024
SETBACKS_MAX: Final = 5
"""How often the server may know less than it did. Then something loses what we send."""


class Setback(Exception):
    """The server keeps losing what was sent."""


@dataclass(slots=True)
class Course:
    """Where the upload of `total` bytes stands."""

    total: int
    offset: int = 0
    """So many bytes have arrived, as far as we know."""
    part: int = PART_BYTES
    is_unsure: bool = False
    """A part's answer was lost: ask before the next."""
    setbacks: int = 0

    @property
    def is_whole(self) -> bool:
        """Small enough for one request."""
        return self.total <= self.part and self.offset == 0 and not self.is_unsure

    @property
    def span(self) -> tuple[int, int] | None:
        """The bytes to send next; None: none, only ask how far it is (at the end: what became of it)."""
        if self.is_unsure or self.offset >= self.total:
            return None
        return self.offset, min(self.offset + self.part, self.total)

    @property
    def content_range(self) -> str | None:
        """The header of the next request."""
        if self.is_whole:
            return None
        span = self.span
        return f"bytes */{self.total}" if span is None else f"bytes {span[0]}-{span[1] - 1}/{self.total}"

    def told(self, offset: int) -> bool:
        """The server says how far it is; whether that is further than before. Raises Setback."""
        moved = offset > self.offset
        if offset < self.offset:
            self.setbacks += 1
            if self.setbacks > SETBACKS_MAX:
                raise Setback(f"the server has {offset:,} bytes of a result of which {self.offset:,} had arrived")
        self.offset = min(offset, self.total)
        self.is_unsure = False
        return moved

    def broke(self) -> None:
        """No answer, or one that says to try again: the next part is smaller."""
        self.is_unsure = not self.is_whole
        self.part = max(self.part // 2, PART_BYTES_MIN)
