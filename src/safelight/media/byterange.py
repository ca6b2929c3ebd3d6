"""The Range header, read as RFC 9110 says (M3). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_SINGLE: Final = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes start..end of the file, `end` exclusive."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """A valid range with nothing in it: 416."""


def parse_range(header: str | None, size: int) -> Part | Unsatisfiable | None:
    """What to send; None = the whole file (no header, several ranges, or one we do not understand)."""
    match = _SINGLE.fullmatch(header) if header else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        return Part(size - length, size) if length else Unsatisfiable()
    start = int(match[1])
    end = int(match[2]) + 1 if match[2] else size
    if end <= start and match[2]:
        return None  # last before first: the header is invalid, and an invalid one is ignored
    return Part(start, min(end, size)) if start < size else Unsatisfiable()
