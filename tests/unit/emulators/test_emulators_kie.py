"""KIE behaves as providers.md §2 says, and refuses what its pages say it refuses."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from emulator_desk import Desk, Inbox, open_desk

from safelight.emulators.settings import EmulatorSettings


async def test_states_follow_each_other(desk: Desk):
    created = await desk.kie_create(faults={"latency_s": 1.5, "queue_s": 1.0})
    seen: list[str] = []
    while not seen or seen[-1] != "success":
        answer = await desk.kie.get("/api/v1/jobs/recordInfo", params={"taskId": created.json()["data"]["taskId"]})
        assert answer.status_code == 200
        state = answer.json()["data"]["state"]
        if not seen or seen[-1] != state:
            seen.append(state)
        await asyncio.sleep(0.01)
    assert seen == ["waiting", "queuing", "generating", "success"]


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("google/nano-banana", {"prompt": ""}),
        ("google/nano-banana", {"prompt": "x" * 5001}),
        ("google/nano-banana", {"image_size": "7:5"}),
        ("google/nano-banana", {"image_size": {"width": 1}}),
        ("google/nano-banana", {"output_format": "bmp"}),
        ("google/nano-banana-edit", {}),
        ("google/nano-banana-edit", {"image_urls": ["http://x/a.png"] * 11}),
        ("google/nano-banana-edit", {"image_urls": "http://x/a.png"}),
        ("", {}),
    ],
)
async def test_bad_parameters_are_a_422_in_an_http_200_and_nothing_is_accepted(
    desk: Desk, model: str, given: dict[str, Any]
):
    answer = await desk.kie_create(model=model, **given)
    assert (answer.status_code, answer.json()["code"]) == (200, 422)
    assert await desk.accepted() == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model":"m"}', b'{"model":"m","input":[]}', b'{"model":7}'])
async def test_bodies_of_another_form_do_not_break_it(desk: Desk, body: bytes):
    answer = await desk.kie.post("/api/v1/jobs/createTask", content=body)
    assert (answer.status_code, answer.json()["code"]) == (200, 422)


async def test_without_a_key_the_code_is_401(desk: Desk):
    async with httpx.AsyncClient(base_url=desk.at.kie_url) as stranger:
        for answer in (
            await stranger.post("/api/v1/jobs/createTask", json={}),
            await stranger.get("/api/v1/jobs/recordInfo?taskId=x"),
            await stranger.get("/api/v1/chat/credit"),
            await stranger.post("/api/v1/common/download-url", json={}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (200, 401)


async def test_codes_can_be_mirrored_in_http():
    async with open_desk(EmulatorSettings(kie_mirror_code_in_http=True)) as desk:
        assert (await desk.kie_create(prompt="")).status_code == 422


async def test_an_account_without_credits_gets_a_402():
    async with open_desk(EmulatorSettings(kie_credits=4)) as desk:
        await desk.kie_ended(await desk.kie_create())
        assert (await desk.kie.get("/api/v1/chat/credit")).json()["data"] == 0
        assert (await desk.kie_create()).json()["code"] == 402


async def test_more_than_the_rate_is_a_429_and_does_not_enter_the_queue():
    async with open_desk(EmulatorSettings(kie_rate_per_10s=2)) as desk:
        codes = [(await desk.kie_create()).json()["code"] for _ in range(4)]
        assert codes == [200, 200, 429, 429]
        assert len(await desk.accepted()) == 2


async def test_a_failure_has_a_code_and_a_text(desk: Desk):
    failed = await desk.kie_ended(await desk.kie_create(faults={"fail": "content_policy"}))
    assert (failed["state"], failed["failCode"]) == ("fail", "400")
    assert "content policies" in failed["failMsg"]
    assert failed["resultJson"] == ""


async def test_a_url_that_has_expired_can_be_signed_anew():
    async with open_desk(EmulatorSettings(kie_url_lifetime_s=0.0)) as desk:
        done = await desk.kie_ended(await desk.kie_create())
        url = json.loads(done["resultJson"])["resultUrls"][0]
        assert (await desk.kie.get(url)).status_code == 403
        signed = (await desk.kie.post("/api/v1/common/download-url", json={"url": url})).json()["data"]
        assert (await desk.kie.get(signed)).content.startswith(b"\x89PNG")


async def test_a_signed_url_is_good_for_a_while_only():
    async with open_desk(EmulatorSettings(kie_signed_url_lifetime_s=0.0)) as desk:
        done = await desk.kie_ended(await desk.kie_create())
        url = json.loads(done["resultJson"])["resultUrls"][0]
        signed = (await desk.kie.post("/api/v1/common/download-url", json={"url": url})).json()["data"]
        assert (await desk.kie.get(signed)).status_code == 403
        assert (await desk.kie.post("/api/v1/common/download-url", json={"url": "http://e/x.png"})).json()[
            "code"
        ] == 422


async def test_veo_has_its_own_endpoints_and_flags(desk: Desk, inbox: Inbox):
    body = {
        "prompt": "a dog",
        "width": 64,
        "height": 64,
        "duration": 1,
        "callBackUrl": inbox.url,
        "_emulator": {"latency_s": 0.05},
    }
    created = await desk.kie.post("/api/v1/veo/generate", json=body)
    task_id = created.json()["data"]["taskId"]
    assert task_id.startswith("veo_task_")
    done = await desk.kie_ended(created, "/api/v1/veo/record-info")
    assert (done["successFlag"], done["response"]["taskId"]) == (1, task_id)
    await inbox.holds(1)
    told = json.loads(inbox.bodies[0])
    assert told["data"]["info"]["resultUrls"] == done["response"]["resultUrls"]
    assert (await desk.kie.get("/api/v1/jobs/recordInfo", params={"taskId": task_id})).json()["code"] == 422
    assert (await desk.kie.get(done["response"]["resultUrls"][0])).content[4:8] == b"ftyp"


@pytest.mark.parametrize(("fail", "flag", "code"), [("content_policy", 2, 400), ("transient", 3, 500)])
async def test_veo_tells_refusals_from_breakdowns(desk: Desk, inbox: Inbox, fail: str, flag: int, code: int):
    body = {"prompt": "x", "callBackUrl": inbox.url, "_emulator": {"latency_s": 0.05, "fail": fail}}
    created = await desk.kie.post("/api/v1/veo/generate", json=body)
    done = await desk.kie_ended(created, "/api/v1/veo/record-info")
    await inbox.holds(1)
    assert done["successFlag"] == flag
    assert json.loads(inbox.bodies[0])["code"] == code


async def test_there_is_no_cancel(desk: Desk):
    answer = await desk.kie.post("/api/v1/jobs/cancel", json={"taskId": "x"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
