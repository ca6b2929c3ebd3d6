"""The emulated Replicate behaves as providers.md §3 says, and refuses what its pages say it refuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from safelight.emulators.serve import serving
from safelight.emulators.settings import EmulatorSettings

DEADLINE_S = 30.0
MODEL = "/v1/models/black-forest-labs/flux-schnell/predictions"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(EmulatorSettings(media_threads=1)) as at,
        httpx.AsyncClient(
            base_url=at.replicate_url, headers={"Authorization": "Bearer t"}, timeout=DEADLINE_S, trust_env=False
        ) as client,
    ):
        yield client


def body(faults: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    given = {"prompt": "a fox", "width": 64, "height": 64, "_emulator": {"latency_s": 0.05, **(faults or {})}}
    return {"input": {**given, **more}}


async def ended(client: httpx.AsyncClient, prediction: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        now = (await client.get(f"/v1/predictions/{prediction['id']}")).json()
        if now["status"] not in ("starting", "processing"):
            return now
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_prefer_wait_holds_the_answer_until_the_end_or_its_time(client: httpx.AsyncClient):
    waited = await client.post(MODEL, json=body(), headers={"Prefer": "wait"})
    assert (waited.status_code, waited.json()["status"]) == (201, "succeeded")
    cut = await client.post(MODEL, json=body({"latency_s": 60, "queue_s": 60}), headers={"Prefer": "wait=1"})
    assert (cut.status_code, cut.json()["status"]) == (201, "starting")
    at_once = await client.post(MODEL, json=body({"latency_s": 60, "queue_s": 60}))
    assert at_once.json()["status"] == "starting"


async def test_states_times_and_numbers_fit_together(client: httpx.AsyncClient):
    made = await ended(client, (await client.post(MODEL, json=body({"latency_s": 0.4, "queue_s": 0.2}))).json())
    assert made["status"] == "succeeded"
    assert made["created_at"] < made["started_at"] < made["completed_at"]
    assert 0 < made["metrics"]["predict_time"] < made["metrics"]["total_time"]
    assert made["logs"].count("/28") == 28
    assert (made["version"], made["model"]) == ("hidden", "black-forest-labs/flux-schnell")


async def test_a_canceled_prediction_that_never_began_has_no_start(client: httpx.AsyncClient):
    created = (await client.post(MODEL, json=body({"latency_s": 60, "queue_s": 60}))).json()
    canceled = (await client.post(f"/v1/predictions/{created['id']}/cancel")).json()
    assert (canceled["status"], canceled["started_at"]) == ("canceled", None)
    again = await client.post(f"/v1/predictions/{created['id']}/cancel")
    assert (again.status_code, again.json()["status"]) == (200, "canceled")


async def test_aborted_comes_on_request_only(client: httpx.AsyncClient):
    made = await ended(client, (await client.post(MODEL, json=body({"fail": "aborted"}))).json())
    assert (made["status"], made["started_at"], made["logs"]) == ("aborted", None, "")


@pytest.mark.parametrize(
    ("path", "given"),
    [
        (MODEL, {}),
        (MODEL, {"input": "x"}),
        (MODEL, {"input": {"prompt": ""}}),
        (MODEL, {"input": {"prompt": "x", "width": 7}}),
        (MODEL, {"input": {"prompt": "x", "_emulator": {"fail": "nothing known"}}}),
        (MODEL, {"input": {"prompt": "x"}, "webhook": "mailto:a@b"}),
        (MODEL, {"input": {"prompt": "x"}, "webhook_events_filter": ["everything"]}),
        ("/v1/predictions", {"input": {"prompt": "x"}}),
        ("/v1/predictions", {"input": {"prompt": "x"}, "version": "latest"}),
    ],
)
async def test_wrong_requests_are_problems_and_nothing_is_accepted(
    client: httpx.AsyncClient, path: str, given: dict[str, Any]
):
    answer = await client.post(path, json=given)
    assert answer.status_code == 422
    assert answer.json()["status"] == 422
    assert (await client.get("/_emulator/requests")).json() == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
async def test_bodies_of_another_form_do_not_break_it(client: httpx.AsyncClient, content: bytes):
    assert (await client.post(MODEL, content=content)).status_code == 422


async def test_the_list_goes_back_page_by_page(client: httpx.AsyncClient):
    created = [(await client.post(MODEL, json=body({"result": "none"}))).json()["id"] for _ in range(103)]
    first = (await client.get("/v1/predictions")).json()
    assert first["previous"] is None
    second = (await client.get(first["next"])).json()
    assert second["next"] is None
    assert [each["id"] for each in first["results"] + second["results"]] == created[::-1]
    odd = (await client.get("/v1/predictions?cursor=nonsense")).json()
    assert [each["id"] for each in odd["results"]] == created[:2:-1]


async def test_everything_but_files_and_streams_wants_a_token(client: httpx.AsyncClient):
    for method, path in (
        ("POST", MODEL),
        ("GET", "/v1/predictions"),
        ("GET", "/v1/predictions/x"),
        ("POST", "/v1/predictions/x/cancel"),
        ("GET", "/v1/webhooks/default/secret"),
        ("POST", "/v1/files"),
        ("GET", "/v1/account"),
    ):
        answer = await client.request(method, path, headers={"Authorization": ""})
        assert (answer.status_code, answer.json()["title"]) == (401, "Unauthenticated"), path


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"no end"),
        ("multipart/form-data; boundary=b", b"--b\r\nnonsense\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="other"\r\n\r\nx\r\n--b--\r\n',
        ),
    ],
)
async def test_an_upload_of_another_form_is_refused(client: httpx.AsyncClient, content_type: str, content: bytes):
    answer = await client.post("/v1/files", content=content, headers={"content-type": content_type})
    assert answer.status_code in (400, 422)
    assert (await client.get("/v1/files/nothing")).status_code == 404
