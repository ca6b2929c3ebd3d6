"""The canvas: nodes (prompt, picture, video, edit) and the edges between them (U5)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from msgspec import UNSET, UnsetType

from safelight.db.pool import Conn, Row, Transaction
from safelight.library import checked
from safelight.library.errors import LibraryError, invalid, not_found
from safelight.library.page import ById, Page, checked_limit, decode, head, instant, page

TYPE_LENGTH_MAX = 50
"""As the column says."""


def present_node(row: Row) -> dict[str, Any]:
    """The API's resource of a row of the table or of the change log. Pure."""
    return {
        "id": str(row["id"]),
        "project_id": str(row["project_id"]),
        "type": row["type"],
        "x": row["x"],
        "y": row["y"],
        "width": row["width"],
        "height": row["height"],
        "data": row["data"],
        "created_at": instant(row["created_at"]),
        "updated_at": instant(row["updated_at"]),
    }


def present_edge(row: Row) -> dict[str, Any]:
    """Pure, as `present_node`."""
    return {
        "id": str(row["id"]),
        "project_id": str(row["project_id"]),
        "source": str(row["source"]),
        "target": str(row["target"]),
        "data": row["data"],
        "created_at": instant(row["created_at"]),
    }


async def get_node(conn: Conn, node_id: UUID) -> Row:
    """The caller checks that its `project_id` is open to whoever asks. Raises LibraryError `not_found`."""
    row = await conn.fetchrow("select * from nodes where id = $1", node_id)
    if row is None:
        raise not_found("node", node_id)
    return row


async def get_edge(conn: Conn, edge_id: UUID) -> Row:
    """As `get_node`."""
    row = await conn.fetchrow("select * from edges where id = $1", edge_id)
    if row is None:
        raise not_found("edge", edge_id)
    return row


async def list_nodes(conn: Conn, project_id: UUID, *, limit: int = 200, cursor: str | None = None) -> Page:
    """In id order: a canvas has its own. `conn` is a snapshot."""
    after = decode(cursor, ById)
    checked_limit(limit)
    seq = await head(conn, project_id)
    rows = await conn.fetch(
        "select * from nodes where project_id = $1 and ($2::uuid is null or id > $2) order by id limit $3",
        project_id,
        after and after.id,
        limit + 1,
    )
    return page(rows, limit, seq, lambda row: ById(row["id"]))


async def list_edges(conn: Conn, project_id: UUID, *, limit: int = 200, cursor: str | None = None) -> Page:
    """As `list_nodes`."""
    after = decode(cursor, ById)
    checked_limit(limit)
    seq = await head(conn, project_id)
    rows = await conn.fetch(
        "select * from edges where project_id = $1 and ($2::uuid is null or id > $2) order by id limit $3",
        project_id,
        after and after.id,
        limit + 1,
    )
    return page(rows, limit, seq, lambda row: ById(row["id"]))


async def create_node(
    tx: Transaction,
    project_id: UUID,
    type: str,
    *,
    node_id: UUID | None = None,
    x: float = 0,
    y: float = 0,
    width: float | None = None,
    height: float | None = None,
    data: dict[str, Any] | None = None,
) -> Row:
    """The client may choose the id. Raises LibraryError `conflict` (the id exists), `invalid_input`."""
    row = await tx.conn.fetchrow(
        """
        insert into nodes (id, project_id, type, x, y, width, height, data)
        values (coalesce($1, gen_random_uuid()), $2, $3, $4, $5, $6, $7, $8) on conflict (id) do nothing returning *
        """,
        node_id,
        project_id,
        checked.text("type", type, TYPE_LENGTH_MAX),
        checked.coordinate("x", x),
        checked.coordinate("y", y),
        checked.extent("width", width),
        checked.extent("height", height),
        checked.data("data", data or {}),
    )
    if row is None:
        raise LibraryError("conflict", f"there is a node {node_id} already")
    tx.touch(project_id)
    return row


