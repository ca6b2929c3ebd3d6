"""What people do with results: star, delete with undo, many at once (U2). Each touches the project's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from safelight.db.pool import Row, Transaction
from safelight.library import checked
from safelight.library.errors import invalid, not_found

_STATEMENTS: Final[Mapping[str, str]] = {
    "star": "update generations set starred = true where project_id = $1 and id = any ($2::uuid[]) returning *",
    "unstar": "update generations set starred = false where project_id = $1 and id = any ($2::uuid[]) returning *",
    # Deleted again, it is still deleted since the first time.
    "delete": "update generations set deleted_at = coalesce(deleted_at, now())"
    " where project_id = $1 and id = any ($2::uuid[]) returning *",
    "restore": "update generations set deleted_at = null where project_id = $1 and id = any ($2::uuid[]) returning *",
}
OPS: Final = tuple(_STATEMENTS)


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows as they are now, in the order asked for, and the ids that the project does not have."""

    rows: Sequence[Row]
    missing: Sequence[UUID]


async def star_generation(tx: Transaction, project_id: UUID, generation_id: UUID, starred: bool) -> Row:
    """Raises LibraryError `not_found`."""
    return await _one(tx, project_id, generation_id, "star" if starred else "unstar")


async def delete_generation(tx: Transaction, project_id: UUID, generation_id: UUID) -> Row:
    """Soft: it leaves every list, keeps its places in shots, and `restore_generation` brings it back. Repeatable."""
    return await _one(tx, project_id, generation_id, "delete")


async def restore_generation(tx: Transaction, project_id: UUID, generation_id: UUID) -> Row:
    """Back in its place. Repeatable. Raises LibraryError `not_found`."""
    return await _one(tx, project_id, generation_id, "restore")


async def batch(tx: Transaction, project_id: UUID, op: str, ids: Sequence[UUID]) -> Batch:
    """One of `OPS` on up to 500 generations, in one statement. Raises LibraryError `invalid_input`."""
    if op not in _STATEMENTS:
        raise invalid("op", f"is one of {', '.join(OPS)}")
    wanted = checked.ids("ids", ids)
    # In id order, because two batches over the same rows in other orders would deadlock.
    await tx.conn.execute(
        "select 1 from generations where project_id = $1 and id = any ($2::uuid[]) order by id for no key update",
        project_id,
        wanted,
    )
    rows = await tx.conn.fetch(_STATEMENTS[op], project_id, wanted)
    tx.touch(project_id)
    found = {row["id"]: row for row in rows}
    return Batch([found[each] for each in wanted if each in found], [each for each in wanted if each not in found])


async def _one(tx: Transaction, project_id: UUID, generation_id: UUID, op: str) -> Row:
    done = await batch(tx, project_id, op, [generation_id])
    if not done.rows:
        raise not_found("generation", generation_id)
    return done.rows[0]
