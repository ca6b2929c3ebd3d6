"""Workers die at any moment, and every job still ends once, paid once, bought at most once per attempt (J4, P8, C1)."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from jobs_promises import books_balance
from jobs_world import Build, World, until

LONG_ENOUGH = {"unknown_grace_s": 20.0, "lease_s": 1.0}


async def die_often(world: World, random: Random, times: int) -> None:
    """One worker after the other, each for a random moment; some end in good order, most without a last word."""
    for _ in range(times):
        node = await world.start_node()
        await asyncio.sleep(random.uniform(0.02, 0.7))
        if random.random() < 0.25:
            await node.stop()
        else:
            await node.die()


@pytest.mark.parametrize("seed", range(4))
async def test_jobs_survive_workers_that_die_at_random_moments(build: Build, seed: int):
    random = Random(seed)
    world = await build(workers=0, policy=LONG_ENOUGH)
    jobs = [
        await world.submit(what, None if what == "local" else {"latency_s": random.uniform(0.1, 1.5)})
        for what in ["local", "fal", "kie"] * 4
    ]
    await die_often(world, random, 10)
    await world.start_node()
    for job in await world.ends(*jobs):
        bought = sum((await world.accepted(job["id"])).values())
        if job["stage"] == "completed":
            assert bought == (0 if job["provider"] == "local" else 1)
        else:
            # Its worker died between the attempt's row and the request: nobody can know, so nobody asks again.
            # A task that the provider did take is always found: the webhook names it.
            assert job["error"]["code"] == "submit_unknown", (job["error"], await world.steps(job["id"]))
            assert bought == 0
    await books_balance(world)


@pytest.mark.parametrize(
    ("what", "stage"),
    [
        ("local", "submitting"),
        ("local", "storing"),
        *((what, stage) for what in ("fal", "kie") for stage in ("submitting", "submitted", "storing")),
    ],
)
async def test_a_worker_that_dies_in_a_stage_leaves_it_to_the_next(build: Build, what: str, stage: str):
    world = await build(workers=0, policy=LONG_ENOUGH)
    faults = {"submitting": {"submit": "slow", "slow_s": 1.5}, "storing": {"result": "slow", "slow_s": 2.0}}
    job_id = await world.submit(
        "local clip" if what == "local" else what,
        None if what == "local" else {"latency_s": 0.5, **faults.get(stage, {})},
    )
    node = await world.start_node()
    if what == "local" and stage == "storing":
        await world.reaches(job_id, "storing", "completed")  # it takes milliseconds: dying right after is fine too
    else:
        await world.reaches(job_id, stage, *(("running",) if stage == "submitted" else ()))
    if stage == "submitting" and what != "local":

        async def is_taken() -> bool:
            return bool(await world.accepted(job_id))

        await until(is_taken)
    await node.die()
    await world.start_node()
    job = await world.reaches(job_id, "completed")
    if what != "local":
        assert job["attempt"] == 1
    await books_balance(world)


async def test_a_worker_that_is_stopped_takes_the_answers_it_waits_for_along(build: Build):
    """A rolling restart loses nothing, also where no webhook can reach us (O2)."""
    world = await build(webhooks=False)
    job_id = await world.submit("fal", {"submit": "slow", "slow_s": 1.5, "latency_s": 0.2})

    async def is_taken() -> bool:
        return bool(await world.accepted(job_id))

    await until(is_taken)
    await world.nodes[0].stop()
    assert (await world.attempts(job_id))[0]["task_id"] is not None
    await world.start_node()
    await world.reaches(job_id, "completed")
    assert "answer_lost" not in await world.steps(job_id)
    await books_balance(world)


@pytest.mark.timeout(60)
async def test_a_worker_ends_also_when_a_job_of_its_ends_in_that_very_moment(
    build: Build, monkeypatch: pytest.MonkeyPatch
):
    world = await build(workers=0)
    node = await world.node()
    told = asyncio.Event()

    async def a_job(_: UUID) -> None:
        await told.wait()

    async def all_else(*parts: Any, again_s: float) -> None:
        for part in parts:
            part.close()
        await asyncio.sleep(0)
        told.set()
        await asyncio.sleep(0)  # the job ends in this turn of the loop, before us; who waits for it hears in the next

    monkeypatch.setattr(node.engine, "advance", a_job)
    monkeypatch.setattr("safelight.jobs.worker.side_by_side", all_else)
    node.worker.take_up(uuid4())
    await node.worker.run()
    assert node.worker._advancing == {}
    await node.stop()


async def test_two_workers_on_one_job_do_everything_once(build: Build):
    """Leases are taken away under the workers' hands: they only save work, nothing rests on them."""
    world = await build(workers=2, policy=LONG_ENOUGH)
    jobs = [
        await world.submit(what, None if what == "local" else {"latency_s": 0.4})
        for what in ["fal", "kie", "local"] * 4
    ]
    ended = asyncio.ensure_future(world.ends(*jobs))
    while not ended.done():
        # Many rows against the workers' many rows: a deadlock is tried again, as theirs are.
        await world.db.run(lambda tx: tx.conn.execute("update job_work set lease_by = null, lease_until = null"))
        await asyncio.sleep(0.05)
    for job in ended.result():
        # Whoever loses the lease while asking is thought dead: the answer counts as lost until the webhook comes.
        assert job["stage"] == "completed", (job["error"], await world.steps(job["id"]))
    await books_balance(world)


async def test_a_worker_whose_lease_ended_does_not_overwrite_what_the_next_did(build: Build):
    world = await build(workers=2, policy={"lease_s": 0.3, "unknown_grace_s": 20.0})
    jobs = [await world.submit("fal", {"submit": "slow", "slow_s": 1.0, "latency_s": 0.2}) for _ in range(5)]
    for _ in range(10):
        await world.rows("update job_work set lease_until = now() - interval '1 second' returning 1")
        await asyncio.sleep(0.1)
    for job in await world.ends(*jobs):
        assert job["stage"] == "completed"
        assert job["attempt"] == 1
    await books_balance(world)


async def test_an_idle_worker_that_loses_the_database_goes_on_when_it_is_back(build: Build):
    world = await build()
    await world.reaches(await world.submit("fal"), "completed")
    await world.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )

    async def submit_again():
        try:
            return await world.submit("kie")
        except Exception:
            return None

    job_id = await until(submit_again)
    await world.reaches(job_id, "completed")
    await books_balance(world)
