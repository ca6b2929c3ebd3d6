"""Faults on the way in, in the reading and in the files; and what the emulator remembers of it all (P7)."""

from __future__ import annotations

import asyncio
import io
import json

import httpx
import pytest
from emulator_desk import Desk, Inbox, open_desk
from PIL import Image, UnidentifiedImageError

from safelight.emulators.app import PROVIDERS
from safelight.emulators.settings import EmulatorSettings

MB = 1024 * 1024


# --- submit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["fal", "kie"])
async def test_an_accepted_submit_can_lose_its_answer(desk: Desk, inbox: Inbox, provider: str):
    submit = desk.fal_submit if provider == "fal" else desk.kie_create
    with pytest.raises(httpx.TransportError):
        await submit(inbox.url, faults={"submit": "lose_answer"})
    [accepted] = await desk.accepted()
    assert (accepted["provider"], accepted["attempt"]) == (provider, "attempt-1")
    await inbox.holds(1)  # it lives on all the same


@pytest.mark.parametrize("provider", ["fal", "kie"])
async def test_a_lost_request_looks_the_same_and_was_not_accepted(desk: Desk, provider: str):
    submit = desk.fal_submit if provider == "fal" else desk.kie_create
    with pytest.raises(httpx.TransportError):
        await submit(faults={"submit": "lose_request"})
    assert await desk.accepted() == []


async def test_fal_refuses_a_patient_client_twice_and_then_accepts(desk: Desk, inbox: Inbox):
    answers = [await desk.fal_submit(inbox.url, faults={"submit": "429"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "1"
    assert len(await desk.accepted()) == 1


async def test_a_refusal_may_come_without_a_hint_when_to_retry(desk: Desk):
    answer = await desk.fal_submit(faults={"submit": "429", "retry_after_s": None})
    assert "retry-after" not in answer.headers


async def test_kie_refuses_in_the_envelope(desk: Desk):
    faults = {"submit": "455", "submit_times": 1}
    answers = [await desk.kie_create(faults=faults) for _ in range(2)]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(200, 455), (200, 200)]


async def test_an_empty_purse_is_fals_403(desk: Desk):
    answer = await desk.fal_submit(faults={"submit": "402"})
    assert answer.status_code == 403
    assert "Exhausted balance" in answer.json()["detail"]


@pytest.mark.parametrize("fault", ["500_accepted", "garbage", "slow"])
@pytest.mark.parametrize("provider", ["fal", "kie"])
async def test_an_unreadable_or_slow_answer_can_hide_an_accepted_task(desk: Desk, provider: str, fault: str):
    submit = desk.fal_submit if provider == "fal" else desk.kie_create
    answer = await submit(faults={"submit": fault})
    assert answer.status_code in (200, 500)
    assert len(await desk.accepted()) == 1


async def test_a_submit_that_hangs_leaves_the_client_to_its_timeout(desk: Desk):
    with pytest.raises(httpx.ReadTimeout):
        await desk.fal.post(
            "/queue/fal-ai/flux", json={"prompt": "x", "_emulator": {"submit": "hang"}}, timeout=httpx.Timeout(0.3)
        )
    assert len(await desk.accepted()) == 1


async def test_unknown_faults_are_refused_by_both(desk: Desk):
    fal = await desk.fal_submit(faults={"webhook": "eaten"})
    kie = await desk.kie_create(faults={"fail": "boredom"})
    assert (fal.status_code, kie.json()["code"]) == (422, 422)
    assert "lost" in fal.text
    assert await desk.accepted() == []


# --- status and result ----------------------------------------------------------------------------------------------


async def test_fals_status_can_be_ill_for_a_while(desk: Desk):
    for fault, http in (("unknown", 202), ("500", 500), ("404", 404)):
        submitted = await desk.fal_submit(faults={"status": fault, "status_times": 2})
        url = submitted.json()["status_url"]
        codes = [(await desk.fal.get(url)).status_code for _ in range(2)]
        assert codes == [http, http]
        assert (await desk.fal_ended(submitted)).status_code == 200


async def test_kies_record_can_be_ill_for_a_while(desk: Desk):
    created = await desk.kie_create(faults={"status": "unknown", "status_times": 1})
    url = f"/api/v1/jobs/recordInfo?taskId={created.json()['data']['taskId']}"
    assert (await desk.kie.get(url)).json()["data"]["state"] == "reviewing"
    assert (await desk.kie_ended(created))["state"] == "success"


async def test_a_result_can_fail_once_after_completed(desk: Desk):
    submitted = await desk.fal_submit(faults={"result_504_once": True})
    assert (await desk.fal_result(submitted)).status_code == 504
    assert (await desk.fal_result(submitted)).status_code == 200


async def test_a_result_can_be_gone_although_completed(desk: Desk):
    assert (await desk.fal_result(await desk.fal_submit(faults={"result": "gone"}))).status_code == 404


async def test_a_failure_can_strike_a_few_times_only(desk: Desk):
    faults = {"fail": "transient", "fail_times": 1}
    codes = [(await desk.fal_result(await desk.fal_submit(faults=faults))).status_code for _ in range(2)]
    assert codes == [503, 200]


# --- files ----------------------------------------------------------------------------------------------------------


async def file_url(desk: Desk, fault: str) -> str:
    submitted = await desk.fal_submit(faults={"result": fault}, output_format="png")
    return (await desk.fal_result(submitted)).json()["images"][0]["url"]


@pytest.mark.parametrize(("fault", "status"), [("expired", 404), ("forbidden", 403)])
async def test_a_file_can_be_out_of_reach(desk: Desk, fault: str, status: int):
    assert (await desk.fal.get(await file_url(desk, fault))).status_code == status


async def test_a_truncated_file_is_a_whole_answer_with_half_a_picture(desk: Desk):
    answer = await desk.fal.get(await file_url(desk, "truncated"))
    assert answer.status_code == 200
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(answer.content)).load()


async def test_a_cut_file_ends_in_a_broken_connection(desk: Desk):
    with pytest.raises(httpx.TransportError):
        await desk.fal.get(await file_url(desk, "cut"))


async def test_a_wrong_type_says_picture_and_is_none(desk: Desk):
    answer = await desk.fal.get(await file_url(desk, "wrong_type"))
    assert answer.headers["content-type"] == "image/png"
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(answer.content))


