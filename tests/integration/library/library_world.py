"""A project with stored generations, and the check that state + changes = refetch (style.md 17)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

from safelight.db.pool import Conn, Database
from safelight.library.presenters import library_presenters

PRESENT = library_presenters(lambda key: f"/media/{key}")
BORN_AT = datetime(2026, 1, 1, tzinfo=UTC)


async def new_project(conn: Conn) -> UUID:
    return await conn.fetchval("insert into projects (name) values ('p') returning id")


async def new_generations(conn: Conn, project: UUID, n: int, **columns: Any) -> list[UUID]:
    """`n` stored results of one job, oldest first, a second apart."""
    job = uuid4()
    await conn.execute(
        "insert into jobs (id, project_id, model, provider, endpoint, kind, input, quoted, deadline_at, request_hash)"
        " values ($1, $2, 'm', 'p', 'e', 'image', '{}', 0, now() + '1 hour', '')",
        job,
        project,
    )
    values: dict[str, Any] = {
        "kind": "image", "mime": "image/png", "width": 64, "height": 64, "bytes": 9, "prompt": "a red fox",
        "model": "local/aurora", "duration_s": 3.2, "files": {"original": "o.png", "thumbs": {"256": "t.webp"}},
    } | columns  # fmt: skip
    names = ", ".join(values)
    marks = ", ".join(f"${index}" for index in range(6, 6 + len(values)))
    made: list[UUID] = []
    for index in range(n):
        made.append(uuid5(job, str(index)))
        at = BORN_AT + timedelta(seconds=await conn.fetchval("select count(*) from generations"))
        await conn.execute(
            f"insert into generations (id, project_id, job_id, output_index, created_at, {names})"
            f" values ($1, $2, $3, $4, $5, {marks})",
            made[-1], project, job, index, at, *values.values(),
        )  # fmt: skip
    return made


async def replica(conn: Conn, project: UUID) -> dict[str, dict[str, Any]]:
    """What a client has that began with nothing and applied every change, presented as the feed presents it."""
    rows = await conn.fetch("select seq, tbl, op, id, row from changes where project_id = $1 order by seq", project)
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    held: dict[str, dict[str, Any]] = {table: {} for table in PRESENT}
    for row in rows:
        if row["tbl"] in held:
            if row["op"] == "delete":
                del held[row["tbl"]][str(row["id"])]
            else:
                held[row["tbl"]][str(row["id"])] = PRESENT[row["tbl"]](row["row"])
    return held


async def refetched(conn: Conn, project: UUID) -> dict[str, dict[str, Any]]:
    """What the tables say, presented as the API presents it."""
    held: dict[str, dict[str, Any]] = {}
    for table, present in PRESENT.items():
        rows = await conn.fetch(f"select * from {table} where project_id = $1", project)
        held[table] = {str(row["id"]): present(row) for row in rows}
    return held


@asynccontextmanager
async def converges(db: Database, project: UUID, *, silent: bool = False) -> AsyncIterator[None]:
    """Whatever happens inside: changes lead to what is refetched, `shots` mirrors the joins, windows are told.

    `silent`: nothing is to change. Else something must, or the test shows nothing.
    """
    told: list[UUID] = []
    db.on_touch(told.extend)
    async with db.connection() as conn:
        before = await refetched(conn, project)
    yield
    async with db.connection() as conn:
        after = await refetched(conn, project)
        assert await replica(conn, project) == after
    assert json.loads(json.dumps(after)) == after  # every resource is plain JSON
    assert (before == after) is silent
    assert silent or project in told
    for identity, generation in after["generations"].items():
        joins = [join for join in after["shot_generations"].values() if join["generation_id"] == identity]
        expected = [{"shot_id": join["shot_id"], "position": join["position"]} for join in joins]
        assert generation["shots"] == sorted(expected, key=lambda place: place["shot_id"])


def ids_of(rows: Sequence[Any]) -> list[UUID]:
    return [row["id"] for row in rows]
