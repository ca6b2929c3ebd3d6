"""Pull workers over HTTP (P3): claimed once, kept by heartbeats, handed in by one door; zombies change nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from api_world import Build, World, assert_problem, ok, until
from pull_world import (
    attempts,
    charged,
    claim,
    in_hands,
    lease_ends,
    make,
    model_file,
    on_the_desk,
    painting,
    picture,
    tell,
    upload,
    waiting_claims,
)

from safelight.media.intake import SizeLimits
from safelight.media.synth import clip


@pytest.fixture
async def world(build: Build, tmp_path: Path) -> AsyncIterator[World]:
    return await build(models=model_file(tmp_path))


async def test_a_claimed_job_is_made_stored_and_charged_like_any_other(world: World):
    job = await world.submit(painting(n=2))
    mine = await claim(world.api)
    assert mine is not None
    assert (mine["id"], mine["attempt"], mine["n"], mine["kind"]) == (job["id"], 1, 2, "image")
    assert mine["input"] == {"prompt": "a teal wall"}
    await world.reaches(job["id"], "processing")
    first = ok(await upload(world.api, mine, 0))
    assert (first["mime"], first["width"], first["height"]) == ("image/png", 96, 64)
    ok(await upload(world.api, mine, 1, picture("orange")))
    done = ok(await tell(world.api, mine, "complete", cost={"gpu_s": 3}))
    assert done["status"] == "completed"
    assert done["credits"] == {"quoted": 200, "charged": 200}
    assert await charged(world, job) == [200]
    items = ok(await world.api.get(f"{world.p}/generations"))["items"]
    assert {each["output_index"] for each in items} == {0, 1}
    for each in items:
        assert each["thumbhash"]
        for url in (each["urls"]["original"], *each["urls"]["thumbs"].values()):
            assert (await world.client().get(url)).status_code == 200
    steps = [step["step"] for step in ok(await world.api.get(f"/v1/jobs/{job['id']}/trace"))["steps"]]
    assert [step for step in steps if step in ("claimed", "running", "stored", "reported", "committed")] == [
        "claimed", "running", "stored", "stored", "reported", "committed",
    ]  # fmt: skip
    again = ok(await tell(world.api, mine, "complete"))
    assert again["status"] == "completed"
    assert await charged(world, job) == [200]


async def test_a_wrong_lease_is_a_conflict_and_changes_nothing(world: World):
    job = await world.submit(painting())
    mine = await claim(world.api)
    assert mine is not None
    await in_hands(world, job)
    wrong = {**mine, "lease": "x" * 43}
    async with world.unchanged():
        for verb in ("heartbeat", "complete", "fail", "release"):
            assert_problem(await tell(world.api, wrong, verb), 409, "conflict", "lease")
        assert_problem(await upload(world.api, wrong), 409, "conflict", "lease")
        assert_problem(await tell(world.api, {**mine, "id": str(uuid4())}, "heartbeat"), 404, "not_found")
        path = f"/v1/worker/jobs/{job['id']}/complete"
        assert_problem(await world.api.post(path, json={}), 422, "invalid_input", "Safelight-Lease")
    assert (await make(world.api, mine))["status"] == "completed"


async def test_a_dead_workers_job_is_another_attempt_and_the_zombie_changes_nothing(world: World):
    job = await world.submit(painting())
    zombie = await claim(world.api, worker="zombie")
    assert zombie is not None
    ok(await upload(world.api, zombie, 0, picture("red")))
    await world.reaches(job["id"], "processing")
    await lease_ends(world, job)
    second = await claim(world.api, worker="second")
    assert second is not None
    assert (second["id"], second["attempt"]) == (job["id"], 2)
    assert second["lease"] != zombie["lease"]
    assert (await attempts(world, job))[0] == (1, "abandoned")
    await in_hands(world, job)
    async with world.unchanged():
        for verb in ("heartbeat", "complete", "fail", "release"):
            assert_problem(await tell(world.api, zombie, verb), 409, "conflict")
        assert_problem(await upload(world.api, zombie), 409, "conflict")
    # What the zombie had handed in does not count for the second.
    assert_problem(await tell(world.api, second, "complete"), 422, "invalid_input", "Output 0")
    ok(await upload(world.api, second, 0, picture("blue")))
    ok(await tell(world.api, second, "complete"))
    assert_problem(await tell(world.api, zombie, "complete"), 409, "conflict")
    done = await world.reaches(job["id"], "completed")
    assert done["attempt"] == 2
    assert await charged(world, job) == [100]
    assert await attempts(world, job) == [(1, "abandoned"), (2, "succeeded")]
    files = await world.rows("select files from generations where job_id = $1", UUID(job["id"]))
    assert ["/2-" in row["files"]["original"] for row in files] == [True]


async def test_a_job_whose_workers_keep_dying_fails_with_the_reason(world: World):
    job = await world.submit(painting())
    for number in (1, 2, 3):
        mine = await claim(world.api)
        assert mine is not None
        assert mine["attempt"] == number
        await lease_ends(world, job)
    failed = await world.reaches(job["id"], "failed")
    assert (failed["error"]["code"], failed["error"]["retryable"]) == ("worker_lost", True)
    assert await attempts(world, job) == [(1, "abandoned"), (2, "abandoned"), (3, "abandoned")]
    assert await charged(world, job) == []
    ok(await world.api.post(f"/v1/jobs/{job['id']}/retry"), 202)
    again = await claim(world.api)
    assert again is not None
    assert again["attempt"] == 4
    assert (await make(world.api, again))["status"] == "completed"


async def test_two_workers_racing_for_fifty_jobs_get_each_once(world: World):
    jobs = await asyncio.gather(*(world.submit(painting(priority=number % 3)) for number in range(50)))
    taken: list[str] = []

    async def work() -> None:
        async with httpx.AsyncClient(base_url=world.url, headers=world.api.headers, timeout=60, trust_env=False) as own:
            while len(taken) < len(jobs):
                mine = await claim(own, wait=2.0)
                if mine is not None:
                    assert mine["attempt"] == 1
                    taken.append(mine["id"])
                    assert (await make(own, mine))["status"] in ("completed", "processing")

    async with asyncio.timeout(120):
        await asyncio.gather(work(), work())
    assert Counter(taken) == Counter(job["id"] for job in jobs)
    for job in jobs:
        await world.reaches(job["id"], "completed")
    captures = await world.rows("select amount from ledger_transfers where reason = 'capture'")
    assert [row["amount"] for row in captures] == [100] * 50
    assert await world.value("select count(*) from attempts") == 50


async def test_a_claim_in_the_moment_the_offer_is_noted_waits_in_one_direction(world: World):
    """Both want the job's work and its attempt. In two orders they would wait for each other until one is refused."""
    job = await world.submit(painting())
    job_id = UUID(job["id"])
    await until(lambda: world.value("select true from pull_tasks where job_id = $1", job_id), "the offer")
    async with world.system.db.connection() as conn, conn.transaction():
        await conn.execute("select from job_work where job_id = $1 for update", job_id)
        claiming = asyncio.create_task(claim(world.api, wait=0))
        await until(
            lambda: world.value(
                "select true from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            ),
            "the claim",
        )
        await conn.execute("select from attempts where job_id = $1 for no key update nowait", job_id)
    mine = await claiming
    assert mine is not None
    assert mine["id"] == job["id"]


async def test_a_worker_never_sees_another_projects_jobs_and_needs_a_secret_key(world: World):
    job = await world.submit(painting())
    other = await world.new_project()
    stranger = world.client(await world.new_key(other))
    assert await claim(stranger, wait=0) is None
    assert_problem(
        await stranger.post("/v1/worker/claim", json={"models": ["my/painter"], "project": world.project}),
        404,
        "not_found",
    )
    mine = await claim(world.api)
    assert mine is not None
    for verb in ("heartbeat", "complete", "fail", "release"):
        assert_problem(await tell(stranger, mine, verb), 404, "not_found")
    assert_problem(await upload(stranger, mine), 404, "not_found")
    for client in (await world.user("owner"), world.client(await world.new_key(kind="publishable"))):
        answer = await client.post("/v1/worker/claim", json={"models": ["my/painter"]})
        assert_problem(answer, 403, "forbidden", "key")
        assert_problem(await tell(client, mine, "heartbeat"), 403, "forbidden")
    nobody = world.client()
    assert_problem(await nobody.post("/v1/worker/claim", json={"models": ["my/painter"]}), 401, "unauthorized")
    # A key of the whole installation serves every project.
    assert ok(await tell(world.admin, mine, "heartbeat"))["canceled"] is False
    assert (await make(world.admin, mine))["id"] == job["id"]


async def test_what_is_no_result_is_refused_and_the_job_goes_on(world: World):
    job = await world.submit(painting())
    mine = await claim(world.api)
    assert mine is not None
    assert_problem(await upload(world.api, mine, 0, b"<html>sorry</html>" * 300), 422, "invalid_input", "HTML")
    assert_problem(await upload(world.api, mine, 0, b""), 422, "invalid_input")
    assert_problem(await upload(world.api, mine, 0, picture()[:-30]), 422, "invalid_input")
    assert_problem(await upload(world.api, mine, 1), 422, "invalid_input", "last output is 0")
    film = clip("x", 1, 64, 64, 0.5, 10)
    assert_problem(await upload(world.api, mine, 0, film, "video/mp4"), 422, "invalid_input", "video/mp4")
    outputs = world.system.context.pull.outputs
    outputs._parts.sizes = SizeLimits(image=1000)
    large = picture(size=(300, 300)) + b"\0" * 4000
    assert_problem(await upload(world.api, mine, 0, large), 413, "too_large")

    async def unannounced() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 500):
            yield large[start : start + 500]

    assert_problem(await upload(world.api, mine, 0, unannounced()), 413, "too_large")
    outputs._parts.sizes = SizeLimits()
    assert list((world.settings.data / "scratch").iterdir()) == []
    assert_problem(await tell(world.api, mine, "complete"), 422, "invalid_input", "Output 0")
    assert (await make(world.api, mine))["status"] == "completed"
    assert await attempts(world, job) == [(1, "succeeded")]


