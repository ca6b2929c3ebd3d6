"""The audit log: who did what to the installation (O4). Written in the transaction that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from safelight.db.pool import Conn, Transaction

PAGE_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Entry:
    id: int
    at: datetime
    actor: str
    action: str
    project_id: UUID | None
    detail: Mapping[str, Any]


async def record(
    tx: Transaction, actor: str, action: str, project_id: UUID | None, detail: Mapping[str, Any] | None = None
) -> None:
    """`action` is `{thing}.{verb}`; `detail` names what was touched and never holds a secret."""
    await tx.conn.execute(
        "insert into audit_log (actor, action, project_id, detail) values ($1, $2, $3, $4)",
        actor, action, project_id, dict(detail or {}),
    )  # fmt: skip


async def entries(
    conn: Conn, *, project_id: UUID | None = None, before: int | None = None, limit: int = 50
) -> list[Entry]:
    """Newest first, at most 200; `before` is the id where the last page ended. `project_id` None: of all."""
    rows = await conn.fetch(
        "select id, at, actor, action, project_id, detail from audit_log"
        " where ($1::uuid is null or project_id = $1) and ($2::bigint is null or id < $2) order by id desc limit $3",
        project_id, before, min(max(limit, 1), PAGE_MAX),
    )  # fmt: skip
    return [Entry(**dict(row)) for row in rows]
