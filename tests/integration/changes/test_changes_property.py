"""Random concurrent transactions, and readers beside them: the log is gapless, in commit order, and enough (S1, S2)."""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from change_replica import Replica

from safelight.db.pool import Database

WRITERS = 6
TRANSACTIONS = 40
PROJECTS = 3

LOST = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.ForeignKeyViolationError,
    asyncpg.UniqueViolationError,
    asyncpg.LockNotAvailableError,
)
"""A transaction may lose its race; then nothing of it may be seen."""


class Abort(Exception):
    pass


async def one_of(conn: Any, dice: random.Random, table: str, project: UUID) -> UUID | None:
    rows = await conn.fetch(f"select id from {table} where project_id = $1 order by id", project)
    return dice.choice(rows)["id"] if rows else None


async def insert_shots(conn: Any, dice: random.Random, project: UUID) -> None:
    await conn.execute(
        "insert into shots (project_id, name) select $1, 's' || i from generate_series(1, $2) i",
        project,
        dice.choice([1, 1, 3, 40]),
    )


async def rename_shots(conn: Any, dice: random.Random, project: UUID) -> None:
    await conn.execute(
        "update shots set name = $2, updated_at = now() where id in"
        " (select id from shots where project_id = $1 order by id limit $3 for update)",
        project,
        f"n{dice.randrange(5)}",
        dice.choice([1, 2, 20]),
    )


async def delete_shot(conn: Any, dice: random.Random, project: UUID) -> None:
    await conn.execute("delete from shots where id = $1", await one_of(conn, dice, "shots", project))


async def insert_job(conn: Any, dice: random.Random, project: UUID) -> None:
    job = uuid.UUID(int=dice.getrandbits(128), version=4)
    await conn.execute(
        "insert into jobs (id, project_id, model, provider, endpoint, kind, input, quoted, deadline_at, request_hash)"
        " values ($1, $2, 'm', 'local', 'e', 'image', '{}', 0, now(), '')",
        job,
        project,
    )
    if dice.random() < 0.6:
        pictures = dice.choice([1, 4])
        await conn.execute(
            "insert into generations (id, project_id, job_id, output_index, kind, mime, bytes, files, model)"
            " select gen_random_uuid(), $1, $2, i, 'image', 'image/png', 1, '{}', 'm' from generate_series(0, $3) i",
            project,
            job,
            pictures - 1,
        )
        await conn.execute("update jobs set stage = 'submitting', attempt = 1 where id = $1", job)


async def star(conn: Any, dice: random.Random, project: UUID) -> None:
    await conn.execute(
        "update generations set starred = not starred where id = $1", await one_of(conn, dice, "generations", project)
    )


async def place(conn: Any, dice: random.Random, project: UUID) -> None:
    shot, picture = await one_of(conn, dice, "shots", project), await one_of(conn, dice, "generations", project)
    if shot and picture:
        await conn.execute(
            "insert into shot_generations (project_id, shot_id, generation_id, position) values ($1, $2, $3, $4)"
            " on conflict (shot_id, generation_id) do update set position = excluded.position",
            project,
            shot,
            picture,
            dice.choice([None, "a0", "a1"]),
        )


async def draw(conn: Any, dice: random.Random, project: UUID) -> None:
    await conn.execute(
        "with n as (insert into nodes (project_id, type) select $1, 'prompt' from generate_series(1, 2) returning id)"
        ", e as (select array_agg(id) as ids from n) select ids from e",
        project,
    )
    source, target = await one_of(conn, dice, "nodes", project), await one_of(conn, dice, "nodes", project)
    await conn.execute(
        "insert into edges (project_id, source, target) values ($1, $2, $3) on conflict do nothing",
        project,
        source,
        target,
    )


async def move_node(conn: Any, dice: random.Random, project: UUID) -> None:
    await conn.execute(
        "update nodes set x = x + 1, project_id = (select id from projects order by random() limit 1) where id = $1",
        await one_of(conn, dice, "nodes", project),
    )


async def erase_node(conn: Any, dice: random.Random, project: UUID) -> None:
    await conn.execute("delete from nodes where id = $1", await one_of(conn, dice, "nodes", project))


