"""The feed: one pull for all who follow, and a net under every hint (S2, S5, S7, F4)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from safelight.changes import log
from safelight.changes.log import MustRefetch, NoLog
from safelight.changes.present import Presenters
from safelight.db.pool import Database, Transaction
from safelight.realtime import feed as feed_module
from safelight.realtime import puller, tail
from safelight.realtime.feed import Feed
from safelight.realtime.tail import Beat, Changes, Gap, Progress

PATIENCE_S = 30


@pytest.fixture
async def project(db: Database) -> UUID:
    async with db.connection() as conn:
        return await conn.fetchval("insert into projects (name) values ('films') returning id")


@pytest.fixture
async def feed(db: Database) -> AsyncIterator[Feed]:
    feed = Feed(db, Presenters())
    db.on_touch(feed.hint)
    await feed.start()
    try:
        yield feed
    finally:
        await feed.stop()


async def write(db: Database, project: UUID, count: int = 1, name: str = "s") -> int:
    """Commit as the product does, with a hint after it; returns the seq."""

    async def work(tx: Transaction) -> int:
        await tx.conn.execute(
            "insert into shots (project_id, name) select $1, $3 || i from generate_series(1, $2) i",
            project,
            count,
            name,
        )
        tx.touch(project)
        return await tx.head(project)

    return await db.run(work)


async def write_by_hand(dsn: str, project: UUID) -> None:
    """Commit as somebody else's program does: nobody is told."""
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute("insert into shots (project_id, name) values ($1, 'by hand')", project)
    finally:
        await conn.close()


