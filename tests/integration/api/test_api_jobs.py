"""Jobs over HTTP, from submit to stored result (api.md, Jobs; J1–J11, C1–C3)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from uuid import UUID, uuid4, uuid5

import httpx
import uvicorn
from api_world import Build, World, assert_problem, fal, kie, ok, seq_of, small, until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from safelight.emulators.serve import Address
from safelight.server.run import listen

JOB_FIELDS = {
    "id", "project_id", "status", "stage", "model", "provider", "kind", "attempt", "input", "n", "target", "template",
    "variables", "start", "priority", "progress", "credits", "error", "generations", "created_at", "submitted_at",
    "completed_at", "deadline_at", "cancel_requested_at", "tags", "metadata",
}  # fmt: skip


class Line:
    """What went over the line to the emulators."""

    def __init__(self) -> None:
        self.host = ""
        self.requests: list[tuple[str, str]] = []

    def asked(self, method: str, ending: str) -> int:
        return sum(1 for each, path in self.requests if each == method and path.endswith(ending))


@contextlib.asynccontextmanager
async def counted(emulators: Address) -> AsyncIterator[Line]:
    """A line to the emulators that counts; it changes nothing."""
    line = Line()
    async with httpx.AsyncClient(trust_env=False, base_url=emulators.base_url, timeout=30) as onward:

        async def forward(request: Request) -> Response:
            line.requests.append((request.method, request.url.path))
            answer = await onward.request(
                request.method, request.url.path, params=request.query_params, headers=request.headers.items(),
                content=await request.body(),
            )  # fmt: skip
            kept = {name: answer.headers[name] for name in ("content-type", "retry-after") if name in answer.headers}
            return Response(answer.content, answer.status_code, kept)

        app = Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "HEAD", "POST", "PUT"])])
        listener = listen("127.0.0.1", 0)
        line.host = f"127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield line
        finally:
            server.should_exit = server.force_exit = True
            await serving
            listener.close()


async def test_a_submit_is_answered_at_once_with_a_pending_job(world: World) -> None:
    body = fal({"latency_s": 3600}, n=2, tags=["x"], metadata={"order": 7}, priority=5, deadline_s=600)
    answer = await world.api.post(f"{world.p}/jobs", json=body)
    job = ok(answer, 202)
    assert set(job) == JOB_FIELDS
    assert (job["status"], job["stage"], job["attempt"], job["generations"]) == ("pending", "queued", 0, [])
    assert job["credits"] == {"quoted": job["credits"]["quoted"], "charged": None}
    assert (job["n"], job["tags"], job["metadata"], job["priority"]) == (2, ["x"], {"order": 7}, 5)
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert UUID(job["id"]).version == 7
    [change] = [each for each in await world.changes(0) if each["seq"] == seq_of(answer)]
    assert change["table"] in ("jobs", "credits")
    created = next(each for each in await world.changes(0) if each["table"] == "jobs")
    assert created["op"] == "insert"
    assert created["row"] | {"progress": None} == job | {"progress": None}


async def test_a_finished_job_names_results_whose_ids_could_be_known_before(world: World) -> None:
    job = await world.submit(small(n=2))
    done = await world.reaches(job["id"], "completed")
    assert done["generations"] == [str(uuid5(UUID(job["id"]), str(index))) for index in range(2)]
    items, _ = await world.everything(f"{world.p}/generations")
    assert {item["id"] for item in items} == set(done["generations"])
    assert done["credits"] == {"quoted": 20, "charged": 20}
    assert done["submitted_at"] >= done["created_at"]
    assert done["completed_at"] > done["created_at"]


async def test_the_same_submit_again_is_the_same_job(world: World) -> None:
    body = small(id=str(uuid4()))
    first = await world.submit(body)
    assert first["id"] == body["id"]
    await world.ends(first["id"])
    async with world.unchanged():
        again = await world.api.post(f"{world.p}/jobs", json=body)
        assert ok(again, 202)["status"] == "completed"
        assert seq_of(again) == await world.head()
        other = await world.api.post(f"{world.p}/jobs", json=body | {"n": 2})
        assert_problem(other, 409, "idempotency_mismatch")


async def test_twenty_submits_with_one_key_at_once_make_one_job(world: World) -> None:
    body, headers = small(), {"idempotency-key": "once"}
    answers = await asyncio.gather(*(world.api.post(f"{world.p}/jobs", json=body, headers=headers) for _ in range(20)))
    assert len({ok(answer, 202)["id"] for answer in answers}) == 1
    assert (await world.wallet())["held"] in (0, 10)
    done = await world.ends(answers[0].json()["id"])
    assert done["status"] == "completed"
    assert (await world.wallet())["balance"] == 1_000_000 - 10


async def test_quote_hold_and_charge_are_one_amount(world: World) -> None:
    before = await world.wallet()
    for body in (small(n=3), fal(n=2), kie()):
        async with world.unchanged():
            quoted = ok(await world.api.post(f"{world.p}/quote", json=body))
        assert set(quoted) == {"credits"}
        job = await world.submit(body)
        assert job["credits"]["quoted"] == quoted["credits"]
        entries = ok(await world.api.get(f"{world.p}/credits/entries"))["items"]
        [hold] = [each for each in entries if each["job_id"] == job["id"] and each["reason"] == "hold"]
        assert hold["amount"] == -quoted["credits"]
        done = await world.reaches(job["id"], "completed")
        assert done["credits"]["charged"] == quoted["credits"]
        after = await world.wallet()
        assert after["held"] == 0
        assert before["balance"] - after["balance"] == quoted["credits"]
        before = after


async def test_lists_go_on_by_cursor_newest_first_and_narrow_by_status_stage_and_tag(world: World) -> None:
    made = [(await world.submit(small(tags=["odd"] if index % 2 else []))) for index in range(5)]
    for job in made:
        await world.reaches(job["id"], "completed")
    gone = await world.submit(fal({"fail": "content_policy"}, tags=["odd"]))
    await world.reaches(gone["id"], "failed")

    items, _ = await world.everything(f"{world.p}/jobs", limit=2)
    assert [item["id"] for item in items] == [job["id"] for job in (gone, *reversed(made))]
    assert all(set(item) == JOB_FIELDS for item in items)

    async def ids(**asked: object) -> set[str]:
        return {item["id"] for item in ok(await world.api.get(f"{world.p}/jobs", params=asked))["items"]}

    assert await ids(status="failed") == {gone["id"]}
    assert await ids(status=["failed", "completed"]) == {job["id"] for job in (gone, *made)}
    assert await ids(stage="queued") == set()
    assert await ids(tag="odd") == {gone["id"], made[1]["id"], made[3]["id"]}
    assert await ids(tag="odd", status="completed") == {made[1]["id"], made[3]["id"]}
    counts = ok(await world.api.get(f"{world.p}/jobs/counts"))
    assert counts == {"pending": 0, "processing": 0, "completed": 5, "failed": 1, "canceled": 0}
    for asked in ({"status": "done"}, {"stage": "asleep"}, {"limit": 0}, {"limit": 201}):
        assert_problem(await world.api.get(f"{world.p}/jobs", params=asked), 422, "invalid_input")


async def test_a_failed_job_says_why_in_words_and_may_be_retried(world: World) -> None:
    before = await world.wallet()
    job = await world.submit(fal({"fail": "content_policy", "fail_times": 1}))
    failed = await world.reaches(job["id"], "failed")
    error = failed["error"]
    assert set(error) == {"code", "message", "retryable", "provider"}
    assert error["code"] == "content_policy"
    assert error["message"]
    assert set(error["provider"]) == {"name", "status", "body"}
    assert await world.wallet() == before

    answer = await world.api.post(f"/v1/jobs/{job['id']}/retry")
    again = ok(answer, 202)
    assert (again["id"], again["status"], again["error"]) == (job["id"], "pending", None)
    assert seq_of(answer) <= await world.head()
    done = await world.reaches(job["id"], "completed")
    assert done["attempt"] == 2
    assert done["credits"]["charged"] == done["credits"]["quoted"]


async def test_a_retry_that_cannot_be_paid_changes_nothing(world: World) -> None:
    project = await world.new_project(credits=1)
    job = ok(await world.admin.post(f"/v1/projects/{project}/jobs", json=fal({"fail": "content_policy"})), 202)
    assert (await world.ends_in(project, job["id"]))["status"] == "failed"
    spent = ok(await world.admin.post(f"/v1/projects/{project}/jobs", json=fal()), 202)
    assert (await world.ends_in(project, spent["id"]))["status"] == "completed"
    async with world.unchanged():
        answer = await world.admin.post(f"/v1/jobs/{job['id']}/retry")
        assert_problem(answer, 402, "insufficient_credits")


async def test_a_running_job_is_canceled_and_its_credits_come_back(world: World) -> None:
    before = await world.wallet()
    job = await world.submit(fal({"latency_s": 3600}))
    await world.attempt_of(job["id"])
    answer = await world.api.post(f"/v1/jobs/{job['id']}/cancel")
    assert ok(answer)["cancel_requested_at"] or answer.json()["status"] == "canceled"
    assert seq_of(answer)
    done = await world.reaches(job["id"], "canceled")
    assert (done["credits"]["charged"], done["error"]) == (None, None)
    assert await world.wallet() == before
    assert ok(await world.api.post(f"/v1/jobs/{job['id']}/cancel"))["status"] == "canceled", "again is fine"


async def test_a_job_that_has_ended_is_neither_canceled_nor_retried_once_it_completed(world: World) -> None:
    job = await world.submit()
    await world.reaches(job["id"], "completed")
    async with world.unchanged():
        assert_problem(await world.api.post(f"/v1/jobs/{job['id']}/cancel"), 409, "conflict", "completed")
        assert_problem(await world.api.post(f"/v1/jobs/{job['id']}/retry"), 409, "conflict", "completed")
    running = await world.submit(fal({"latency_s": 3600}))
    assert_problem(await world.api.post(f"/v1/jobs/{running['id']}/retry"), 409, "conflict", "going on")


async def test_a_trace_tells_every_step_in_order_and_where_the_job_stands(world: World) -> None:
    job = await world.submit(fal())
    await world.reaches(job["id"], "completed")
    trace = ok(await world.api.get(f"/v1/jobs/{job['id']}/trace"))
    assert (trace["job_id"], trace["stage"]) == (job["id"], "completed")
    assert all(set(step) == {"step", "at", "attempt", "detail"} for step in trace["steps"])
    times = [step["at"] for step in trace["steps"]]
    assert times == sorted(times)
    names = [step["step"] for step in trace["steps"]]
    assert names[0] == "submitted"
    assert names[-1] == "committed"
    assert set(names) >= {"sending", "accepted", "webhook", "provider_done", "downloaded", "stored"}
    assert trace["said"].startswith("Completed")
    assert "webhook told of it" in trace["said"]

    stuck = await world.submit(fal({"latency_s": 3600}))
    await world.attempt_of(stuck["id"])
    said = ok(await world.api.get(f"/v1/jobs/{stuck['id']}/trace"))["said"]
    assert "provider" in said
    assert "ago" in said


async def test_a_jobs_events_are_told_until_the_end(world: World) -> None:
    job = await world.submit(fal({"latency_s": 1.5, "queue_s": 0.3}))
    async with world.events(f"/v1/jobs/{job['id']}/events") as events:
        seen = await events.rest()
    assert seen[-1].event == "end", "the server ends the stream"
    assert [event.event for event in seen].count("end") == 1
    assert {event.event for event in seen[:-1]} <= {"job", "progress", "log"}
    stages = [json.loads(event.data)["stage"] for event in seen if event.event in ("job", "end")]
    assert stages[-1] == "completed"
    assert len(set(stages)) == len(stages), "each stage once"
    assert json.loads(seen[-1].data) == await world.job(job["id"])

    async with world.events(f"/v1/jobs/{job['id']}/events") as events:
        assert [event.event for event in await events.rest()] == ["end"], "of one that has ended, at once"


async def test_twenty_readers_of_a_silent_job_cost_the_provider_one_look(build: Build, emulators: Address) -> None:
    """J5: the webhook was lost, and the scheduled look is far away; the readers find the result themselves."""
    async with counted(emulators) as line:
        hosts = (emulators.base_url.partition("://")[2], line.host)
        world = await build(fal_queue_url=f"http://{line.host}/fal/queue", allow_hosts=hosts)
        job = await world.submit(fal({"webhook": "lost", "latency_s": 0.5}))
        task = (await world.attempt_of(job["id"]))["id"]

        async def is_done() -> bool:
            async with httpx.AsyncClient(trust_env=False, base_url=emulators.fal_url) as direct:
                path = f"/queue/fal-ai/flux/requests/{task}/status"
                answer = await direct.get(path, headers={"authorization": "Key id:secret"})
                return answer.json()["status"] == "COMPLETED"

        async def accepted() -> bool:
            silence = (
                "update job_work w set heard_at = now() - interval '1 hour', look_at = now() + interval '1 hour'"
                " from jobs j where j.id = w.job_id and j.id = $1 and j.stage in ('submitted', 'running')"
                " and w.lease_until is null returning true"
            )
            return await world.value(silence, UUID(job["id"]))

        await until(is_done, "the provider to be done")
        await until(accepted, "the job to be at the provider, and nobody to work on it")
        before = line.asked("GET", "/status")
        key = world.api.headers["authorization"].split()[1]
        readers = [world.client(key) for _ in range(20)]
        answers = await asyncio.gather(*(reader.get(f"/v1/jobs/{job['id']}") for reader in readers))
        assert all(ok(answer)["status"] in ("processing", "completed") for answer in answers)
        assert (await world.reaches(job["id"], "completed"))["credits"]["charged"] == 1
        assert line.asked("GET", "/status") == before + 1
        assert line.asked("POST", "") == 1
        names = [step["step"] for step in ok(await world.api.get(f"/v1/jobs/{job['id']}/trace"))["steps"]]
        assert names.count("provider_done") == 1
        assert "webhook" not in names


async def test_a_target_shot_has_the_result_and_a_target_node_shows_it(world: World) -> None:
    shot = ok(await world.api.post(f"{world.p}/shots", json={"name": "Opening"}), 201)
    node = ok(await world.api.post(f"{world.p}/nodes", json={"type": "image"}), 201)
    placed = await world.submit(small(target={"shot_id": shot["id"], "position": "a5"}))
    shown = await world.submit(small(target={"node_id": node["id"]}))
    assert placed["target"] == {"shot_id": shot["id"], "position": "a5"}
    [in_shot] = (await world.reaches(placed["id"], "completed"))["generations"]
    [on_node] = (await world.reaches(shown["id"], "completed"))["generations"]
    found = ok(await world.api.get(f"/v1/generations/{in_shot}"))
    assert found["shots"] == [{"shot_id": shot["id"], "position": "a5"}]
    [drawn] = ok(await world.api.get(f"{world.p}/nodes"))["items"]
    assert on_node in json.dumps(drawn["data"])
    listed = ok(await world.api.get(f"{world.p}/generations", params={"shot_id": shot["id"]}))["items"]
    assert [item["id"] for item in listed] == [in_shot]
    for target in ({"shot_id": shot["id"], "node_id": node["id"]}, {}, {"node_id": node["id"], "position": "a0"}):
        assert_problem(await world.api.post(f"{world.p}/jobs", json=small(target=target)), 422, "invalid_input")


async def test_a_template_is_filled_at_submit(world: World) -> None:
    content = {
        "name": "Poster",
        "model": "local/aurora",
        "input": {"prompt": "{BRAND} at {TIME}", "width": 64, "height": 64, "seed": "{SEED}"},
    }
    made = ok(await world.api.post(f"{world.p}/templates", json={"slug": "poster", **content}), 201)
    assert made["variables"] == ["BRAND", "SEED", "TIME"]
    variables = {"BRAND": "Acme", "TIME": "dawn", "SEED": 7}
    body = {"template": "poster", "variables": variables}
    quoted = ok(await world.api.post(f"{world.p}/quote", json=body))["credits"]
    job = await world.submit(body)
    assert job["model"] == "local/aurora"
    assert (job["input"]["prompt"], job["input"]["seed"]) == ("Acme at dawn", 7)
    assert (job["template"], job["variables"]) == ("poster", variables)
    assert job["credits"]["quoted"] == quoted
    ok(await world.api.delete(f"{world.p}/templates/poster"), 204)
    assert (await world.reaches(job["id"], "completed"))["template"] == "poster"


async def test_grants_count_once_and_the_history_adds_up(world: World) -> None:
    project = await world.new_project(credits=0)
    path = f"/v1/projects/{project}/credits"
    grant = {"amount": 500, "key": "invoice-1", "note": "hello"}
    first = await world.admin.post(f"{path}/grants", json=grant)
    assert ok(first, 201) == {"balance": 500, "held": 0, "available": 500}
    assert seq_of(first) == seq_of(await world.admin.get(path))
    async with world.unchanged():
        assert ok(await world.admin.post(f"{path}/grants", json=grant), 201)["balance"] == 500
        other = await world.admin.post(f"{path}/grants", json=grant | {"amount": 600})
        assert_problem(other, 409, "conflict", "invoice-1")
        for amount in (0, -1, 10**13, 1.5, "many"):
            answer = await world.admin.post(f"{path}/grants", json={"amount": amount, "key": "x"})
            assert_problem(answer, 422, "invalid_input")
    for index in range(2, 5):
        ok(await world.admin.post(f"{path}/grants", json={"amount": index, "key": f"invoice-{index}"}), 201)
    job = ok(await world.admin.post(f"/v1/projects/{project}/jobs", json=small()), 202)
    await world.ends_in(project, job["id"])

    items: list[dict] = []
    cursor = None
    while True:
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = ok(await world.admin.get(f"{path}/entries", params=params))
        items += page["items"]
        if (cursor := page["next_cursor"]) is None:
            break
    assert [item["reason"] for item in items] == ["capture", "hold", "grant", "grant", "grant", "grant"]
    balance = 0
    for item in reversed(items):
        balance += item["amount"] if item["reason"] != "hold" else 0
        assert item["balance"] == balance
    assert items[0]["balance"] == ok(await world.admin.get(path))["balance"] == 499
    assert items[-1]["note"] == "hello"
    assert items[0]["job_id"] == job["id"]
