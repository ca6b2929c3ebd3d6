"""Several processes on one database (O2): what one takes in, another works on, and both tell."""

from __future__ import annotations

import asyncio
import json

import httpx
from api_world import Build, World, fal, ok, small, until


async def split(build: Build) -> tuple[World, World]:
    """An api process, and a worker process that nobody can ask anything."""
    api = await build(roles=("api", "realtime"))
    worker = await build(roles=("worker",), bare=True, public_url=api.url)
    return api, worker


async def test_a_job_taken_in_by_one_process_is_made_by_another_and_both_hear_of_it(build: Build) -> None:
    api, worker = await split(build)
    async with api.events(f"{api.p}/changes/stream") as events:
        await events.next("head")
        jobs = [await api.submit(small()), await api.submit(fal())]
        left = {job["id"] for job in jobs}
        while left:
            change = json.loads((await events.next("change")).data)
            if change["table"] == "jobs" and change["row"]["status"] == "completed":
                left.discard(change["id"])
    for job in jobs:
        steps = {step["step"] for step in ok(await api.api.get(f"/v1/jobs/{job['id']}/trace"))["steps"]}
        assert "committed" in steps
    assert worker.system.providers.keys() == api.system.providers.keys()


async def test_without_a_worker_a_job_waits_and_is_not_lost(build: Build) -> None:
    api = await build(roles=("api", "realtime"))
    job = await api.submit(small())
    waiting = asyncio.create_task(api.api.get(f"{api.p}/changes", params={"after": await api.head(), "wait": 0.3}))
    assert ok(await waiting)["changes"] == []
    assert (await api.job(job["id"]))["status"] == "pending"
    await build(roles=("worker",), bare=True, public_url=api.url)
    assert (await api.reaches(job["id"], "completed"))["attempt"] == 1


async def test_progress_of_one_process_reaches_the_followers_of_another(build: Build) -> None:
    api, _ = await split(build)
    async with api.events(f"{api.p}/changes/stream") as events:
        await events.next("head")
        job = await api.submit(small() | {"model": "local/drift", "input": {"prompt": "a fox", "duration": 1}})
        progress = json.loads((await events.next("progress")).data)
        assert progress["job_id"] == job["id"]
    await api.ends(job["id"])


async def test_two_doors_are_one_house(build: Build) -> None:
    """Written through one server, read through the other: keys, people, projects and changes are the same."""
    left = await build()
    right = await build(bare=True)
    right.project, right.api = left.project, right.client(left.api.headers["authorization"].split()[1])
    async with right.events(f"{right.p}/changes/stream") as events:
        await events.next("head")
        shot = ok(await left.api.post(f"{left.p}/shots", json={"name": "One"}), 201)
        assert json.loads((await events.next("change")).data)["row"] == shot
    job = await left.submit(small())
    done = await right.reaches(job["id"], "completed")
    assert done == await left.job(job["id"])
    [made] = done["generations"]
    url = ok(await right.api.get(f"/v1/generations/{made}"))["urls"]["original"]
    async with httpx.AsyncClient(base_url=left.url, trust_env=False) as nobody:
        assert (await nobody.get(url)).status_code == 200, "signed by one, served by the other"
    person = right.client(left.token("ada"))
    ok(await left.admin.put(f"{left.p}/members/ada", json={"role": "viewer"}), 204)

    async def is_in() -> bool:
        return (await person.get(right.p)).status_code == 200

    await until(is_in, "the other process to know the member")


async def test_fifty_jobs_through_two_doors_are_made_once_each(build: Build) -> None:
    left = await build()
    right = await build(bare=True)
    right.project, right.api = left.project, right.client(left.api.headers["authorization"].split()[1])
    bodies = [fal({"webhook": "double"}) for _ in range(25)] + [small() for _ in range(5)]
    jobs = await asyncio.gather(*((left, right)[i % 2].submit(body) for i, body in enumerate(bodies)))
    done = await asyncio.gather(*(left.reaches(job["id"], "completed") for job in jobs))
    items, _ = await left.everything(f"{left.p}/generations")
    assert sorted(item["job_id"] for item in items) == sorted(job["id"] for job in done)
    wallet = await left.wallet()
    assert wallet["held"] == 0
    assert wallet["balance"] == 1_000_000 - sum(job["credits"]["charged"] for job in done)
    prompts = [body["input"]["prompt"] for body in bodies[:25]]
    asked = [each["input"]["prompt"] for each in await left.asked_of_provider()]
    assert all(asked.count(prompt) == 1 for prompt in prompts), "each asked for once"