async def merge_shots(conn: Any, dice: random.Random, project: UUID) -> None:
    await conn.execute(
        "merge into shots s using (select id from shots where project_id = $1 order by id limit 4) w on s.id = w.id"
        " when matched and s.name = 's1' then delete when matched then update set name = 'm'",
        project,
    )


async def delete_job(conn: Any, dice: random.Random, project: UUID) -> None:
    await conn.execute("delete from jobs where id = $1", await one_of(conn, dice, "jobs", project))


ACTIONS = [
    insert_shots, rename_shots, delete_shot, insert_job, insert_job, star, star, place, place, draw, move_node,
    erase_node, merge_shots, delete_job,
]  # fmt: skip


async def write(dsn: str, dice: random.Random, projects: list[UUID]) -> int:
    """One writer's life; returns how many of its transactions were committed."""
    conn = await asyncpg.connect(dsn, server_settings={"deadlock_timeout": "20ms"})
    done = 0
    try:
        for _ in range(TRANSACTIONS):
            try:
                async with conn.transaction(isolation=dice.choice(["read_committed"] * 4 + ["repeatable_read"])):
                    for _ in range(dice.choice([1, 1, 2, 4])):
                        action, project = dice.choice(ACTIONS), dice.choice(projects)
                        try:
                            async with conn.transaction():  # a savepoint
                                await action(conn, dice, project)
                                if dice.random() < 0.1:
                                    raise Abort
                        except Abort:
                            pass
                    if dice.random() < 0.1:
                        await conn.fetchval("select changes_head($1)", dice.choice(projects))
                    if dice.random() < 0.1:
                        raise Abort
            except (*LOST, Abort):
                continue
            done += 1
    finally:
        await conn.close()
    return done


async def watch(db: Database, project: UUID, is_over: asyncio.Event) -> Replica:
    """A reader that tails while they write. `Replica.apply` refuses a seq that comes before its predecessor."""
    replica = Replica(db, project)
    while not is_over.is_set():
        await replica.catch_up(limit=7)
        async with db.connection() as conn:  # the same of what is visible at all, in one snapshot
            head, low, high, count = await conn.fetchrow(
                "select h.head, min(c.seq), max(c.seq), count(c.seq) from project_heads h"
                " join changes c using (project_id) where project_id = $1 group by h.head",
                project,
            )
        assert (low, high, count) == (1, head, head)
    await replica.catch_up()
    return replica


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_replaying_the_log_over_nothing_gives_exactly_the_rows_whatever_raced(db: Database, dsn: str, seed: int):
    async with db.connection() as conn:
        projects = [
            row["id"]
            for row in await conn.fetch(
                "insert into projects (name) select 'p' || i from generate_series(1, $1) i returning id", PROJECTS
            )
        ]
    is_over = asyncio.Event()
    watchers = [asyncio.create_task(watch(db, project, is_over)) for project in projects]
    done = await asyncio.gather(*(write(dsn, random.Random(f"{seed}/{i}"), projects) for i in range(WRITERS)))
    is_over.set()
    replicas = await asyncio.gather(*watchers)

    assert sum(done) > WRITERS * TRANSACTIONS / 4, "most transactions lost their race: this seed shows nothing"
    for replica in replicas:
        await replica.check()
        assert {change.op for change in replica.applied} == {"insert", "update", "delete"}
    async with db.connection() as conn:
        # A transaction's entries stand together, and times never go back: what retention drops is a prefix.
        for project in projects:
            rows = await conn.fetch(
                "select seq, at, xmin::text as tx from changes where project_id = $1 order by seq", project
            )
            blocks = [rows[0]["tx"]] + [b["tx"] for a, b in itertools.pairwise(rows) if a["tx"] != b["tx"]]
            assert len(blocks) == len(set(blocks))
            assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
        assert await conn.fetchval("select count(*) from change_pending") == 0
        # Deleting a project tells the end of every row it had.
        await conn.execute("delete from projects where id = $1", projects[0])
    await replicas[0].check()
    assert not any(replicas[0].tables.values())