async def test_a_canceled_job_that_waits_ends_and_one_in_a_workers_hands_is_told(world: World):
    waiting, leased = await world.submit(painting()), await world.submit(painting(priority=9))
    await on_the_desk(world, 2)
    mine = await claim(world.api)
    assert mine is not None
    assert mine["id"] == leased["id"]
    for job in (waiting, leased):
        ok(await world.api.post(f"/v1/jobs/{job['id']}/cancel"))
    await world.reaches(waiting["id"], "canceled")
    assert await claim(world.api, wait=0) is None

    async def is_told() -> bool:
        return ok(await tell(world.api, mine, "heartbeat", percent=40))["canceled"]

    await until(is_told, "the heartbeat to say it")
    ok(await tell(world.api, mine, "release"))
    await world.reaches(leased["id"], "canceled")
    assert_problem(await upload(world.api, mine), 409, "conflict")
    assert await charged(world, leased) == []
    wallet = ok(await world.api.get(f"{world.p}/credits"))
    assert wallet["held"] == 0


async def test_a_result_that_was_ready_when_the_cancel_came_is_kept(world: World):
    job = await world.submit(painting())
    mine = await claim(world.api)
    assert mine is not None
    ok(await upload(world.api, mine))
    ok(await world.api.post(f"/v1/jobs/{job['id']}/cancel"))
    ok(await tell(world.api, mine, "complete"))
    await world.reaches(job["id"], "completed")
    assert await charged(world, job) == [100]