class Reader:
    """A follower and what it has heard."""

    def __init__(
        self, feed: Feed, project: UUID, after: int | None = None, epoch: UUID | None = None, **more: Any
    ) -> None:
        self.seqs: list[int] = []
        self.events: list[Any] = []
        self.entries: list[tail.Entry] = []
        self._events = feed.follow(project, epoch=epoch, after=after, **more)
        self._heard = asyncio.Condition()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for event in self._events:
            async with self._heard:
                self.events.append(event)
                if isinstance(event, Changes):
                    self.entries += event.entries
                    self.seqs += [entry.seq for entry in event.entries]
                self._heard.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async def wait() -> None:
            async with self._heard:
                await self._heard.wait_for(condition)

        waiting = asyncio.create_task(wait())
        done, _ = await asyncio.wait({waiting, self.task}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        if self.task in done and not condition():
            waiting.cancel()
            self.task.result()
        assert condition(), f"heard only {self.events}"
        await waiting

    async def until_seq(self, seq: int) -> None:
        await self.until(lambda: bool(self.seqs) and self.seqs[-1] >= seq)

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_two_followers_get_the_same_entries_pulled_and_encoded_once(db, feed, project):
    one, two = Reader(feed, project), Reader(feed, project)
    for reader in (one, two):
        await reader.until(lambda reader=reader: len(reader.events) > 0)
        assert isinstance(reader.events[0], Beat)
    start = one.events[0].head
    last = await write(db, project, 3)
    await one.until_seq(last)
    await two.until_seq(last)
    assert one.seqs == two.seqs == list(range(start + 1, last + 1))
    assert all(a is b for a, b in zip(one.entries, two.entries, strict=True))
    assert feed.stats.entries == last - start
    for reader in (one, two):
        await reader.close()


async def test_a_follower_begins_exactly_after_its_cursor_wherever_that_is(db, feed, project):
    last = await write(db, project, 1300)
    reader = Reader(feed, project, after=2)
    await reader.until_seq(last)
    more = await write(db, project, 5)
    await reader.until_seq(more)
    assert reader.seqs == list(range(3, more + 1))
    assert not any(isinstance(event, Gap) for event in reader.events)  # late is not slow
    await reader.close()


async def test_a_slow_follower_is_told_of_the_gap_and_still_misses_nothing_while_others_are_not_held_up(
    db, feed, project, monkeypatch
):
    monkeypatch.setattr(tail, "RING_ENTRIES_MAX", 10)
    slow = feed.follow(project, epoch=None, after=None)
    start = (await anext(slow)).head
    quick = Reader(feed, project)
    await quick.until(lambda: len(quick.events) > 0)
    first = await write(db, project)
    assert [entry.seq for entry in (await anext(slow)).entries] == [first]
    for _ in range(6):  # the slow one does not come back for a while
        last = await write(db, project, 10)
        await quick.until_seq(last)
    assert len(feed._channels[project].ring) <= 10  # what is not held is the point
    seqs, gaps = [first], 0
    while seqs[-1] < last:
        event = await asyncio.wait_for(anext(slow), PATIENCE_S)
        gaps += isinstance(event, Gap)
        if isinstance(event, Changes):
            seqs += [entry.seq for entry in event.entries]
    assert gaps == feed.stats.gaps >= 1
    assert seqs == quick.seqs == list(range(start + 1, last + 1))
    await slow.aclose()
    await quick.close()


async def test_a_poll_never_misses_what_this_process_committed_before_it(db, feed, project):
    cursor = (await feed.head(project)).head
    for count in (1, 3, 1):
        last = await write(db, project, count)
        found = await feed.read(project, epoch=None, after=cursor)
        assert [entry.seq for entry in found.entries] == list(range(cursor + 1, last + 1))
        assert found.head == last
        cursor = last


async def test_a_poll_that_is_up_to_date_costs_no_query_while_the_head_is_proven(db, dsn, project):
    now = 0.0
    feed = Feed(db, Presenters(), clock=lambda: now)
    cursor = (await feed.head(project)).head
    pulls = feed.stats.pulls
    for _ in range(20):
        assert (await feed.read(project, epoch=None, after=cursor)).entries == []
    assert feed.stats.pulls == pulls
    await write_by_hand(dsn, project)
    now += puller.FRESH_S + 0.1  # a proof does not last
    assert len((await feed.read(project, epoch=None, after=cursor)).entries) == 1
    await feed.stop()


async def test_a_long_poll_answers_with_the_first_change(db, feed, project):
    head = await feed.head(project)
    waiting = asyncio.create_task(feed.read(project, epoch=head.epoch, after=head.head, wait_s=25))
    await asyncio.sleep(0)
    last = await write(db, project)
    found = await asyncio.wait_for(waiting, PATIENCE_S)
    assert [entry.seq for entry in found.entries] == [last]


async def test_a_long_poll_without_news_ends_with_an_empty_answer(feed, project):
    head = await feed.head(project)
    found = await feed.read(project, epoch=head.epoch, after=head.head, wait_s=0.05)
    assert (found.entries, found.head) == ([], head.head)


async def test_changes_that_nobody_hinted_at_are_found_by_the_sweep(db, dsn, feed, project):
    reader = Reader(feed, project)
    await reader.until(lambda: len(reader.events) > 0)
    await write_by_hand(dsn, project)
    await reader.until_seq(reader.events[0].head + 1)
    assert feed.stats.sweep_found == 1
    await reader.close()


async def test_a_poll_with_a_cursor_that_another_process_gave_out_is_not_refused(db, dsn, feed, project):
    head = await feed.head(project)  # this process has a proof, and knows nothing of the next
    await write_by_hand(dsn, project)
    found = await feed.read(project, epoch=head.epoch, after=head.head + 1)
    assert (found.entries, found.head) == ([], head.head + 1)


async def test_cursors_that_cannot_be_continued_are_refused(db, feed, project):
    head = await feed.head(project)
    for epoch, after in ((uuid.uuid4(), 1), (head.epoch, head.head + 1)):
        with pytest.raises(MustRefetch):
            await feed.read(project, epoch=epoch, after=after)
        with pytest.raises(MustRefetch):
            await anext(feed.follow(project, epoch=epoch, after=after))
    with pytest.raises(NoLog):
        await feed.read(uuid.uuid4(), epoch=None, after=0)
    assert set(feed._channels) == {project}  # asking for what is not there leaves nothing behind


async def test_followers_are_told_when_the_log_was_put_back_even_if_it_grows_past_them(db, feed, project):
    await write(db, project, 5)
    reader = Reader(feed, project)
    await reader.until(lambda: len(reader.events) > 0)
    seen = await feed.head(project)
    async with db.connection() as conn, conn.transaction():  # as a restored backup looks like
        await conn.execute("delete from changes where project_id = $1 and seq > $2", project, seen.head - 3)
        await conn.execute("update project_heads set head = head - 3 where project_id = $1", project)
    with pytest.raises(MustRefetch) as lost:
        await asyncio.wait_for(reader.task, PATIENCE_S)
    assert lost.value.epoch != seen.epoch
    await write(db, project, 9)
    with pytest.raises(MustRefetch):  # a cursor of the lost future does not become valid by growth
        await feed.read(project, epoch=seen.epoch, after=seen.head)


async def test_progress_reaches_who_follows_and_nobody_else_and_is_not_in_the_log(db, feed, project):
    relayed: list[tuple[UUID, bytes]] = []
    feed._relay_progress = lambda *what: relayed.append(what)
    reader = Reader(feed, project)
    await reader.until(lambda: len(reader.events) > 0)
    feed.publish_progress(project, b'{"percent":40}')
    feed.publish_progress(uuid.uuid4(), b'{"percent":50}')
    await reader.until(lambda: Progress(b'{"percent":40}') in reader.events)
    assert relayed[0] == (project, b'{"percent":40}')
    assert sum(isinstance(event, Progress) for event in reader.events) == 1
    assert reader.seqs == []
    await reader.close()


async def test_beats_name_the_head(db, feed, project):
    reader = Reader(feed, project, beat_s=0.02)
    last = await write(db, project)
    await reader.until(lambda: any(isinstance(event, Beat) and event.head == last for event in reader.events))
    await reader.close()


async def test_draining_ends_followers_and_waits_at_once(db, feed, project):
    reader = Reader(feed, project)
    head = await feed.head(project)
    waiting = asyncio.create_task(feed.read(project, epoch=None, after=head.head, wait_s=25))
    await reader.until(lambda: len(reader.events) > 0)
    feed.drain()
    await asyncio.wait_for(asyncio.gather(reader.task, waiting), PATIENCE_S)


async def test_nobody_follows_then_nothing_is_asked(db, feed, project, monkeypatch):
    monkeypatch.setattr(feed_module, "SWEEP_S", 0.01)
    reader = Reader(feed, project)
    await reader.until(lambda: len(reader.events) > 0)
    await reader.close()
    sweeps, pulls = feed.stats.sweeps, feed.stats.pulls
    await write(db, project)
    feed.hint(None)
    await asyncio.sleep(30 * feed_module.SWEEP_S)  # time enough for it to be wrong
    assert feed.stats.pulls == pulls
    assert feed.stats.sweeps <= sweeps + 1  # one may have been under way


async def test_a_database_that_went_away_and_came_back_delays_followers_but_loses_nothing(db, dsn, feed, project):
    reader = Reader(feed, project)
    await reader.until(lambda: len(reader.events) > 0)
    admin = await asyncpg.connect(dsn)
    try:
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'safelight'"
            " and datname = current_database()"
        )
        await admin.execute("insert into shots (project_id, name) values ($1, 'meanwhile')", project)
    finally:
        await admin.close()
    await reader.until_seq(reader.events[0].head + 1)
    await reader.close()


async def test_the_log_module_agrees_with_the_feed_about_the_head(db, feed, project):
    await write(db, project, 4)
    async with db.connection() as conn:
        assert (await log.heads(conn, [project]))[project] == await feed.head(project)
