"""A provider is asked at most once per attempt, whatever becomes of its answer (P8, J6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from jobs_promises import books_balance
from jobs_world import CREDITS, DEADLINE_S, Build, until

from safelight.providers.base import Accepted

OUTAGE_S = 2.0
"""How long the database stays away after the provider has answered."""

both = pytest.mark.parametrize("what", ["fal", "kie"])


@both
@pytest.mark.parametrize("fault", ["lose_answer", "garbage", "500_accepted"])
async def test_a_lost_answer_is_repaired_by_the_webhook(build: Build, what: str, fault: str):
    world = await build(policy={"unknown_grace_s": 25.0})
    job_id = await world.submit(what, {"submit": fault, "latency_s": 1.0})
    await world.reaches(job_id, "unknown")
    assert (await world.job(job_id))["status"] == "processing"
    await world.reaches(job_id, "completed")
    assert list((await world.accepted(job_id)).values()) == [1]
    assert [row["state"] for row in await world.attempts(job_id)] == ["succeeded"]
    assert "answer_lost" in await world.steps(job_id)
    await books_balance(world)


@both
async def test_an_answer_that_never_comes_is_repaired_by_the_webhook(build: Build, what: str):
    world = await build(policy={"submit_timeout_s": 1.0, "unknown_grace_s": 25.0})
    job_id = await world.submit(what, {"submit": "hang", "latency_s": 2.0})
    await world.reaches(job_id, "unknown")
    await world.reaches(job_id, "completed")
    await books_balance(world)


@both
async def test_an_answer_that_comes_after_the_webhook_is_the_same_task(build: Build, what: str):
    world = await build()
    job_id = await world.submit(what, {"submit": "slow", "slow_s": 1.5, "latency_s": 0.2})
    await world.reaches(job_id, "completed")
    assert list((await world.accepted(job_id)).values()) == [1]
    await books_balance(world)


@both
@pytest.mark.parametrize(("fault", "taken"), [("lose_answer", 1), ("lose_request", 0)])
async def test_a_lost_answer_without_any_word_fails_after_the_grace_time(
    build: Build, what: str, fault: str, taken: int
):
    world = await build(policy={"unknown_grace_s": 1.5})
    job_id = await world.submit(what, {"submit": fault, "webhook": "lost"})
    await world.reaches(job_id, "unknown")
    job = await world.reaches(job_id, "failed")
    assert job["error"]["code"] == "submit_unknown"
    assert job["error"]["retryable"] is True
    assert (await world.wallet()).available == CREDITS
    assert sum((await world.accepted(job_id)).values()) == taken
    assert [row["state"] for row in await world.attempts(job_id)] == ["abandoned"]
    await books_balance(world)


async def test_an_operator_may_choose_to_ask_again_after_a_lost_answer(build: Build):
    world = await build(policy={"unknown_grace_s": 1.0, "unknown_then": "resubmit"})
    await world.fault_all(submit="lose_request")
    job_id = await world.submit("fal")

    async def is_asked_again() -> bool:
        return [row["state"] for row in await world.attempts(job_id)][1:] == ["unknown"]

    await until(is_asked_again)
    await world.fault_all()
    job = await world.reaches(job_id, "completed")
    assert job["attempt"] == 3
    # What was lost may yet turn up, with its cost: it is watched, not written off.
    assert [row["state"] for row in await world.attempts(job_id)] == ["abandoned", "abandoned", "succeeded"]
    assert sum((await world.accepted(job_id)).values()) == 1
    await books_balance(world)


async def test_a_task_of_a_lost_answer_that_turns_up_beside_its_successor_is_recorded_and_not_shown(build: Build):
    world = await build(policy={"unknown_grace_s": 1.0, "unknown_then": "resubmit"})
    job_id = await world.submit("fal", {"submit": "lose_answer", "webhook": "late", "late_s": 6.0, "latency_s": 0.2})
    await world.reaches(job_id, "submitted", "running", "unknown")

    async def second() -> bool:
        return (await world.job(job_id))["attempt"] == 2

    await until(second)
    await world.ends(job_id)
    for row in await world.attempts(job_id):
        assert (await world.accepted(job_id))[str(row["id"])] == 1

    async def first_is_named() -> bool:
        return (await world.attempts(job_id))[0]["task_id"] is not None

    await until(first_is_named)
    await world.nodes[0].watch_abandoned()
    first, *_ = await world.attempts(job_id)
    assert first["state"] == "succeeded"
    assert first["cost"]
    assert len(await world.rows("select * from generations where job_id = $1", job_id)) <= 1
    await books_balance(world)


async def test_a_refused_submit_is_sent_again_as_the_same_attempt(build: Build):
    world = await build()
    await world.fault_all(submit="429", retry_after_s=0.2)
    job_id = await world.submit("fal")

    async def was_refused_twice() -> bool:
        return (await world.steps(job_id)).count("refused") >= 2

    await until(was_refused_twice)
    await world.fault_all()
    job = await world.reaches(job_id, "completed")
    assert job["attempt"] == 1
    assert job["tries"] == 1
    assert list((await world.accepted(job_id)).values()) == [1]
    await books_balance(world)


@both
async def test_a_rejected_submit_ends_the_job_with_the_providers_words(build: Build, what: str):
    world = await build()
    job_id = await world.submit(what, {"submit": "422"})
    job = await world.reaches(job_id, "failed")
    assert job["error"]["code"] == "invalid_input"
    assert job["error"]["retryable"] is False
    assert job["error"]["provider"]["name"] == what
    assert (await world.wallet()).available == CREDITS
    await books_balance(world)


@both
async def test_a_problem_of_our_account_ends_the_job_and_holds_the_others_back(build: Build, what: str):
    world = await build(policy={"account_pause_s": 2.0})
    job_id = await world.submit(what, {"submit": "402"})
    job = await world.reaches(job_id, "failed")
    assert job["error"]["code"] == "provider_balance"
    assert job["error"]["retryable"] is True
    other_id = await world.submit(what)

    async def held_back() -> bool:
        return await world.value("select blocked = 'paused' from job_work where job_id = $1", other_id)

    await until(held_back)
    assert (await world.job(other_id))["stage"] == "queued"
    await world.reaches(other_id, "completed")
    await books_balance(world)


async def test_an_answer_that_arrives_while_the_database_is_away_is_not_lost(build: Build):
    """Without webhooks nobody else would ever name the task."""
    world = await build(webhooks=False)
    answered = asyncio.Event()
    fal = world.nodes[0].providers["fal"]
    submit = fal.submit

    async def submit_and_tell(*args: Any) -> Accepted:
        accepted = await submit(*args)
        answered.set()
        return accepted

    fal.submit = submit_and_tell
    job_id = await world.submit("fal", {"submit": "slow", "slow_s": 1.5, "latency_s": 0.2})

    async def is_asked() -> bool:
        return bool(await world.accepted(job_id))

    await until(is_asked)
    async with database_away(world.db.dsn):
        async with asyncio.timeout(DEADLINE_S):
            await answered.wait()
        await asyncio.sleep(OUTAGE_S)
    await world.reaches(job_id, "completed")
    assert list((await world.accepted(job_id)).values()) == [1]
    assert [row["state"] for row in await world.attempts(job_id)] == ["succeeded"]
    await books_balance(world)


@asynccontextmanager
async def database_away(dsn: str) -> AsyncIterator[None]:
    """Nobody is connected to this database, and nobody can be."""
    name = urlsplit(dsn).path[1:]
    server = await asyncpg.connect(urlunsplit(urlsplit(dsn)._replace(path="/postgres")))
    try:
        await server.execute(f'alter database "{name}" allow_connections false')
        await server.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name)
        yield
    finally:
        await server.execute(f'alter database "{name}" allow_connections true')
        await server.close()
