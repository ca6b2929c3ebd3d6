"""Whatever writes a visible row, the log has it: hand-written SQL, cascades, triggers, bulk (S1)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest
from change_replica import Replica, converges

from safelight.changes import log
from safelight.db.pool import Database, Transaction


@pytest.fixture
async def project(db: Database) -> UUID:
    return await new_project(db)


@pytest.fixture
async def replica(db: Database, project: UUID) -> Replica:
    return Replica(db, project)


@pytest.fixture
async def conn(db: Database) -> AsyncIterator[asyncpg.Connection]:
    async with db.connection() as connection:
        yield connection


async def new_project(db: Database) -> UUID:
    async with db.connection() as conn:
        return await conn.fetchval("insert into projects (name) values ('films') returning id")


async def shot(conn, project: UUID, name: str = "one") -> UUID:
    return await conn.fetchval("insert into shots (project_id, name) values ($1, $2) returning id", project, name)


async def two_shots(conn, project: UUID, first: str, second: str) -> None:
    async with conn.transaction():
        await shot(conn, project, first)
        await shot(conn, project, second)


async def as_role(conn, role: str, statement: str) -> None:
    async with conn.transaction():
        await conn.execute(f"set local role {role}")
        await conn.execute(statement)


def told(changes) -> list[tuple[str, str]]:
    return [(change.table, change.op) for change in changes]


async def test_an_insert_an_update_and_a_delete_are_one_entry_each_with_the_row_after_and_before(
    conn, project, replica
):
    async with converges(replica) as changes:
        one = await shot(conn, project)
        await conn.execute("update shots set name = 'two' where id = $1", one)
        await conn.execute("delete from shots where id = $1", one)
    assert told(changes) == [("shots", "insert"), ("shots", "update"), ("shots", "delete")]
    inserted, updated, deleted = changes
    assert inserted.row["name"] == "one"
    assert inserted.old is None
    assert updated.row["name"] == "two"
    assert updated.old == {"name": "one", "position": "a0"}
    assert deleted.row is None
    assert deleted.old["name"] == "two"
    assert {change.id for change in changes} == {one}


async def test_an_update_that_changes_nothing_is_not_a_change(conn, project, replica):
    one = await shot(conn, project)
    async with converges(replica) as changes:
        await conn.execute("update shots set name = name where id = $1", one)
        await conn.execute("update shots set name = 'x' where false")
        await conn.execute("delete from shots where false")
    assert changes == []


async def test_a_row_that_moves_to_another_project_leaves_the_one_and_enters_the_other(db, conn, project, replica):
    elsewhere = await new_project(db)
    there = Replica(db, elsewhere)
    node = await conn.fetchval("insert into nodes (project_id, type) values ($1, 'prompt') returning id", project)
    async with converges(replica) as left, converges(there) as entered:
        await conn.execute("update nodes set project_id = $2 where id = $1", node, elsewhere)
    assert told(left) == [("nodes", "delete")]
    assert told(entered) == [("nodes", "insert")]


async def test_a_row_whose_id_changes_is_another_row(conn, project, replica):
    one = await shot(conn, project)
    async with converges(replica) as changes:
        await conn.execute("update shots set id = gen_random_uuid() where id = $1", one)
    assert told(changes) == [("shots", "delete"), ("shots", "insert")]


async def test_copy_upsert_merge_and_writing_ctes_are_logged(conn, project, replica):
    ids = [uuid.uuid4() for _ in range(4)]
    async with converges(replica) as changes:
        await conn.copy_records_to_table(
            "shots", records=[(i, project, "copied") for i in ids[:2]], columns=["id", "project_id", "name"]
        )
        await conn.execute(
            "insert into shots (id, project_id, name) select unnest($1::uuid[]), $2, 'upserted'"
            " on conflict (id) do update set name = excluded.name",
            ids[1:3],
            project,
        )
        await conn.execute(
            "merge into shots s using unnest($1::uuid[]) as w (id) on s.id = w.id"
            " when matched and s.name = 'copied' then delete"
            " when matched then update set name = 'merged'"
            " when not matched then insert (id, project_id, name) values (w.id, $2, 'merged in')",
            ids,
            project,
        )
        await conn.execute(
            "with gone as (delete from shots where id = $1 returning project_id)"
            " insert into shots (project_id, name) select project_id, 'from a cte' from gone",
            ids[3],
        )
    assert len(changes) == 2 + 2 + 4 + 2


async def test_a_statement_of_thousands_of_rows_is_numbered_in_its_own_order(conn, project, replica):
    async with converges(replica) as changes:
        await conn.execute(
            "insert into shots (project_id, name) select $1, i::text from generate_series(1, 2500) i", project
        )
    assert [change.row["name"] for change in changes] == [str(i) for i in range(1, 2501)]
    async with converges(replica) as changes:
        await conn.execute("update shots set name = name || '!' where project_id = $1", project)
        await conn.execute("delete from shots where project_id = $1", project)
    assert len(changes) == 5000


async def test_what_is_undone_by_a_savepoint_or_an_abort_leaves_neither_entry_nor_hole(conn, project, replica):
    async with converges(replica) as changes:
        async with conn.transaction():
            await shot(conn, project, "kept")
            with pytest.raises(asyncpg.CheckViolationError):
                await two_shots(conn, project, "undone", "")
            await shot(conn, project, "kept too")
        with pytest.raises(asyncpg.CheckViolationError):
            await two_shots(conn, project, "aborted", "")
    assert [change.row["name"] for change in changes] == ["kept", "kept too"]


async def test_rows_that_come_and_go_and_come_back_inside_one_transaction_end_as_they_are(conn, project, replica):
    back = uuid.uuid4()
    async with converges(replica) as changes, conn.transaction():
        gone = await shot(conn, project, "short life")
        await conn.execute("delete from shots where id = $1", gone)
        for name in ("first", "second"):
            await conn.execute("delete from shots where id = $1", back)
            await conn.execute("insert into shots (id, project_id, name) values ($1, $2, $3)", back, project, name)
    assert {change.op for change in changes if change.id == back} == {"insert"}
    assert changes[-1].row["name"] == "second"


async def test_a_cascade_that_first_updates_and_then_deletes_a_row_ends_with_its_deletion(conn, project, replica):
    # The foreign keys' order makes PostgreSQL fire the statement triggers of the child as "deleted, updated".
    await conn.execute("""
        create table parents (id uuid primary key default gen_random_uuid(), project_id uuid not null, k int);
        create table children (id uuid primary key default gen_random_uuid(), project_id uuid not null,
            owner uuid references parents on delete cascade, friend uuid references parents on delete set null,
            other uuid references parents on delete set null);
        select track_changes('parents'); select track_changes('children', old_columns => '{owner}');
    """)
    async with converges(replica):
        await conn.execute("insert into parents (project_id, k) select $1, i from generate_series(1, 9) i", project)
        await conn.execute(
            "insert into children (project_id, owner, friend, other) select $1, a.id, b.id, c.id"
            " from parents a, parents b, parents c where a.project_id = $1",
            project,
        )
    async with converges(replica) as changes:
        await conn.execute("delete from parents where k in (2, 3, 5, 7)")
    assert {("children", "update"), ("children", "delete"), ("parents", "delete")} == set(told(changes))


async def test_triggers_that_write_the_table_they_belong_to_are_logged_in_a_true_order(conn, project, replica):
    await conn.execute("""
        create table odd (id uuid primary key default gen_random_uuid(), project_id uuid not null, n int, j json);
        create function odd_after() returns trigger language plpgsql as $$
        begin
            if new.n = 1 then update odd set n = 2 where id = new.id;
            elsif new.n = 5 then delete from odd where id = new.id; end if;
            return null;
        end $$;
        create trigger a_first after insert on odd for each row execute function odd_after();
        create trigger z_last after insert on odd for each row execute function odd_after();
        select track_changes('odd', old_columns => '{n}');
    """)
    async with converges(replica):
        await conn.execute("insert into odd (project_id, n) select $1, n from generate_series(1, 6) n", project)


async def test_deleting_a_project_tells_the_end_of_everything_in_it(db, conn, project, replica):
    one = await shot(conn, project)
    job, picture = uuid.uuid4(), uuid.uuid4()
    async with converges(replica):
        await conn.execute(
            "insert into jobs"
            " (id, project_id, model, provider, endpoint, kind, input, quoted, deadline_at, request_hash)"
            " values ($1, $2, 'm', 'local', 'e', 'image', '{}', 0, now(), '')",
            job,
            project,
        )
        await conn.execute(
            "insert into generations (id, project_id, job_id, output_index, kind, mime, bytes, files, model)"
            " values ($1, $2, $3, 0, 'image', 'image/png', 1, '{}', 'm')",
            picture,
            project,
            job,
        )
        await conn.execute(
            "insert into shot_generations (project_id, shot_id, generation_id) values ($1, $2, $3)",
            project,
            one,
            picture,
        )
    async with converges(replica) as changes:
        await conn.execute("delete from projects where id = $1", project)
    assert {table for table, _ in told(changes)} >= {
        "projects", "shots", "jobs", "generations", "shot_generations", "credits",
    }  # fmt: skip
    assert not any(replica.tables.values())


async def test_statements_aimed_at_a_partition_are_logged_like_those_aimed_at_the_table(conn, project, replica):
    await conn.execute("""
        create table parted (id uuid not null default gen_random_uuid(), project_id uuid not null, n int,
            primary key (id, n)) partition by range (n);
        create table parted_low partition of parted for values from (0) to (10);
        create table parted_high partition of parted for values from (10) to (20);
        select track_changes('parted', old_columns => '{n}');
    """)
    async with converges(replica) as changes:
        await conn.execute("insert into parted (project_id, n) select $1, i from generate_series(1, 12) i", project)
        await conn.execute("insert into parted_low (project_id, n) values ($1, 3)", project)
        await conn.execute("update parted set n = n + 5")  # some rows move to the other partition
        await conn.execute("delete from parted_high")
    assert len(changes) == 13 + 13 + 8


async def test_truncate_is_refused_because_it_would_bypass_the_log(conn, project):
    for table in ("shots", "projects"):
        with pytest.raises(asyncpg.FeatureNotSupportedError, match="bypass the change log"):
            await conn.execute(f"truncate {table} cascade")


async def test_somebody_with_rights_on_a_table_only_cannot_keep_a_change_out_nor_forge_one(conn, project, replica):
    role = f"editor_{uuid.uuid4().hex[:8]}"
    await conn.execute(f"create role {role}; grant select, insert, update, delete on shots to {role}")
    try:
        async with converges(replica) as changes:
            async with conn.transaction():
                await conn.execute(f"set local role {role}; set local search_path = pg_temp, public")
                for table in ("changes", "change_pending", "project_heads"):  # shadows, to lead the trigger astray
                    await conn.execute(f"create temp table {table} (id int) on commit drop")
                await conn.execute("insert into public.shots (project_id, name) values ($1, 'by hand')", project)
            for forbidden in (
                "insert into changes (project_id, seq, at, tbl, op, id)"
                " values (gen_random_uuid(), 1, now(), 'x', 'insert', gen_random_uuid())",
                "update project_heads set head = 0",
                "delete from change_pending",
                "select capture_shots()",
            ):
                with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError)):
                    await as_role(conn, role, forbidden)
        assert told(changes) == [("shots", "insert")]
    finally:
        await conn.execute(f"drop owned by {role}; drop role {role}")


async def test_a_session_in_replica_mode_is_logged_too(conn, project, replica):
    async with converges(replica) as changes, conn.transaction():
        await conn.execute("set local session_replication_role = replica")
        await shot(conn, project)
    assert told(changes) == [("shots", "insert")]


async def test_an_entry_names_the_client_that_caused_it(conn, project, replica):
    async with converges(replica) as changes:
        async with conn.transaction():
            await conn.execute("select set_config('safelight.origin', 'tab-7', true)")
            await shot(conn, project)
        await shot(conn, project)
    assert [change.origin for change in changes] == ["tab-7", None]


async def test_a_transaction_can_ask_for_the_seq_of_its_own_change_and_go_on(db, project, replica):
    async def work(tx: Transaction) -> tuple[int, int]:
        await shot(tx.conn, project)
        first = await tx.head(project)
        await shot(tx.conn, project)
        return first, await tx.head(project)

    async with converges(replica):
        first, second = await db.run(work)
    assert (first, second) == (replica.cursor - 1, replica.cursor)


async def test_two_transactions_that_meet_two_projects_crosswise_both_end(db, project):
    other = await new_project(db)

    async def write(first: UUID, second: UUID) -> None:
        async def work(tx: Transaction) -> None:
            await shot(tx.conn, first)
            await tx.head(first)  # takes the head now, against the advice: several heads in one order
            await asyncio.sleep(0.01)
            await shot(tx.conn, second)
            await tx.head(second)

        await db.run(work)

    await asyncio.gather(*(write(*pair) for pair in ((project, other), (other, project)) for _ in range(2)))
    for each in (project, other):
        replica = Replica(db, each)
        await replica.check()
        assert sum(change.table == "shots" for change in replica.applied) == 4


async def test_no_head_is_held_while_a_transaction_waits_for_its_client(db, project, replica):
    async with converges(replica), db.connection() as slow, db.connection() as quick, slow.transaction():
        await shot(slow, project, "slow")
        await quick.execute("set lock_timeout = '5s'")
        await shot(quick, project, "quick")  # would wait for `slow`'s commit if it held the head
        await quick.execute("reset lock_timeout")
    assert [change.row["name"] for change in replica.applied if change.table == "shots"] == ["quick", "slow"]


async def test_the_trigger_can_notify_by_itself_where_the_installation_wants_it(dsn, conn, project):
    listener = await asyncpg.connect(dsn)
    try:
        heard: asyncio.Queue[str] = asyncio.Queue()
        await listener.add_listener("safelight_hint", lambda *said: heard.put_nowait(said[3]))
        await shot(conn, project)  # off by default: says nothing
        async with conn.transaction():
            await conn.execute("set local safelight.notify_in_trigger = on")
            await shot(conn, project)
        assert await asyncio.wait_for(heard.get(), 20) == str(project)
        assert heard.empty()
    finally:
        await listener.close()


async def test_a_table_that_cannot_be_followed_is_refused_with_the_reason(conn):
    await conn.execute("create table keyless (id uuid, project_id uuid); create table numbered (id int primary key)")
    for table in ("keyless", "numbered"):
        with pytest.raises(asyncpg.RaiseError, match="id uuid not null"):
            await conn.execute(f"select track_changes('{table}')")


async def test_nothing_is_left_pending_after_a_commit(db, conn, project):
    await shot(conn, project)
    assert await conn.fetchval("select count(*) from change_pending") == 0


async def test_the_log_of_an_unknown_project_is_said_to_be_unknown(conn):
    with pytest.raises(log.NoLog):
        await log.read(conn, uuid.uuid4(), 0, 10)
