"""What OpenAI's answers and errors mean, how a request is written, and what the spool keeps (P8)."""

from __future__ import annotations

import base64
import os
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from safelight.providers.base import AccountProblem, Ambiguous, Failed, Refused, Rejected, Succeeded
from safelight.providers.failures import failure
from safelight.providers.http import Answer, AnswerTooLarge
from safelight.providers.openai import picture_urls, wants_previews
from safelight.providers.openai_answers import (
    EndedBadly,
    cost_of,
    duration_s,
    read_images,
    to_error,
    to_stream_error,
    wait_s,
)
from safelight.providers.openai_http import ANSWER_MAX, Call, Picture, Reply
from safelight.providers.openai_spool import KEPT_S, OUTPUTS_MAX, Made, Spool


def refused(status: int, headers: dict[str, str] | None = None, **error: Any) -> Answer:
    return Answer(status, headers or {}, {"error": error} if error else None, "")


# --- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "raised", "code"),
    [
        (refused(400, code="moderation_blocked", type="image_generation_user_error"), Rejected, "content_policy"),
        (
            refused(400, type="image_generation_user_error", message="rejected by the safety system"),
            Rejected,
            "content_policy",
        ),
        (refused(400, type="image_generation_user_error", message="Invalid image file"), Rejected, "invalid_input"),
        (refused(400, code="billing_hard_limit_reached"), AccountProblem, "provider_balance"),
        (refused(429, code="insufficient_quota", type="insufficient_quota"), AccountProblem, "provider_balance"),
        (refused(429, code="credit_balance_exhausted"), AccountProblem, "provider_balance"),
        (refused(429, code="rate_limit_exceeded"), Refused, "provider_busy"),
        (refused(401, code="invalid_api_key"), AccountProblem, "provider_key"),
        (refused(403, message="Your organization must be verified"), AccountProblem, "provider_key"),
        (refused(404, code="model_not_found"), Rejected, "provider_refused"),
        (refused(500, type="server_error", message="The server had an error"), EndedBadly, "provider_failed"),
        (refused(503, type="service_unavailable_error"), EndedBadly, "provider_failed"),
        (refused(500), Ambiguous, "submit_unknown"),
        (refused(502), Ambiguous, "submit_unknown"),
        (refused(504), Ambiguous, "submit_unknown"),
        (refused(408, code="timeout"), Ambiguous, "submit_unknown"),
        (Answer(500, {}, {"error": "odd"}, ""), Ambiguous, "submit_unknown"),
    ],
)
def test_an_error_says_whether_anything_was_made(answer: Answer, raised: type, code: str):
    error = to_error(answer)
    assert type(error) is raised
    assert error.failure.code == code


@pytest.mark.parametrize(
    ("error", "raised", "code"),
    [
        ({"code": "moderation_blocked"}, Rejected, "content_policy"),
        ({"type": "invalid_request_error", "message": "no"}, Rejected, "invalid_input"),
        ({"type": "server_error"}, EndedBadly, "provider_failed"),
        ({"code": "insufficient_quota"}, AccountProblem, "provider_balance"),
        ({"code": ["odd"], "message": 7}, EndedBadly, "provider_failed"),
    ],
)
def test_an_error_in_a_stream_says_it_too(error: dict[str, Any], raised: type, code: str):
    told = to_stream_error(error)
    assert type(told) is raised
    assert told.failure.code == code


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "9"}, 9.0),
        ({"x-ratelimit-remaining-images": "0", "x-ratelimit-reset-images": "1m30s"}, 90.0),
        (
            {
                "x-ratelimit-remaining-requests": "5",
                "x-ratelimit-reset-requests": "1h0m0s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "20ms",
            },
            0.02,
        ),
        ({}, None),
        ({"retry-after-ms": "soon", "x-ratelimit-reset-images": "soon"}, None),
    ],
)
def test_a_rate_limit_is_waited_out_as_its_headers_say(headers: dict[str, str], seconds: float | None):
    assert wait_s(refused(429, headers, code="rate_limit_exceeded")) == seconds


@pytest.mark.parametrize(
    ("said", "seconds"), [("6m0s", 360.0), ("1.5s", 1.5), ("20ms", 0.02), ("99h", 3600.0), ("", None), ("1x", None)]
)
def test_durations_are_read_as_openai_writes_them(said: str, seconds: float | None):
    assert duration_s(said) == seconds


# --- results ----------------------------------------------------------------------------------------------------


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_pictures_come_as_bytes_or_as_urls():
    answer = {
        "output_format": "webp",
        "data": [{"b64_json": encoded(b"one")}, {"url": "https://o/2.png"}, {"b64_json": "%"}, "odd"],
    }
    assert read_images(answer) == [Made(b"one", "image/webp"), Made(None, "image/webp", "https://o/2.png")]


def test_a_completed_event_is_one_picture():
    event = {"type": "image_generation.completed", "b64_json": encoded(b"x"), "output_format": "png"}
    assert read_images(event) == [Made(b"x", "image/png")]


@pytest.mark.parametrize("answer", [{}, {"data": []}, {"data": [{"b64_json": ""}]}, {"data": [{"url": "file:///x"}]}])
def test_an_answer_without_pictures_is_an_end_without_a_result(answer: dict[str, Any]):
    with pytest.raises(EndedBadly) as caught:
        read_images(answer)
    assert caught.value.failure.code == "no_output"


