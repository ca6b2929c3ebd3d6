"""The table `uploads` (M5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from safelight.db.pool import Conn, Row


@dataclass(frozen=True, slots=True)
class Upload:
    """One row of `uploads`. `received` is how far the bytes have come."""

    id: UUID
    project_id: UUID
    state: str
    """`pending` or `ready`."""
    filename: str | None
    kind: str | None
    mime: str | None
    width: int | None
    height: int | None
    duration_s: float | None
    bytes: int
    received: int
    sha256: bytes | None
    thumbhash: str | None
    storage_key: str | None
    created_at: datetime
    expires_at: datetime | None


async def by_id(conn: Conn, upload_id: UUID) -> Upload | None:
    row = await conn.fetchrow("select * from uploads where id = $1", upload_id)
    return _upload(row) if row else None


async def known(conn: Conn, project_id: UUID, sha256: bytes, size: int, now: datetime) -> Upload | None:
    """The ready upload of these bytes, else an unfinished one that was announced with them."""
    row = await conn.fetchrow(
        """
        select * from uploads
        where project_id = $1 and sha256 = $2 and (state = 'ready' or (bytes = $3 and expires_at > $4))
        order by state = 'ready' desc, created_at limit 1
        """,
        project_id,
        sha256,
        size,
        now,
    )
    return _upload(row) if row else None


async def pending_count(conn: Conn, project_id: UUID, now: datetime) -> int:
    return await conn.fetchval(
        "select count(*) from uploads where project_id = $1 and state = 'pending' and expires_at > $2",
        project_id,
        now,
    )


async def insert(
    conn: Conn,
    project_id: UUID,
    *,
    filename: str | None,
    mime: str | None,
    size: int,
    sha256: bytes | None,
    now: datetime,
    expires_at: datetime,
) -> Upload:
    row = await conn.fetchrow(
        """
        insert into uploads (id, project_id, filename, mime, bytes, sha256, created_at, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8) returning *
        """,
        uuid7(),
        project_id,
        filename,
        mime,
        size,
        sha256,
        now,
        expires_at,
    )
    assert row is not None
    return _upload(row)


async def note_received(conn: Conn, upload_id: UUID, received: int, expires_at: datetime) -> None:
    await conn.execute(
        "update uploads set received = $2, expires_at = $3 where id = $1 and state = 'pending'",
        upload_id,
        received,
        expires_at,
    )


async def make_ready(conn: Conn, upload: Upload) -> Upload | None:
    """Complete it with what was found in its bytes; None if it is gone.

    Raises asyncpg.UniqueViolationError if the project has a ready upload of the same bytes.
    """
    row = await conn.fetchrow(
        """
        update uploads set state = 'ready', received = bytes, expires_at = null, sha256 = $2, kind = $3, mime = $4,
            width = $5, height = $6, duration_s = $7, thumbhash = $8, storage_key = $9
        where id = $1 returning *
        """,
        upload.id,
        upload.sha256,
        upload.kind,
        upload.mime,
        upload.width,
        upload.height,
        upload.duration_s,
        upload.thumbhash,
        upload.storage_key,
    )
    return _upload(row) if row else None


async def give_way(conn: Conn, upload: Upload) -> Upload | None:
    """The ready upload of the same bytes, in whose favour this pending one is removed; None if there is none."""
    row = await conn.fetchrow(
        "select * from uploads where project_id = $1 and sha256 = $2 and state = 'ready'",
        upload.project_id,
        upload.sha256,
    )
    if row is None:
        return None
    await conn.execute("delete from uploads where id = $1 and state = 'pending'", upload.id)
    return _upload(row)


async def drop_pending(conn: Conn, upload_id: UUID) -> None:
    await conn.execute("delete from uploads where id = $1 and state = 'pending'", upload_id)


async def expire(conn: Conn, now: datetime) -> tuple[int, Sequence[UUID]]:
    """Remove unfinished ones whose time is over: how many went, and which unfinished ones are left."""
    gone = await conn.fetch("delete from uploads where state = 'pending' and expires_at <= $1 returning id", now)
    left = await conn.fetch("select id from uploads where state = 'pending'")
    return len(gone), [row["id"] for row in left]


def _upload(row: Row) -> Upload:
    fields: dict[str, Any] = {name: row[name] for name in Upload.__dataclass_fields__}
    return Upload(**fields)
