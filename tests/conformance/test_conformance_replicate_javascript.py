"""The unmodified `replicate` client for Node works against the emulator, webhooks included (P7)."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conformance_parts import run_script

from safelight.emulators.serve import running

Seen = dict[str, Any]
FOLDER = Path(__file__).parent / "node_replicate"
INSTALL_MAX_S = 180


def install() -> str:
    """The path of `node`, with the locked client installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    assert node is not None, "conformance tests need Node 20 or newer"
    assert npm is not None, "conformance tests need npm"
    if not (FOLDER / "node_modules" / ".package-lock.json").exists():
        command = [npm, "ci", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_MAX_S)
        assert done.returncode == 0, done.stderr
    return node


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    node = install()
    with running() as at:
        output = run_script([node, str(FOLDER / "driver.cjs"), at.replicate_url])
        said = json.loads(output.splitlines()[-1])
        said["accepted"] = httpx.get(f"{at.replicate_url}/_emulator/requests").json()
        yield said


def test_the_replicate_lock_file_names_no_download_host():
    lock = json.loads((FOLDER / "package-lock.json").read_text())
    assert lock["packages"]["node_modules/replicate"]["version"] == "1.4.0"
    for name, package in lock["packages"].items():
        assert "resolved" not in package
        assert name == "" or package["integrity"].startswith("sha512-")


def test_a_prediction_is_created_waited_for_read_and_listed(seen: Seen):
    created, ended = seen["created"], seen["ended"]
    assert created["status"] == "starting"
    assert created["urls"]["get"].endswith(f"/v1/predictions/{created['id']}")
    assert (ended["id"], ended["status"], ended["data_removed"]) == (created["id"], "succeeded", False)
    assert seen["got"] == ended
    assert seen["listed"] == [created["id"]]


def test_run_waits_polls_and_takes_versions_and_deployments(seen: Seen):
    for name in ("run", "polled", "version"):
        assert seen[name][0].startswith("http://127.0.0.1"), name
    assert seen["runStates"][-1] == "succeeded"
    assert seen["deployed"] == "succeeded"
    assert seen["impatient"] in ("starting", "processing")


def test_cancel(seen: Seen):
    assert seen["canceled"]["id"]
    assert seen["canceledEnd"] == "canceled"


def test_files_arrive_as_they_went_and_become_urls_in_an_input(seen: Seen):
    assert seen["fileBytes"] == [137, 80, 78, 71, 13, 10, 255, 0, 13, 10]
    assert seen["file"]["content_type"] == "image/png"
    assert seen["file"]["metadata"] == {"note": "mine"}
    [accepted] = [each for each in seen["accepted"] if each["id"] == seen["withImage"]]
    assert accepted["input"]["image"].startswith("http://127.0.0.1")


def test_a_stream_ends_with_done(seen: Seen):
    assert seen["streamed"] == ["output", "done"]


def test_webhooks_tell_of_start_logs_output_and_end_and_prove_themselves(seen: Seen):
    assert all(seen["valid"])
    assert seen["changed"] is False
    assert set(seen["hookIds"]) == {seen["toldId"]}
    assert seen["statuses"][0] == "processing"
    assert "succeeded" in seen["statuses"]


def test_failures_and_refusals_are_errors(seen: Seen):
    assert "NSFW" in seen["failed"]["message"]
    assert [seen[name]["status"] for name in ("invalid", "unknown", "broke", "stranger")] == [422, 404, 402, 401]


def test_the_client_waits_after_a_429_and_is_let_in_once(seen: Seen):
    accepted = [each["id"] for each in seen["accepted"] if each["input"].get("prompt") == "patience"]
    assert accepted == [seen["patient"]]
