"""What is told, to whom, and that it is written by whatever changes the job (J12)."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import pytest
from outgoing_world import Room, until

from safelight.outgoing import endpoint
from safelight.outgoing.errors import OutgoingError


async def told(room: Room) -> list[tuple[str, str]]:
    return [(each["type"], each["job_id"]) for each in await room.deliveries()]


async def test_a_completed_job_is_told_with_its_results_and_signed(room: Room):
    webhook, key = await room.webhook()
    room.sender()
    job = await room.job()
    await room.goes(job, "submitting", "running", "completed")
    room.wake()
    heard = {each.said["type"]: each for each in await room.receiver.hears(2)}
    assert set(heard) == {"job.processing", "job.completed"}
    said = heard["job.completed"].proven(key)
    assert said["data"]["job"]["id"] == str(job)
    assert said["data"]["job"]["status"] == "completed"
    assert said["data"]["job"]["input"] == {"prompt": "a red fox"}
    assert "request_hash" not in said["data"]["job"]
    (generation,) = said["data"]["generations"]
    assert generation["id"] == said["data"]["job"]["generations"][0]
    assert generation["urls"]["original"] == f"https://media.invalid/p/{job}.png?s=x"
    # What was under way is told as it was then, whenever it is sent.
    began = heard["job.processing"].proven(key)
    assert began["data"]["job"]["status"] == "processing"
    assert began["data"]["generations"] == []
    assert heard["job.completed"].headers["content-type"] == "application/json"
    assert heard["job.completed"].headers["user-agent"].startswith("Safelight/")
    log = await room.becomes("delivered", 2)
    assert {each["id"] for each in log} == {each.id for each in heard.values()}
    assert {each["webhook_id"] for each in log} == {str(webhook)}
    assert [each["status"] for each in log[0]["tries"]] == [200]
    assert log[0]["tries"][0]["response"] == "this is /ok"


async def test_every_other_end_is_told_too(room: Room):
    await room.webhook(events=["job.failed", "job.canceled"])
    ends = {"failed": "job.failed", "expired": "job.failed", "canceled": "job.canceled"}
    jobs = {stage: await room.job() for stage in ends}
    for stage, job in jobs.items():
        await room.goes(job, "submitting", stage)
    assert await told(room) == [(kind, str(jobs[stage])) for stage, kind in ends.items()]


async def test_an_endpoint_is_told_only_what_it_asked_for_and_only_of_its_project(room: Room):
    await room.webhook(events=["job.completed"])
    await room.webhook(events=["job.failed"])
    other = await room.new_project()
    await room.webhook(project=other)
    job = await room.completed()
    assert await told(room) == [("job.completed", str(job))]
    assert await room.value("select count(*) from webhook_deliveries where project_id = $1", other) == 0


async def test_who_is_told_nothing_costs_no_row(room: Room):
    job = await room.completed()
    assert await room.value("select count(*) from webhook_events") == 0
    await room.webhook(events=["job.canceled"])
    await room.completed()
    assert await room.value("select count(*) from webhook_events") == 0
    assert job


async def test_an_event_is_there_exactly_if_the_change_of_the_job_is(room: Room):
    await room.webhook()
    job = await room.job()
    await room.goes(job, "submitting")
    with pytest.raises(asyncpg.PostgresError):
        await room.db.run(lambda tx: tx.conn.execute(f"update jobs set stage = 'failed' where id = '{job}'"))
    assert [kind for kind, _ in await told(room)] == ["job.processing"]


async def test_one_event_for_each_change_of_the_status_and_none_for_others(room: Room):
    await room.webhook()
    job = await room.job()
    await room.goes(job, "submitting", "running", "queued", "submitting", "failed", "queued", "submitting", "canceled")
    await room.execute("update jobs set tags = array['x'] where id = $1", job)
    kinds = [kind for kind, _ in await told(room)]
    assert kinds == ["job.processing", "job.processing", "job.failed", "job.processing", "job.canceled"]


async def test_a_jobs_own_address_hears_how_it_ended_signed_with_the_projects_secret(room: Room):
    room.sender()
    job = await room.completed(webhook_url=f"{room.receiver.url}/own")
    room.wake()
    (heard,) = await room.receiver.hears(1)
    assert heard.path == "/own"
    assert heard.proven(await room.project_secret())["data"]["job"]["id"] == str(job)
    (log,) = await room.becomes("delivered")
    assert log["webhook_id"] is None
    assert log["url"] == f"{room.receiver.url}/own"


async def test_no_job_fails_for_what_somebody_wrote_into_its_address(room: Room):
    room.sender()
    wrong = ("", "fox", "//", "https://", "x" * 5000)
    for url in wrong:
        await room.completed(webhook_url=url)
    room.wake()
    log = await room.becomes("pending", len(wrong), tries=1)
    assert all(each["tries"][0]["error"].startswith("Not sent") for each in log)


async def test_many_jobs_that_end_in_one_statement_are_each_told(room: Room):
    await room.webhook(events=["job.canceled"])
    jobs = [await room.job() for _ in range(30)]
    await room.execute("update jobs set stage = 'canceled', completed_at = now() where id = any ($1)", jobs)
    assert sorted(job for _, job in await told(room)) == sorted(str(job) for job in jobs)


async def test_a_deleted_endpoint_holds_up_no_job(room: Room):
    """The event is written without waiting for the endpoint's row, whoever has it locked."""
    webhook, _ = await room.webhook()
    job = await room.job()
    async with room.db.connection() as conn, conn.transaction():
        await conn.execute("delete from webhook_endpoints where id = $1", webhook)
        async with asyncio.timeout(30):
            await room.goes(job, "submitting", "completed")
    room.sender()
    log = await room.becomes("stopped", 2, tries=0)
    assert "deleted" in log[0]["said"]
    assert room.receiver.heard == []


async def test_a_project_has_so_many_webhooks_and_no_more(room: Room):
    for _ in range(20):
        await room.webhook()
    with pytest.raises(OutgoingError) as caught:
        await room.webhook()
    assert caught.value.code == "conflict"


async def test_an_event_that_there_is_not_is_refused_by_its_name(room: Room):
    with pytest.raises(OutgoingError) as caught:
        await room.webhook(events=["job.completed", "job.painted"])
    assert caught.value.code == "invalid_input"
    assert "job.painted" in caught.value.detail
    assert "job.completed" in caught.value.detail


async def test_what_is_not_there_is_not_found(room: Room):
    for asked in (room.endpoint(uuid4()), room.replay(str(uuid4())), room.rotate(uuid4())):
        with pytest.raises(OutgoingError) as caught:
            await asked
        assert caught.value.code == "not_found"


async def test_of_a_deleted_project_nothing_is_told_and_no_secret_stays(room: Room):
    other = await room.new_project()
    kept, _ = await room.webhook()
    await room.webhook("/theirs", project=other)
    await room.db.run(lambda tx: endpoint.rotate_of_project(tx, other, actor="test"))
    await room.completed(project=other)
    await room.execute("delete from projects where id = $1", other)
    assert await room.value("select array_agg(owner) from webhook_salts") == [kept]
    await room.completed()
    room.sender()
    await room.receiver.hears(2)  # the project that is there, of its own job

    async def are_stopped() -> bool:
        return await room.value(
            "select bool_and(state = 'stopped') from webhook_deliveries where project_id = $1", other
        )

    await until(are_stopped, "what the deleted project would have told to be stopped")
    assert room.receiver.at("/theirs") == []
