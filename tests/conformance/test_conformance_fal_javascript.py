"""The unmodified `@fal-ai/client` works against the fal emulator, through both doors it has (P7)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from conformance_parts import NODE_FOLDER, install_node_clients, run_script

from safelight.emulators.serve import running

Seen = dict[str, Any]


@pytest.fixture(scope="module", params=["proxy", "middleware"])
def seen(request: pytest.FixtureRequest) -> Iterator[Seen]:
    """What the client saw, and the accepted submits beside it."""
    node = install_node_clients()
    with running() as at:
        output = run_script([node, str(NODE_FOLDER / "fal.cjs"), request.param, at.fal_url])
        said = json.loads(output.splitlines()[-1])
        said["accepted"] = httpx.get(f"{at.fal_url}/_emulator/requests").json()
        yield said


def test_the_lock_file_names_no_download_host():
    lock = json.loads((NODE_FOLDER / "package-lock.json").read_text())
    assert lock["packages"]["node_modules/@fal-ai/client"]["version"] == "1.10.1"
    for name, package in lock["packages"].items():
        assert "resolved" not in package
        assert name == "" or package["integrity"].startswith("sha512-")


def test_submit_status_and_result(seen: Seen):
    request_id = seen["submitted"]["request_id"]
    assert seen["statusEarly"]["status"] in ("IN_QUEUE", "IN_PROGRESS")
    assert seen["statusDone"]["status"] == "COMPLETED"
    assert len(seen["statusDone"]["logs"]) == 28
    assert seen["result"]["requestId"] == request_id
    assert seen["result"]["data"]["images"][0]["width"] == 64
    assert seen["accepted"][0]["id"] == request_id
    assert seen["accepted"][0]["model"] == "fal-ai/flux/dev"


@pytest.mark.parametrize("mode", ["polling", "streaming"])
def test_subscribe_shows_progress_with_logs_and_gives_the_result(seen: Seen, mode: str):
    followed = seen[mode]
    states = [update["status"] for update in followed["updates"]]
    logs = [update["logs"] for update in followed["updates"] if update["logs"] is not None]
    assert followed["enqueued"] == followed["result"]["requestId"]
    assert states[-1] == "COMPLETED"
    assert "IN_PROGRESS" in states
    assert logs == sorted(logs)
    assert logs[-1] == 28
    assert followed["result"]["data"]["prompt"] == "a red fox"


def test_cancel(seen: Seen):
    assert seen["canceled"]["status"] == "COMPLETED"
    assert seen["canceled"]["error_type"] == "client_cancelled"
    assert (seen["canceledResult"]["isApiError"], seen["canceledResult"]["status"]) == (True, 499)
    assert seen["cancelTooLate"]["status"] == 400


def test_direct_run_and_its_stream(seen: Seen):
    assert seen["run"]["data"]["images"]
    assert seen["run"]["requestId"]
    assert seen["streamEvents"] >= 1
    assert seen["streamDone"]["images"]


def test_uploads_come_back_as_they_went(seen: Seen):
    assert seen["uploadedBytes"] == [137, 80, 78, 71, 1, 2, 3]
    assert seen["uploadedType"] == "image/png"


def test_files_in_an_input_become_urls(seen: Seen):
    [accepted] = [each for each in seen["accepted"] if each["id"] == seen["withImage"]]
    assert accepted["input"]["image_url"].startswith("http://127.0.0.1")


def test_wrong_input_is_a_validation_error_that_names_the_field(seen: Seen):
    invalid = seen["invalid"]
    assert (invalid["isValidationError"], invalid["status"]) == (True, 422)
    assert invalid["promptErrors"][0]["type"] == "missing"
    assert invalid["requestId"]
    assert seen["policy"]["fieldErrors"][0]["type"] == "content_policy_violation"


def test_unknown_requests_are_an_api_error(seen: Seen):
    assert (seen["unknown"]["isApiError"], seen["unknown"]["status"]) == (True, 404)


def test_the_client_retries_a_429_and_is_let_in_once(seen: Seen):
    accepted = [each["id"] for each in seen["accepted"] if each["input"].get("prompt") == "patience"]
    assert accepted == [seen["patient"]]
