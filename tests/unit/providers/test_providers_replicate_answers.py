"""What Replicate's answers mean: outputs of every form, progress from logs, failures told apart, webhooks proven."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from safelight.providers.base import (
    Canceled,
    Failed,
    Rejected,
    Running,
    SubmitRequest,
    Succeeded,
    Transient,
    Unchanged,
    Waiting,
    WebhookForged,
    WebhookRequest,
)
from safelight.providers.http import Answer, Api
from safelight.providers.replicate import create_request
from safelight.providers.replicate_answers import LOGS_MAX, prediction_outputs, read_prediction, refusal
from safelight.providers.replicate_webhook import REFETCH_S, ReplicateSecret, verify_note

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
OTHER = "whsec_FxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA"


def prediction(status: str, **more: Any) -> dict[str, Any]:
    return {"id": "p1", "status": status, "output": None, "logs": "", "error": None, **more}


# --- outputs ----------------------------------------------------------------------------------------------------

URL = "https://replicate.delivery/a/out-0.webp"


@pytest.mark.parametrize(
    ("output", "urls"),
    [
        (URL, [URL]),
        ([URL, URL + "2"], [URL, URL + "2"]),
        ({"image": URL, "mask": URL + "m"}, [URL, URL + "m"]),
        ({"files": [{"url": URL}]}, [URL]),
        ([[URL], {"deep": {"deeper": [URL + "d"]}}], [URL, URL + "d"]),
        (["a poem, ", "in pieces"], []),
        (None, []),
        (7, []),
        ("ftp://elsewhere/a.png", []),
    ],
)
def test_urls_are_found_in_an_output_of_any_form(output: Any, urls: list[str]):
    assert [each.url for each in prediction_outputs(output, "image")] == urls


def test_a_data_uri_in_an_output_becomes_bytes():
    (output,) = prediction_outputs([f"data:image/png;base64,{base64.b64encode(b'png').decode()}"], "image")
    assert (output.data, output.mime) == (b"png", "image/png")


def test_the_start_image_of_the_input_is_never_taken_for_a_result():
    seen = read_prediction(prediction("succeeded", input={"image": URL}, output=[]), "image")
    assert isinstance(seen, Failed)
    assert seen.failure.code == "no_output"


def test_an_output_of_endless_depth_or_length_ends():
    deep: Any = URL
    for _ in range(500):
        deep = [deep]
    assert prediction_outputs(deep, "image") == []
    assert len(prediction_outputs([f"{URL}?{n}" for n in range(10_000)], "image")) == 32


# --- states -----------------------------------------------------------------------------------------------------


def test_every_state_has_its_meaning():
    assert read_prediction(prediction("starting"), "image") == Waiting()
    assert read_prediction(prediction("canceled"), "image") == Canceled()
    assert read_prediction(prediction("reviewing"), "image") == Unchanged("reviewing")
    assert read_prediction({}, "image") == Unchanged("None")
    done = read_prediction(prediction("succeeded", output=URL, metrics={"predict_time": 1.5, "odd": []}), "image")
    assert isinstance(done, Succeeded)
    assert done.cost == {"predict_time": 1.5}


@pytest.mark.parametrize(
    ("logs", "percent"),
    [
        ("", None),
        (None, None),
        ("loading weights", None),
        (" 14%|█▍        | 4/28 [00:01<00:05, 4.4it/s]", 14.0),
        ("  3%|▏| 1/28\r 50%|█████| 14/28\rdone soon", 50.0),
        ("accuracy 99% | of all", None),
        ("100%|██████████| 28/28", 100.0),
        ("999%|██████████| 28/28", None),
    ],
)
def test_percent_comes_from_a_bar_in_the_logs_and_is_never_invented(logs: Any, percent: float | None):
    seen = read_prediction(prediction("processing", logs=logs), "image")
    assert isinstance(seen, Running)
    assert seen.percent == percent


def test_endless_logs_are_cut():
    seen = read_prediction(prediction("processing", logs="x" * 10_000_000 + "\n" + "line\n" * 1000), "image")
    assert isinstance(seen, Running)
    assert len(seen.logs) == LOGS_MAX


@pytest.mark.parametrize(
    ("error", "code", "transient"),
    [
        ("NSFW content detected. Try running it again, or try a different prompt.", "content_policy", False),
        ("The input or output was flagged as sensitive. Please try again (E005)", "content_policy", False),
        ("Prediction interrupted; please retry (code: PA)", "provider_failed", True),
        ("Director: unexpected error handling prediction (E9243)", "provider_failed", True),
        ("Request timed out", "provider_failed", True),
        ("CUDA out of memory. Tried to allocate 2 GiB", "invalid_input", False),
        ("width must be a multiple of 8", "invalid_input", False),
        ("list index out of range", "provider_failed", False),
        (None, "provider_failed", False),
        ({"odd": 1}, "provider_failed", False),
    ],
)
def test_a_failure_is_told_apart_by_its_words(error: Any, code: str, transient: bool):
    seen = read_prediction(prediction("failed", error=error), "image")
    assert isinstance(seen, Failed)
    assert (seen.failure.code, seen.failure.transient) == (code, transient)


def test_what_is_kept_with_a_failure_is_small_and_not_our_request():
    seen = read_prediction(prediction("failed", error="x" * 50_000, input={"prompt": "secret"}), "image")
    assert isinstance(seen, Failed)
    assert len(json.dumps(seen.failure.body)) < 2000
    assert "secret" not in json.dumps(seen.failure.body)


def test_a_refusal_names_the_fields():
    body = {"title": "Input validation failed", "detail": "- input", "invalid_fields": [
        {"type": "required", "field": "input.prompt", "description": "prompt is required"}, "odd"]}  # fmt: skip
    told = refusal(Answer(422, {}, body, ""))
    assert told.code == "invalid_input"
    assert "input.prompt: prompt is required" in told.message


# --- what is sent -----------------------------------------------------------------------------------------------


def request(endpoint: str, webhook: str | None = "https://h/hooks/replicate/a/t") -> SubmitRequest:
    return SubmitRequest("a", endpoint, "image", {"prompt": "x"}, 1, webhook)


@pytest.mark.parametrize(
    ("endpoint", "path", "version"),
    [
        ("black-forest-labs/flux-schnell", "/models/black-forest-labs/flux-schnell/predictions", None),
        ("a/b:" + "0f" * 32, "/predictions", "0f" * 32),
        ("0f" * 32, "/predictions", "0f" * 32),
        ("deployments/acme/mine", "/deployments/acme/mine/predictions", None),
        ("a/b?c=d", "/models/a/b%3Fc%3Dd/predictions", None),
    ],
)
def test_an_endpoint_decides_the_path(endpoint: str, path: str, version: str | None):
    found, body = create_request(request(endpoint))
    assert (found, body.get("version")) == (path, version)
    assert body["input"] == {"prompt": "x"}
    assert (body["webhook"], body["webhook_events_filter"]) == ("https://h/hooks/replicate/a/t", ["completed"])


def test_without_a_webhook_none_is_named():
    assert set(create_request(request("a/b", None))[1]) == {"input"}


@pytest.mark.parametrize("endpoint", ["", "a", "a/b:main", "a/b/c", "/", "a//b", "deployments/a"])
def test_what_names_no_model_is_rejected(endpoint: str):
    if endpoint == "deployments/a":
        assert create_request(request(endpoint))[0] == "/models/deployments/a/predictions"
        return
    with pytest.raises(Rejected):
        create_request(request(endpoint))


# --- webhooks ---------------------------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def fetching(
    answer: Callable[[], httpx.Response], clock: Clock, configured: str | None = None
) -> tuple[ReplicateSecret, list[httpx.Request]]:
    """The secret over a transport of ours that counts."""
    asked: list[httpx.Request] = []

    def handle(given: httpx.Request) -> httpx.Response:
        asked.append(given)
        return answer()

    api = Api({}, base_urls=("http://127.0.0.1",))
    api._client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    return ReplicateSecret(api, "http://127.0.0.1/secret", configured, clock), asked


def signed(secret: str, body: bytes = b'{"id":"p1","status":"succeeded"}', message_id: str = "msg_1") -> WebhookRequest:
    now = datetime.now(UTC).replace(microsecond=0)
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, body.decode()),
    }
    return WebhookRequest(headers, body, now)


async def test_what_the_standard_library_signs_is_believed():
    secret, asked = fetching(lambda: httpx.Response(200, json={"key": SECRET}), Clock())
    note = await verify_note(signed(SECRET), secret)
    assert (note.event_key, note.task_id, note.observation) == ("msg_1", "p1", None)
    await verify_note(signed(SECRET, message_id="msg_2"), secret)
    assert len(asked) == 1


async def test_a_changed_secret_is_fetched_anew_but_not_for_every_forger():
    clock, keys = Clock(), [SECRET]
    secret, asked = fetching(lambda: httpx.Response(200, json={"key": keys[0]}), clock)
    await verify_note(signed(SECRET), secret)
    for _ in range(5):
        with pytest.raises(WebhookForged):
            await verify_note(signed(OTHER), secret)
    assert len(asked) == 1
    keys[0] = OTHER
    clock.now += REFETCH_S + 1
    assert (await verify_note(signed(OTHER), secret)).task_id == "p1"
    assert len(asked) == 2


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.Response(401, json={}),
        httpx.Response(200, json={"key": "whsec_!"}),
        httpx.Response(200, text="?"),
    ],
)
async def test_a_secret_that_cannot_be_had_is_asked_for_once_in_a_while(answer: httpx.Response):
    clock = Clock()
    secret, asked = fetching(lambda: httpx.Response(answer.status_code, content=answer.content), clock)
    for _ in range(4):
        with pytest.raises(Transient):
            await verify_note(signed(SECRET), secret)
    assert len(asked) == 1


async def test_a_configured_secret_asks_nobody():
    secret, asked = fetching(lambda: httpx.Response(500), Clock(), SECRET)
    assert (await verify_note(signed(SECRET), secret)).task_id == "p1"
    with pytest.raises(WebhookForged):
        await verify_note(signed(OTHER), secret)
    assert asked == []


@pytest.mark.parametrize("body", [b"{}", b"[]", b"?", b'{"id":7}', b'{"id":""}'])
async def test_a_signed_webhook_that_names_no_prediction_is_refused(body: bytes):
    secret, _ = fetching(lambda: httpx.Response(500), Clock(), SECRET)
    with pytest.raises(WebhookForged):
        await verify_note(signed(SECRET, body), secret)


async def test_a_webhook_without_a_signature_asks_for_no_secret():
    secret, asked = fetching(lambda: httpx.Response(200, json={"key": SECRET}), Clock())
    with pytest.raises(WebhookForged):
        await verify_note(WebhookRequest({}, b"{}", datetime.now(UTC)), secret)
    assert asked == []
