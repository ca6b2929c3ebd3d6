"""The unmodified `@fal-ai/client` works against our fal door, through both ways it has to another host (K4)."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from conformance_parts import NODE_FOLDER, install_node_clients, run_script
from fal_door_parts import impatient_runs, installation, receiver
from PIL import Image

Seen = dict[str, Any]


def a_picture() -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (64, 48), (40, 90, 200)).save(made, "PNG")
    return made.getvalue()


@pytest.fixture(scope="module")
async def both(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seen]:
    """What the client saw by each way, and the jobs that there are afterwards."""
    node, png = install_node_clients(), a_picture()
    said: Seen = {}
    async with (
        receiver() as told,
        installation(postgres, template, tmp_path_factory.mktemp("data"), told) as world,
    ):
        key, ways = await world.new_key(), ("proxy", "middleware")
        rest = [f"{world.url}/compat/fal", key, told.url, base64.b64encode(png).decode()]
        commands = [[node, str(NODE_FOLDER / "fal_door.cjs"), way, *rest] for way in ways]
        with impatient_runs():
            outputs = await asyncio.gather(*(asyncio.to_thread(run_script, command) for command in commands))
        for way, output in zip(ways, outputs, strict=True):
            said[way] = json.loads(output.splitlines()[-1])
            said[way]["told"] = await told.message(said[way]["submitted"]["request_id"])
            said[way]["repainted"] = await world.job(said[way]["withImage"])
        said["url"] = world.url
        said["png"] = base64.b64encode(png).decode()
        yield said


@pytest.fixture(params=["proxy", "middleware"])
async def seen(both: Seen, request: pytest.FixtureRequest) -> Seen:
    return both[request.param]


async def test_submit_status_and_result(both: Seen, seen: Seen) -> None:
    request_id = seen["submitted"]["request_id"]
    assert seen["submitted"]["status"] == "IN_QUEUE"
    assert seen["submitted"]["status_url"].endswith(f"/compat/fal/fal-ai/flux/requests/{request_id}/status")
    assert seen["statusEarly"]["status"] in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED")
    assert seen["statusDone"]["status"] == "COMPLETED"
    assert seen["statusDone"]["metrics"]["inference_time"] > 0
    assert seen["result"]["requestId"] == request_id
    [picture] = seen["result"]["data"]["images"]
    assert (picture["width"], picture["height"], picture["content_type"]) == (64, 64, "image/jpeg")
    assert picture["url"].startswith(f"{both['url']}/media/")


@pytest.mark.parametrize("mode", ["polling", "streaming"])
async def test_subscribe_shows_how_it_goes_and_gives_the_result(seen: Seen, mode: str) -> None:
    followed = seen[mode]
    states = [update["status"] for update in followed["updates"]]
    order = ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    assert states == sorted(states, key=order.index)
    assert states[-1] == "COMPLETED"
    assert followed["updates"][-1]["hasLogs"]
    assert followed["enqueued"] == followed["result"]["requestId"]
    assert followed["result"]["data"]["prompt"] == "a red fox"


async def test_a_webhook_tells_of_the_result(seen: Seen) -> None:
    body = json.loads(seen["told"][1])
    assert body["status"] == "OK"
    assert body["request_id"] == seen["submitted"]["request_id"]
    assert len(body["payload"]["images"]) == 1


async def test_cancel(seen: Seen) -> None:
    assert (seen["canceled"]["status"], seen["canceled"]["error_type"]) == ("COMPLETED", "client_cancelled")
    assert (seen["canceledResult"]["isApiError"], seen["canceledResult"]["status"]) == (True, 499)
    assert (seen["cancelTooLate"]["status"], seen["cancelTooLate"]["body"]["status"]) == (400, "ALREADY_COMPLETED")


async def test_a_direct_run_is_one_call_however_long_it_takes(seen: Seen) -> None:
    assert seen["run"]["data"]["images"]
    assert seen["run"]["requestId"]
    assert seen["slowRun"]["data"]["images"]
    assert seen["slowRun"]["requestId"]
    assert seen["streamEvents"] >= 1
    assert seen["streamDone"]["images"]


async def test_uploads_come_back_as_they_went(both: Seen, seen: Seen) -> None:
    assert seen["uploadedBack"] == both["png"]
    assert seen["uploadedType"] == "image/png"


async def test_a_file_in_an_input_becomes_the_start_image(seen: Seen) -> None:
    job = seen["repainted"]
    assert job["status"] == "completed"
    assert job["start"] is not None
    assert "image_url" not in job["input"]


async def test_errors_are_the_ones_that_apps_catch(seen: Seen) -> None:
    assert (seen["invalid"]["isValidationError"], seen["invalid"]["status"]) == (True, 422)
    assert seen["invalid"]["promptErrors"][0]["type"] == "missing"
    assert seen["policy"]["isValidationError"]
    assert seen["policy"]["fieldErrors"][0]["type"] == "content_policy_violation"
    assert seen["policy"]["requestId"]
    for name, status in (("unknownApp", 404), ("unknownRequest", 404), ("early", 400), ("stranger", 401)):
        assert (seen[name]["isApiError"], seen[name]["status"]) == (True, status), name
