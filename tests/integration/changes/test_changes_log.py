"""Reading from a cursor, and what is no longer kept (S2, O3)."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from change_replica import Replica

from safelight.changes import log
from safelight.changes.log import Head, MustRefetch
from safelight.db.pool import Database

DAY = timedelta(days=1)


@pytest.fixture
async def project(db: Database) -> UUID:
    async with db.connection() as conn:
        project = await conn.fetchval("insert into projects (name) values ('films') returning id")
        await conn.execute(
            "insert into shots (project_id, name) select $1, i::text from generate_series(1, 20) i", project
        )
        return project


async def head_of(db: Database, project: UUID) -> Head:
    async with db.connection() as conn:
        return (await log.heads(conn, [project]))[project]


async def age(db: Database, project: UUID, seq_max: int, by: timedelta) -> None:
    """Pretend that entries up to `seq_max` are older; the default partition takes those of days without a partition."""
    async with db.connection() as conn:
        await conn.execute(
            "update changes set at = at - $3::interval where project_id = $1 and seq <= $2", project, seq_max, by
        )


async def test_pages_follow_each_other_without_a_hole_up_to_the_head(db, project):
    head = await head_of(db, project)
    seqs: list[int] = []
    async with db.connection() as conn:
        while len(seqs) < head.head:
            page = await log.read(conn, project, len(seqs), 7, head.epoch)
            seqs += [change.seq for change in page.changes]
            assert (page.epoch, page.head) == (head.epoch, head.head)
        assert seqs == list(range(1, head.head + 1))
        assert (await log.read(conn, project, head.head, 7)).changes == []


async def test_a_page_of_giant_rows_is_cut_and_continued(db, project):
    noise = (
        "insert into nodes (project_id, type, data) select $1, 'big',"
        " (select jsonb_agg(md5(random()::text)) from generate_series(1, 20000) where i > 0)"
        " from generate_series(1, 6) i"
    )
    async with db.connection() as conn:
        start = (await log.heads(conn, [project]))[project].head
        await conn.execute(noise, project)
        page = await log.read(conn, project, start, 1000)
        assert 1 <= len(page.changes) < 6
    replica = Replica(db, project)
    await replica.check()


async def test_a_cursor_of_another_life_or_from_the_future_must_refetch(db, project):
    head = await head_of(db, project)
    async with db.connection() as conn:
        for after, epoch in ((3, uuid.uuid4()), (head.head + 1, head.epoch)):
            with pytest.raises(MustRefetch) as lost:
                await log.read(conn, project, after, 10, epoch)
            assert (lost.value.epoch, lost.value.head, lost.value.oldest) == (head.epoch, head.head, 1)


async def test_a_cursor_older_than_retention_is_told_so_and_a_younger_one_is_served(db, project):
    head = await head_of(db, project)
    await age(db, project, 10, 40 * DAY)
    await log.retention(db, 30 * DAY)
    async with db.connection() as conn:
        for after in (0, 9):
            with pytest.raises(MustRefetch) as lost:
                await log.read(conn, project, after, 1000)
            assert lost.value.oldest == 11
        page = await log.read(conn, project, 10, 1000)
        assert [change.seq for change in page.changes] == list(range(11, head.head + 1))


async def test_when_nothing_is_kept_only_the_head_itself_can_be_continued(db, project):
    head = await head_of(db, project)
    await age(db, project, head.head, 40 * DAY)
    await log.retention(db, 30 * DAY)
    async with db.connection() as conn:
        assert (await log.read(conn, project, head.head, 10)).changes == []
        with pytest.raises(MustRefetch) as lost:
            await log.read(conn, project, head.head - 1, 10)
    assert lost.value.oldest == head.head + 1


async def test_a_hole_is_never_served_as_if_it_were_whole(db, project):
    async with db.connection() as conn:
        await conn.execute("delete from changes where project_id = $1 and seq = 8", project)  # somebody's hand
        with pytest.raises(MustRefetch):
            await log.read(conn, project, 5, 10)


async def test_retention_drops_whole_days_and_leaves_the_rest(db, project):
    now = datetime.now(UTC)
    later = now + 5 * DAY
    made = await log.ensure_partitions(db, 10)
    assert made
    assert await log.ensure_partitions(db, 10) == []
    dropped = await log.retention(db, 2 * DAY, now=later)
    assert dropped[0] == f"changes_{now:%Y%m%d}"
    assert f"changes_{later - 2 * DAY:%Y%m%d}" not in dropped
    with pytest.raises(MustRefetch):
        async with db.connection() as conn:
            await log.read(conn, project, 0, 10)


async def test_entries_written_while_no_partition_was_there_are_kept_and_moved_when_it_comes(db, project):
    async with db.connection() as conn:
        days = await conn.fetch(
            "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'changes'::regclass"
        )
        before = await conn.fetchval("select count(*) from changes")
        for day in days:
            if day["name"] != "changes_default":
                await conn.execute(f"alter table changes detach partition {day['name']}")
                await conn.execute(f"insert into changes select * from {day['name']}")
                await conn.execute(f"drop table {day['name']}")
        await conn.execute("insert into shots (project_id, name) values ($1, 'late')", project)
        assert await conn.fetchval("select count(*) from changes_default") == before + 1
        await log.ensure_partitions(db)
        assert await conn.fetchval("select count(*) from changes_default") == 0
    await Replica(db, project).check()


async def test_maintenance_gives_way_to_whoever_holds_the_log(db, project):
    await age(db, project, 10, 40 * DAY)
    async with db.connection() as conn, conn.transaction():
        await conn.fetch("lock table changes in access share mode")
        assert await log.retention(db, DAY, now=datetime.now(UTC) + 20 * DAY) == []
    assert await log.retention(db, DAY, now=datetime.now(UTC) + 20 * DAY) != []


async def test_the_head_of_a_deleted_project_goes_when_its_last_entry_does(db, project):
    async with db.connection() as conn:
        await conn.execute("delete from projects where id = $1", project)
        await log.retention(db, DAY, now=datetime.now(UTC))
        assert project in await log.heads(conn, [project])
        await log.retention(db, DAY, now=datetime.now(UTC) + 3 * DAY)
        assert project not in await log.heads(conn, [project])


async def test_a_log_that_was_put_back_gets_a_new_epoch_once(db, project):
    seen = await head_of(db, project)
    async with db.connection() as conn:
        assert not await log.renew_epoch(conn, project, seen)
        await conn.execute("update project_heads set head = head - 3 where project_id = $1", project)
        assert await log.renew_epoch(conn, project, seen)
        assert not await log.renew_epoch(conn, project, seen)
    assert (await head_of(db, project)).epoch != seen.epoch
