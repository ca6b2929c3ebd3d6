"""The unmodified `replicate` client for Python works against the emulator (P7)."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conformance_parts import run_script

from safelight.emulators.serve import running

Seen = dict[str, Any]
SCRIPT = Path(__file__).parent / "replicate_python_client.py"
PNG = "89504e47"


@pytest.fixture(scope="module")
def both() -> Iterator[Seen]:
    with running() as at:
        environment = {
            "REPLICATE_API_TOKEN": "r8_token",
            "REPLICATE_BASE_URL": at.replicate_url,
            "REPLICATE_POLL_INTERVAL": "0.05",
        }
        said = json.loads(run_script([sys.executable, str(SCRIPT)], environment).splitlines()[-1])
        said["accepted"] = httpx.get(f"{at.replicate_url}/_emulator/requests").json()
        headers = {"authorization": "Bearer t"}
        said["key"] = httpx.get(f"{at.replicate_url}/v1/webhooks/default/secret", headers=headers).json()["key"]
        yield said


@pytest.fixture
def seen(both: Seen) -> Seen:
    return both["sync"]


def test_a_prediction_is_created_waited_for_read_and_listed(both: Seen, seen: Seen):
    created, ended = seen["created"], seen["ended"]
    assert created["status"] == "starting"
    assert (ended["id"], ended["status"], ended["percent"]) == (created["id"], "succeeded", 1.0)
    assert ended["output"][0].startswith("http://127.0.0.1")
    assert ended["metrics"]["predict_time"] > 0
    assert seen["got"] == ended
    assert seen["listed"] == [created["id"]]
    assert both["async"]["ended"]["status"] == "succeeded"


def test_run_gives_files_that_can_be_read(both: Seen, seen: Seen):
    assert seen["run"] == [PNG]
    assert both["async"]["run"] == [PNG]


def test_run_takes_versions_and_deployments(seen: Seen):
    assert len(seen["version"]) == 1
    assert seen["deployed"]["status"] == "succeeded"


def test_cancel(seen: Seen):
    assert seen["canceled"]["status"] == "canceled"


def test_files_arrive_as_they_went(seen: Seen):
    body = b"\x89PNG\r\n\xff\x00\r\n"
    assert seen["file"] == {"size": len(body), "type": "image/png", "sha256": hashlib.sha256(body).hexdigest()}


def test_a_stream_ends_with_done(seen: Seen):
    assert seen["streamed"][-1].endswith(("done", "DONE"))
    assert len(seen["streamed"]) == 2


def test_the_webhook_secret_can_be_asked_for(both: Seen, seen: Seen):
    assert seen["secret"] == both["key"]


def test_a_failed_prediction_is_a_model_error(seen: Seen):
    assert seen["failed"]["status"] == "failed"
    assert "NSFW" in seen["failed"]["error"]


@pytest.mark.parametrize(("name", "status"), [("invalid", 422), ("unknown", 404), ("broke", 402), ("busy", 429)])
def test_refusals_are_errors_with_status_and_words(seen: Seen, name: str, status: int):
    assert seen[name]["status"] == status
    assert seen[name]["detail"]


def test_what_was_refused_was_never_accepted(both: Seen):
    assert "busy" not in [each["input"].get("prompt") for each in both["accepted"]]