def test_cost_is_the_tokens_that_were_billed():
    usage = {"input_tokens": 10, "output_tokens": 4000, "total_tokens": 4010, "odd": "x"}
    assert cost_of({"usage": usage}, "req_1") == {
        "input_tokens": 10,
        "output_tokens": 4000,
        "total_tokens": 4010,
        "request_id": "req_1",
    }
    assert cost_of({"usage": {"input_tokens": True}}, None) is None


# --- requests ---------------------------------------------------------------------------------------------------


def test_previews_are_asked_for_with_one_picture_only():
    assert wants_previews({"partial_images": 2, "n": 1})
    assert not wants_previews({"partial_images": 2, "n": 2})
    assert not wants_previews({"partial_images": 0, "n": 1})
    assert not wants_previews({"partial_images": True})


def test_pictures_and_mask_are_found_in_any_form():
    assert picture_urls({"image": "u"}) == [("image[]", "u")]
    assert picture_urls({"image": ["a", "b"], "mask": "m"}) == [("image[]", "a"), ("image[]", "b"), ("mask", "m")]
    assert picture_urls({"image": [], "mask": None}) == []


def test_a_form_writes_numbers_and_switches_as_json_does():
    pictures = [("image[]", Picture("0.png", b"p", "image/png"))]
    call = Call("/images/edits", {"n": 2, "stream": True, "prompt": "x", "none": None}, pictures)
    arguments = call.encoded()
    assert arguments["data"] == {"n": "2", "stream": "true", "prompt": "x"}
    assert arguments["files"] == [("image[]", ("0.png", b"p", "image/png"))]


@pytest.mark.parametrize("pictures", [(), (("image[]", Picture("0.png", b"p", "image/png")),)])
def test_what_json_cannot_hold_is_never_sent(pictures: Any):
    with pytest.raises(Rejected):
        Call("/x", {"guidance": float("nan")}, pictures).encoded()


# --- streams ----------------------------------------------------------------------------------------------------


class Chunks(httpx.AsyncByteStream):
    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


async def events(*chunks: bytes) -> list[dict[str, Any]]:
    reply = Reply(httpx.Response(200, stream=Chunks(list(chunks)), headers={"content-type": "text/event-stream"}))
    return [dict(each) async for each in reply.events()]


async def test_events_are_read_however_they_are_cut():
    whole = b'event: a\r\ndata: {"type":"a"}\r\n\r\n: a comment\n\n'
    whole += b'data: {"type":\ndata: "b"}\n\ndata: no json\n\ndata: {"cut'
    expected = [{"type": "a"}, {}, {"type": "b"}, {}]
    assert await events(whole) == expected
    for size in (1, 2, 3, 7):
        assert await events(*(whole[at : at + size] for at in range(0, len(whole), size))) == expected


async def test_a_stream_without_end_is_cut_off():
    with pytest.raises(AnswerTooLarge):
        await events(*([b"x" * 8_000_000] * (ANSWER_MAX // 8_000_000 + 1)))


# --- the spool --------------------------------------------------------------------------------------------------


async def test_what_was_kept_is_found_by_another_process(tmp_path: Path):
    await Spool(tmp_path / "s").keep("a-1", [Made(b"one", "image/png"), Made(None, None, "https://o/x")], {"t": 1})
    found = await Spool(tmp_path / "s").find("a-1")
    assert isinstance(found, Succeeded)
    first, second = found.outputs
    assert first.path is not None
    assert (first.path.read_bytes(), first.mime, second.url, found.cost) == (
        b"one",
        "image/png",
        "https://o/x",
        {"t": 1},
    )
    assert await Spool(tmp_path / "s").find("a-2") is None
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "s").iterdir()} == {0o600}


async def test_a_failure_is_kept_with_its_words(tmp_path: Path):
    why = failure("provider_failed", "it broke", status=500, body={"error": {"message": "it broke"}})
    await Spool(tmp_path).keep_failure("a-1", why)
    assert await Spool(tmp_path).find("a-1") == Failed(why)


async def test_half_of_a_result_is_none(tmp_path: Path):
    await Spool(tmp_path).keep("a-1", [Made(b"one", None), Made(b"two", None)], None)
    (tmp_path / "a-1.1").unlink()
    assert await Spool(tmp_path).find("a-1") is None
    (tmp_path / "a-2.json").write_text("{")
    assert await Spool(tmp_path).find("a-2") is None


async def test_old_results_make_room_and_no_more_than_enough_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spool = Spool(tmp_path)
    await spool.keep("old", [Made(b"x" * 10, None)], None)
    long_ago = time.time() - KEPT_S - 60
    for path in tmp_path.iterdir():
        os.utime(path, (long_ago, long_ago))
    await spool.keep("new", [Made(b"x", None)] * (OUTPUTS_MAX + 5), None)
    assert await spool.find("old") is None
    found = await spool.find("new")
    assert isinstance(found, Succeeded)
    assert len(found.outputs) == OUTPUTS_MAX
    monkeypatch.setattr("safelight.providers.openai_spool.KEPT_BYTES_MAX", 100)
    await spool.keep("big", [Made(b"x" * 90, None)], None)
    assert await spool.find("new") is None
    assert await spool.find("big") is not None


@pytest.mark.parametrize("attempt_id", ["", "../a", "a/b", "a\x00", "a" * 65])
async def test_an_id_that_is_no_name_touches_no_file(tmp_path: Path, attempt_id: str):
    with pytest.raises(ValueError):
        await Spool(tmp_path).keep(attempt_id, [Made(b"x", None)], None)
    with pytest.raises(ValueError):
        await Spool(tmp_path).find(attempt_id)
    assert list(tmp_path.iterdir()) == []
