"""A worker's signed word that it is done, with the result inside, needs no look: it is settled at once, and once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from jobs_promises import books_balance
from jobs_world import SIGNED_SECRET, Build, World, now, until
from PIL import Image

from safelight.db.pool import Row
from safelight.jobs.submission import Submission
from safelight.providers.model import Model, Price, Route
from safelight.providers.registry import Registry
from safelight.providers.signed import secret_bytes


def png() -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(made, "PNG")
    return made.getvalue()


MODEL = Model(
    id="own/signed",
    name="Signed",
    kind="image",
    description="A worker of our own.",
    routes=(Route(provider="signed", endpoint="own"),),
    price=Price(unit="picture", amount=500),
    fields=(),
    max_outputs=4,
)

PICTURE = png()


@pytest.fixture
async def world(build: Build) -> World:
    return await build(registry=Registry([MODEL]), learnt_s=None)


async def submitted(world: World, **given: Any) -> UUID:
    """A job in the worker's hands."""
    wanted = Submission(model=MODEL.id, input={}, **given)
    job_id = await world.submit(wanted)
    await world.reaches(job_id, "submitted", "running")
    return job_id


async def report(world: World, job_id: UUID, *, outputs: int = 1, message: str | None = None) -> int:
    """The worker says that it is done; answers with our status. Another `message` is another webhook."""
    attempt = (await world.attempts(job_id))[-1]["id"]
    stored: list[dict[str, Any]] = []
    for index in range(outputs):
        key = f"own/{job_id}-{index}.png"
        await world.store.put_bytes(key, PICTURE, "image/png")
        stored.append({"key": key, "mime": "image/png", "bytes": len(PICTURE), "width": 64, "height": 64})
    word = {"task_id": str(attempt), "status": "succeeded", "outputs": [{"stored": each} for each in stored]}
    body = json.dumps(word).encode()
    identity, at = message or f"msg_{attempt}", str(int(now().timestamp()))
    proof = hmac.digest(secret_bytes(SIGNED_SECRET), f"{identity}.{at}.".encode() + body, hashlib.sha256)
    return await say(world, attempt, identity, at, proof, body)


async def say(world: World, attempt: UUID, identity: str, at: str, proof: bytes, body: bytes) -> int:
    headers = {
        "webhook-id": identity,
        "webhook-timestamp": at,
        "webhook-signature": "v1," + base64.b64encode(proof).decode(),
    }
    async with httpx.AsyncClient(trust_env=False) as client:
        url = world.hooks_url + world.hook_paths[attempt]
        return (await client.post(url, content=body, headers=headers)).status_code


async def heard(world: World, job_id: UUID, count: int) -> list[Row]:
    """This many webhooks of the job, all acted on."""

    async def look() -> list[Row]:
        rows = await world.rows("select * from inbox where job_id = $1 order by id", job_id)
        return rows if len(rows) == count and all(row["processed_at"] for row in rows) else []

    return await until(look, "the webhooks to be acted on")


async def test_a_signed_result_completes_the_job_and_is_charged_once(world: World):
    job_id = await submitted(world, n=2)
    before = await world.wallet()
    assert await report(world, job_id, outputs=2) == 200
    job = await world.reaches(job_id, "completed")
    (event,) = await heard(world, job_id, 1)
    assert event["outcome"] == "settled"
    assert (job["charged"], len(job["generations"])) == (1000, 2)
    after = await world.wallet()
    assert (after.held, after.available) == (before.held - 1000, before.available)
    steps = await world.steps(job_id)
    assert steps[-2:] == ["webhook", "committed"]
    await books_balance(world)


async def test_the_same_word_twice_and_another_like_it_change_nothing_more(world: World):
    job_id = await submitted(world)
    assert await report(world, job_id) == 200
    job = await world.reaches(job_id, "completed")
    assert await report(world, job_id) == 200
    assert await report(world, job_id, outputs=3, message="msg_again") == 200
    events = await heard(world, job_id, 2)
    assert [event["outcome"] for event in events] == ["settled", "late"]
    assert await world.job(job_id) == job
    await books_balance(world)


async def test_two_words_about_one_job_in_one_batch_are_one_result(world: World):
    """The second must see what the first did."""
    job_id = await submitted(world)
    (node,) = world.nodes
    await node.stop()
    for message in ("msg_one", "msg_two"):
        assert await report(world, job_id, message=message) == 200
    await world.start_node()
    job = await world.reaches(job_id, "completed")
    assert {event["outcome"] for event in await heard(world, job_id, 2)} <= {"settled", "late"}
    assert (job["charged"], len(job["generations"])) == (500, 1)
    await books_balance(world)


async def test_a_signed_result_with_a_target_is_placed_there_in_the_same_moment(world: World):
    async with world.db.connection() as conn:
        shot = await conn.fetchval(
            "insert into shots (project_id, name, position) values ($1, 'A shot', 'a1') returning id", world.project
        )
    job_id = await submitted(world, target={"shot_id": str(shot)})
    assert await report(world, job_id) == 200
    job = await world.reaches(job_id, "completed")
    placed = await world.rows("select generation_id from shot_generations where shot_id = $1", shot)
    assert [row["generation_id"] for row in placed] == list(job["generations"])
    (event,) = await heard(world, job_id, 1)
    assert event["outcome"] == "settled"
    await books_balance(world)


async def test_a_signed_result_of_a_canceled_job_is_late_and_free(world: World):
    job_id = await submitted(world)
    await world.service.cancel(job_id)
    await world.reaches(job_id, "canceled")
    assert await report(world, job_id) == 200
    (event,) = await heard(world, job_id, 1)
    assert event["outcome"] == "late"
    assert (await world.job(job_id))["charged"] is None
    await books_balance(world)


async def test_a_word_nobody_could_act_on_is_found_in_the_inbox_by_the_next_worker(world: World):
    job_id = await submitted(world)
    (node,) = world.nodes
    await node.die()
    assert await report(world, job_id) == 200
    await world.start_node()
    await world.reaches(job_id, "completed")
    await books_balance(world)


async def test_a_word_that_cannot_be_acted_on_is_set_aside_and_keeps_no_other_waiting(world: World):
    bad, good = await submitted(world), await submitted(world)
    (node,) = world.nodes
    await node.stop()
    for job_id in (bad, good):
        assert await report(world, job_id) == 200
    async with world.db.connection() as conn:
        await conn.execute(
            f"""
            create function refuse() returns trigger language plpgsql as $$
            begin raise exception 'not this one'; end $$;
            create trigger refuse before insert on generations for each row
                when (new.job_id = '{bad}') execute function refuse()
            """
        )
    await world.start_node()
    await world.reaches(good, "completed")
    (set_aside,) = await heard(world, bad, 1)
    assert set_aside["outcome"].startswith("failed: RaiseError('not this one')")
    # Whoever reports it again, once that is mended, gets it through.
    async with world.db.connection() as conn:
        await conn.execute("drop trigger refuse on generations")
    assert await report(world, bad, message="msg_again") == 200
    await world.reaches(bad, "completed")
    await books_balance(world)


async def test_a_forged_signature_is_refused_and_the_job_goes_on(world: World):
    job_id = await submitted(world)
    attempt = (await world.attempts(job_id))[-1]["id"]
    assert await say(world, attempt, str(uuid4()), str(int(now().timestamp())), bytes(32), b"{}") == 401
    assert await world.rows("select 1 from inbox where job_id = $1", job_id) == []
    assert await report(world, job_id) == 200
    await world.reaches(job_id, "completed")
    await books_balance(world)
