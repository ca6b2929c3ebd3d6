"""A provider whose answer is the result, by the real engine: what a dying worker costs, and what it does not (P8)."""

from __future__ import annotations

import asyncio
from typing import Any

from jobs_promises import books_balance
from jobs_world import CREDITS, DEADLINE_S, Build, World, until

from safelight.providers.base import Accepted

QUICK = {"seed": 7, "prompt": "a red fox"}


async def has_been_asked(world: World, job_id: Any) -> None:
    async def is_asked() -> bool:
        return bool(await world.accepted(job_id))

    await until(is_asked, "OpenAI to have it")


async def test_a_picture_is_paid_once_and_its_previews_are_progress(build: Build):
    world = await build()
    job = await world.reaches(await world.submit("openai", {"latency_s": 1.0}, input=QUICK), "completed")
    (made,) = await world.rows("select * from generations where job_id = $1", job["id"])
    assert (made["width"], made["height"], made["mime"]) == (1024, 1024, "image/png")
    (attempt,) = await world.attempts(job["id"])
    assert attempt["cost"]["output_tokens"] > 0
    assert list((await world.accepted(job["id"])).values()) == [1]
    assert "preview 1" in {each["message"] for each in world.published}
    await books_balance(world)


async def test_a_result_that_had_arrived_when_its_worker_died_is_stored_and_not_bought_again(build: Build):
    world = await build(workers=0, policy={"unknown_grace_s": 300.0})
    node = await world.node()
    arrived = asyncio.Event()
    openai = node.providers["openai"]
    submit = openai.submit

    async def submit_and_die(*args: Any) -> Accepted:
        await submit(*args)
        arrived.set()
        await asyncio.Event().wait()  # the answer is here, and nobody will hear of it from this worker
        raise AssertionError

    openai.submit = submit_and_die
    node.start()
    job_id = await world.submit("openai", input=QUICK)
    async with asyncio.timeout(DEADLINE_S):
        await arrived.wait()
    await node.die()
    await world.start_node()
    job = await world.reaches(job_id, "completed")
    assert job["attempt"] == 1
    assert list((await world.accepted(job_id)).values()) == [1]
    assert "found" in await world.steps(job_id)
    await books_balance(world)


async def test_a_result_whose_worker_died_while_storing_it_is_stored_by_the_next(build: Build):
    world = await build(workers=0)
    node = await world.node()
    looked = asyncio.Event()
    openai = node.providers["openai"]

    async def look_and_die(*args: Any) -> Any:
        looked.set()
        await asyncio.Event().wait()

    openai.inspect = look_and_die
    node.start()
    job_id = await world.submit("openai", input=QUICK)
    async with asyncio.timeout(DEADLINE_S):
        await looked.wait()
    await node.die()
    await world.start_node()
    job = await world.reaches(job_id, "completed")
    assert job["attempt"] == 1
    assert list((await world.accepted(job_id)).values()) == [1]
    await books_balance(world)


async def test_a_worker_that_dies_while_waiting_loses_the_answer_and_policy_ends_the_job(build: Build):
    world = await build(policy={"unknown_grace_s": 1.0})
    job_id = await world.submit("openai", {"latency_s": 60.0}, input=QUICK)
    await has_been_asked(world, job_id)
    await world.nodes[0].die()
    await world.start_node()
    job = await world.reaches(job_id, "failed")
    assert job["error"]["code"] == "submit_unknown"
    assert list((await world.accepted(job_id)).values()) == [1]
    assert [row["state"] for row in await world.attempts(job_id)] == ["abandoned"]
    assert (await world.wallet()).available == CREDITS
    await books_balance(world)
