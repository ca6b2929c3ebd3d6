"""What the door says of a job, in fal's words (K4, providers.md §1.4, §1.6, §1.8, §1.10)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from safelight.access.errors import Forbidden, Unauthorized
from safelight.compat.fal import answers
from safelight.compat.fal.answers import Urls
from safelight.compat.fal.door import Held, TooManyHeld
from safelight.compat.fal.errors import of_error, of_failure
from safelight.compat.fal.files import _OURS, _texts
from safelight.compat.fal.queue import EventStream
from safelight.compat.fal.run import wait_of
from safelight.compat.fal.seen_logs import SeenLogs
from safelight.compat.fal.signing import Signer
from safelight.jobs.errors import JobConflict, JobError
from safelight.jobs.lifecycle import Stage
from safelight.media.errors import UploadInUse
from safelight.providers.failures import CODES

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
URLS = Urls("https://h/compat/fal", "fal-ai/flux/dev", "the-id")


def a_job(stage: str, **given: Any) -> dict[str, Any]:
    return {
        "stage": stage, "kind": "image", "input": {"prompt": "x"}, "error": None, "queue_position": None, "logs": [],
        "running_at": None, "accepted_at": AT, "submitted_at": AT, "created_at": AT, "completed_at": None, **given,
    }  # fmt: skip


def a_generation(**given: Any) -> dict[str, Any]:
    return {
        "id": uuid4(), "files": {"original": "p/x/original.png"}, "mime": "image/png", "bytes": 7, "width": 4,
        "height": 3, "duration_s": None, "meta": {}, **given,
    }  # fmt: skip


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_is_one_of_the_three_states_with_what_clients_insist_on(stage: Stage) -> None:
    row = a_job(stage.value, completed_at=AT, error={"code": "provider_failed", "message": "It broke."})
    said = answers.status(row, URLS, with_logs=True)
    state = said.body["status"]
    assert (state, said.status) in (("IN_QUEUE", 202), ("IN_PROGRESS", 202), ("COMPLETED", 200))
    assert said.body["response_url"] == "https://h/compat/fal/fal-ai/flux/requests/the-id"
    assert isinstance(said.body["queue_position"] if state == "IN_QUEUE" else said.body["logs"], int | list)
    is_bad = stage in (Stage.FAILED, Stage.CANCELED, Stage.EXPIRED)
    assert ("error" in said.body, "error_type" in said.body) == (is_bad, is_bad)


def test_logs_are_given_only_where_asked_for() -> None:
    row = a_job("running", logs=["step 1"])
    [line] = answers.status(row, URLS, with_logs=True).body["logs"]
    assert (line["message"], line["timestamp"]) == ("step 1", "2026-01-02T03:04:05.000Z")
    assert answers.status(row, URLS, with_logs=False).body["logs"] is None


def test_a_single_picture_is_said_both_ways_and_several_as_a_list() -> None:
    row = a_job("completed", completed_at=AT + timedelta(seconds=2))
    one = answers.result(row, [a_generation(meta={"seed": 9, "nsfw": True})], lambda key: f"https://h/{key}")
    assert one["image"] == one["images"][0]
    assert (one["seed"], one["has_nsfw_concepts"], one["timings"]) == (9, [True], {"inference": 2.0})
    two = answers.result(row, [a_generation(), a_generation()], lambda key: key)
    assert len(two["images"]) == 2
    assert "image" not in two


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_clips_have_the_shape_of_clips(kind: str) -> None:
    row = a_job("completed", kind=kind, completed_at=AT, input={"prompt": "x", "seed": 4})
    clip = a_generation(files={"original": "p/x/original.mp4"}, duration_s=3.0004, width=None)
    said = answers.result(row, [clip], lambda key: key)
    assert (said[kind]["duration"], said["seed"], f"{kind}s" in said) == (3.0, 4, False)
    assert len(answers.result(row, [clip, clip], lambda key: key)[f"{kind}s"]) == 2


@pytest.mark.parametrize("code", [*CODES, "deadline_exceeded", "something_new"])
def test_a_final_failure_is_not_asked_for_again_by_the_clients(code: str) -> None:
    said = of_failure({"code": code, "message": "It broke.", "retryable": True, "provider": {"name": "x"}})
    assert said.status in (422, 500, 504)
    if said.status == 504:
        assert said.headers["X-Fal-Request-Timeout-Type"] == "user"
    entries = said.body["detail"]
    assert (entries if isinstance(entries, str) else entries[0]["msg"]) == "It broke."


def test_a_providers_own_list_of_faults_is_passed_on_and_nothing_else_of_its_body() -> None:
    fault = {"loc": ["body", "prompt"], "msg": "too rude", "type": "content_policy_violation"}
    provider: dict[str, Any] = {"name": "fal", "status": 422, "body": {"detail": [fault], "internal": 1}}
    error = {"code": "content_policy", "message": "Refused.", "retryable": False, "provider": provider}
    assert of_failure(error).body == {"detail": [fault]}
    for body in ({"detail": ["x"]}, {"detail": [{"msg": 1}]}, {"detail": []}, "text", None, {"detail": [fault, None]}):
        said = of_failure({**error, "provider": {**provider, "body": body}})
        assert said.body["detail"][0]["msg"] == "Refused."


def test_no_error_is_a_409_because_clients_repeat_those() -> None:
    errors = [
        JobConflict("no"), JobError("idempotency_mismatch", "no"), JobError("conflict", "no"),
        JobError("not_found", "no"), UploadInUse("busy", retry_after_s=1), Forbidden("no"),
        Unauthorized("no", "missing"),
    ]  # fmt: skip
    assert [of_error(error).status for error in errors] == [400, 422, 400, 404, 400, 403, 401]


def test_an_error_that_nobody_should_see_is_raised() -> None:
    with pytest.raises(KeyError):
        of_error(KeyError("x"))


def test_signatures_are_those_of_the_published_vector() -> None:
    signer = Signer(bytes(range(32)))
    body = (
        b'{"request_id":"764cabcf-b745-4b3e-ae38-1200304cf45b","gateway_request_id":'
        b'"764cabcf-b745-4b3e-ae38-1200304cf45b","status":"OK","payload":{"images":[]}}'
    )
    headers = signer.headers("764cabcf-b745-4b3e-ae38-1200304cf45b", "user_1", body, 1_700_000_000)
    assert headers["X-Fal-Webhook-Signature"] == (
        "d09e959bc0a8e7a019f071fcc996b2c48355250d4b960a38bb3e7523e6e963a9"
        "e3a04a570a5d61b12254542bdeec1cf41c5bc2256eb4a4b90425c68379c10605"
    )
    assert signer.jwks()["keys"][0]["x"] == "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"


def test_lines_of_a_log_stay_with_who_has_seen_them() -> None:
    seen, job = SeenLogs(most=2), uuid4()
    running = a_job("running", id=job, logs=["step 1", "step 2"])
    ended = a_job("completed", id=job, completed_at=AT, logs=None)
    assert seen.with_logs(ended)["logs"] is None
    assert seen.with_logs(running)["logs"] == ["step 1", "step 2"]
    assert seen.with_logs(ended)["logs"] == ["step 1", "step 2"]
    for _ in range(2):
        seen.with_logs(a_job("running", id=uuid4(), logs=["other"]))
    assert seen.with_logs(ended)["logs"] is None


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [(None, 25), ("wait=5", 5), ("respond-async; wait=7, x", 7), ("wait=9999", 25), ("await=5", 25), ("wait=-1", 25)],
)
def test_a_run_is_held_as_long_as_is_preferred_but_never_half_a_minute(said: str | None, wait_s: float) -> None:
    assert wait_of(said) == wait_s


def test_so_many_wait_and_no_more() -> None:
    held, project = Held(most=3, most_of_project=2), uuid4()
    with held.one(project), held.one(project):
        with pytest.raises(TooManyHeld), held.one(project):
            pytest.fail("the third of a project was let in")
        with held.one(uuid4()), pytest.raises(TooManyHeld), held.one(uuid4()):
            pytest.fail("the fourth of all was let in")
    with held.one(project):
        pass


async def test_a_stream_gives_its_place_back_though_nobody_ever_listened() -> None:
    held, project = Held(most=1), uuid4()

    async def events() -> AsyncGenerator[bytes]:
        yield b"data: never\n\n"

    async def send(_: Any) -> None:
        raise ConnectionResetError

    place = contextlib.ExitStack()
    place.enter_context(held.one(project))
    with pytest.raises(BaseException):  # noqa: B017 -- whatever the server makes of a broken line
        await EventStream(events(), "x", place)({"type": "http"}, _gone, send)
    with held.one(project):
        pass


async def _gone() -> Any:
    await asyncio.Event().wait()


def test_an_address_of_ours_is_recognised_in_a_text_of_any_length_at_once() -> None:
    """16 MB of repeated addresses took a day: the name at the end was read anew for each of them."""
    one = f"/compat/fal/files/{uuid4()}/{'A' * 24}"
    assert _OURS.fullmatch(f"https://a.example{one}/my%20fox.png")
    assert _OURS.fullmatch(f"https://a.example/compat/fal/p/{uuid4()}/files/{uuid4()}/{'A' * 24}")
    assert not _OURS.fullmatch("https://a.example" + one * 200_000 + "/?")
    whole = "https://a.example" + one
    assert _texts({"a": [whole, whole * 1_000]}, 0) == [whole]