async def test_a_waiting_claim_is_answered_by_the_submit(world: World):
    async def waits() -> object:
        return await claim(world.api, "my/painter", "my/sculptor", wait=25.0)

    asking = asyncio.create_task(waits())
    await waiting_claims(world, 1)
    job = await world.submit(painting())
    mine = await asking
    assert isinstance(mine, dict)
    assert mine["id"] == job["id"]


async def test_so_many_claims_wait_and_the_next_is_told_when_to_come_again(world: World):
    world.system.desk.waiters._most = 1
    asking = asyncio.create_task(claim(world.api, wait=25.0))
    await waiting_claims(world, 1)
    refused = await world.api.post("/v1/worker/claim", json={"models": ["my/painter"], "wait": 25})
    assert_problem(refused, 429, "rate_limited", "without `wait`")
    assert int(refused.headers["retry-after"]) > 0
    assert await claim(world.api, wait=0) is None
    job = await world.submit(painting())
    mine = await asking
    assert mine is not None
    assert mine["id"] == job["id"]


async def test_a_claim_whose_worker_hung_up_takes_nothing(world: World):
    async with httpx.AsyncClient(base_url=world.url, headers=world.api.headers, timeout=60, trust_env=False) as gone:
        asking = asyncio.create_task(claim(gone, wait=25.0))
        await waiting_claims(world, 1)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
    await waiting_claims(world, 0)
    await world.submit(painting())
    mine = await claim(world.api)
    assert mine is not None
    assert mine["attempt"] == 1


