"""A lane goes by one kept connection, and never by one that is broken or taken."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import asyncpg
import pytest

from safelight.db import pool
from safelight.db.pool import AWAY, Database, Transaction

IS_WAITED_FOR = """
select exists (select from pg_locks l join pg_database d on d.oid = l.database
                where d.datname = current_database() and l.locktype = 'advisory' and not l.granted)
"""


async def backend(db: Database) -> int:
    """The PostgreSQL process that answers."""
    async with db.connection() as conn:
        return await conn.fetchval("select pg_backend_pid()")


async def test_a_lane_goes_by_the_same_connection_however_the_pool_is_used_meanwhile(db: Database) -> None:
    lane = db.lane("inbox")
    kept = await backend(lane)
    async with AsyncExitStack() as others:
        for _ in range(3):
            conn = await others.enter_async_context(db.connection())
            assert await conn.fetchval("select pg_backend_pid()") != kept
    assert await backend(lane) == kept
    assert await backend(db.lane("inbox")) == kept
    assert await lane.run(lambda tx: tx.conn.fetchval("select pg_backend_pid()")) == kept


async def test_who_finds_a_lane_busy_gets_a_connection_of_the_pool(db: Database) -> None:
    lane = db.lane("inbox")
    async with lane.connection() as conn:
        kept = await conn.fetchval("select pg_backend_pid()")
        assert await backend(lane) != kept
    assert await backend(lane) == kept


async def test_what_a_lane_writes_is_heard_by_the_listeners_of_the_whole(db: Database) -> None:
    heard: list[object] = []
    db.on_touch(heard.append)
    project = (await db.lane("inbox").run(lambda tx: tx.conn.fetchrow("select gen_random_uuid() as id"))) or {}

    async def touch(tx: Transaction) -> None:
        tx.touch(project["id"])

    await db.lane("inbox").run(touch)
    assert heard == [frozenset({project["id"]})]


async def test_a_lane_goes_on_by_another_connection_when_its_own_is_cut(db: Database) -> None:
    lane = db.lane("inbox")
    kept = await backend(lane)
    async with db.connection() as conn:
        assert await conn.fetchval("select pg_terminate_backend($1, 10000)", kept)
    for _ in range(3):  # whether the cut is known already, or found out by the next statement
        try:
            assert await backend(lane) != kept
            return
        except AWAY:
            continue
    pytest.fail("the lane did not mend")


async def test_a_lane_that_was_not_used_for_long_does_not_trust_its_connection(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = db.lane("inbox")
    kept = await backend(lane)
    monkeypatch.setattr(pool, "IDLE_S", -1.0)
    assert await backend(lane) != kept
    monkeypatch.undo()
    assert await backend(lane) == await backend(lane)


async def test_an_error_in_a_lane_leaves_no_transaction_behind(db: Database) -> None:
    lane = db.lane("inbox")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await lane.run(lambda tx: tx.conn.execute("select 1 / 0"))
    async with lane.connection() as conn:
        first, second = [await conn.fetchval("select pg_current_xact_id()::text") for _ in range(2)]
    assert first != second, "each statement is a transaction of its own again"


async def test_a_statement_that_is_given_up_does_not_block_the_lane(db: Database) -> None:
    lane = db.lane("inbox")
    async with db.connection() as other, other.transaction():
        await other.execute("select pg_advisory_xact_lock(1)")

        async def wait(tx: Transaction) -> None:
            await tx.conn.execute("select pg_advisory_xact_lock(1)")

        waiting = asyncio.create_task(lane.run(wait))
        while not await other.fetchval(IS_WAITED_FOR):
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await lane.run(lambda tx: tx.conn.fetchval("select 1")) == 1


async def test_a_database_with_lanes_closes_without_cutting_anybody_off(db: Database) -> None:
    own = await Database.connect(db.dsn)
    lane = own.lane("inbox")
    begun, let_on = asyncio.Event(), asyncio.Event()

    async def slowly(tx: Transaction) -> int:
        begun.set()
        await let_on.wait()
        return await tx.conn.fetchval("select 7")

    await backend(own.lane("settling"))
    under_way = asyncio.create_task(lane.run(slowly))
    await begun.wait()
    closing = asyncio.create_task(own.close())
    await asyncio.sleep(0)
    let_on.set()
    assert await under_way == 7
    await closing
    with pytest.raises(asyncpg.InterfaceError):
        await backend(lane)
