"""A look that finds nothing new, of which there are thousands (P5): it gives the lease back, loses no hint, and leaves
nothing behind."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

from jobs_world import Build, World, now, until

from safelight.db.pool import Row
from safelight.jobs import work
from safelight.jobs.decide import Progress
from safelight.jobs.lifecycle import Stage
from safelight.jobs.progress import ProgressBoard

LATER = now() + timedelta(hours=1)


async def claimed(world: World) -> tuple[UUID, Row]:
    """A job that nobody runs, in our hands."""
    job_id = await world.submit("local")
    async with world.db.connection() as conn:
        (job,) = await work.claim(conn, [job_id], worker="ours", lease_s=600.0)
    assert job is not None
    return job_id, job


async def let_go(world: World, job_id: UUID, worker: str = "ours") -> bool:
    async with world.db.connection() as conn:
        return await work.heard_and_let_go(conn, job_id, LATER, worker=worker)


async def state(world: World, job_id: UUID) -> Row:
    (row,) = await world.rows("select * from job_work where job_id = $1", job_id)
    return row


async def test_the_lease_goes_back_with_the_word_that_it_goes_on(build: Build):
    world = await build(workers=0)
    job_id, _ = await claimed(world)
    assert not await let_go(world, job_id, worker="another"), "it is not theirs"
    assert (await state(world, job_id))["looks"] == 0
    assert await let_go(world, job_id)
    row = await state(world, job_id)
    assert (row["lease_by"], row["lease_until"], row["look_at"], row["looks"]) == (None, None, LATER, 1)


async def test_a_hint_that_came_while_we_looked_keeps_us_at_it(build: Build):
    world = await build(workers=0)
    job_id, _ = await claimed(world)
    async with world.db.connection() as conn:
        await work.look_now(conn, [job_id])
    assert not await let_go(world, job_id)
    row = await state(world, job_id)
    assert row["lease_by"] == "ours"
    assert row["look_at"] < LATER


async def test_a_wish_to_stop_that_the_provider_has_not_heard_keeps_us_at_it(build: Build):
    world = await build(workers=0)
    job_id, _ = await claimed(world)
    await world.rows("update jobs set cancel_requested_at = now() where id = $1 returning 1", job_id)
    assert not await let_go(world, job_id)
    await world.rows("update job_work set cancel_sent_at = now() where job_id = $1 returning 1", job_id)
    assert await let_go(world, job_id), "it has heard"


async def test_a_word_of_progress_that_meets_the_jobs_end_is_not_left_behind(build: Build):
    world = await build(workers=0)
    job_id, job = await claimed(world)
    board = ProgressBoard(world.db, lambda *_: None)
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"

    async def report() -> None:
        async with world.db.connection() as conn:
            await board.report(conn, job, Progress(Stage.RUNNING, percent=50.0), None, may_be_lost=True)

    async with world.db.connection() as ending:
        async with ending.transaction():
            await work.finish(ending, [job_id])
            reporting = asyncio.create_task(report())

            async def waits() -> bool:
                return await world.value(waiting) == 1

            await until(waits, "the report to wait for the end")
        await reporting
    assert await world.value("select count(*) from job_progress") == 0


async def test_a_job_that_ends_while_a_word_of_progress_is_written_leaves_it_not_behind(build: Build):
    world = await build(workers=0)
    job_id, job = await claimed(world)
    await world.rows(
        "with began as (update jobs set stage = 'submitting', attempt = 1 where id = $1 returning id, project_id)"
        " insert into attempts (id, job_id, project_id, number, provider, endpoint, token_hash)"
        " select gen_random_uuid(), id, project_id, 1, 'local', 'aurora', '' from began returning 1",
        job_id,
    )
    picture = {"kind": "image", "mime": "image/png", "bytes": 1, "files": {}, "meta": {}}
    output = {"id": str(uuid4()), "output_index": 0, **picture}
    result = [{"job_id": str(job_id), "attempt": 1, "cost": None, "outputs": [output]}]
    board = ProgressBoard(world.db, lambda *_: None)
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"

    async def end() -> list[Row]:
        query = "select id from settle($1, '[]', '{}', array['submitting'], false, now())"
        return await world.rows(query, result)

    async with world.db.connection() as telling:
        async with telling.transaction():
            await board.report(telling, job, Progress(Stage.RUNNING, percent=50.0), None)
            ending = asyncio.create_task(end())

            async def waits() -> bool:
                return await world.value(waiting) == 1

            await until(waits, "the end to wait for the word")
        assert [row["id"] for row in await ending] == [job_id]
    assert await world.value("select count(*) from job_progress") == 0