async def test_a_mislabeled_file_is_a_picture_and_does_not_say_so(desk: Desk):
    answer = await desk.fal.get(await file_url(desk, "mislabeled"))
    assert answer.headers["content-type"] == "application/octet-stream"
    Image.open(io.BytesIO(answer.content)).load()


async def test_a_huge_file_begins_well_and_goes_on(desk: Desk):
    size = 0
    async with desk.fal.stream("GET", await file_url(desk, "huge")) as answer:
        assert "content-length" not in answer.headers
        async for chunk in answer.aiter_bytes():
            if size == 0:
                assert chunk.startswith(b"\x89PNG")
            size += len(chunk)
            if size > 20 * MB:
                break
    assert size > 20 * MB


async def test_a_huge_file_is_not_endless():
    async with open_desk(EmulatorSettings(huge_bytes=MB)) as desk:
        answer = await desk.fal.get(await file_url(desk, "huge"))
    assert MB <= len(answer.content) < 2 * MB


async def test_results_can_point_into_private_networks(desk: Desk):
    assert (await file_url(desk, "private_url")).startswith("http://169.254.169.254/")
    answer = await desk.fal.get(await file_url(desk, "redirect_private"))
    assert answer.status_code == 302
    assert answer.headers["location"].startswith("http://169.254.169.254/")


async def test_a_redirect_leads_to_the_file(desk: Desk):
    answer = await desk.fal.get(await file_url(desk, "redirect"), follow_redirects=True)
    assert answer.content.startswith(b"\x89PNG")


