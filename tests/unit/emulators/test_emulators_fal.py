"""fal's queue behaves as providers.md §1 says."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import httpx
import pytest
from emulator_desk import DEADLINE_S, Desk, open_desk
from PIL import Image

from safelight.emulators.settings import EmulatorSettings


async def test_a_submit_answers_at_once_with_the_urls_that_clients_follow(desk: Desk):
    submitted = await desk.fal_submit(model="fal-ai/flux/dev/image-to-image")
    body = submitted.json()
    base = f"{desk.at.fal_url}/queue/fal-ai/flux/requests/{body['request_id']}"
    assert submitted.status_code == 200
    assert body["status"] == "IN_QUEUE"
    assert body["response_url"] == base
    assert body["status_url"] == f"{base}/status"
    assert body["cancel_url"] == f"{base}/cancel"
    assert submitted.headers["x-fal-request-id"] == body["request_id"]


async def test_the_status_is_202_until_it_is_200(desk: Desk):
    submitted = await desk.fal_submit(faults={"latency_s": 0.6, "queue_s": 0.3})
    seen: dict[str, set[int]] = {}
    while "COMPLETED" not in seen:
        status = await desk.fal.get(submitted.json()["status_url"], params={"logs": "true"})
        seen.setdefault(status.json()["status"], set()).add(status.status_code)
        await asyncio.sleep(0.02)
    assert seen == {"IN_QUEUE": {202}, "IN_PROGRESS": {202}, "COMPLETED": {200}}


async def test_logs_come_only_when_asked_for(desk: Desk):
    submitted = await desk.fal_submit()
    status = await desk.fal_ended(submitted)
    assert status.json()["logs"][-1]["message"] == "step 28/28"
    assert set(status.json()["logs"][0]) == {"message", "level", "source", "timestamp"}
    assert status.json()["metrics"]["inference_time"] > 0
    for word in ("0", "false"):
        silent = await desk.fal.get(submitted.json()["status_url"], params={"logs": word})
        assert silent.json()["logs"] is None


async def test_the_result_is_the_models_own_answer_with_real_pictures(desk: Desk):
    submitted = await desk.fal_submit(num_images=2, seed=5, image_size={"width": 96, "height": 64})
    result = await desk.fal_result(submitted)
    body = result.json()
    assert (result.status_code, body["seed"], len(body["images"])) == (200, 5, 2)
    assert result.headers["x-fal-billable-units"] == "2"
    files = [await desk.fal.get(image["url"]) for image in body["images"]]
    assert files[0].content != files[1].content
    for image, file in zip(body["images"], files, strict=True):
        assert file.headers["content-type"] == image["content_type"] == "image/jpeg"
        assert len(file.content) == image["file_size"]
        assert Image.open(io.BytesIO(file.content)).size == (image["width"], image["height"]) == (96, 64)


async def test_a_video_model_gives_a_real_clip(desk: Desk):
    size = {"width": 64, "height": 64}
    submitted = await desk.fal_submit(model="fal-ai/kling-video/v2/master", duration="1", video_size=size)
    video = (await desk.fal_result(submitted)).json()["video"]
    file = await desk.fal.get(video["url"])
    assert file.headers["content-type"] == "video/mp4"
    assert file.content[4:8] == b"ftyp"


async def test_a_result_that_is_not_there_yet_is_a_400(desk: Desk):
    submitted = await desk.fal_submit(faults={"latency_s": 30})
    early = await desk.fal.get(submitted.json()["response_url"])
    assert (early.status_code, early.json()) == (400, {"detail": "Request is still in progress"})


async def test_a_missing_prompt_is_accepted_and_fails_in_the_result_only(desk: Desk):
    submitted = await desk.fal_submit(prompt=None)
    status = await desk.fal_ended(submitted)
    result = await desk.fal.get(submitted.json()["response_url"])
    assert submitted.status_code == 200
    assert "error" not in status.json()
    assert result.status_code == 422
    assert result.json()["detail"][0]["loc"] == ["body", "prompt"]
    assert result.json()["detail"][0]["type"] == "missing"


@pytest.mark.parametrize(
    ("fail", "http", "said"),
    [
        ("content_policy", 422, "content_policy_violation"),
        ("image_too_small", 422, "image_too_small"),
        ("generation_timeout", 504, "generation_timeout"),
    ],
)
async def test_model_errors_come_as_a_list(desk: Desk, fail: str, http: int, said: str):
    result = await desk.fal_result(await desk.fal_submit(faults={"fail": fail}))
    assert result.status_code == http
    assert result.json()["detail"][0]["type"] == said


async def test_platform_errors_come_flat_and_show_in_the_status(desk: Desk):
    submitted = await desk.fal_submit(faults={"fail": "transient"})
    status = await desk.fal_ended(submitted)
    result = await desk.fal.get(submitted.json()["response_url"])
    assert status.json()["error_type"] == "runner_disconnected"
    assert result.status_code == 503
    assert result.json()["error_type"] == result.headers["x-fal-error-type"] == "runner_disconnected"


async def test_a_start_timeout_ends_a_request_that_waited_too_long(desk: Desk):
    body = {"prompt": "x", "_emulator": {"latency_s": 30, "queue_s": 30}}
    headers = {"X-Fal-Request-Timeout": "0.2"}
    submitted = await desk.fal.post("/queue/fal-ai/flux/dev", json=body, headers=headers)
    result = await desk.fal_result(submitted)
    assert result.status_code == 504
    assert result.headers["x-fal-request-timeout-type"] == "user"


async def test_a_queue_that_is_longer_than_the_caller_accepts_is_a_429(desk: Desk):
    for _ in range(2):
        await desk.fal_submit(faults={"latency_s": 30, "queue_s": 30})
    url = "/queue/fal-ai/flux/dev?fal_max_queue_length=1"
    assert (await desk.fal.post(url, json={"prompt": "x"})).status_code == 429
    assert (await desk.fal.post(url.replace("=1", "=5"), json={"prompt": "x"})).status_code == 200


async def test_a_request_can_be_followed_as_events_whose_logs_are_increments(desk: Desk):
    submitted = await desk.fal_submit(faults={"latency_s": 0.5})
    async with desk.fal.stream("GET", submitted.json()["status_url"] + "/stream", params={"logs": "1"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line async for line in answer.aiter_lines() if line]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    logs = [log["message"] for event in events for log in event.get("logs") or []]
    assert events[0]["status"] == "IN_QUEUE"
    assert [event["status"] for event in events].count("COMPLETED") == 1
    assert events[-1]["status"] == "COMPLETED"
    assert logs == [f"step {step}/28" for step in range(1, 29)]


async def test_a_requeued_request_goes_back_into_the_queue_and_still_completes(desk: Desk):
    submitted = await desk.fal_submit(faults={"requeue": True, "latency_s": 0.9, "queue_s": 0.1})
    seen: list[str] = []
    while not seen or seen[-1] != "COMPLETED":
        state = (await desk.fal.get(submitted.json()["status_url"])).json()["status"]
        if not seen or seen[-1] != state:
            seen.append(state)
        await asyncio.sleep(0.01)
    assert seen == ["IN_QUEUE", "IN_PROGRESS", "IN_QUEUE", "IN_PROGRESS", "COMPLETED"]


# --- cancel ---------------------------------------------------------------------------------------------------------


async def test_a_cancel_wins_while_the_request_waits(desk: Desk):
    submitted = await desk.fal_submit(faults={"latency_s": 30})
    cancel = await desk.fal.put(submitted.json()["cancel_url"])
    status = await desk.fal_ended(submitted)
    result = await desk.fal.get(submitted.json()["response_url"])
    assert (cancel.status_code, cancel.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    assert status.json()["error_type"] == "client_cancelled"
    assert result.status_code == 499


async def test_a_cancel_can_lose_the_race_and_the_result_arrives(desk: Desk):
    submitted = await desk.fal_submit(faults={"cancel": "ignored", "latency_s": 0.3})
    assert (await desk.fal.put(submitted.json()["cancel_url"])).status_code == 202
    assert (await desk.fal_result(submitted)).status_code == 200


async def test_a_cancel_that_comes_too_late_is_told_so(desk: Desk):
    submitted = await desk.fal_submit(faults={"cancel": "too_late", "latency_s": 30})
    cancel = await desk.fal.put(submitted.json()["cancel_url"])
    assert (cancel.status_code, cancel.json()) == (400, {"status": "ALREADY_COMPLETED"})
    assert (await desk.fal_result(submitted)).status_code == 200


async def test_a_canceled_request_may_vanish(desk: Desk):
    submitted = await desk.fal_submit(faults={"cancel": "missing", "latency_s": 30})
    await desk.fal.put(submitted.json()["cancel_url"])
    statuses: list[int] = []
    while 404 not in statuses:
        statuses.append((await desk.fal.get(submitted.json()["status_url"])).status_code)
    assert (await desk.fal.get(submitted.json()["response_url"])).json() == {"status": "NOT_FOUND"}


# --- retention, doors, keys -----------------------------------------------------------------------------------------


async def test_a_result_is_kept_for_its_lifetime_only():
    async with open_desk(EmulatorSettings(result_lifetime_s=0.3)) as desk:
        submitted = await desk.fal_submit()
        assert (await desk.fal_result(submitted)).status_code == 200
        answers: list[int] = [200]
        while answers[-1] == 200:
            answers.append((await desk.fal.get(submitted.json()["response_url"])).status_code)
            await asyncio.sleep(0.02)
        assert answers[-1] == 404
        assert (await desk.fal.get(submitted.json()["status_url"])).json()["status"] == "COMPLETED"


async def test_a_big_result_is_kept_for_less_time():
    settings = EmulatorSettings(result_lifetime_s=3600, big_result_lifetime_s=0)
    async with open_desk(settings) as desk:
        big = await desk.fal_submit(sync_mode=True, image_size={"width": 256, "height": 256})
        assert (await desk.fal_result(big)).status_code == 404
        assert (await desk.fal_result(await desk.fal_submit())).status_code == 200


async def test_inline_results_are_data_uris(desk: Desk):
    result = await desk.fal_result(await desk.fal_submit(sync_mode=True, output_format="png"))
    assert result.json()["images"][0]["url"].startswith("data:image/png;base64,iVBOR")


@pytest.mark.parametrize("header", [{}, {"Authorization": ""}, {"Authorization": "Basic x"}])
async def test_without_a_key_nothing_is_accepted(desk: Desk, header: dict[str, str]):
    async with httpx.AsyncClient(base_url=desk.at.fal_url) as stranger:
        answer = await stranger.post("/queue/fal-ai/flux/dev", json={"prompt": "x"}, headers=header)
    assert answer.status_code == 401
    assert await desk.accepted() == []


async def test_only_known_keys_when_some_are_named():
    async with open_desk(EmulatorSettings(fal_keys=frozenset({"c:d"}))) as desk:
        assert (await desk.fal_submit()).status_code == 401
        desk.fal.headers["Authorization"] = "Key c:d"
        assert (await desk.fal_submit()).status_code == 200


async def test_unknown_requests_and_foreign_apps_are_not_found(desk: Desk):
    submitted = await desk.fal_submit()
    foreign = submitted.json()["status_url"].replace("fal-ai/flux", "fal-ai/other")
    assert (await desk.fal.get("/queue/fal-ai/flux/requests/nope/status")).json() == {"status": "NOT_FOUND"}
    assert (await desk.fal.get(foreign)).status_code == 404
    assert (await desk.fal.put("/queue/fal-ai/flux/requests/nope/cancel")).status_code == 404


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"{", b"\xff\xfe"])
async def test_bodies_that_are_no_object_do_not_break_it(desk: Desk, body: bytes):
    answer = await desk.fal.post("/queue/fal-ai/flux/dev", content=body)
    assert answer.status_code == (200 if body == b"" else 422)


async def test_the_long_forms_of_the_urls_work_too(desk: Desk):
    submitted = await desk.fal_submit()
    await desk.fal_ended(submitted)
    request_id = submitted.json()["request_id"]
    for path in (f"fal-ai/flux/dev/requests/{request_id}", f"fal-ai/flux/requests/{request_id}/response"):
        assert (await desk.fal.get(f"/queue/{path}")).status_code == 200


async def test_namespaced_and_old_endpoint_ids(desk: Desk):
    named = await desk.fal_submit(model="workflows/me/flow/run")
    old = await desk.fal_submit(model="1234-my-app")
    assert "/queue/workflows/me/flow/requests/" in named.json()["status_url"]
    assert "/queue/1234/my-app/requests/" in old.json()["status_url"]
    assert (await desk.fal_submit(model="nothing")).status_code == 404


async def test_a_direct_run_answers_with_the_result(desk: Desk):
    body = {"prompt": "x", "image_size": {"width": 64, "height": 64}, "_emulator": {"latency_s": 0.1}}
    result = await desk.fal.post("/run/fal-ai/flux/dev", json=body)
    assert result.status_code == 200
    assert result.json()["images"]
    streamed = await desk.fal.post("/run/fal-ai/flux/dev/stream", json=body)
    assert json.loads(streamed.text.strip().split("data: ")[-1])["images"][0]["url"]


async def test_direct_runs_are_limited_in_number():
    async with open_desk(EmulatorSettings(fal_run_concurrency=1)) as desk:
        slow = asyncio.create_task(
            desk.fal.post("/run/fal-ai/flux", json={"prompt": "x", "_emulator": {"latency_s": 1.0}})
        )
        async with asyncio.timeout(DEADLINE_S):
            while not await desk.accepted():
                await asyncio.sleep(0.01)
        refused = await desk.fal.post("/run/fal-ai/flux", json={"prompt": "x"})
        assert refused.status_code == 429
        assert refused.headers["x-fal-needs-retry"] == "1"
        assert (await slow).status_code == 200


async def test_the_proxy_refuses_targets_that_are_not_fals(desk: Desk):
    for target in ("https://example.com/x", "http://queue.fal.run/fal-ai/flux", "https://rest.fal.ai/tokens/", ""):
        answer = await desk.fal.post("/proxy", headers={"x-fal-target-url": target}, json={})
        assert (answer.status_code, answer.json()) == (400, "Invalid request")
    assert (await desk.fal.delete("/proxy")).status_code == 405


async def test_large_uploads_go_in_parts(desk: Desk):
    begun = (
        await desk.fal.post(
            "/rest/storage/upload/initiate-multipart?storage_type=fal-cdn-v3",
            json={"content_type": "video/mp4", "file_name": "a.mp4"},
        )
    ).json()
    url, _, query = begun["upload_url"].partition("?")
    parts: list[dict[str, Any]] = []
    for number, data in ((2, b"world"), (1, b"hello ")):
        parts.append((await desk.fal.put(f"{url}/{number}?{query}", content=data)).json())
    assert (await desk.fal.get(begun["file_url"])).status_code == 404
    assert (await desk.fal.post(f"{url}/complete?{query}", json={"parts": [{"partNumber": 3}]})).status_code == 400
    assert (await desk.fal.post(f"{url}/complete?{query}", json={"parts": parts})).status_code == 200
    file = await desk.fal.get(begun["file_url"])
    assert (file.content, file.headers["content-type"]) == (b"hello world", "video/mp4")


async def test_the_python_clients_way_of_uploading(desk: Desk):
    token = (await desk.fal.post("/rest/storage/auth/token?storage_type=fal-cdn-v3", json={})).json()
    headers = {"Authorization": f"{token['token_type']} {token['token']}", "Content-Type": "image/png"}
    answer = await desk.fal.post("/files/upload", content=b"\x89PNG", headers={**headers, "X-Fal-File-Name": "a.png"})
    file = await desk.fal.get(answer.json()["access_url"])
    assert (file.content, file.headers["content-type"]) == (b"\x89PNG", "image/png")
    assert answer.json()["access_url"].endswith(".png")


async def test_every_task_ends_when_the_emulator_stops():
    async with open_desk(EmulatorSettings()) as desk:
        for _ in range(5):
            await desk.fal_submit(faults={"latency_s": 600})
    assert not [task for task in asyncio.all_tasks() if "_live" in repr(task.get_coro())]
