"""fal: what its answers mean. The wire itself is met in tests/integration/providers."""

from __future__ import annotations

import json

import pytest

from safelight.providers.base import (
    AccountProblem,
    Canceled,
    Failed,
    Missing,
    Running,
    Succeeded,
    TaskRef,
    Transient,
    Unchanged,
    Waiting,
)
from safelight.providers.fal import FalProvider, FalSettings, app_of
from safelight.providers.http import Answer

REF = TaskRef("id-1", "fal-ai/flux/dev", {"kind": "image"})
IMAGE = {"images": [{"url": "https://v3.fal.media/a.png", "content_type": "image/png", "width": 8, "height": 8}]}


def answer(status: int, body: object, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, body, json.dumps(body))


COMPLETED = answer(200, {"status": "COMPLETED", "logs": [], "metrics": {"inference_time": 3.4}})


def named(kind: str) -> Answer:
    """A COMPLETED that names an error itself."""
    return answer(200, {"status": "COMPLETED", "logs": None, "error": "It broke", "error_type": kind})


def typed(kind: str, status: int) -> Answer:
    """A model's own error."""
    return answer(status, {"detail": [{"loc": ["body", "prompt"], "msg": "m", "type": kind}]})


class Scripted:
    """fal's answers in order; remembers where we asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str]] = []

    async def read(self, method, url, **_):
        self.asked.append((method, url))
        return self.answers.pop(0)


def provider(*answers: Answer) -> FalProvider:
    made = FalProvider(FalSettings(key="id:secret"))
    made._api = Scripted(*answers)
    return made


async def seen(*answers: Answer):
    return await provider(*answers).inspect(REF)


@pytest.mark.parametrize(
    ("endpoint", "app"),
    [
        ("fal-ai/flux/dev", "fal-ai/flux"),
        ("fal-ai/flux", "fal-ai/flux"),
        ("fal-ai/kling-video/v2/master/text-to-video", "fal-ai/kling-video"),
        ("workflows/me/mine/sub", "workflows/me/mine"),
        ("comfy/me/mine", "comfy/me/mine"),
    ],
)
def test_requests_are_filed_under_owner_and_alias(endpoint, app):
    assert app_of(endpoint) == app


@pytest.mark.parametrize(
    ("status", "body", "means"),
    [
        (202, {"status": "IN_QUEUE", "queue_position": 2}, Waiting(2)),
        (202, {"status": "IN_QUEUE"}, Waiting(None)),
        (202, {"status": "IN_PROGRESS", "logs": None}, Running(logs=[])),
        (404, {"status": "NOT_FOUND"}, Missing()),
        (202, {"status": "REVIEWING"}, Unchanged("REVIEWING")),
        (200, "what?", Unchanged('"what?"')),
        (400, {"detail": "odd"}, Unchanged('{"detail": "odd"}')),
    ],
)
async def test_a_status_becomes_an_observation(status, body, means):
    assert await seen(answer(status, body)) == means


async def test_logs_and_the_last_of_them_are_shown():
    logs = [{"message": "step 1/28", "level": "INFO"}, {"message": " "}, "odd", {"message": "step 2/28"}]
    assert await seen(answer(202, {"status": "IN_PROGRESS", "logs": logs})) == Running(
        message="step 2/28", logs=["step 1/28", "step 2/28"]
    )


async def test_a_completed_task_is_what_its_result_says():
    done = await seen(
        COMPLETED, answer(200, {**IMAGE, "seed": 7, "has_nsfw_concepts": [True]}, x_fal_billable_units="1")
    )
    assert isinstance(done, Succeeded)
    (output,) = done.outputs
    assert output.url == "https://v3.fal.media/a.png"
    assert output.mime == "image/png"
    assert output.meta == {"width": 8, "height": 8, "seed": 7, "nsfw": True}
    assert done.cost == {"billable_units": "1", "inference_s": 3.4}


@pytest.mark.parametrize(
    ("status", "result", "code", "transient"),
    [
        # A validation failure is COMPLETED without an error (TanStack/ai#396).
        (COMPLETED, typed("missing", 422), "invalid_input", False),
        (COMPLETED, typed("content_policy_violation", 422), "content_policy", False),
        (COMPLETED, typed("generation_timeout", 504), "provider_timeout", True),
        (COMPLETED, answer(500, {"detail": "model broke"}), "provider_failed", True),
        (named("request_timeout"), answer(504, {"error_type": "request_timeout"}), "provider_timeout", True),
        (named("runner_disconnected"), answer(503, None), "provider_failed", True),
        (named("an_error_from_next_year"), answer(200, {}), "provider_failed", True),
        (COMPLETED, answer(200, {"images": []}), "no_output", False),
        (COMPLETED, answer(200, None), "no_output", False),
        (COMPLETED, answer(404, {"detail": "Request not found"}), "result_expired", False),
        (COMPLETED, answer(410, None), "result_expired", False),
    ],
)
async def test_a_completed_task_without_media_has_failed(status, result, code, transient):
    failed = await seen(status, result)
    assert isinstance(failed, Failed)
    assert (failed.failure.code, failed.failure.transient) == (code, transient)


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (named("client_cancelled"), answer(499, None)),
        (named("client_cancelled"), answer(404, None)),
        (COMPLETED, answer(499, {"detail": "x", "error_type": "client_cancelled"})),
    ],
)
async def test_a_canceled_task_is_told_from_a_failed_one(status, result):
    assert await seen(status, result) == Canceled()


@pytest.mark.parametrize("gateway", [502, 503, 504])
async def test_a_result_that_cannot_be_fetched_just_now_does_not_fail_the_job(gateway):
    with pytest.raises(Transient):
        await seen(COMPLETED, answer(gateway, {"detail": "Gateway timeout"}))


async def test_media_counts_even_where_the_status_names_an_error():
    assert isinstance(await seen(named("odd"), answer(200, IMAGE)), Succeeded)


async def test_a_requeue_between_two_questions_changes_nothing():
    assert isinstance(await seen(COMPLETED, answer(400, {"detail": "Request is still in progress"})), Unchanged)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_status_that_cannot_be_read_says_nothing_about_the_task(status):
    with pytest.raises(Transient) as caught:
        await seen(answer(status, None, retry_after="7"))
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, {"detail": "Authentication is required"}, "provider_key"),
        (403, {"detail": "User is locked. Reason: Exhausted balance. Top up at fal.ai"}, "provider_balance"),
        (403, {"detail": "Forbidden"}, "provider_key"),
        (402, None, "provider_balance"),
    ],
)
async def test_trouble_with_our_account_is_the_operators_and_shows_no_vendor_text(status, body, code):
    with pytest.raises(AccountProblem) as caught:
        await seen(answer(status, body))
    assert caught.value.failure.code == code
    assert caught.value.failure.body is None
    assert "fal.ai" not in caught.value.failure.message


@pytest.mark.parametrize(
    ("status", "outcome"), [(202, "requested"), (200, "requested"), (400, "too_late"), (404, "too_late")]
)
async def test_cancel_tells_what_it_came_to(status, outcome):
    made = provider(answer(status, None))
    assert (await made.cancel(REF)).outcome == outcome
    assert made._api.asked == [("PUT", "https://queue.fal.run/fal-ai/flux/requests/id-1/cancel")]


async def test_cancel_that_did_not_get_through_may_be_asked_again():
    with pytest.raises(Transient):
        await provider(answer(503, None)).cancel(REF)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:5432/",
        "https://queue.fal.run.evil.example/x",
        "https://evil.example/fal.run",
        "https://user@queue.fal.run/x",
        "http://queue.fal.run/x",
        "https://queue.fal.run:8443/x",
        "ftp://queue.fal.run/x",
        "https://[",
    ],
)
async def test_our_key_never_follows_a_url_to_a_stranger(url):
    made = provider(answer(202, {"status": "IN_QUEUE"}))
    await made.inspect(TaskRef("id-1", "fal-ai/flux/dev", {"status_url": url}))
    assert made._api.asked == [("GET", "https://queue.fal.run/fal-ai/flux/requests/id-1/status")]


@pytest.mark.parametrize(
    "url",
    ["https://queue.fal.run/fal-ai/flux/dev/requests/id-1/status", "https://queue.falrun.com/x/requests/id-1/status"],
)
async def test_the_urls_fal_gave_are_used(url):
    made = provider(answer(202, {"status": "IN_QUEUE"}))
    await made.inspect(TaskRef("id-1", "fal-ai/flux/dev", {"status_url": url}))
    assert made._api.asked == [("GET", url)]


async def test_a_strange_task_id_climbs_nowhere():
    made = provider(answer(202, {"status": "IN_QUEUE"}))
    await made.inspect(TaskRef("../../x?y", "fal-ai/flux/dev"))
    assert made._api.asked == [("GET", "https://queue.fal.run/fal-ai/flux/requests/..%2F..%2Fx%3Fy/status")]