async def test_a_slow_file_arrives_whole(desk: Desk):
    answer = await desk.fal.get(await file_url(desk, "slow"))
    Image.open(io.BytesIO(answer.content)).load()


async def test_success_without_media(desk: Desk):
    result = await desk.fal_result(await desk.fal_submit(faults={"result": "none"}))
    assert (result.status_code, result.json()["images"]) == (200, [])
    done = await desk.kie_ended(await desk.kie_create(faults={"result": "none"}))
    assert json.loads(done["resultJson"]) == {"resultUrls": []}


# --- the emulator's own pages ---------------------------------------------------------------------------------------


async def test_accepted_submits_are_listed_with_what_was_asked(desk: Desk):
    await desk.fal_submit("http://127.0.0.1:1/hooks/fal/0197-a/t", num_images=2)
    await desk.kie_create()
    fal = (await desk.fal.get("/_emulator/requests")).json()
    kie = (await desk.kie.get("/_emulator/requests")).json()
    assert [each["provider"] for each in await desk.accepted()] == ["fal", "kie"]
    assert (len(fal), len(kie)) == (1, 1)
    assert (fal[0]["model"], fal[0]["attempt"], fal[0]["input"]["num_images"]) == ("fal-ai/flux/dev", "0197-a", 2)
    assert fal[0]["webhook_url"] == "http://127.0.0.1:1/hooks/fal/0197-a/t"
    assert "_emulator" not in fal[0]["input"]
    assert fal[0]["at"] > 0


async def test_the_lists_can_be_cleared(desk: Desk, inbox: Inbox):
    await desk.fal_submit(inbox.url)
    await inbox.holds(1)
    for name in ("requests", "deliveries"):
        assert (await desk.fal.delete(f"/_emulator/{name}")).status_code == 204
        assert (await desk.fal.get(f"/_emulator/{name}")).json() == []


async def test_faults_for_all_hold_until_they_are_taken_back(desk: Desk):
    put = await desk.fal.put("/_emulator/faults", json={"fail": "content_policy", "latency_s": 0.05})
    assert put.json() == {"fal": {"fail": "content_policy", "latency_s": 0.05}}
    assert (await desk.fal_result(await desk.fal_submit())).status_code == 422
    assert (await desk.kie_ended(await desk.kie_create()))["state"] == "success"
    await desk.fal.delete("/_emulator/faults")
    assert (await desk.fal_result(await desk.fal_submit())).status_code == 200


async def test_faults_can_be_set_for_all_providers_at_once(desk: Desk):
    rule = {"probability": {"webhook": {"lost": 0.3, "late": 0.3, "double": 0.2}}, "seed": 7}
    put = await desk.fal.put(f"{desk.at.base_url}/_emulator/faults", json=rule)
    assert set(PROVIDERS) <= set(put.json())
    assert all(each == rule for each in put.json().values())
    assert (await desk.fal.get(f"{desk.at.base_url}/_emulator/faults")).json() == put.json()


@pytest.mark.parametrize("body", [b"", b"[]", b'{"webhook":"eaten"}', b'{"probability":{"webhook":2}}', b"x" * 300_000])
async def test_bad_rules_change_nothing(desk: Desk, body: bytes):
    await desk.fal.put("/_emulator/faults", json={"webhook": "lost"})
    answer = await desk.fal.put("/_emulator/faults", content=body)
    assert answer.status_code in (413, 422)
    assert answer.json()["detail"]
    assert (await desk.fal.get("/_emulator/faults")).json() == {"fal": {"webhook": "lost"}}


async def test_sixty_requests_at_once_all_end(desk: Desk):
    faults = {"latency_s": 0.2}
    submitted = await asyncio.gather(*(desk.fal_submit(seed=1, faults=faults) for _ in range(60)))
    results = await asyncio.gather(*(desk.fal_result(each) for each in submitted))
    assert {result.status_code for result in results} == {200}
    assert len({result.headers["x-fal-request-id"] for result in results}) == 60