async def patch_node(
    tx: Transaction,
    project_id: UUID,
    node_id: UUID,
    *,
    type: str | UnsetType = UNSET,
    x: float | UnsetType = UNSET,
    y: float | UnsetType = UNSET,
    width: float | UnsetType | None = UNSET,
    height: float | UnsetType | None = UNSET,
    data: dict[str, Any] | UnsetType = UNSET,
) -> Row:
    """Change what is given. `data` is merged at its first level (null removes a key), so that a window that edits

    the prompt does not undo the result that lands meanwhile. Raises LibraryError `not_found`, `invalid_input`.
    """
    given = {} if data is UNSET else checked.data("data", data)
    row = await tx.conn.fetchrow(
        """
        update nodes set type = coalesce($3, type), x = coalesce($4, x), y = coalesce($5, y),
            width = case when $6 then $7 else width end, height = case when $8 then $9 else height end,
            data = (data || $10::jsonb) - $11::text[], updated_at = now()
        where id = $1 and project_id = $2 and pg_column_size(data || $10::jsonb) <= $12 returning *
        """,
        node_id,
        project_id,
        None if type is UNSET else checked.text("type", type, TYPE_LENGTH_MAX),
        None if x is UNSET else checked.coordinate("x", x),
        None if y is UNSET else checked.coordinate("y", y),
        width is not UNSET,
        None if width is UNSET else checked.extent("width", width),
        height is not UNSET,
        None if height is UNSET else checked.extent("height", height),
        {key: value for key, value in given.items() if value is not None},
        [key for key, value in given.items() if value is None],
        2 * checked.DATA_BYTES_MAX,  # of the merged whole; jsonb is somewhat larger than its text
    )
    if row is None:
        if await tx.conn.fetchval("select 1 from nodes where id = $1 and project_id = $2", node_id, project_id):
            raise invalid("data", "would become too large: remove something (null) first")
        raise not_found("node", node_id)
    tx.touch(project_id)
    return row


async def delete_node(tx: Transaction, project_id: UUID, node_id: UUID) -> None:
    """Its edges go with it. Raises LibraryError `not_found`."""
    gone = await tx.conn.fetchval(
        "delete from nodes where id = $1 and project_id = $2 returning true", node_id, project_id
    )
    if gone is None:
        raise not_found("node", node_id)
    tx.touch(project_id)


async def create_edge(
    tx: Transaction,
    project_id: UUID,
    source: UUID,
    target: UUID,
    *,
    edge_id: UUID | None = None,
    data: dict[str, Any] | None = None,
) -> Row:
    """Join two nodes of the project, once per direction.

    Raises LibraryError `not_found` (a node), `conflict` (joined already, or the id exists), `invalid_input`.
    """
    if source == target:
        raise invalid("target", "is another node than the source")
    nodes = await tx.conn.fetch(
        "select id from nodes where project_id = $1 and id = any ($2::uuid[]) order by id for key share",
        project_id,
        [source, target],
    )
    if missing := {source, target} - {row["id"] for row in nodes}:
        raise not_found("node", min(missing))
    row = await tx.conn.fetchrow(
        """
        insert into edges (id, project_id, source, target, data)
        values (coalesce($1, gen_random_uuid()), $2, $3, $4, $5) on conflict do nothing returning *
        """,
        edge_id,
        project_id,
        source,
        target,
        checked.data("data", data or {}),
    )
    if row is None:
        raise LibraryError("conflict", "these nodes are joined already, or the edge's id is taken")
    tx.touch(project_id)
    return row


async def patch_edge(tx: Transaction, project_id: UUID, edge_id: UUID, data: dict[str, Any]) -> Row:
    """Replace its data. Raises LibraryError `not_found`, `invalid_input`."""
    row = await tx.conn.fetchrow(
        "update edges set data = $3 where id = $1 and project_id = $2 returning *",
        edge_id,
        project_id,
        checked.data("data", data),
    )
    if row is None:
        raise not_found("edge", edge_id)
    tx.touch(project_id)
    return row


async def delete_edge(tx: Transaction, project_id: UUID, edge_id: UUID) -> None:
    """Raises LibraryError `not_found`."""
    gone = await tx.conn.fetchval(
        "delete from edges where id = $1 and project_id = $2 returning true", edge_id, project_id
    )
    if gone is None:
        raise not_found("edge", edge_id)
    tx.touch(project_id)
