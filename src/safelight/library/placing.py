"""Where results go: into shots, in order, and onto canvas nodes (J9, U4).

Lock order within the room: the project (where shots are ordered), shots, generations, nodes, each in id order;
the change log's head comes last, at the commit. Whoever places under one shot holds that shot, so that two windows
that drop pictures on the same spot get two positions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from safelight.db.pool import Conn, Row, Transaction
from safelight.library import checked, order
from safelight.library.errors import LibraryError, invalid, not_found


@dataclass(frozen=True, slots=True)
class Placement:
    """A new generation and the target of its job: `{shot_id, position?}` or `{node_id}`."""

    project_id: UUID
    target: Mapping[str, Any]
    generation_id: UUID


async def check_target(conn: Conn, project_id: UUID, target: Mapping[str, Any]) -> dict[str, Any]:
    """The target as it is kept with the job. For submit: raises LibraryError `invalid_input` or `not_found`."""
    given = {name for name, value in target.items() if value is not None}
    shot_id, node_id = _target_id(target, "shot_id"), _target_id(target, "node_id")
    if (given - {"position"} != {"shot_id"} or not shot_id) and (given != {"node_id"} or not node_id):
        raise invalid("target", "is {shot_id, position?} or {node_id}, each a UUID")
    if node_id:
        if not await conn.fetchval("select 1 from nodes where id = $1 and project_id = $2", node_id, project_id):
            raise not_found("node", node_id)
        return {"node_id": str(node_id)}
    if not await conn.fetchval("select 1 from shots where id = $1 and project_id = $2", shot_id, project_id):
        raise not_found("shot", shot_id)
    position = target.get("position")
    if position is None:
        return {"shot_id": str(shot_id)}
    if not isinstance(position, str):
        raise invalid("position", "is a text")
    return {"shot_id": str(shot_id), "position": order.check_position(position)}


async def lock_targets(conn: Conn, targets: Sequence[Mapping[str, Any] | None]) -> None:
    """Lock the shots and nodes that results will go to, each kind in id order. Those that are gone are no error."""
    present = [target for target in targets if target]
    shots = [found for target in present if (found := _target_id(target, "shot_id"))]
    nodes = [found for target in present if (found := _target_id(target, "node_id"))]
    await _lock_shots(conn, shots)
    if nodes:
        await conn.execute(
            "select 1 from nodes where id = any ($1::uuid[]) order by id for no key update", sorted(set(nodes))
        )


async def place(tx: Transaction, placements: Sequence[Placement]) -> None:
    """Put new generations where their jobs wanted them; two statements however many there are.

    A shot or node that is gone by now is no error: the result is in the library. So is a position that cannot be:
    the result joins its shot unpositioned.
    """
    await lock_targets(tx.conn, [placement.target for placement in placements])
    await _join_shots(tx, [each for each in placements if _target_id(each.target, "shot_id")])
    await _show_on_nodes(tx, [each for each in placements if _target_id(each.target, "node_id")])


async def put_generation(
    tx: Transaction, project_id: UUID, shot_id: UUID, generation_id: UUID, position: str | None = None
) -> Row:
    """Add to the shot, or move within it; None = unpositioned. Returns the join row, whose position may differ:

    where the wanted one is taken, it is the next free one behind it. Raises LibraryError `not_found`, `invalid_input`.
    """
    return (await put_generations(tx, project_id, shot_id, [generation_id], position))[0]


async def put_generations(
    tx: Transaction, project_id: UUID, shot_id: UUID, generation_ids: Sequence[UUID], position: str | None = None
) -> list[Row]:
    """As `put_generation`, for several in a row that begins at `position`, in one statement."""
    wanted = checked.ids("ids", generation_ids)
    if position is not None:
        order.check_position(position)
    await _lock_shot(tx.conn, project_id, shot_id)
    await lock_generations(tx.conn, project_id, wanted)
    keys: Sequence[str | None] = [None] * len(wanted)
    if position is not None:
        taken = await _taken(tx.conn, [shot_id], but=wanted)
        keys = order.from_position(position, taken[shot_id], len(wanted))
    rows = await tx.conn.fetch(
        """
        insert into shot_generations (project_id, shot_id, generation_id, position)
        select $1, $2, * from unnest($3::uuid[], $4::text[])
        on conflict (shot_id, generation_id) do update set position = excluded.position
        returning *
        """,
        project_id,
        shot_id,
        wanted,
        keys,
    )
    tx.touch(project_id)
    return list(rows)


async def lock_generations(conn: Conn, project_id: UUID, generation_ids: Sequence[UUID]) -> None:
    """Raises LibraryError `not_found` if the project lacks one of them."""
    present = await conn.fetch(
        "select id from generations where project_id = $1 and id = any ($2::uuid[]) order by id for no key update",
        project_id,
        list(generation_ids),
    )
    if missing := set(generation_ids) - {row["id"] for row in present}:
        raise not_found("generation", min(missing))


async def remove_generation(tx: Transaction, project_id: UUID, shot_id: UUID, generation_id: UUID) -> bool:
    """Take it out of the shot; False if it was not in it. Raises LibraryError `not_found` (shot)."""
    await _lock_shot(tx.conn, project_id, shot_id)
    await tx.conn.execute("select 1 from generations where id = $1 for no key update", generation_id)
    removed = await tx.conn.fetchval(
        "delete from shot_generations where shot_id = $1 and generation_id = $2 returning true", shot_id, generation_id
    )
    tx.touch(project_id)
    return removed is not None


async def reorder(tx: Transaction, project_id: UUID, shot_id: UUID, generation_ids: Sequence[UUID]) -> list[Row]:
    """Bring these into this order; other positioned ones follow behind them in the order they had.

    Moves as few as possible; returns the rows that moved. Raises LibraryError `not_found`, `invalid_input`.
    """
    wanted = list(generation_ids)
    if len(set(wanted)) != len(wanted):
        raise invalid("ids", "names a generation twice")
    checked.ids("ids", wanted)
    await _lock_shot(tx.conn, project_id, shot_id)
    rows = await tx.conn.fetch(
        "select generation_id, position from shot_generations where shot_id = $1 order by position nulls last, id",
        shot_id,
    )
    current: dict[UUID, str | None] = {row["generation_id"]: row["position"] for row in rows}
    if absent := [each for each in wanted if each not in current]:
        raise not_found("generation of this shot", absent[0])
    rest = [each for each, position in current.items() if position is not None and each not in set(wanted)]
    arranged = wanted + rest
    keys = order.rekey([current[each] for each in arranged])
    moved = [(each, key) for each, key in zip(arranged, keys, strict=True) if current[each] != key]
    await tx.conn.execute(
        "select 1 from generations where id = any ($1::uuid[]) order by id for no key update",
        [each for each, _ in moved],
    )
    changed = await tx.conn.fetch(
        """
        update shot_generations s set position = t.position
        from unnest($2::uuid[], $3::text[]) as t (generation_id, position)
        where s.shot_id = $1 and s.generation_id = t.generation_id
        returning s.*
        """,
        shot_id,
        [each for each, _ in moved],
        [key for _, key in moved],
    )
    tx.touch(project_id)
    return list(changed)


async def _join_shots(tx: Transaction, placements: Sequence[Placement]) -> None:
    runs: dict[tuple[UUID, str | None], list[Placement]] = defaultdict(list)
    for each in placements:
        shot_id = _target_id(each.target, "shot_id")
        assert shot_id is not None
        runs[shot_id, _position(each.target)].append(each)
    if not runs:
        return
    # One that is not new is being moved by others too, and a trigger writes its `shots`.
    await tx.conn.execute(
        "select 1 from generations where id = any ($1::uuid[]) order by id for no key update",
        [each.generation_id for run in runs.values() for each in run],
    )
    positioned = sorted({shot_id for shot_id, position in runs if position is not None})
    taken = await _taken(tx.conn, positioned) if positioned else {}
    rows: list[tuple[UUID, UUID, UUID, str | None]] = []
    for (shot_id, position), run in runs.items():
        keys: Sequence[str | None] = [None] * len(run)
        if position is not None:
            keys = fresh = order.from_position(position, taken[shot_id], len(run))
            taken[shot_id] += fresh
        rows += [(each.project_id, shot_id, each.generation_id, key) for each, key in zip(run, keys, strict=True)]
    await tx.conn.execute(
        """
        insert into shot_generations (project_id, shot_id, generation_id, position)
        select t.project_id, t.shot_id, t.generation_id, t.position
        from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[]) as t (project_id, shot_id, generation_id, position)
        join shots s on s.id = t.shot_id and s.project_id = t.project_id
        on conflict (shot_id, generation_id) do nothing
        """,
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
        [row[3] for row in rows],
    )
    tx.touch(*(row[0] for row in rows))


async def _show_on_nodes(tx: Transaction, placements: Sequence[Placement]) -> None:
    by_node = {_target_id(each.target, "node_id"): each for each in placements}  # of several, the last is shown
    if not by_node:
        return
    await tx.conn.execute(
        """
        update nodes n set data = n.data || jsonb_build_object('generation_id', t.generation_id), updated_at = now()
        from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as t (project_id, node_id, generation_id)
        where n.id = t.node_id and n.project_id = t.project_id
        """,
        [each.project_id for each in by_node.values()],
        list(by_node),
        [each.generation_id for each in by_node.values()],
    )
    tx.touch(*(each.project_id for each in by_node.values()))


async def _taken(conn: Conn, shot_ids: Sequence[UUID], but: Sequence[UUID] = ()) -> dict[UUID, list[str]]:
    rows = await conn.fetch(
        "select shot_id, position from shot_generations where shot_id = any ($1::uuid[]) and position is not null"
        " and generation_id <> all ($2::uuid[])",
        list(shot_ids),
        list(but),
    )
    taken: dict[UUID, list[str]] = {shot_id: [] for shot_id in shot_ids}
    for row in rows:
        taken[row["shot_id"]].append(row["position"])
    return taken


async def _lock_shot(conn: Conn, project_id: UUID, shot_id: UUID) -> None:
    found = await conn.fetchval(
        "select 1 from shots where id = $1 and project_id = $2 for no key update", shot_id, project_id
    )
    if found is None:
        raise not_found("shot", shot_id)


async def _lock_shots(conn: Conn, shot_ids: Sequence[UUID]) -> None:
    if shot_ids:
        await conn.execute(
            "select 1 from shots where id = any ($1::uuid[]) order by id for no key update", sorted(set(shot_ids))
        )


def _target_id(target: Mapping[str, Any], name: str) -> UUID | None:
    try:
        return UUID(str(target[name])) if target.get(name) is not None else None
    except ValueError:
        return None  # check_target refuses it at submit; a settle must not fail for it


def _position(target: Mapping[str, Any]) -> str | None:
    position = target.get("position")
    try:
        return order.check_position(position) if isinstance(position, str) else None
    except LibraryError:
        return None
