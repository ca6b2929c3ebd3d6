"""Submitting and retrying: once per id and key, paid or refused before anything is sent, templates, targets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest
import uuid_utils.compat as uuid7s
from jobs_promises import books_balance
from jobs_world import CREDITS, Build, World, submission, until

from safelight.credits import ledger
from safelight.credits.ledger import InsufficientCredits
from safelight.jobs import work
from safelight.jobs.errors import IdempotencyMismatch, InvalidSubmission, JobConflict, JobNotFound, UnknownModel
from safelight.jobs.settle import generation_id
from safelight.jobs.submission import Submission
from safelight.library import canvas, placing, shot, template


async def nothing_happened(world: World) -> None:
    assert await world.rows("select 1 from jobs") == []
    assert await world.rows("select 1 from job_work") == []
    assert await world.rows("select 1 from idempotency_keys") == []
    assert await world.rows("select 1 from pgqueuer.pgqueuer") == []
    assert await world.rows("select 1 from ledger_holds") == []
    wallet = await world.wallet()
    assert wallet.held == 0


# --- once (J2) ------------------------------------------------------------------------------------------------


async def test_submitting_answers_with_a_pending_job_and_its_place_in_the_log(build: Build):
    world = await build(workers=0)
    answer = await world.submitted("fal")
    assert answer.is_new
    assert answer.job["status"] == "pending"
    assert answer.job["stage"] == "queued"
    head = await world.value("select head from project_heads where project_id = $1", world.project)
    assert answer.seq == head
    assert (await world.wallet()).held == answer.job["quoted"]


async def test_the_same_id_with_the_same_body_is_the_same_job(build: Build):
    world = await build()
    job_id, wanted = uuid7s.uuid7(), submission("fal")
    first = await world.submitted(wanted, job_id=job_id)
    second = await world.submitted(wanted, job_id=job_id)
    assert first.is_new
    assert not second.is_new
    assert second.job["id"] == job_id
    await world.reaches(job_id, "completed")
    third = await world.submitted(wanted, job_id=job_id)
    assert third.job["status"] == "completed"
    assert (await world.wallet()).balance == CREDITS - first.job["quoted"]
    await books_balance(world)


async def test_the_same_id_or_key_with_another_body_is_a_mismatch_and_changes_nothing(build: Build):
    world = await build()
    job_id, wanted = uuid7s.uuid7(), submission("fal")
    await world.submitted(wanted, job_id=job_id, key="a key")
    other = replace(wanted, tags=("other",))
    with pytest.raises(IdempotencyMismatch):
        await world.submitted(other, job_id=job_id)
    with pytest.raises(IdempotencyMismatch):
        await world.submitted(other, key="a key")
    # Another project's job is not shown to this one, nor is its id free.
    with pytest.raises(IdempotencyMismatch):
        await world.submitted(wanted, job_id=job_id, project=await world.new_project())
    assert await world.value("select count(*) from jobs") == 1
    await world.reaches(job_id, "completed")
    await books_balance(world)


async def test_the_same_key_in_another_project_is_another_job(build: Build):
    world = await build()
    wanted = submission("fal")
    first = await world.submitted(wanted, key="a key")
    second = await world.submitted(wanted, key="a key", project=await world.new_project())
    assert first.job["id"] != second.job["id"]
    await world.reaches(first.job["id"], "completed")
    await world.reaches(second.job["id"], "completed")
    await books_balance(world)


@pytest.mark.parametrize("by", ["id", "key", "both"])
async def test_ten_equal_submits_at_once_are_one_job(build: Build, by: str):
    world = await build()
    wanted = submission("fal")
    job_id = None if by == "key" else uuid7s.uuid7()
    key = None if by == "id" else "a key"
    answers = await asyncio.gather(*(world.submitted(wanted, job_id=job_id, key=key) for _ in range(10)))
    assert len({answer.job["id"] for answer in answers}) == 1
    assert sum(answer.is_new for answer in answers) == 1
    job = await world.reaches(answers[0].job["id"], "completed")
    assert (await world.wallet()).balance == CREDITS - job["quoted"]
    assert sum((await world.accepted()).values()) == 1
    await books_balance(world)


async def test_different_bodies_racing_for_one_id_leave_one_job_and_mismatches(build: Build):
    world = await build()
    job_id = uuid7s.uuid7()
    answers = await asyncio.gather(*(world.submitted("kie", job_id=job_id) for _ in range(6)), return_exceptions=True)
    assert sum(not isinstance(answer, Exception) for answer in answers) == 1
    assert sum(isinstance(answer, IdempotencyMismatch) for answer in answers) == 5
    await world.reaches(job_id, "completed")
    await books_balance(world)


# --- refused before anything is sent (C2, J8) -----------------------------------------------------------------


async def test_too_few_credits_are_said_with_what_is_needed_and_nothing_changes(build: Build):
    world = await build()
    price = await world.service.quote(world.project, submission("fal"))
    poor = await world.new_project(credits=price - 1)
    with pytest.raises(InsufficientCredits) as caught:
        await world.submitted("fal", project=poor, job_id=uuid7s.uuid7(), key="a key")
    assert (caught.value.required, caught.value.available) == (price, price - 1)
    await nothing_happened(world)
    assert sum((await world.accepted()).values()) == 0


async def test_credits_for_one_of_two_racing_submits_let_one_through(build: Build):
    world = await build()
    price = await world.service.quote(world.project, submission("fal"))
    poor = await world.new_project(credits=price)
    answers = await asyncio.gather(*(world.submitted("fal", project=poor) for _ in range(5)), return_exceptions=True)
    taken = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(taken) == 1
    assert sum(isinstance(answer, InsufficientCredits) for answer in answers) == 4
    await world.reaches(taken[0].job["id"], "completed")
    assert (await world.wallet(poor)).balance == 0
    await books_balance(world)


@pytest.mark.parametrize(
    ("wanted", "raised"),
    [
        (Submission(model="nobody/knows", input={"prompt": "a"}), UnknownModel),
        (Submission(input={"prompt": "a"}), InvalidSubmission),
        (Submission(model="local/aurora", input={}), InvalidSubmission),
        (Submission(model="local/aurora", input={"prompt": "a"}, n=99), InvalidSubmission),
        (Submission(model="local/aurora", input={"prompt": "a"}, provider="fal"), InvalidSubmission),
        (Submission(model="local/aurora", input={"prompt": "a"}, deadline_s=0), InvalidSubmission),
        (Submission(model="local/aurora", input={"prompt": "a"}, variables={"A": "b"}), InvalidSubmission),
        (Submission(model="local/aurora", input={"prompt": "a"}, start=uuid4()), InvalidSubmission),
        (Submission(model="local/aurora", input={"prompt": "a"}, target={"shot_id": str(uuid4())}), InvalidSubmission),
        (Submission(model="local/aurora", input={"prompt": "a"}, target={"moon": 1}), InvalidSubmission),
        (Submission(model="local/aurora", input={"prompt": "a"}, webhook_url="https://a.example"), InvalidSubmission),
        (Submission(template="nowhere", variables={}), InvalidSubmission),
    ],
)
async def test_a_bad_submit_is_refused_and_changes_nothing(build: Build, wanted: Submission, raised: type[Exception]):
    world = await build(workers=0)
    with pytest.raises(raised):
        await world.submitted(wanted, key="a key")
    await nothing_happened(world)


# --- templates (J8) -------------------------------------------------------------------------------------------


async def new_template(world: World) -> None:
    given = {"prompt": "{BRAND} on a {COLOUR} table", "seed": "{SEED}", "width": 64, "height": 64}
    await world.db.run(
        lambda tx: template.create_template(tx, world.project, "poster", "Poster", "local/aurora", given)
    )


async def test_a_template_is_filled_with_its_variables(build: Build):
    world = await build()
    await new_template(world)
    variables = {"BRAND": "Acme", "COLOUR": "red", "SEED": 7}
    job_id = await world.submit(Submission(template="poster", variables=variables))
    job = await world.reaches(job_id, "completed")
    assert job["model"] == "local/aurora"
    assert job["input"]["prompt"] == "Acme on a red table"
    assert job["input"]["seed"] == 7
    assert job["template"] == "poster"
    assert job["variables"] == variables
    await books_balance(world)


@pytest.mark.parametrize(
    ("variables", "named"),
    [({"BRAND": "Acme", "SEED": 7}, "COLOUR"), ({"BRAND": "A", "COLOUR": "b", "SEED": 7, "SIZE": "c"}, "SIZE")],
)
async def test_a_missing_or_unknown_variable_is_named(build: Build, variables: dict[str, object], named: str):
    world = await build(workers=0)
    await new_template(world)
    with pytest.raises(InvalidSubmission) as caught:
        await world.submitted(Submission(template="poster", variables=variables))
    assert named in str(caught.value.extras["errors"])
    await nothing_happened(world)


# --- targets (J9) and batches (J11) ---------------------------------------------------------------------------


async def test_a_result_joins_its_shot_and_all_of_a_batch_do(build: Build):
    world = await build()
    where = await world.db.run(lambda tx: shot.create_shot(tx, world.project, "Opening"))
    job_id = await world.submit("local", n=3, target={"shot_id": str(where["id"])})
    job = await world.reaches(job_id, "completed")
    assert list(job["generations"]) == [generation_id(job_id, index) for index in range(3)]
    joined = await world.rows("select generation_id from shot_generations where shot_id = $1", where["id"])
    assert {row["generation_id"] for row in joined} == set(job["generations"])
    assert job["charged"] == job["quoted"]
    await books_balance(world)


async def test_a_result_is_put_at_the_position_it_was_meant_for(build: Build):
    world = await build()
    where = await world.db.run(lambda tx: shot.create_shot(tx, world.project, "Opening"))
    job_id = await world.submit("fal", target={"shot_id": str(where["id"]), "position": "a1"})
    await world.reaches(job_id, "completed")
    assert await world.value("select position from shot_generations") == "a1"
    await books_balance(world)


async def test_a_node_shows_its_result_when_it_lands(build: Build):
    world = await build()
    node = await world.db.run(lambda tx: canvas.create_node(tx, world.project, "picture", x=1, y=2))
    job_id = await world.submit("kie", target={"node_id": str(node["id"])})
    await world.reaches(job_id, "completed")
    shown = await world.value("select data ->> 'generation_id' from nodes where id = $1", node["id"])
    assert shown == str(generation_id(job_id, 0))
    await books_balance(world)


async def test_a_target_that_is_gone_by_then_loses_nothing(build: Build):
    world = await build()
    where = await world.db.run(lambda tx: shot.create_shot(tx, world.project, "Opening"))
    job_id = await world.submit("fal", {"latency_s": 1.0}, target={"shot_id": str(where["id"])})
    await world.db.run(lambda tx: shot.delete_shot(tx, world.project, where["id"]))
    await world.reaches(job_id, "completed")
    assert await world.value("select count(*) from generations") == 1
    await books_balance(world)


async def test_results_that_land_while_their_shot_is_rearranged_all_stay(build: Build):
    world = await build()
    where = await world.db.run(lambda tx: shot.create_shot(tx, world.project, "Opening"))
    target = {"shot_id": str(where["id"]), "position": "a1"}
    jobs = [await world.submit("local", target=target) for _ in range(6)]
    for job_id in jobs:
        await world.reaches(job_id, "completed")

        async def reorder(tx):
            rows = await tx.conn.fetch("select generation_id from shot_generations where shot_id = $1", where["id"])
            await placing.reorder(tx, world.project, where["id"], [row["generation_id"] for row in rows][::-1])

        await world.db.run(reorder)
    positions = [row["position"] for row in await world.rows("select position from shot_generations")]
    assert len(set(positions)) == 6
    await books_balance(world)


# --- start images ---------------------------------------------------------------------------------------------


async def test_a_start_image_becomes_an_address_when_the_provider_is_asked(build: Build):
    world = await build()
    first = await world.reaches(await world.submit("local"), "completed")
    start = first["generations"][0]
    job_id = await world.submit(
        Submission(model="google/nano-banana-edit", input={"prompt": "make it blue"}, start=start)
    )
    job = await world.reaches(job_id, "completed")
    assert "image_urls" not in job["input"]
    assert job["start"] == str(start)
    await books_balance(world)


async def test_a_start_image_that_is_gone_by_then_fails_the_job_instead_of_making_something_else(build: Build):
    world = await build()
    first = await world.reaches(await world.submit("local"), "completed")
    start = first["generations"][0]
    await world.nodes[0].stop()
    job_id = await world.submit(Submission(model="veo3_fast", input={"prompt": "let it fly"}, start=start))
    async with world.db.connection() as conn:
        await conn.execute("update generations set files = files - 'original' where id = $1", start)
    await world.start_node()
    job = await world.reaches(job_id, "failed")
    assert job["error"]["code"] == "invalid_input"
    assert "start" in job["error"]["message"]
    assert sum((await world.accepted(job_id)).values()) == 0


# --- retry (J6) -----------------------------------------------------------------------------------------------


async def test_a_failed_job_can_be_retried_and_is_charged_once(build: Build):
    world = await build()
    job_id = await world.submit("fal", {"fail": "content_policy", "fail_times": 2})
    for attempt in (1, 2):
        job = await world.reaches(job_id, "failed")
        assert job["attempt"] == attempt
        answer = await world.service.retry(job_id)
        assert answer.job["stage"] == "queued"
        assert answer.job["error"] is None
    job = await world.reaches(job_id, "completed")
    assert (job["attempt"], job["round"]) == (3, 3)
    assert (await world.wallet()).balance == CREDITS - job["quoted"]
    await books_balance(world)


async def test_a_canceled_and_an_expired_job_can_be_retried(build: Build):
    world = await build()
    canceled = await world.submit("kie", {"latency_s": 2.0})
    await world.reaches(canceled, "submitted", "running")
    await world.service.cancel(canceled)
    expired = await world.submit("fal", {"latency_s": 2.0}, deadline_s=1)
    await world.reaches(expired, "expired")
    for job_id in (canceled, expired):
        await world.service.retry(job_id)
    # The canceled one's first task reports while its second runs: that is not the second's result.
    job = await world.reaches(canceled, "completed")
    assert [row["number"] for row in await world.attempts(canceled)] == [1, 2]
    assert job["attempt"] == 2
    await world.ends(expired)
    await books_balance(world)


async def test_each_round_gets_the_time_that_the_first_was_given(build: Build):
    world = await build(workers=0)
    job_id = await world.submit("fal", deadline_s=100)
    spans = []
    for _ in range(3):
        await world.service.cancel(job_id)
        async with world.db.connection() as conn:
            # As if the rounds lay an hour apart.
            await conn.execute("update jobs set created_at = created_at - interval '1 hour',"
                               " deadline_at = deadline_at - interval '1 hour' where id = $1", job_id)  # fmt: skip
            await conn.execute("update job_trace set at = at - interval '1 hour' where job_id = $1", job_id)
        job = (await world.service.retry(job_id)).job
        at = await world.value("select max(at) from job_trace where job_id = $1 and step = 'retried'", job_id)
        spans.append((job["deadline_at"] - at).total_seconds())
    assert all(95 < span < 105 for span in spans), spans


async def test_a_retry_needs_the_credits_again(build: Build):
    world = await build()
    price = await world.service.quote(world.project, submission("fal"))
    poor = await world.new_project(credits=price)
    answer = await world.submitted("fal", {"fail": "content_policy"}, project=poor)
    job_id = answer.job["id"]
    before = await world.reaches(job_id, "failed")
    async with world.db.connection() as conn:
        await ledger.adjust(conn, poor, -1, key="take", note="", actor="test")
    with pytest.raises(InsufficientCredits):
        await world.service.retry(job_id)
    assert await world.job(job_id) == before
    await books_balance(world)


async def test_only_an_ended_job_without_a_result_can_be_retried(build: Build):
    world = await build()
    running = await world.submit("fal", {"latency_s": 60.0})
    await world.reaches(running, "submitted", "running")
    with pytest.raises(JobConflict):
        await world.service.retry(running)
    done = await world.submit("kie")
    await world.reaches(done, "completed")
    with pytest.raises(JobConflict):
        await world.service.retry(done)
    with pytest.raises(JobNotFound):
        await world.service.retry(uuid4())
    await world.service.cancel(running)
    await world.reaches(running, "canceled")
    await books_balance(world)


async def test_five_retries_at_once_are_one_round(build: Build):
    world = await build()
    job_id = await world.submit("fal", {"fail": "content_policy", "fail_times": 1})
    await world.reaches(job_id, "failed")
    answers = await asyncio.gather(*(world.service.retry(job_id) for _ in range(5)), return_exceptions=True)
    assert sum(not isinstance(answer, Exception) for answer in answers) == 1
    job = await world.reaches(job_id, "completed")
    assert job["round"] == 2
    await books_balance(world)


# --- read-through (J5) ----------------------------------------------------------------------------------------


async def test_many_readers_of_a_silent_job_cause_one_look(build: Build):
    world = await build(learnt_s=30.0, policy={"read_through_after_s": 0.2})
    job_id = await world.submit("fal", {"webhook": "lost", "latency_s": 0.3})
    await world.reaches(job_id, "submitted")

    async def is_silent() -> bool:
        return await world.value(
            "select created_at < now() - interval '1.2 seconds' from job_work where job_id = $1", job_id
        )

    await until(is_silent)
    await asyncio.gather(*(world.service.refresh(job_id, "submitted") for _ in range(20)))
    await world.reaches(job_id, "completed")
    assert (await world.steps(job_id)).count("provider_done") == 1
    await books_balance(world)


async def test_a_job_that_is_taken_up_twice_at_once_is_claimed_once(build: Build):
    world = await build()
    for node in list(world.nodes):
        await node.stop()
    job_id = await world.submit("fal", {"latency_s": 0.2})
    async with world.db.connection() as conn:
        once, again = await work.claim(conn, [job_id, job_id], worker="somebody", lease_s=30)
        assert once is not None
        assert again is None
        assert await work.claim(conn, [job_id], worker="another", lease_s=30) == [None]
