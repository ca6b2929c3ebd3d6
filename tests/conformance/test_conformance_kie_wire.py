"""KIE has no official client: its wire is held against the examples of its documentation (providers.md §2)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import httpx
import pytest

from safelight.emulators.serve import Address, running
from safelight.emulators.settings import EmulatorSettings

DEADLINE_S = 60.0
T = TypeVar("T")

RECORD = json.loads(
    r"""{"code":200,"msg":"success","data":{
  "taskId":"task_12345678","model":"google/nano-banana","state":"success",
  "param":"{\"model\":\"google/nano-banana\",\"callBackUrl\":\"…\",\"input\":{\"prompt\":\"…\"}}",
  "resultJson":"{\"resultUrls\":[\"https://tempfile.aiquickdraw.com/…png\"]}",
  "failCode":"","failMsg":"","costTime":15000,"completeTime":1698765432000,"createTime":1698765400000,
  "updateTime":1698765432000,"creditsConsumed":4}}"""
)
CALLBACK_DONE = json.loads(
    r"""{"code":200,"msg":"Playground task completed successfully.","data":{"taskId":"e989621f54392584b05867f87b160672",
  "model":"google/nano-banana","state":"success","param":"{}","resultJson":"{\"resultUrls\":[\"https://…\"]}",
  "costTime":8,"creditsConsumed":4,"completeTime":1755599644000,"createTime":1755599634000,
  "updateTime":1755599644000,"failCode":null,"failMsg":null}}"""
)
CALLBACK_FAILED = json.loads(
    r"""{"code":501,"msg":"Playground task failed.","data":{"taskId":"bd3a37c523149e4adf45a3ddb5faf1a8",
  "model":"google/nano-banana","state":"fail","param":"{}","resultJson":null,"costTime":0,
  "completeTime":1755597081000,"createTime":1755596341000,"failCode":"500","failMsg":"Internal server error"}}"""
)
VEO_RECORD = json.loads(
    r"""{"code":200,"msg":"success","data":{"taskId":"veo_task_…","paramJson":"{}","successFlag":1,
  "response":{"taskId":"veo_task_…","resultUrls":["http://…/v.mp4"],"originUrls":["http://…"],"resolution":"1080p"},
  "createTime":"2025-06-06 10:25:00","completeTime":"2025-06-06 10:30:00","errorCode":null,"errorMessage":"",
  "fallbackFlag":false}}"""
)
VEO_CALLBACK = json.loads(
    r"""{"code":200,"msg":"…","data":{"taskId":"…","promptJson":"{}","info":{"resultUrls":["u"],"originUrls":["u"],
  "resolution":"1080p"},"fallbackFlag":false}}"""
)


def form(value: Any) -> Any:
    """Names and kinds without the values."""
    if isinstance(value, dict):
        return {name: form(each) for name, each in sorted(value.items())}
    if isinstance(value, list):
        return [form(each) for each in value[:1]]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


@pytest.fixture(scope="module")
def at() -> Iterator[Address]:
    with running(EmulatorSettings(kie_webhook_hmac_key="test_hmac_key")) as address:
        yield address


@pytest.fixture(scope="module")
def kie(at: Address) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=at.kie_url, headers={"Authorization": "Bearer key"}, timeout=DEADLINE_S) as client:
        yield client


@pytest.fixture
def callbacks() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Where callbacks go, and what has come."""
    came: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hooks/kie/a-1/t", came
    server.shutdown()
    thread.join()
    server.server_close()


