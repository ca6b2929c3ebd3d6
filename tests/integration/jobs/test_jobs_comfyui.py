"""A ComfyUI at home under the real engine: one result for each job.

What each fault leads to is in the fault matrix (`test_jobs_fault_matrix.py`).
"""

from __future__ import annotations

import asyncio

import httpx
from jobs_world import Build, World, until

from safelight.credits import audit


async def books_balance(world: World) -> None:
    async with world.db.connection() as conn:
        assert await audit.audit(conn) == []


async def test_jobs_are_drawn_and_stored_whatever_the_socket_says(build: Build):
    world = await build(policy={"unknown_grace_s": 3600.0})
    faults = [None, {"submit": "garbage"}, {"webhook": "lost"}, {"webhook": "double"}]
    jobs = await asyncio.gather(*(world.submit("comfyui", each) for each in faults), world.submit("comfyui clip"))
    *pictures, clip = ended = await world.ends(*jobs)
    assert [job["stage"] for job in ended] == ["completed"] * len(ended)
    for job in ended:
        assert list((await world.accepted(job["id"])).values()) == [1]
    (row,) = await world.rows("select * from generations where job_id = $1", pictures[0]["id"])
    assert await world.store.exists(row["files"]["original"])
    (film,) = await world.rows("select * from generations where job_id = $1", clip["id"])
    assert film["kind"] == "video"
    await books_balance(world)


async def test_several_results_of_one_job_are_several_tiles(build: Build):
    world = await build()
    job = await world.reaches(await world.submit("comfyui", n=3), "completed")
    rows = await world.rows("select output_index from generations where job_id = $1", job["id"])
    assert sorted(row["output_index"] for row in rows) == [0, 1, 2]
    assert list((await world.accepted(job["id"])).values()) == [1]


async def test_what_was_never_queued_is_never_drawn_and_costs_nothing(build: Build):
    world = await build()
    job_id = await world.submit("comfyui", {"submit": "lose_request"})
    (job,) = await world.ends(job_id)
    assert (job["stage"], job["error"]["code"]) == ("failed", "submit_unknown")
    assert not await world.accepted(job_id)
    assert (await world.wallet()).held == 0
    await books_balance(world)


async def test_a_node_that_runs_out_of_memory_is_tried_again_and_one_that_is_wrong_is_not(build: Build):
    world = await build()
    memory, wrong = await world.ends(
        *await asyncio.gather(
            world.submit("comfyui", {"fail": "transient", "fail_times": 1}), world.submit("comfyui", {"fail": "odd"})
        )
    )
    assert memory["stage"] == "completed"
    assert sum((await world.accepted(memory["id"])).values()) == 2
    assert wrong["error"]["code"] == "provider_failed"
    assert sum((await world.accepted(wrong["id"])).values()) == 1
    await books_balance(world)


async def test_a_cancel_takes_it_out_of_the_queue_interrupts_it_or_comes_too_late(build: Build):
    world = await build()
    waiting, drawn, late = await asyncio.gather(
        world.submit("comfyui", {"latency_s": 300.0, "queue_s": 300.0}),
        world.submit("comfyui", {"latency_s": 300.0, "queue_s": 0.0}),
        world.submit("comfyui", {"cancel": "too_late", "latency_s": 300.0, "queue_s": 0.0}),
    )
    await world.reaches(waiting, "submitted")
    await world.reaches(drawn, "running")
    await world.reaches(late, "running")
    for job_id in (waiting, drawn, late):
        await world.service.cancel(job_id)
    first, second, third = await world.ends(waiting, drawn, late)
    assert [first["stage"], second["stage"]] == ["canceled", "canceled"]
    assert third["stage"] in ("canceled", "completed")
    await books_balance(world)


async def test_progress_is_the_samplers_steps(build: Build):
    world = await build()
    job_id = await world.submit("comfyui", {"latency_s": 100.0, "queue_s": 0.1})

    async def steps() -> list[float]:
        said = [each for each in world.published if each["job_id"] == str(job_id)]
        counted = [each for each in said if (each["message"] or "").startswith("Sampler ")]
        return [each["percent"] for each in counted if each["percent"]]

    percents = await until(steps, "a percent")
    assert percents == sorted(percents)
    assert all(0 < each <= 100 for each in percents)
    await world.service.cancel(job_id)
    assert (await world.ends(job_id))[0]["stage"] == "canceled"


async def test_a_prompt_that_a_restarted_server_forgot_is_told_as_lost(build: Build):
    world = await build()
    (job,) = await world.ends(await world.submit("comfyui", {"result": "gone"}))
    assert (job["stage"], job["error"]["code"], job["error"]["retryable"]) == ("failed", "task_lost", True)
    await books_balance(world)


async def test_a_worker_that_dies_while_sending_leaves_one_prompt(build: Build):
    world = await build(workers=0, policy={"unknown_grace_s": 3600.0})
    node = await world.start_node()
    job_id = await world.submit("comfyui", {"submit": "slow", "slow_s": 3.0})

    async def queued() -> bool:
        async with httpx.AsyncClient(trust_env=False) as client:
            listed = (await client.get(f"{world.emulators.comfyui_url}/_emulator/requests")).json()
        ours = {str(row["id"]) for row in await world.attempts(job_id)}
        return any(each["attempt"] in ours for each in listed)

    async with asyncio.timeout(30):
        while not await queued():
            await asyncio.sleep(0.02)
    await node.die()
    await world.start_node()
    await world.reaches(job_id, "completed")
    assert list((await world.accepted(job_id)).values()) == [1]
    await books_balance(world)
