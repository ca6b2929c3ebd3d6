"""The unmodified `fal_client` works against the fal emulator, over TLS and at fal's own paths (P7).

It can be told host names and nothing else, so the emulator plays `queue.fal.run` as `localhost` and `fal.run` as
`127.0.0.1`, at one port.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conformance_parts import make_certificates, run_script

from safelight.emulators.serve import FalHostsAt, running

Seen = dict[str, Any]
SCRIPT = Path(__file__).parent / "fal_python_client.py"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    made = make_certificates(tmp_path_factory.mktemp("certificates"))
    hosts = FalHostsAt(made.certificate, made.key, {"localhost": "queue", "127.0.0.1": "run"})
    with running(fal_hosts=hosts) as at:
        port = at.fal_hosts_port
        environment = {
            "FAL_KEY": "key:secret",
            "FAL_RUN_HOST": f"127.0.0.1:{port}",
            "FAL_QUEUE_RUN_HOST": f"localhost:{port}",
            "SSL_CERT_FILE": str(made.ca),
        }
        said = json.loads(run_script([sys.executable, str(SCRIPT)], environment).splitlines()[-1])
        said["accepted"] = httpx.get(f"{at.fal_url}/_emulator/requests").json()
        said["queue"] = f"https://localhost:{port}/"
        said["file"] = httpx.get(said["sync"]["got"]["images"][0]["url"]).content
        yield said


@pytest.fixture(params=["sync", "async"])
def seen(both: Seen, request: pytest.FixtureRequest) -> Seen:
    return both[request.param]


def test_submit_gives_a_handle_at_the_host_that_was_asked(both: Seen, seen: Seen):
    submitted = seen["submitted"]
    assert submitted["response_url"] == f"{both['queue']}fal-ai/flux/requests/{submitted['id']}"
    assert submitted["id"] in [each["id"] for each in both["accepted"]]


def test_events_count_down_the_queue_show_logs_and_end(seen: Seen):
    events = seen["events"]
    order = ["Queued", "InProgress", "Completed"]
    states = [event["state"] for event in events]
    assert states == sorted(states, key=order.index)
    assert states[-1] == "Completed"
    positions = [event["position"] for event in events if event["position"] is not None]
    assert positions == sorted(positions, reverse=True)
    assert events[-1]["logs"] == 28
    assert events[-1]["metrics"]["inference_time"] > 0


def test_get_status_and_result_agree(seen: Seen):
    assert seen["got"] == seen["result"]
    assert seen["got"]["images"][0]["content_type"] == "image/jpeg"
    assert seen["status"]["state"] == "Completed"


def test_the_result_is_a_real_picture(both: Seen):
    assert both["file"].startswith(b"\xff\xd8\xff")


def test_cancel(seen: Seen):
    assert seen["canceled"]["error_type"] == "client_cancelled"
    assert seen["canceled_result"]["status"] == 499
    assert seen["cancel_too_late"]["status"] == 400


def test_run_subscribe_and_stream(seen: Seen):
    assert seen["run"]["images"]
    assert seen["subscribed"]["images"]
    assert seen["updates"][-1]["state"] == "Completed"
    assert seen["updates"][-1]["logs"] == 28
    assert seen["streamed"][-1]["images"][0]["url"]


def test_errors_carry_their_type(both: Seen):
    seen = both["sync"]
    assert seen["invalid"]["status"] == 422
    assert seen["invalid"]["message"][0]["type"] == "missing"
    assert (seen["transient"]["status"], seen["transient"]["error_type"]) == (503, "runner_disconnected")


def test_a_patient_client_is_let_in_exactly_once(both: Seen):
    for prompt, name in (("patience", "patient"), ("lost", "lost")):
        accepted = [each["id"] for each in both["accepted"] if each["input"].get("prompt") == prompt]
        assert accepted == [both["sync"][name]]
