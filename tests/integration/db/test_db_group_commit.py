"""Callers that come while a transaction is under way share the next one; none pays for another's mistake."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from safelight.db.group_commit import GroupCommit, Stopping
from safelight.db.pool import Database, Transaction


class Refuses(Exception):
    pass


class Notes:
    """A table of notes, written in groups. The first batch waits until it is let on."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.batches: list[list[str]] = []
        self.is_let_on = asyncio.Event()
        self.has_begun = asyncio.Event()

    async def write(self, tx: Transaction, items: Sequence[str]) -> list[int]:
        self.batches.append(list(items))
        rows = await tx.conn.fetch("insert into notes select * from unnest($1::text[]) returning length(text)", items)
        self.has_begun.set()
        await self.is_let_on.wait()
        if "bad" in items:
            raise Refuses
        return [row["length"] for row in rows]

    async def kept(self) -> list[str]:
        async with self.db.connection() as conn:
            return [row["text"] for row in await conn.fetch("select text from notes order by text")]


@pytest.fixture
async def notes(db: Database) -> Notes:
    async with db.connection() as conn:
        await conn.execute("create table notes (text text not null)")
    return Notes(db)


async def with_one_under_way(notes: Notes, group: GroupCommit[str, int], *more: str) -> list[asyncio.Task[int]]:
    """The first item's transaction is open, the others have come."""
    first = asyncio.create_task(group("first"))
    await notes.has_begun.wait()
    others = [asyncio.create_task(group(item)) for item in more]
    await asyncio.sleep(0)
    return [first, *others]


async def test_those_who_come_meanwhile_share_the_next_transaction_and_each_gets_its_own_result(notes: Notes) -> None:
    group = GroupCommit(notes.db, notes.write, batch_max=10)
    tasks = await with_one_under_way(notes, group, "a", "bb", "ccc")
    notes.is_let_on.set()
    assert await asyncio.gather(*tasks) == [5, 1, 2, 3]
    assert notes.batches == [["first"], ["a", "bb", "ccc"]]
    assert await notes.kept() == ["a", "bb", "ccc", "first"]


async def test_no_transaction_takes_more_than_it_may(notes: Notes) -> None:
    group = GroupCommit(notes.db, notes.write, batch_max=2)
    tasks = await with_one_under_way(notes, group, "a", "b", "c", "d", "e")
    notes.is_let_on.set()
    await asyncio.gather(*tasks)
    assert [len(batch) for batch in notes.batches] == [1, 2, 2, 1]


async def test_one_that_cannot_be_written_costs_the_others_nothing(notes: Notes) -> None:
    group = GroupCommit(notes.db, notes.write, batch_max=10)
    tasks = await with_one_under_way(notes, group, "a", "bad", "b")
    notes.is_let_on.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[:2] == [5, 1]
    assert isinstance(results[2], Refuses)
    assert results[3] == 1
    assert await notes.kept() == ["a", "b", "first"]


async def test_what_must_not_share_a_transaction_does_not(notes: Notes) -> None:
    group = GroupCommit(notes.db, notes.write, batch_max=10, alike=lambda item: item[0])
    tasks = [asyncio.create_task(group(item)) for item in ("a1", "b1", "a2", "b2")]
    notes.is_let_on.set()
    await asyncio.gather(*tasks)
    assert all(len({item[0] for item in batch}) == 1 for batch in notes.batches)
    assert await notes.kept() == ["a1", "a2", "b1", "b2"]


async def test_what_a_caller_no_longer_waits_for_is_not_begun(notes: Notes) -> None:
    group = GroupCommit(notes.db, notes.write, batch_max=10)
    first, gone, stays = await with_one_under_way(notes, group, "gone", "stays")
    gone.cancel()
    notes.is_let_on.set()
    assert await asyncio.gather(first, stays) == [5, 5]
    assert await notes.kept() == ["first", "stays"]


async def test_a_process_that_ends_leaves_nobody_waiting(notes: Notes) -> None:
    group = GroupCommit(notes.db, notes.write, batch_max=10)
    tasks = await with_one_under_way(notes, group, "a")
    for task in asyncio.all_tasks():
        if task.get_name() == "group-commit":
            task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, Stopping) for result in results)
    assert await notes.kept() == []


async def test_a_database_that_is_away_is_asked_once_for_all_of_them(notes: Notes) -> None:
    async def away(_tx: Transaction, items: Sequence[str]) -> list[int]:
        notes.batches.append(list(items))
        notes.has_begun.set()
        await notes.is_let_on.wait()
        raise ConnectionResetError

    group = GroupCommit(notes.db, away, batch_max=10)
    tasks = await with_one_under_way(notes, group, "a", "b")
    notes.is_let_on.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, ConnectionResetError) for result in results)
    assert notes.batches == [["first"], ["a", "b"]]
