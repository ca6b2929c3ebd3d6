"""Lists: one snapshot, a keyset cursor, and the seq the answer was read at (S3)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from safelight.db.pool import Conn, Row
from safelight.library.errors import LibraryError, invalid

LIMIT_MAX: Final = 200
"""Rows in one answer: enough for any screen, small enough to be encoded between two frames."""
CURSOR_LENGTH_MAX: Final = 1_000
"""Ours are far shorter."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """Rows as they are in the tables; the room's presenters make resources of them."""

    items: Sequence[Row]
    next_cursor: str | None
    seq: int
    """Every change up to this one is in the items (`Safelight-Seq`)."""


class Newest(msgspec.Struct, frozen=True, array_like=True):
    """Where a list by age (newest first) goes on."""

    created_at: datetime
    id: UUID


class InOrder(msgspec.Struct, frozen=True, array_like=True):
    """Where a list by fractional position goes on; `position` None = among the unpositioned, which come last."""

    position: str | None
    created_at: datetime
    id: UUID


class ById(msgspec.Struct, frozen=True, array_like=True):
    id: UUID


async def head(conn: Conn, project_id: UUID) -> int:
    """The first read of a snapshot: what it names is certainly in what is read after it."""
    return await conn.fetchval("select head from project_heads where project_id = $1", project_id) or 0


def checked_limit(limit: int) -> int:
    """Raises LibraryError `invalid_input`."""
    if not 1 <= limit <= LIMIT_MAX:
        raise invalid("limit", f"is between 1 and {LIMIT_MAX}")
    return limit


def encode(cursor: msgspec.Struct) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).rstrip(b"=").decode()


def decode(cursor: str | None, kind: type[T]) -> T | None:
    """Raises LibraryError `invalid_input` for anything that this list did not give out."""
    if cursor is None:
        return None
    try:
        if len(cursor) > CURSOR_LENGTH_MAX:
            raise ValueError
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = msgspec.json.decode(raw, type=kind)
        if "\0" in str(getattr(found, "position", None)):
            raise ValueError
        at = getattr(found, "created_at", None)
        if at is not None and at.utcoffset() != timedelta(0):  # ours are in UTC; others may not even exist there
            raise ValueError
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise LibraryError("invalid_input", "the cursor is not one of this list's: start without one") from None
    return found


def page(rows: Sequence[Row], limit: int, seq: int, cursor_of: Callable[[Row], msgspec.Struct]) -> Page:
    """Of `limit + 1` rows that were asked for: the page, and whether another follows."""
    items = rows[:limit]
    return Page(items, encode(cursor_of(items[-1])) if len(rows) > limit else None, seq)


def instant(value: Any) -> str | None:
    """RFC 3339 in UTC. Rows of tables carry datetimes, those of the change log text: both come out the same."""
    if value is None:
        return None
    at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return at.isoformat().replace("+00:00", "Z")