async def test_a_claim_whose_answer_was_lost_is_asked_again_and_gives_the_same(world: World):
    jobs = [await world.submit(painting()) for _ in range(2)]
    await on_the_desk(world, 2)
    secret = uuid4().hex
    first = await claim(world.api, claim_id=secret)
    second = await claim(world.api, claim_id=secret)
    assert first is not None
    assert second is not None
    assert (first["id"], first["lease"]) == (second["id"], second["lease"])
    body = {"models": [], "claim_id": secret}
    known = ok(await world.api.post("/v1/worker/claim", json=body))["job"]
    assert known["lease"] == first["lease"]
    both = await asyncio.gather(*(claim(world.api, claim_id="asked twice at once", wait=0) for _ in range(2)))
    assert [each and each["id"] for each in both] == [jobs[1]["id"]] * 2
    # Another key with the same words is another claim.
    other = world.client(await world.new_key())
    assert ok(await other.post("/v1/worker/claim", json=body))["job"] is None
    assert (await make(world.api, first))["id"] == jobs[0]["id"]
    assert await claim(world.api, wait=0, claim_id=secret) is None
    assert_problem(await world.api.post("/v1/worker/claim", json={"models": []}), 422, "invalid_input")


async def test_a_job_given_back_is_the_next_workers_at_once(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("safelight.jobs.pull_leases.CLAIMS_TRACED", 1)
    job = await world.submit(painting())
    first = await claim(world.api)
    assert first is not None
    ok(await upload(world.api, first, 0, picture("red")))
    ok(await tell(world.api, first, "release"))
    second = await claim(world.api)
    assert second is not None
    assert (second["id"], second["attempt"]) == (job["id"], 1)
    assert_problem(await tell(world.api, first, "heartbeat"), 409, "conflict")
    assert_problem(await tell(world.api, second, "complete"), 422, "invalid_input", "Output 0")
    assert (await make(world.api, second))["status"] == "completed"
    assert await attempts(world, job) == [(1, "succeeded")]
    # Whoever claims and gives back in a circle does not fill the trace.
    steps = [step["step"] for step in ok(await world.api.get(f"/v1/jobs/{job['id']}/trace"))["steps"]]
    assert [step for step in steps if step in ("claimed", "given_back", "reported")] == [
        "claimed", "given_back", "reported",
    ]  # fmt: skip


async def test_a_failure_is_final_or_another_attempt_as_the_worker_says(world: World):
    job = await world.submit(painting())
    mine = await claim(world.api)
    assert mine is not None
    ok(await tell(world.api, mine, "fail", message="CUDA out of memory", retryable=True))
    mine = await claim(world.api)
    assert mine is not None
    assert mine["attempt"] == 2
    ok(await tell(world.api, mine, "fail", code="invalid_input", message="the prompt is \0 in Latin"))
    failed = await world.reaches(job["id"], "failed")
    assert failed["error"]["code"] == "invalid_input"
    assert "the prompt is in Latin" in failed["error"]["message"].replace("  ", " ")
    assert failed["error"]["retryable"] is False
    assert await attempts(world, job) == [(1, "failed"), (2, "failed")]
    assert await charged(world, job) == []


async def test_progress_and_the_place_in_the_queue_are_shown(world: World):
    jobs = [await world.submit(painting()) for _ in range(3)]

    async def place() -> bool:
        shown = (await world.job(jobs[2]["id"]))["progress"]["queue_position"]
        return shown == 2

    await until(place, "the third to know that two are before it")
    mine = await claim(world.api)
    assert mine is not None
    ok(await tell(world.api, mine, "heartbeat", percent=30, message="step 3 of 10", logs=["loaded", "step 3"]))

    async def is_shown() -> bool:
        shown = await world.job(mine["id"])
        return (shown["stage"], shown["progress"]["percent"], shown["progress"]["message"]) == (
            "running", 30, "step 3 of 10",
        )  # fmt: skip

    await until(is_shown, "the progress")


async def test_the_urgent_first_then_projects_in_turn_then_the_loaded_model(world: World):
    other = await world.new_project()
    theirs = world.client(await world.new_key(other))
    old = [await world.submit(painting()) for _ in range(3)]
    sculpture = await world.submit(painting(model="my/sculptor"))
    late = ok(await theirs.post(f"/v1/projects/{other}/jobs", json=painting()), 202)
    urgent = await world.submit(painting(priority=5))

    await on_the_desk(world, 6)
    both = ("my/painter", "my/sculptor")
    order = []
    for _ in range(3):
        mine = await claim(world.admin, *both, wait=0)
        assert mine is not None
        order.append(mine["id"])
    # The first turn is the urgent one's; its project then waits for the one that had none.
    assert order[:2] == [urgent["id"], late["id"]]
    assert order[2] == old[0]["id"]
    mine = await claim(world.api, *both, wait=0, loaded="my/sculptor")
    assert mine is not None
    assert mine["id"] == sculpture["id"]
    # Not for ever: whoever has waited for longer than the patience comes before the loaded model.
    newer = await world.submit(painting(model="my/sculptor"))
    await until(lambda: world.value("select true from pull_tasks where job_id = $1", UUID(newer["id"])), "it")
    async with world.system.db.connection() as conn:
        await conn.execute(
            "update pull_tasks set created_at = now() - interval '10 minutes' where job_id = $1", UUID(old[1]["id"])
        )
    mine = await claim(world.api, *both, wait=0, loaded="my/sculptor")
    assert mine is not None
    assert mine["id"] == old[1]["id"]


async def test_a_job_that_nobody_makes_ends_at_its_deadline(world: World):
    job = await world.submit(painting(deadline_s=1))
    failed = await world.reaches(job["id"], "failed")
    assert failed["stage"] == "expired"
    assert await claim(world.api, wait=0) is None


async def test_waiting_for_a_worker_takes_no_place_from_other_jobs(build: Build, tmp_path: Path):
    world = await build(models=model_file(tmp_path), project_concurrency=1)
    for _ in range(3):
        await world.submit(painting())

    await on_the_desk(world, 3)
    other = await world.submit()
    await world.reaches(other["id"], "completed")


async def test_the_start_image_reaches_the_worker(build: Build, tmp_path: Path):
    path = tmp_path / "models.toml"
    path.write_text(
        '[[pull]]\nid = "my/painter"\nstart_field = "image"\n'
        '[[pull.fields]]\nname = "prompt"\ntype = "text"\nlabel = "Prompt"\n'
        '[[pull.fields]]\nname = "image"\ntype = "image"\nlabel = "Picture"\n'
    )
    world = await build(models=path)
    content = picture("purple")
    begun = ok(await world.api.post(f"{world.p}/uploads", json={"bytes": len(content), "mime": "image/png"}), 201)
    sent = await world.api.put(f"/v1/uploads/{begun['id']}/content", content=content)
    await world.submit(painting(start=ok(sent)["id"]))
    mine = await claim(world.api)
    assert mine is not None
    assert mine["input"]["image"].startswith(world.url)
    assert (await world.client().get(mine["input"]["image"])).content == content


async def test_what_became_of_nothing_is_removed_and_what_is_shown_stays(world: World):
    job = await world.submit(painting())
    first = await claim(world.api)
    assert first is not None
    ok(await upload(world.api, first, 0, picture("red")))
    ok(await tell(world.api, first, "release"))
    second = await claim(world.api)
    assert second is not None
    await make(world.api, second)
    await world.reaches(job["id"], "completed")
    rows = await world.rows("select stored from pull_outputs order by created_at")
    red, shown = (row["stored"]["key"] for row in rows)
    context = world.system.context
    assert await context.pull.outputs.sweep() == 0  # they are young
    async with world.system.db.connection() as conn:
        await conn.execute("update pull_outputs set created_at = now() - interval '1 day'")
        await conn.execute("update pull_tasks set ended_at = now() - interval '3 days'")
    await context.pull.desk.sweep()
    assert await context.pull.outputs.sweep() == 2
    store = context.pull.parts.media.store
    assert not await store.exists(red)
    assert await store.exists(shown)
    assert await world.value("select (select count(*) from pull_outputs) + (select count(*) from pull_tasks)") == 0


async def test_a_worker_of_another_process_hears_of_jobs_too(build: Build, tmp_path: Path):
    models = model_file(tmp_path)
    api = await build(models=models, roles=("api",))
    await build(models=models, roles=("worker",), bare=True)
    asking = asyncio.create_task(claim(api.api, wait=25.0))
    await waiting_claims(api, 1)
    job = await api.submit(painting())
    mine = await asking
    assert mine is not None
    await make(api.api, mine)
    await api.reaches(job["id"], "completed")


async def test_no_step_of_a_pull_workers_job_reads_a_table_whole(world: World):
    jobs = [await world.submit(painting()) for _ in range(8)]
    for _ in jobs:
        mine = await claim(world.api)
        assert mine is not None
        ok(await tell(world.api, mine, "heartbeat", percent=50))
        await make(world.api, mine)
    for job in jobs:
        await world.reaches(job["id"], "completed")
    whole = ["pull_tasks", "pull_outputs", "pull_turns", "job_work", "attempts", "generations"]

    async def is_told() -> bool:
        looks = await world.value("select sum(idx_scan)::int from pg_stat_user_tables where relname = 'pull_tasks'")
        return looks >= 4 * len(jobs)

    await until(is_told, "the statistics of what was done")
    rows = await world.rows(
        "select relname, seq_tup_read from pg_stat_user_tables where seq_tup_read > 0 and relname = any ($1)", whole
    )
    assert {row["relname"]: row["seq_tup_read"] for row in rows} == {}
