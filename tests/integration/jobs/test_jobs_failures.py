"""Failures: which are tried again, what people are told, and that nobody pays (J7, J6, C1)."""

from __future__ import annotations

import pytest
from jobs_promises import books_balance
from jobs_world import CREDITS, Build, until

from safelight.jobs import reads
from safelight.jobs.words import where_it_stands

both = pytest.mark.parametrize("what", ["fal", "kie"])


@both
async def test_a_passing_trouble_is_tried_again_and_charged_once(build: Build, what: str):
    world = await build()
    job_id = await world.submit(what, {"fail": "transient", "fail_times": 1})
    job = await world.reaches(job_id, "completed")
    assert job["attempt"] == 2
    assert [row["state"] for row in await world.attempts(job_id)] == ["failed", "succeeded"]
    assert (await world.wallet()).balance == CREDITS - job["quoted"]
    assert sum((await world.accepted(job_id)).values()) == 2
    await books_balance(world)


@both
async def test_a_trouble_that_does_not_pass_is_the_end_after_three_attempts(build: Build, what: str):
    world = await build()
    job_id = await world.submit(what, {"fail": "transient"})
    job = await world.reaches(job_id, "failed")
    assert job["attempt"] == job["tries"] == 3
    assert job["error"]["retryable"] is True
    assert sum((await world.accepted(job_id)).values()) == 3
    assert (await world.wallet()).available == CREDITS
    await books_balance(world)


@both
async def test_refused_content_fails_at_once_in_words_and_costs_nothing(build: Build, what: str):
    world = await build()
    job_id = await world.submit(what, {"fail": "content_policy"})
    job = await world.reaches(job_id, "failed")
    assert job["attempt"] == 1
    assert job["error"]["code"] == "content_policy"
    assert "content policy" in job["error"]["message"]
    assert job["error"]["retryable"] is False
    assert job["error"]["provider"]["name"] == what
    assert (await world.wallet()).available == CREDITS
    said = where_it_stands(job, await world.trace(job_id), job["completed_at"])
    assert "content policy" in said
    assert reads.present_job(job)["status"] == "failed"
    await books_balance(world)


async def test_a_second_attempt_begins_without_the_progress_of_the_first(build: Build):
    world = await build(policy={"retry_delay_s": 4.0})
    job_id = await world.submit("fal", {"fail": "transient", "fail_times": 1, "latency_s": 2.5, "webhook": "lost"})

    async def has_progress() -> bool:
        return (await world.job(job_id))["message"] is not None

    await until(has_progress)

    async def is_requeued() -> bool:
        return "requeued" in await world.steps(job_id)

    await until(is_requeued)
    job = await world.job(job_id)
    assert job["stage"] == "queued"
    assert job["message"] is None
    assert job["running_at"] is None
    await world.reaches(job_id, "completed")
    await books_balance(world)


# --- deadlines ------------------------------------------------------------------------------------------------


@both
async def test_a_job_that_misses_its_deadline_expires_and_costs_nothing(build: Build, what: str):
    world = await build(policy={"cancel_grace_s": 30.0})
    job_id = await world.submit(what, {"latency_s": 120.0}, deadline_s=4)
    job = await world.reaches(job_id, "expired")
    assert job["status"] == "failed"
    assert job["error"]["code"] == "deadline_exceeded"
    assert job["error"]["retryable"] is True
    (attempt,) = await world.attempts(job_id)
    # One can be stopped; the other goes on, and its cost is to be known.
    assert attempt["state"] == {"fal": "canceled", "kie": "abandoned"}[what]
    assert (await world.wallet()).available == CREDITS
    await books_balance(world)


async def test_a_job_that_was_never_sent_expires_too(build: Build):
    world = await build(workers=0)
    job_id = await world.submit("fal", deadline_s=1)

    async def is_late() -> bool:
        return await world.value("select now() > deadline_at from jobs where id = $1", job_id)

    await until(is_late)
    await world.start_node()
    await world.reaches(job_id, "expired")
    assert await world.attempts(job_id) == []
    await books_balance(world)


async def test_a_result_that_is_there_at_the_deadline_is_kept(build: Build):
    world = await build(learnt_s=None)
    # Nobody tells us, and the first look would come later: the deadline's own look finds it.
    job_id = await world.submit("fal", {"webhook": "lost", "latency_s": 0.2}, deadline_s=2)
    await world.reaches(job_id, "completed")
    await books_balance(world)


async def test_a_silent_provider_does_not_keep_a_job_beyond_its_deadline(build: Build):
    world = await build()
    job_id = await world.submit(
        "fal", {"status": "500", "status_times": 1000, "webhook": "lost", "latency_s": 60.0}, deadline_s=1.5
    )
    job = await world.reaches(job_id, "expired")
    assert job["error"]["code"] == "deadline_exceeded"
    await books_balance(world)


@both
@pytest.mark.parametrize("status", ["unknown", "500", "404"])
async def test_odd_answers_to_a_look_are_no_end(build: Build, what: str, status: str):
    world = await build(policy={"missing_grace_s": 20.0})
    job_id = await world.submit(what, {"status": status, "status_times": 2, "webhook": "lost"})
    job = await world.reaches(job_id, "completed")
    assert job["attempt"] == 1
    await books_balance(world)


async def test_a_task_that_the_provider_does_not_know_any_more_is_lost(build: Build):
    world = await build(policy={"missing_grace_s": 0.5})
    job_id = await world.submit("kie", {"status": "404", "status_times": 1000, "webhook": "lost"})
    job = await world.reaches(job_id, "failed")
    assert job["error"]["code"] == "task_lost"
    assert job["error"]["retryable"] is True
    await books_balance(world)
