"""A project's ledger entries, newest first, each with the balance it led to (C3).

Reading backwards from the wallet costs the page and not the history: the balance after an older entry is the one
after the newer, less what the newer moved. The cursor carries where the page ended and what the wallet was there;
both are facts of the past, so later entries do not disturb an earlier cursor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from safelight.credits.ledger import LedgerError
from safelight.db.pool import Conn

PAGE_MAX: Final = 200
"""As in every list of the API."""
_CURSOR: Final = re.compile(r"(\d{1,18})\.(\d{1,18})\.(\d{1,18})")

_EFFECTS: Final[Mapping[tuple[str, str], tuple[int, int]]] = {
    # (reason, account it enters): effect of one credit on (balance, available)
    ("grant", "wallet"): (1, 1),
    ("adjust", "wallet"): (1, 1),
    ("adjust", "funding"): (-1, -1),
    ("refund", "wallet"): (1, 1),
    ("hold", "held"): (0, -1),
    ("capture", "revenue"): (-1, 0),
    ("release", "wallet"): (0, 1),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One transfer as the project's people see it. `amount` is signed: what it did to the available credits,

    or, for a capture, to the balance (the hold had taken it from the available ones before).
    """

    id: int
    at: datetime
    reason: str
    amount: int
    job_id: UUID | None
    round: int | None
    note: str | None
    balance: int
    available: int


@dataclass(frozen=True, slots=True)
class Page:
    items: list[Entry]
    next_cursor: str | None
    seq: int
    """The project's head in the same snapshot (S3)."""


async def entries(conn: Conn, project_id: UUID, limit: int = 50, cursor: str | None = None) -> Page:
    """One page, newest first. Raises LedgerError `invalid_input` (cursor, limit) or `not_found` (project)."""
    if not 1 <= limit <= PAGE_MAX:
        raise LedgerError("invalid_input", f"limit is between 1 and {PAGE_MAX}")
    before = _parse(cursor)
    # One statement is one snapshot: wallet, head and entries fit together.
    rows = await conn.fetch(
        """
        select c.balance as wallet_balance, c.available as wallet_available, coalesce(h.head, 0) as seq, t.*
        from credits c
        left join project_heads h on h.project_id = c.id
        left join lateral (
            select id, at, credit, amount, reason, job_id, round, note from ledger_transfers
            where project_id = c.id and ($2::bigint is null or id < $2)
            order by id desc limit $3) t on true
        where c.id = $1
        order by t.id desc
        """,
        project_id,
        before[0] if before else None,
        limit + 1,
    )
    if not rows:
        raise LedgerError("not_found", f"there is no project {project_id}")
    seq: int = rows[0]["seq"]
    balance, available = before[1:] if before else (rows[0]["wallet_balance"], rows[0]["wallet_available"])
    items: list[Entry] = []
    for row in rows[:limit]:
        if row["id"] is None:
            break
        on_balance, on_available = _EFFECTS[row["reason"], row["credit"]]
        amount: int = row["amount"]
        items.append(
            Entry(
                id=row["id"],
                at=row["at"],
                reason=row["reason"],
                amount=amount * (on_available or on_balance),
                job_id=row["job_id"],
                round=row["round"],
                note=row["note"],
                balance=balance,
                available=available,
            )
        )
        balance -= amount * on_balance
        available -= amount * on_available
    has_more = len(rows) > limit
    return Page(items, f"{items[-1].id}.{balance}.{available}" if has_more else None, seq)


def _parse(cursor: str | None) -> tuple[int, int, int] | None:
    if cursor is None:
        return None
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise LedgerError("invalid_input", "the cursor is not one of ours: start without one")
    return int(found[1]), int(found[2]), int(found[3])
