"""The unmodified `fal_client` works against our fal door: one host setting, and its jobs are jobs of ours (K4)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import httpx
import pytest
from conformance_parts import make_certificates, run_script
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fal_door_parts import installation, receiver, tls

Seen = dict[str, Any]
SCRIPT = Path(__file__).parent / "fal_door_python_client.py"


@pytest.fixture(scope="module")
async def both(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seen]:
    made = make_certificates(tmp_path_factory.mktemp("certificates"))
    async with (
        receiver() as told,
        installation(postgres, template, tmp_path_factory.mktemp("data"), told) as world,
        tls(world, made) as host,
    ):
        door = f"{host}/compat/fal"
        environment = {
            "FAL_KEY": await world.new_key(),
            "FAL_QUEUE_RUN_HOST": door,
            "FAL_RUN_HOST": f"{door}/run",
            "SSL_CERT_FILE": str(made.ca),
        }
        command = [sys.executable, str(SCRIPT), f"https://{door}", told.url]
        output = await asyncio.to_thread(run_script, command, environment)
        said = json.loads(output.splitlines()[-1])
        said["door"] = f"https://{door}"
        said["told"] = await told.message(said["sync"]["submitted"]["id"])
        said["jobs"], _ = await world.everything(f"{world.p}/jobs")
        said["generations"], _ = await world.everything(f"{world.p}/generations")
        said["changes"] = await world.changes(0)
        said["entries"], _ = await world.everything(f"{world.p}/credits/entries")
        said["repainted"] = await world.job(said["sync"]["repainted"])
        async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as client:
            said["file"] = await client.get(said["sync"]["got"]["images"][0]["url"])
            said["uploaded"] = await client.get(said["sync"]["uploaded"])
            said["jwks"] = (await client.get(f"{world.url}/compat/fal/.well-known/jwks.json")).json()
        said["url"] = world.url
        yield said


@pytest.fixture(params=["sync", "async"])
async def seen(both: Seen, request: pytest.FixtureRequest) -> Seen:
    return both[request.param]


def ids(both: Seen) -> set[str]:
    return {job["id"] for job in both["jobs"]}


async def test_submit_gives_a_handle_at_the_host_that_was_asked(both: Seen, seen: Seen) -> None:
    submitted = seen["submitted"]
    assert submitted["status_url"] == f"{both['door']}/fal-ai/flux/requests/{submitted['id']}/status"
    assert submitted["id"] in ids(both)


async def test_events_go_forward_and_end(seen: Seen) -> None:
    for events in (seen["events"], seen["updates"]):
        order = ["Queued", "InProgress", "Completed"]
        states = [event["state"] for event in events]
        assert states == sorted(states, key=order.index)
        assert states[-1] == "Completed"
        assert events[-1]["metrics"]["inference_time"] > 0
        assert events[-1]["error"] is None


async def test_get_status_and_result_agree(both: Seen, seen: Seen) -> None:
    got = seen["got"]
    assert got == seen["result"]
    assert seen["status"]["state"] == "Completed"
    assert (got["seed"], got["prompt"], got["has_nsfw_concepts"]) == (7, "a red fox", [False, False])
    for picture in got["images"]:
        assert (picture["width"], picture["height"], picture["content_type"]) == (64, 64, "image/jpeg")
        assert picture["url"].startswith(f"{both['url']}/media/")


async def test_the_result_is_a_real_picture_of_our_own_storage(both: Seen) -> None:
    assert both["file"].status_code == 200
    assert both["file"].content.startswith(b"\xff\xd8\xff")


async def test_cancel(seen: Seen) -> None:
    assert (seen["canceled"]["state"], seen["canceled"]["error_type"]) == ("Completed", "client_cancelled")
    assert (seen["canceled_result"]["status"], seen["canceled_result"]["error_type"]) == (499, "client_cancelled")
    assert seen["cancel_too_late"]["status"] == 400


async def test_run_subscribe_and_stream(seen: Seen) -> None:
    assert (seen["run"]["image"], seen["run"]["seed"]) == (seen["run"]["images"][0], 3)
    assert seen["subscribed"]["images"]
    assert seen["streamed"][-1]["images"][0]["url"]


async def test_a_run_is_one_call_however_long_it_takes(both: Seen) -> None:
    assert both["sync"]["slow_run"]["images"]


async def test_a_client_that_follows_no_redirect_is_told_where_its_long_run_goes_on(both: Seen) -> None:
    sent_on = both["async"]["sent_on"]
    assert (sent_on["status"], sent_on["error_type"]) == (303, "still_running")
    assert f"{both['door']}/fal-ai/flux/requests/" in sent_on["message"]


async def test_a_clip_has_the_shape_of_clips(both: Seen) -> None:
    video = both["sync"]["video"]["video"]
    assert video["content_type"] == "video/mp4"
    assert "/media/" in video["url"]


async def test_errors_carry_their_type(both: Seen) -> None:
    seen = both["sync"]
    assert (seen["invalid"]["status"], seen["invalid"]["message"][0]["loc"]) == (422, ["body", "num_images"])
    assert (seen["blank"]["message"][0]["loc"], seen["blank"]["message"][0]["type"]) == (["body", "prompt"], "missing")
    assert (seen["unknown"]["status"], seen["unknown"]["error_type"]) == (404, "not_found")
    assert (seen["policy"]["status"], seen["policy"]["message"][0]["type"]) == (422, "content_policy_violation")
    assert seen["stranger"]["status"] == 401


async def test_its_jobs_are_jobs_like_any_other(both: Seen) -> None:
    [job] = [each for each in both["jobs"] if each["id"] == both["sync"]["submitted"]["id"]]
    assert (job["status"], job["n"], job["priority"]) == ("completed", 2, -10)
    assert job["credits"]["charged"] == job["credits"]["quoted"] > 0
    tiles = {tile["id"] for tile in both["generations"]}
    assert {str(uuid5(UUID(job["id"]), str(index))) for index in (0, 1)} == set(job["generations"]) <= tiles
    changed = [change["row"]["status"] for change in both["changes"] if change["id"] == job["id"]]
    assert (changed[0], changed[-1]) == ("pending", "completed")
    paid = [entry for entry in both["entries"] if entry["job_id"] == job["id"] and entry["reason"] == "capture"]
    assert [entry["amount"] for entry in paid] == [-job["credits"]["charged"]]


async def test_uploads_come_back_and_can_be_a_start_image(both: Seen) -> None:
    assert both["uploaded"].status_code == 200
    assert both["uploaded"].headers["content-type"] == "image/png"
    assert both["sync"]["uploaded_old_way"].startswith(f"{both['url']}/compat/fal/files/")
    job = both["repainted"]
    assert (job["status"], job["start"] is not None, "image_url" in job["input"]) == ("completed", True, False)


async def test_the_webhook_is_signed_as_fal_signs(both: Seen) -> None:
    headers, raw = both["told"]
    body = json.loads(raw)
    assert (body["status"], body["request_id"]) == ("OK", both["sync"]["submitted"]["id"])
    assert [each["url"] for each in body["payload"]["images"]] == [e["url"] for e in both["sync"]["got"]["images"]]
    named = [headers[f"x-fal-webhook-{name}"] for name in ("request-id", "user-id", "timestamp")]
    message = "\n".join((*named, hashlib.sha256(raw).hexdigest())).encode()
    x = both["jwks"]["keys"][0]["x"]
    key = Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(x + "=" * (-len(x) % 4)))
    key.verify(bytes.fromhex(headers["x-fal-webhook-signature"]), message)
