"""Webhooks that are lost, late, doubled, forged, stale, reordered or early all end right (P4, P5)."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from jobs_promises import books_balance
from jobs_world import Build, World, now, until

from safelight.jobs.inbox import Received
from safelight.providers.base import WebhookRequest

both = pytest.mark.parametrize("what", ["fal", "kie"])


async def inbox(world: World, job_id: UUID) -> list[Any]:
    return await world.rows("select * from inbox where job_id = $1 order by id", job_id)


async def processed(world: World, job_id: UUID, count: int = 1) -> list[Any]:
    """Wait until so many webhooks of this job were acted on."""

    async def look() -> Any:
        rows = [row for row in await inbox(world, job_id) if row["processed_at"]]
        return rows if len(rows) >= count else None

    return await until(look, "the webhook to be processed")


@both
async def test_a_webhook_completes_the_job_without_waiting_for_a_look(build: Build, what: str):
    # Without a history the first look comes late: only the webhook can be this early.
    world = await build(learnt_s=None)
    job_id = await world.submit(what)
    await world.reaches(job_id, "completed")
    (event,) = await processed(world, job_id)
    assert event["outcome"] == "hint"
    assert "webhook" in await world.steps(job_id)
    await books_balance(world)


@both
async def test_a_lost_webhook_is_made_up_for_by_a_look(build: Build, what: str):
    world = await build()
    job_id = await world.submit(what, {"webhook": "lost"})
    await world.reaches(job_id, "completed")
    assert "webhook" not in await world.steps(job_id)
    await books_balance(world)


@both
async def test_providers_are_looked_at_where_no_webhook_can_reach_us(build: Build, what: str):
    world = await build(webhooks=False)
    await world.reaches(await world.submit(what), "completed")
    await books_balance(world)


@both
async def test_a_late_webhook_changes_nothing(build: Build, what: str):
    world = await build()
    job_id = await world.submit(what, {"webhook": "late", "late_s": 2.5})
    job = await world.reaches(job_id, "completed")
    before = await world.value("select head from project_heads where project_id = $1", world.project)
    (event,) = await processed(world, job_id)
    assert event["outcome"] == "late"
    assert await world.job(job_id) == job
    assert await world.value("select head from project_heads where project_id = $1", world.project) in (
        before,
        before + 1,  # larger thumbnails may have come meanwhile
    )
    await books_balance(world)


@both
async def test_a_doubled_webhook_is_one_event(build: Build, what: str):
    world = await build()
    job_id = await world.submit(what, {"webhook": "double"})
    await world.reaches(job_id, "completed")

    async def both_came() -> bool:
        return len(await world.deliveries(job_id)) >= 2

    await until(both_came)
    assert {each["status"] for each in await world.deliveries(job_id)} == {200}
    assert len(await processed(world, job_id)) == 1
    await books_balance(world)


@both
@pytest.mark.parametrize("fault", ["forged", "stale"])
async def test_a_webhook_that_proves_nothing_is_turned_away_and_stored_nowhere(build: Build, what: str, fault: str):
    world = await build()
    job_id = await world.submit(what, {"webhook": fault, "latency_s": 0.4})
    await world.reaches(job_id, "completed")  # found by looking

    async def answered() -> int:
        return world.hook_answers[401]

    assert await until(answered) == 1
    assert await inbox(world, job_id) == []
    assert "webhook" not in await world.steps(job_id)
    await books_balance(world)


@both
async def test_a_webhook_that_comes_before_our_submit_returns_still_completes_the_job(build: Build, what: str):
    world = await build(learnt_s=None)
    job_id = await world.submit(what, {"webhook": "before_answer"})
    await world.reaches(job_id, "completed")
    assert [row["state"] for row in await world.attempts(job_id)] == ["succeeded"]
    await books_balance(world)


async def test_webhooks_in_the_wrong_order_complete_both_jobs(build: Build):
    world = await build()
    first = await world.submit("fal", {"webhook": "reordered", "late_s": 5.0})
    second = await world.submit("fal", {"latency_s": 0.6})
    await world.reaches(first, "completed")
    await world.reaches(second, "completed")
    await books_balance(world)


async def test_a_webhook_whose_payload_could_not_be_sent_is_still_a_hint(build: Build):
    world = await build(learnt_s=None)
    job_id = await world.submit("fal", {"webhook": "payload_error"})
    await world.reaches(job_id, "completed")
    await books_balance(world)


async def test_a_replay_to_another_attempt_is_refused_without_its_token(build: Build):
    world = await build()
    job_id = await world.submit("kie")
    await world.reaches(job_id, "completed")
    other_id = await world.submit("kie", {"latency_s": 1.0})
    await world.reaches(other_id, "submitted", "running")
    (event,) = await processed(world, job_id)
    (other,) = await world.attempts(other_id)

    status = await world.receive("kie", str(other["id"]), "not its token", dict(event["headers"]), event["body"])
    assert status == 401
    assert await inbox(world, other_id) == []
    await world.reaches(other_id, "completed")
    await books_balance(world)


async def test_a_webhook_for_an_attempt_nobody_made_is_not_found(build: Build):
    world = await build()
    job_id = await world.submit("kie")
    await world.reaches(job_id, "completed")
    (event,) = await processed(world, job_id)
    assert await world.receive("kie", str(uuid4()), "token", dict(event["headers"]), event["body"]) == 404
    # The attempt is another provider's: its headers prove nothing there.
    assert await world.receive("fal", str(event["attempt_id"]), "token", dict(event["headers"]), event["body"]) == 401
    assert await world.receive("nobody", str(event["attempt_id"]), "token", {}, b"") == 404
    await books_balance(world)


async def test_webhooks_that_came_while_no_worker_lived_are_acted_on_by_the_next(build: Build):
    world = await build(learnt_s=None)
    job_id = await world.submit("fal", {"latency_s": 1.0})
    await world.reaches(job_id, "submitted", "running")
    await world.nodes[0].stop()

    await until(lambda: came(world, job_id))
    assert (await world.job(job_id))["stage"] in ("submitted", "running")
    await world.start_node()
    await world.reaches(job_id, "completed")
    await books_balance(world)


async def test_a_webhook_that_cannot_be_acted_on_is_set_aside_and_keeps_no_other_waiting(build: Build):
    world = await build(learnt_s=None)
    bad, good = [await world.submit("fal", {"latency_s": 1.0}) for _ in range(2)]
    for job_id in (bad, good):
        await world.reaches(job_id, "submitted", "running")
    await world.nodes[0].stop()
    await until(lambda: came(world, bad))
    await until(lambda: came(world, good))
    async with world.db.connection() as conn:
        await conn.execute(
            f"""
            create function refuse() returns trigger language plpgsql as $$
            begin raise exception 'not this one'; end $$;
            create trigger refuse before insert on job_trace for each row
                when (new.step = 'webhook' and new.job_id = '{bad}') execute function refuse()
            """
        )
    await world.start_node()
    for job_id in (bad, good):
        await world.reaches(job_id, "completed")  # a look at the provider finds what no webhook could tell
    ((set_aside,), (taken,)) = await processed(world, bad), await processed(world, good)
    assert set_aside["outcome"].startswith("failed: RaiseError('not this one')")
    assert taken["outcome"] in ("hint", "late")
    await books_balance(world)


async def came(world: World, job_id: UUID) -> bool:
    return bool(await inbox(world, job_id))


async def delivered(world: World, job_id: UUID) -> bool:
    return any(each["status"] is not None for each in await world.deliveries(job_id))


async def test_a_burst_of_webhooks_is_stored_and_answered(build: Build):
    world = await build(learnt_s=None)
    jobs = [await world.submit("kie", {"latency_s": 1.5}) for _ in range(20)]
    await asyncio.gather(*(world.reaches(job_id, "completed") for job_id in jobs))
    for job_id in jobs:
        # A look may have been faster than the webhook.
        await until(lambda job_id=job_id: delivered(world, job_id))
        assert {each["status"] for each in await world.deliveries(job_id)} == {200}
    await books_balance(world)


async def test_a_webhook_that_the_database_would_not_take_keeps_no_other_out(build: Build):
    world = await build()
    jobs = [await world.submit("kie", {"latency_s": 0.3}) for _ in range(4)]
    for job_id in jobs:
        await world.reaches(job_id, "completed")
    (event,) = await processed(world, jobs[0])
    await world.rows("delete from inbox returning 1")

    # Unsigned, as KIE's are until its account has a key: anybody may send this.
    world.intake._providers["kie"]._hmac_key = None  # type: ignore[attr-defined]
    evil = b'{"code":200,"data":{"taskId":"a\\u0000b"}}'
    half = b'{"code":200,"data":{"taskId":"a\\ud800b"}}'
    token = "a" * 32
    answers = await asyncio.gather(
        *(world.receive("kie", str(event["attempt_id"]), token, {}, body) for body in (evil, half, event["body"]))
    )
    assert answers == [401, 401, 401]
    assert await inbox(world, jobs[0]) == []
    # Past that check, in one batch with good ones: only the bad one is refused.
    broken, good = received(event, "a\0b"), received(event, "good")
    futures = [asyncio.get_running_loop().create_future() for _ in range(2)]
    await world.intake._store([(broken, futures[0]), (good, futures[1])])
    assert futures[0].exception() is not None
    assert futures[1].result() == "wrong_token"


def received(event: Any, key: str) -> Received:
    return Received("kie", event["attempt_id"], "t", key, None, None, WebhookRequest({}, event["body"], now()))
