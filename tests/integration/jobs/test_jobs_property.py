"""Random interleavings of everything at once; afterwards all promises hold (C1, J4, P8)."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from jobs_promises import books_balance
from jobs_world import Build, World, submission

from safelight.credits.ledger import InsufficientCredits
from safelight.jobs.errors import JobError
from safelight.jobs.insist import AWAY
from safelight.providers.factory import Limits

JOBS = 30
WEBHOOKS = [None] * 5 + ["lost", "late", "double", "forged", "stale", "before_answer", "reordered"]
SUBMITS = [None] * 8 + ["lose_answer", "lose_request", "slow", "garbage", "500_accepted", "422"]
RESULTS = [None] * 8 + ["expired", "truncated", "slow", "redirect", "forbidden"]
FAILURES = [None] * 6 + ["transient", "content_policy"]


def faults_of(random: Random) -> dict[str, Any]:
    drawn = {
        "webhook": random.choice(WEBHOOKS),
        "submit": random.choice(SUBMITS),
        "result": random.choice(RESULTS),
        "fail": random.choice(FAILURES),
    }
    return {
        **{name: value for name, value in drawn.items() if value is not None},
        "fail_times": 1,
        "latency_s": random.choice([0.05, 0.3, 1.0]),
        "late_s": random.uniform(0.3, 3.0),
        "slow_s": random.uniform(0.2, 1.0),
        "cancel": random.choice([None, "ignored", "too_late", "late"]),
    }


async def act(world: World, random: Random, jobs: list[UUID]) -> None:
    """One thing that somebody does."""
    match random.choice(["submit"] * 4 + ["twice", "cancel", "cancel", "retry", "retry", "read", "watch", "steal"]):
        case "submit" | "twice" as how if len(jobs) < JOBS:
            what = random.choice(["local", "fal", "fal", "kie", "kie"])
            wanted = submission(
                what,
                None if what == "local" else faults_of(random),
                n=random.choice([1, 1, 2]) if what != "kie" else 1,
                priority=random.randint(-3, 3),
                deadline_s=random.choice([2.0, 60.0, 60.0, 60.0]),
            )
            key = f"key {len(jobs)}"
            answers = await asyncio.gather(
                *(world.submitted(wanted, key=key) for _ in range(2 if how == "twice" else 1)), return_exceptions=True
            )
            for answer in answers:
                if isinstance(answer, BaseException):
                    assert isinstance(answer, InsufficientCredits), answer
                elif answer.job["id"] not in jobs:
                    jobs.append(answer.job["id"])
        case "cancel" if jobs:
            await politely(world.service.cancel(random.choice(jobs)))
        case "retry" if jobs:
            await politely(world.service.retry(random.choice(jobs)))
        case "read" if jobs:
            job = await world.job(random.choice(jobs))
            await world.service.refresh(job["id"], job["stage"])
        case "watch" if world.nodes:
            # Its worker may die under it.
            with contextlib.suppress(*AWAY, asyncpg.InternalClientError):
                await random.choice(world.nodes).watch_abandoned()
        case "steal":
            await world.rows("update job_work set lease_by = null, lease_until = null where random() < 0.3 returning 1")
        case _:
            pass


async def politely(asked: Any) -> None:
    """What is refused in words is fine; what breaks is not."""
    with contextlib.suppress(JobError, InsufficientCredits):
        await asked


async def worker_life(world: World, random: Random) -> None:
    """Workers come and go."""
    while True:
        node = await world.start_node()
        await asyncio.sleep(random.uniform(0.3, 2.5))
        await (node.die() if random.random() < 0.7 else node.stop())


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_in_whatever_order_the_promises_hold(build: Build, seed: int):
    random = Random(seed)
    world = await build(
        workers=0,
        policy={"lease_s": 1.0, "unknown_grace_s": 2.0, "store_tries_max": 2, "cancel_grace_s": 1.0},
        limits={"fal": Limits(concurrency=4), "kie": Limits(concurrency=4, rate_per_s=20.0)},
    )
    price = await world.service.quote(world.project, submission("kie"))
    world.project = await world.new_project(credits=price * 20)  # not enough for all of them at once
    jobs: list[UUID] = []
    lives = asyncio.create_task(worker_life(world, Random(seed + 1)))
    for _ in range(90):
        await act(world, random, jobs)
        await asyncio.sleep(random.choice([0.0, 0.0, 0.05, 0.2]))
    lives.cancel()
    await asyncio.wait([lives])
    for node in list(world.nodes):
        await node.die()

    await world.start_node()
    ended = await world.ends(*jobs)
    assert len(ended) >= 10
    assert {"completed"} < {job["stage"] for job in ended}
    for job in ended:
        assert job["stage"] in ("completed", "canceled") or job["error"]["message"]
        # Also whoever was charged nothing may have been billed for: but at most once per attempt.
        assert sum((await world.accepted(job["id"])).values()) <= job["attempt"]
    await books_balance(world)
