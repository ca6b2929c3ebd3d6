"""Shots: named, ordered groups of generations (U4). What is in them: `placing.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from safelight.db.pool import Conn, Row, Transaction
from safelight.library import checked, order, placing
from safelight.library.errors import LibraryError, not_found
from safelight.library.page import Page, checked_limit, decode, head, instant, page


class _After(msgspec.Struct, frozen=True, array_like=True):
    position: str
    id: UUID


@dataclass(frozen=True, slots=True)
class Counts:
    """What is in a shot and not deleted (`unpositioned-count`, `project-video-counts`)."""

    total: int
    unpositioned: int
    videos: int


def present_shot(row: Row) -> dict[str, Any]:
    """The API's resource of a row of the table or of the change log. Pure."""
    return {
        "id": str(row["id"]),
        "project_id": str(row["project_id"]),
        "name": row["name"],
        "position": row["position"],
        "settings": row["settings"],
        "created_at": instant(row["created_at"]),
        "updated_at": instant(row["updated_at"]),
    }


def present_shot_generation(row: Row) -> dict[str, Any]:
    """The join row: which generation is in which shot, and where. Pure."""
    return {
        "id": str(row["id"]),
        "project_id": str(row["project_id"]),
        "shot_id": str(row["shot_id"]),
        "generation_id": str(row["generation_id"]),
        "position": row["position"],
        "created_at": instant(row["created_at"]),
    }


async def get_shot(conn: Conn, shot_id: UUID) -> Row:
    """The caller checks that its `project_id` is open to whoever asks. Raises LibraryError `not_found`."""
    row = await conn.fetchrow("select * from shots where id = $1", shot_id)
    if row is None:
        raise not_found("shot", shot_id)
    return row


async def list_shots(conn: Conn, project_id: UUID, *, limit: int = 100, cursor: str | None = None) -> Page:
    """In the project's order. `conn` is a snapshot."""
    after = decode(cursor, _After)
    checked_limit(limit)
    seq = await head(conn, project_id)
    rows = await conn.fetch(
        "select * from shots where project_id = $1 and ($2::text is null or (position, id) > ($2, $3))"
        " order by position, id limit $4",
        project_id,
        after and after.position,
        after and after.id,
        limit + 1,
    )
    return page(rows, limit, seq, lambda row: _After(row["position"], row["id"]))


async def shot_counts(conn: Conn, project_id: UUID) -> dict[UUID, Counts]:
    """Of every shot of the project that has something in it."""
    rows = await conn.fetch(
        """
        select s.shot_id, count(*) as total, count(*) filter (where s.position is null) as unpositioned,
            count(*) filter (where g.kind = 'video') as videos
        from shot_generations s join generations g on g.id = s.generation_id
        where s.project_id = $1 and g.deleted_at is null group by s.shot_id
        """,
        project_id,
    )
    return {row["shot_id"]: Counts(row["total"], row["unpositioned"], row["videos"]) for row in rows}


async def create_shot(
    tx: Transaction,
    project_id: UUID,
    name: str,
    *,
    shot_id: UUID | None = None,
    position: str | None = None,
    settings: dict[str, Any] | None = None,
    generation_ids: Sequence[UUID] = (),
) -> Row:
    """A shot, last in the project unless `position` says otherwise, with these generations in it in this order.

    The client may choose the id (for optimistic tiles). Raises LibraryError `conflict` (the id exists), `not_found`
    (a generation), `invalid_input`.
    """
    name = checked.text("name", name)
    position = await _free_position(tx.conn, project_id, None, position)
    if wanted := checked.ids("generation_ids", generation_ids):
        await placing.lock_generations(tx.conn, project_id, wanted)
    row = await tx.conn.fetchrow(
        """
        insert into shots (id, project_id, name, position, settings)
        values (coalesce($1, gen_random_uuid()), $2, $3, $4, $5) on conflict (id) do nothing returning *
        """,
        shot_id,
        project_id,
        name,
        position,
        checked.data("settings", settings or {}),
    )
    if row is None:
        raise LibraryError("conflict", f"there is a shot {shot_id} already")
    tx.touch(project_id)
    if generation_ids:
        await placing.put_generations(tx, project_id, row["id"], generation_ids, order.at_end(None)[0])
    return row


async def patch_shot(
    tx: Transaction,
    project_id: UUID,
    shot_id: UUID,
    *,
    name: str | UnsetType = UNSET,
    position: str | UnsetType = UNSET,
    settings: dict[str, Any] | UnsetType = UNSET,
) -> Row:
    """Change what is given; a position that another shot has becomes the next free one.

    Raises LibraryError `not_found`, `invalid_input`.
    """
    free = None if position is UNSET else await _free_position(tx.conn, project_id, shot_id, position)
    row = await tx.conn.fetchrow(
        """
        update shots set name = coalesce($3, name), position = coalesce($4, position),
            settings = coalesce($5::jsonb, settings), updated_at = now()
        where id = $1 and project_id = $2 returning *
        """,
        shot_id,
        project_id,
        None if name is UNSET else checked.text("name", name),
        free,
        None if settings is UNSET else checked.data("settings", settings),
    )
    if row is None:
        raise not_found("shot", shot_id)
    tx.touch(project_id)
    return row


async def delete_shot(tx: Transaction, project_id: UUID, shot_id: UUID) -> None:
    """The shot goes, its generations stay in the library. Raises LibraryError `not_found`."""
    if not await tx.conn.fetchval(
        "select 1 from shots where id = $1 and project_id = $2 for update", shot_id, project_id
    ):
        raise not_found("shot", shot_id)
    # The cascade writes their `shots`: lock them in the room's order (placing.py).
    await tx.conn.execute(
        "select 1 from generations where id in (select generation_id from shot_generations where shot_id = $1)"
        " order by id for no key update",
        shot_id,
    )
    await tx.conn.execute("delete from shots where id = $1", shot_id)
    tx.touch(project_id)


async def _free_position(conn: Conn, project_id: UUID, shot_id: UUID | None, wanted: str | None) -> str:
    """`wanted`, or the next free one behind it; None = behind all. Locks the project's order of shots."""
    if wanted is not None:
        order.check_position(wanted)
    if not await conn.fetchval("select 1 from projects where id = $1 for no key update", project_id):
        raise not_found("project", project_id)
    if wanted is None:
        last = await conn.fetchval(
            "select max(position) from shots where project_id = $1 and id is distinct from $2", project_id, shot_id
        )
        return order.at_end(last)[0]
    rows = await conn.fetch(
        """
        select distinct position from shots where project_id = $1 and id is distinct from $2 and position >= $3
        order by position limit 2
        """,
        project_id,
        shot_id,
        wanted,
    )
    taken: list[str] = [row["position"] for row in rows]
    return order.from_position(wanted, taken)[0]
