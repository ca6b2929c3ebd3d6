"""The unmodified `openai` client works against the emulated image API (P7)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conformance_parts import run_script

from safelight.emulators.serve import running
from safelight.emulators.settings import EmulatorSettings

Seen = dict[str, Any]
SCRIPT = Path(__file__).parent / "openai_python_client.py"
PNG, JPEG = "89504e47", "ffd8ff"


@pytest.fixture(scope="module")
def both() -> Iterator[Seen]:
    with running(EmulatorSettings(openai_keys=frozenset({"sk-a"}))) as at:
        environment = {"OPENAI_API_KEY": "sk-a", "OPENAI_BASE_URL": f"{at.openai_url}/v1"}
        said = json.loads(run_script([sys.executable, str(SCRIPT)], environment).splitlines()[-1])
        said["accepted"] = httpx.get(f"{at.openai_url}/_emulator/requests").json()
        yield said


@pytest.fixture
def seen(both: Seen) -> Seen:
    return both["sync"]


def test_pictures_come_inside_the_answer_with_what_they_cost(both: Seen, seen: Seen):
    made = seen["made"]
    assert made["heads"] == [PNG, PNG]
    assert (made["format"], made["size"]) == ("png", "64x64")
    assert made["tokens"] == made["sum"] > 0
    assert made["created"] > 1_700_000_000
    assert seen["jpeg"]["heads"][0].startswith(JPEG)
    assert both["async"]["made"]["heads"] == [PNG]


@pytest.mark.parametrize(("where", "previews"), [("sync", 2), ("async", 1)])
def test_a_stream_is_previews_in_order_and_then_the_picture(both: Seen, where: str, previews: int):
    *partial, last = both[where]["streamed"]
    assert [each["index"] for each in partial] == list(range(previews))
    assert {each["class"] for each in partial} == {"ImageGenPartialImageEvent"}
    assert (last["class"], last["type"], last["head"]) == ("ImageGenCompletedEvent", "image_generation.completed", PNG)
    assert last["tokens"] > 0


def test_edits_take_one_picture_several_and_a_mask(both: Seen, seen: Seen):
    assert seen["edited"]["heads"] == [PNG]
    assert [each["class"] for each in seen["edited_stream"]] == [
        "ImageEditPartialImageEvent",
        "ImageEditCompletedEvent",
    ]
    edits = [each["input"]["images"] for each in both["accepted"] if "images" in each["input"]]
    assert [[each["field"] for each in images] for images in edits] == [["image"], ["image[]", "image[]", "mask"]]


@pytest.mark.parametrize(
    ("name", "error", "status", "code"),
    [
        ("moderated", "BadRequestError", 400, "moderation_blocked"),
        ("quota", "RateLimitError", 429, "insufficient_quota"),
        ("busy", "RateLimitError", 429, "rate_limit_exceeded"),
        ("broken", "InternalServerError", 500, None),
        ("wrong", "BadRequestError", 400, "integer_out_of_range"),
        ("retired", "NotFoundError", 404, "model_not_found"),
        ("stranger", "AuthenticationError", 401, "invalid_api_key"),
    ],
)
def test_refusals_are_the_clients_own_errors(seen: Seen, name: str, error: str, status: int, code: str | None):
    told = seen[name]
    assert (told["class"], told["status"], told["code"]) == (error, status, code)
    assert told["request_id"].startswith("req_")
    assert told["type"]


def test_a_refusal_in_the_middle_of_a_stream_is_an_error_too(seen: Seen):
    assert "safety system" in seen["moderated_stream"]["message"]


def test_models_are_listed(seen: Seen):
    assert "gpt-image-2.5-flare" in seen["models"]


def test_a_patient_client_is_let_in_exactly_once(both: Seen, seen: Seen):
    assert seen["patient"]["heads"] == [PNG]
    prompts = [each["input"]["prompt"] for each in both["accepted"]]
    assert (prompts.count("patience"), prompts.count("busy")) == (1, 0)
