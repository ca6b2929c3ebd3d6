"""The start image of a job: an upload's or a generation's id becomes an address the provider can fetch."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from safelight.db.pool import Conn


async def start_key(conn: Conn, project_id: UUID, start: UUID) -> str | None:
    """The storage key behind an upload or a generation of this project; None if there is no such picture."""
    return await conn.fetchval(
        """
        select storage_key from uploads where id = $1 and project_id = $2 and state = 'ready'
        union all
        select files ->> 'original' from generations where id = $1 and project_id = $2
        limit 1
        """,
        start,
        project_id,
    )


async def start_url(conn: Conn, project_id: UUID, start: str, media_url: Callable[[str], str]) -> str | None:
    """A signed absolute URL, made at sending so that it is fresh."""
    key = await start_key(conn, project_id, UUID(start))
    return None if key is None else media_url(key)
