"""Few places, few turns: who may be sent, and in which order (J6)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from jobs_promises import books_balance
from jobs_world import Build, World, until

from safelight.providers.factory import Limits

DRIFT = timedelta(milliseconds=100)
"""A turn is taken before it is traced."""


async def spans(world: World, provider: str | None = None) -> list[tuple[UUID, Any, Any]]:
    """(project, from being sent to being done) of every attempt that the provider worked on, as they were sent."""
    rows = await world.rows(
        """
        select j.project_id, s.at as sent_at, d.at as done_at
        from job_trace s join jobs j on j.id = s.job_id
        join job_trace d on d.job_id = s.job_id and d.attempt = s.attempt and d.step = 'provider_done'
        where s.step = 'sending' and ($1::text is null or j.provider = $1) order by s.at
        """,
        provider,
    )
    return [(row["project_id"], row["sent_at"], row["done_at"]) for row in rows]


def at_once(found: list[tuple[UUID, Any, Any]]) -> int:
    """The most that were at the provider at any moment."""
    return max(sum(sent <= moment < done for _, sent, done in found) for _, moment, _ in found)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_provider_is_never_given_more_than_it_has_places_for(build: Build, workers: int):
    world = await build(limits={"fal": Limits(concurrency=2)}, workers=workers)
    jobs = [await world.submit("fal", {"latency_s": 0.3}) for _ in range(7)]
    other = await world.submit("kie")
    for job_id in [*jobs, other]:
        await world.reaches(job_id, "completed")
    assert at_once(await spans(world, "fal")) == 2
    await books_balance(world)


async def test_waiting_jobs_are_sent_by_priority_and_then_by_age(build: Build):
    world = await build(limits={"fal": Limits(concurrency=1)})
    first = await world.submit("fal", {"latency_s": 3.0})
    await world.reaches(first, "submitted", "running")
    waiting = {
        await world.submit("fal", {"latency_s": 0.1}, priority=priority): priority for priority in (0, 5, -1, 9, 5, 0)
    }

    async def all_wait() -> bool:
        return await world.value("select count(*) from job_work where blocked = 'provider'") == len(waiting)

    await until(all_wait)
    assert {(await world.job(job_id))["stage"] for job_id in waiting} == {"queued"}
    for job_id in waiting:
        await world.reaches(job_id, "completed")
    sent = await world.rows("select job_id from attempts order by sent_at")
    expected = sorted(waiting, key=lambda job_id: -waiting[job_id])  # stable: age decides among equals
    assert [row["job_id"] for row in sent] == [first, *expected]
    await books_balance(world)


async def test_one_project_at_its_limit_does_not_hold_another_back(build: Build):
    world = await build(policy={"project_concurrency": 3})
    other = await world.new_project()
    async with world.db.connection() as conn:
        await conn.execute("insert into project_limits values ($1, 1)", world.project)
    greedy = [await world.submit("fal", {"latency_s": 0.5}) for _ in range(4)]
    modest = [await world.submitted("kie", {"latency_s": 0.5}, project=other) for _ in range(4)]
    for job_id in [*greedy, *(each.job["id"] for each in modest)]:
        await world.reaches(job_id, "completed")
    found = await spans(world)
    assert at_once([span for span in found if span[0] == world.project]) == 1
    assert at_once([span for span in found if span[0] == other]) in (2, 3)
    await books_balance(world)


async def test_a_provider_is_asked_no_faster_than_it_allows(build: Build):
    world = await build(limits={"kie": Limits(rate_per_s=4.0)})
    jobs = [await world.submit("kie", {"latency_s": 0.1}, priority=n) for n in range(12)]
    for job_id in jobs:
        await world.reaches(job_id, "completed")
    rows = await world.rows("select at from job_trace where step = 'sending' order by at")
    sent = [row["at"] for row in rows]
    assert len(sent) == 12
    # A burst of one second's worth (four), then one turn every quarter of a second.
    for earlier, later in zip(sent, sent[7:], strict=False):
        assert later - earlier > timedelta(seconds=(8 - 4) / 4) - DRIFT
    await books_balance(world)


async def test_a_canceled_job_leaves_the_line_and_the_next_moves_up(build: Build):
    world = await build(limits={"fal": Limits(concurrency=1)})
    first = await world.submit("fal", {"latency_s": 30.0})
    await world.reaches(first, "submitted", "running")
    second, third = [await world.submit("fal", {"latency_s": 0.1}) for _ in range(2)]

    async def both_wait() -> bool:
        return await world.value("select count(*) from job_work where blocked = 'provider'") == 2

    await until(both_wait)
    await world.service.cancel(second)
    await world.service.cancel(first)
    await world.reaches(third, "completed")
    assert await world.attempts(second) == []
    await world.reaches(first, "canceled")
    await books_balance(world)


async def test_a_crowd_far_larger_than_the_places_is_worked_off(build: Build):
    world = await build(limits={"local": Limits(concurrency=2)}, workers=2)
    jobs = await asyncio.gather(*(world.submit("local") for _ in range(40)))
    await asyncio.gather(*(world.reaches(job_id, "completed") for job_id in jobs))
    assert at_once(await spans(world)) <= 2
    await books_balance(world)
