"""A write is told the seq that its own change got, however many write beside it (S3)."""

from __future__ import annotations

import asyncio
import uuid
from uuid import UUID

import asyncpg
import pytest

from safelight.db.pool import Database, Transaction


@pytest.fixture
async def project(db: Database) -> UUID:
    async with db.connection() as conn:
        return await conn.fetchval("insert into projects (name) values ('Numbered') returning id")


async def add_shot(tx: Transaction, project: UUID) -> UUID:
    return await tx.conn.fetchval("insert into shots (project_id, name) values ($1, 'One') returning id", project)


async def head(db: Database, project: UUID) -> int:
    async with db.connection() as conn:
        return await conn.fetchval("select head from project_heads where project_id = $1", project)


async def test_each_of_many_writers_is_told_the_seq_of_its_own_change(db: Database, project: UUID) -> None:
    told = dict(await asyncio.gather(*(db.run_numbered(project, lambda tx: add_shot(tx, project)) for _ in range(20))))
    async with db.connection() as conn:
        entries = await conn.fetch("select id, seq from changes where project_id = $1 and tbl = 'shots'", project)
    assert told == {row["id"]: row["seq"] for row in entries}


async def test_a_write_that_changes_nothing_is_told_where_the_log_ends(db: Database, project: UUID) -> None:
    await db.run_numbered(project, lambda tx: add_shot(tx, project))
    _, seq = await db.run_numbered(project, lambda tx: tx.conn.execute("select"))
    assert seq == await head(db, project)
    assert (await db.run_numbered(uuid.uuid4(), lambda tx: tx.conn.execute("select")))[1] == 0


async def test_a_write_that_fails_leaves_nothing_and_no_transaction_open(db: Database, project: UUID) -> None:
    before = await head(db, project)

    async def fail(tx: Transaction) -> None:
        await add_shot(tx, project)
        raise LookupError

    with pytest.raises(LookupError):
        await db.run_numbered(project, fail)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await db.run_numbered(project, lambda tx: tx.conn.execute("select 1 / 0"))
    assert await head(db, project) == before
    _, seq = await db.run_numbered(project, lambda tx: add_shot(tx, project))
    assert seq == before + 1


async def test_a_write_that_is_given_up_leaves_nothing(db: Database, project: UUID) -> None:
    before, begun = await head(db, project), asyncio.Event()

    async def hang(tx: Transaction) -> None:
        await add_shot(tx, project)
        begun.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(db.run_numbered(project, hang))
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    _, seq = await db.run_numbered(project, lambda tx: add_shot(tx, project))
    assert seq == before + 1


async def test_writes_that_lock_each_other_are_run_again_and_told_the_seq_they_got_in_the_end(
    db: Database, project: UUID
) -> None:
    first, second = [(await db.run_numbered(project, lambda tx: add_shot(tx, project)))[0] for _ in range(2)]
    both_began = asyncio.Barrier(2)
    met: set[UUID] = set()

    async def rename(tx: Transaction, one: UUID, other: UUID) -> UUID:
        await tx.conn.execute("update shots set name = name || '+' where id = $1", one)
        if one not in met:  # only the first time: then one of them is alone
            met.add(one)
            await both_began.wait()
        await tx.conn.execute("update shots set name = name || '-' where id = $1", other)
        return one

    told = dict(
        await asyncio.gather(
            db.run_numbered(project, lambda tx: rename(tx, first, second)),
            db.run_numbered(project, lambda tx: rename(tx, second, first)),
        )
    )
    assert set(told) == {first, second}
    assert max(told.values()) == await head(db, project)
    assert len(set(told.values())) == 2
