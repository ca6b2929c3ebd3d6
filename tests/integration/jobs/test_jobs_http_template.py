"""Runway and Luma, described in files and emulated: from a submitted job to a stored result, by the real engine.

What each fault leads to is in the fault matrix (`test_jobs_fault_matrix.py`).
"""

from __future__ import annotations

import asyncio

import httpx
import pytest
from jobs_world import Build, World, until

from safelight.credits import audit

both = pytest.mark.parametrize("what", ["runway", "luma"])


async def taken(world: World, job: dict) -> int:
    """How many tasks the provider took for this job: what it would bill. By the prompt, which is the job's own."""
    async with httpx.AsyncClient(trust_env=False) as client:
        listed = (await client.get(f"{world.emulators.base_url}/_emulator/requests")).json()
    return sum(each["input"].get("prompt") == job["input"]["prompt"] for each in listed)


async def books_balance(world: World) -> None:
    async with world.db.connection() as conn:
        assert await audit.audit(conn) == []


@both
async def test_a_job_is_sent_once_and_its_picture_stored(build: Build, what: str):
    world = await build()
    job = await world.reaches(await world.submit(what), "completed")

    (row,) = await world.rows("select * from generations where job_id = $1", job["id"])
    assert row["mime"] == "image/png"
    assert row["width"] >= 64
    assert await world.store.exists(row["files"]["original"])
    assert await taken(world, job) == 1
    await books_balance(world)


async def test_a_provider_with_webhooks_is_heard_and_one_without_is_asked(build: Build):
    world = await build()
    heard, asked = await asyncio.gather(world.submit("luma"), world.submit("runway"))
    await world.ends(heard, asked)
    assert "webhook" in " ".join(await world.steps(heard))
    assert "webhook" not in " ".join(await world.steps(asked))


async def test_a_lost_answer_is_found_in_the_list_of_the_provider(build: Build):
    world = await build(policy={"unknown_grace_s": 3600.0})
    # Its webhook is lost as well: only the list knows it.
    (found,) = await world.ends(await world.submit("luma", {"submit": "lose_answer", "webhook": "lost"}))
    assert found["stage"] == "completed"
    assert await taken(world, found) == 1
    await books_balance(world)


async def test_a_lost_answer_that_nobody_can_tell_about_is_never_sent_again(build: Build):
    world = await build()
    (lost,) = await world.ends(await world.submit("runway", {"submit": "lose_answer"}))
    assert (lost["stage"], lost["error"]["code"]) == ("failed", "submit_unknown")
    assert await taken(world, lost) == 1
    await books_balance(world)


async def test_refused_content_is_told_apart_from_a_failure_that_another_try_may_cure(build: Build):
    world = await build()
    refused, cured = await asyncio.gather(
        world.submit("runway", {"fail": "content_policy"}),
        world.submit("runway", {"fail": "transient", "fail_times": 1}),
    )
    refused_job, cured_job = await world.ends(refused, cured)
    assert refused_job["error"]["code"] == "content_policy"
    assert await taken(world, refused_job) == 1
    assert cured_job["stage"] == "completed"
    assert await taken(world, cured_job) == 2
    await books_balance(world)


async def test_a_cancel_stops_the_task(build: Build):
    world = await build()
    job_id = await world.submit("runway", {"latency_s": 300.0})
    await world.reaches(job_id, "submitted", "running")
    await world.service.cancel(job_id)
    (job,) = await world.ends(job_id)
    assert job["stage"] == "canceled"
    assert "cancel_sent" in await world.steps(job_id)
    await books_balance(world)


async def test_progress_is_what_the_provider_says(build: Build):
    world = await build()
    job_id = await world.submit("runway", {"latency_s": 100.0, "queue_s": 0.1})

    async def percents() -> list[float]:
        return [said["percent"] for said in world.published if said["percent"]]

    seen = await until(percents, "a percent")
    assert seen == sorted(seen)
    assert all(0 < each <= 100 for each in seen)
    await world.service.cancel(job_id)
    assert (await world.ends(job_id))[0]["stage"] == "canceled"
