"""The outage drill (P6): the first choice of many jobs is out of service, and then well again.

500 jobs; `SAFELIGHT_DRILL_JOBS` makes it as large as one likes.
"""

from __future__ import annotations

import asyncio
import os
import time

from jobs_promises import books_balance
from jobs_world import Build, World, until
from test_jobs_failover import DOWN, fault, fox, offering, wanted

from safelight.jobs.breaker import Rule
from safelight.jobs.worker import PARALLEL_MAX
from safelight.providers.factory import Limits

JOBS = int(os.environ.get("SAFELIGHT_DRILL_JOBS", "500"))
BY_THE_OTHER = JOBS * 3 // 5
"""So many are through before the first choice is well again: in place of a time, which machines differ in."""
AFTERWARDS_MAX_S = 60.0


async def metric(world: World, provider: str) -> float:
    text = (await world.nodes[0].parts.metrics.render()).decode()
    name = f'safelight_breaker_state{{provider="{provider}"}}'
    line = next(line for line in text.splitlines() if line.startswith(name))
    return float(line.split()[-1])


async def test_in_an_outage_every_job_is_made_once_by_the_next_provider_and_the_first_is_taken_back(build: Build):
    rule = Rule(failures_max=5, cool_down_s=0.5, cool_down_max_s=1.0)
    places = Limits(concurrency=200, rate_per_s=0)
    world = await build(
        registry=offering(fox()),
        policy={"breaker": rule, "project_concurrency": 1000, "lease_s": 30.0},
        limits={"fal": places, "replicate": places},
        learnt_s=20.0,  # webhooks tell; hundreds of looks would only keep the emulator from its work
    )
    await fault(world, "fal", **DOWN)
    jobs = await asyncio.gather(*(world.submit(wanted()) for _ in range(JOBS)))

    async def through() -> bool:
        made = "select count(*) from attempts where provider = 'replicate' and state = 'succeeded'"
        return await world.value(made) >= BY_THE_OTHER

    async def is_open() -> bool:
        return await metric(world, "fal") == 2.0

    await until(is_open, "the breaker to open", 60.0)
    await until(through, "the other provider", 120.0)
    assert await world.value("select trips from provider_breakers where provider = 'fal'") >= 1
    await fault(world, "fal")

    # Somebody must come for it to be tried: new jobs do.
    afterwards, ends_at = [], time.monotonic() + AFTERWARDS_MAX_S
    while await metric(world, "fal") != 0.0:
        assert time.monotonic() < ends_at, "the breaker does not close"
        afterwards.append(await world.submit(wanted()))
        await asyncio.sleep(0.1)
    afterwards.append(last := await world.submit(wanted()))

    async def all_completed() -> bool:
        return await world.value("select count(*) from jobs where stage = 'completed'") == len(jobs) + len(afterwards)

    await until(all_completed, "all of them", 120.0)
    assert (await world.job(last))["provider"] == "fal", "the first choice again"
    assert await world.value("select state from provider_breakers where provider = 'fal'") == "closed"

    bought = await world.accepted()
    assert set(bought.values()) == {1}
    assert sum(bought.values()) == len(jobs) + len(afterwards), "each job was bought once"
    refused = await world.value("select count(*) from attempts where provider = 'fal' and state = 'refused'")
    assert refused < PARALLEL_MAX + 40, "those under way when it opened, and some probes; nobody else"
    await books_balance(world)
