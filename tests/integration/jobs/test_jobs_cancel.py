"""Canceling, wherever the job is (J6)."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from jobs_promises import books_balance
from jobs_world import CREDITS, Build, until

from safelight.jobs.errors import JobConflict, JobNotFound

SLOW = {"latency_s": 60.0}


async def test_a_job_that_was_not_sent_is_canceled_at_once(build: Build):
    world = await build(workers=0)
    job_id = await world.submit("fal")
    answer = await world.service.cancel(job_id)
    assert answer.job["stage"] == "canceled"
    assert (await world.wallet()).available == CREDITS
    # A worker that comes now finds nothing to do.
    node = await world.start_node()
    await node.worker.reconciler.sweep()
    other = await world.submit("fal")
    await world.reaches(other, "completed")
    assert await world.attempts(job_id) == []
    await books_balance(world)


async def test_a_canceled_job_is_answered_again_and_an_ended_one_is_a_conflict(build: Build):
    world = await build()
    job_id = await world.submit("fal", SLOW)
    await world.reaches(job_id, "submitted", "running")
    await world.service.cancel(job_id)
    await world.reaches(job_id, "canceled")
    assert (await world.service.cancel(job_id)).job["stage"] == "canceled"
    done = await world.submit("kie")
    await world.reaches(done, "completed")
    with pytest.raises(JobConflict):
        await world.service.cancel(done)
    with pytest.raises(JobNotFound):
        await world.service.cancel(uuid4())
    await books_balance(world)


async def test_work_on_this_machine_is_stopped_in_the_middle(build: Build):
    world = await build()
    job_id = await world.submit("local clip", input={"duration": 10, "width": 640, "height": 360})
    await world.reaches(job_id, "submitting")
    answer = await world.service.cancel(job_id)
    assert answer.job["cancel_requested_at"] is not None
    await world.reaches(job_id, "canceled")
    assert [row["state"] for row in await world.attempts(job_id)] == ["canceled"]
    assert (await world.wallet()).available == CREDITS
    await books_balance(world)


async def test_a_provider_that_can_stop_is_asked_to(build: Build):
    world = await build()
    job_id = await world.submit("fal", SLOW)
    await world.reaches(job_id, "submitted", "running")
    answer = await world.service.cancel(job_id)
    assert answer.job["cancel_requested_at"] is not None
    await world.reaches(job_id, "canceled")
    assert [row["state"] for row in await world.attempts(job_id)] == ["canceled"]
    assert "cancel_sent" in await world.steps(job_id)
    await books_balance(world)


async def test_a_provider_that_does_not_stop_is_waited_for_only_so_long(build: Build):
    world = await build(policy={"cancel_grace_s": 1.0})
    job_id = await world.submit("fal", {"cancel": "ignored", "latency_s": 5.0, "webhook": "lost"})
    await world.reaches(job_id, "submitted", "running")
    await world.service.cancel(job_id)
    await world.reaches(job_id, "canceled")
    assert (await world.wallet()).available == CREDITS

    async def cost_is_known() -> bool:
        await world.nodes[0].watch_abandoned()
        async with world.db.connection() as conn:
            await conn.execute("update attempts set watched_at = null")
        return bool((await world.attempts(job_id))[0]["cost"])

    await until(cost_is_known)
    (attempt,) = await world.attempts(job_id)
    assert attempt["state"] == "succeeded"
    assert await world.rows("select 1 from generations") == []
    await books_balance(world)


async def test_a_result_that_was_there_first_wins_over_the_cancel(build: Build):
    world = await build()
    job_id = await world.submit("fal", {**SLOW, "cancel": "too_late", "webhook": "lost"})
    await world.reaches(job_id, "submitted", "running")
    await world.service.cancel(job_id)
    job = await world.reaches(job_id, "completed")
    assert job["cancel_requested_at"] is not None
    assert job["charged"] == job["quoted"]
    await books_balance(world)


async def test_a_provider_that_cannot_stop_is_left_alone_and_its_late_result_is_a_cost_not_a_picture(build: Build):
    world = await build()
    job_id = await world.submit("kie", {"latency_s": 1.5})
    await world.reaches(job_id, "submitted", "running")
    answer = await world.service.cancel(job_id)
    assert answer.job["stage"] == "canceled"
    assert [row["state"] for row in await world.attempts(job_id)] == ["abandoned"]

    async def webhook_came() -> bool:
        return bool(await world.rows("select 1 from inbox where processed_at is not null"))

    await until(webhook_came)
    await world.nodes[0].watch_abandoned()
    (attempt,) = await world.attempts(job_id)
    assert attempt["state"] == "succeeded"
    assert attempt["cost"]
    assert (await world.job(job_id))["stage"] == "canceled"
    assert await world.rows("select 1 from generations") == []
    assert (await world.wallet()).available == CREDITS
    await books_balance(world)


@pytest.mark.parametrize("what", ["fal", "kie"])
async def test_a_cancel_while_the_provider_is_being_asked_takes_effect_after_its_answer(build: Build, what: str):
    world = await build()
    job_id = await world.submit(what, {"submit": "slow", "slow_s": 1.5, **SLOW})

    async def is_asked() -> bool:
        return bool(await world.accepted(job_id))

    await until(is_asked)
    answer = await world.service.cancel(job_id)
    assert answer.job["stage"] == "submitting"
    await world.reaches(job_id, "canceled")
    (attempt,) = await world.attempts(job_id)
    assert attempt["task_id"] is not None
    assert attempt["state"] == {"fal": "canceled", "kie": "abandoned"}[what]
    assert (await world.wallet()).available == CREDITS
    await books_balance(world)


async def test_a_job_whose_answer_was_lost_is_canceled_at_once_and_still_watched(build: Build):
    world = await build(policy={"unknown_grace_s": 25.0})
    job_id = await world.submit("fal", {"submit": "lose_answer", "webhook": "late", "late_s": 2.0, "latency_s": 0.2})
    await world.reaches(job_id, "unknown")
    assert (await world.service.cancel(job_id)).job["stage"] == "canceled"

    async def task_is_named() -> bool:
        return (await world.attempts(job_id))[0]["task_id"] is not None

    await until(task_is_named)
    await world.nodes[0].watch_abandoned()
    assert (await world.attempts(job_id))[0]["state"] == "succeeded"
    assert (await world.job(job_id))["stage"] == "canceled"
    await books_balance(world)


async def test_a_result_that_is_being_stored_is_not_thrown_away(build: Build):
    world = await build()
    job_id = await world.submit("fal", {"result": "slow", "slow_s": 3.0})
    await world.reaches(job_id, "storing")
    with pytest.raises(JobConflict):
        await world.service.cancel(job_id)
    await world.reaches(job_id, "completed")
    await books_balance(world)


async def test_ten_cancels_at_once_are_one(build: Build):
    world = await build()
    job_id = await world.submit("fal", SLOW)
    await world.reaches(job_id, "submitted", "running")
    answers = await asyncio.gather(*(world.service.cancel(job_id) for _ in range(10)))
    assert {answer.job["id"] for answer in answers} == {job_id}
    await world.reaches(job_id, "canceled")
    assert (await world.steps(job_id)).count("cancel_requested") == 1
    await books_balance(world)