def poll(look: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + DEADLINE_S
    while (found := look()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def task(**faults: Any) -> dict[str, Any]:
    """The documented example, small and quick."""
    return {
        "model": "google/nano-banana-edit",
        "input": {
            "prompt": "make it night",
            "image_urls": ["https://example.com/a.png"],
            "output_format": "png",
            "image_size": "1:1",
            "_emulator": {"latency_s": 0.2, **faults},
        },
    }


def record_of(kie: httpx.Client, task_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        answer = kie.get("/api/v1/jobs/recordInfo", params={"taskId": task_id})
        assert answer.status_code == 200
        return answer.json() if answer.json()["data"]["state"] in ("success", "fail") else None

    return poll(look)


def test_create_record_and_callback_have_the_documented_form(
    kie: httpx.Client, callbacks: tuple[str, list[dict[str, Any]]]
):
    url, came = callbacks
    created = kie.post("/api/v1/jobs/createTask", json={**task(), "callBackUrl": url})
    assert (created.status_code, created.json()["code"], created.json()["msg"]) == (200, 200, "success")
    task_id = created.json()["data"]["taskId"]
    assert set(created.json()["data"]) == {"taskId"}

    record = record_of(kie, task_id)
    assert form(record) == form(RECORD)
    param = json.loads(record["data"]["param"])
    assert json.loads(param["input"])["prompt"] == "make it night"
    assert record["data"]["completeTime"] - record["data"]["createTime"] >= 200, "unix milliseconds"
    [result_url] = json.loads(record["data"]["resultJson"])["resultUrls"]
    assert httpx.get(result_url).content.startswith(b"\x89PNG\r\n\x1a\n")

    poll(lambda: came or None)
    assert form(came[0]) == form(CALLBACK_DONE)
    assert came[0]["data"]["taskId"] == task_id


def test_a_failure_has_the_documented_form(kie: httpx.Client, callbacks: tuple[str, list[dict[str, Any]]]):
    url, came = callbacks
    created = kie.post("/api/v1/jobs/createTask", json={**task(fail="transient"), "callBackUrl": url})
    record = record_of(kie, created.json()["data"]["taskId"])
    poll(lambda: came or None)
    documented = form(CALLBACK_FAILED)
    assert {name: kind for name, kind in form(came[0])["data"].items() if name != "updateTime"} == documented["data"]
    assert (came[0]["code"], came[0]["msg"]) == (501, "Playground task failed.")
    assert (record["data"]["state"], record["data"]["failCode"]) == ("fail", "500")


def test_veo_has_the_documented_form(kie: httpx.Client, callbacks: tuple[str, list[dict[str, Any]]]):
    url, came = callbacks
    body = {
        "prompt": "A dog in a park",
        "model": "veo3_fast",
        "aspect_ratio": "16:9",
        "seeds": 12345,
        "callBackUrl": url,
        "enableTranslation": True,
        "generationType": "TEXT_2_VIDEO",
        "duration": 1,
        "_emulator": {"latency_s": 0.2},
    }
    task_id = kie.post("/api/v1/veo/generate", json=body).json()["data"]["taskId"]

    def look() -> dict[str, Any] | None:
        answer = kie.get("/api/v1/veo/record-info", params={"taskId": task_id}).json()
        return answer if answer["data"]["successFlag"] else None

    record = poll(look)
    assert form(record) == form(VEO_RECORD)
    assert json.loads(record["data"]["paramJson"])["generationType"] == "TEXT_2_VIDEO"
    clip = httpx.get(record["data"]["response"]["resultUrls"][0])
    assert (clip.headers["content-type"], clip.content[4:8]) == ("video/mp4", b"ftyp")
    poll(lambda: came or None)
    assert form(came[0]) == form(VEO_CALLBACK)


def test_credits_and_download_url(kie: httpx.Client):
    before = kie.get("/api/v1/chat/credit").json()
    record = record_of(kie, kie.post("/api/v1/jobs/createTask", json=task()).json()["data"]["taskId"])
    after = kie.get("/api/v1/chat/credit").json()
    assert form(before) == {"code": "number", "data": "number", "msg": "str"}
    assert before["data"] - after["data"] == record["data"]["creditsConsumed"]
    [url] = json.loads(record["data"]["resultJson"])["resultUrls"]
    signed = kie.post("/api/v1/common/download-url", json={"url": url}).json()
    assert form(signed) == {"code": "number", "data": "str", "msg": "str"}
    assert httpx.get(signed["data"]).content == httpx.get(url).content


@pytest.mark.parametrize(
    ("request_line", "code"),
    [(("GET", "/api/v1/jobs/recordInfo?taskId=nobody"), 422), (("POST", "/api/v1/jobs/createTask"), 422)],
)
def test_errors_are_http_200_with_a_code(kie: httpx.Client, request_line: tuple[str, str], code: int):
    answer = kie.request(*request_line)
    assert (answer.status_code, answer.json()["code"]) == (200, code)


def test_unmatched_routes_are_a_real_404(kie: httpx.Client):
    assert kie.get("/api/v1/jobs/listTasks").status_code == 404
