"""Drives the official fal_client, sync and async, against our fal door, and prints what it saw as one JSON object.

usage: fal_door_python_client.py <url of the door> <where a webhook may be sent>
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import fal_client
import fal_client.client
from PIL import Image

DOOR, RECEIVER = sys.argv[1:3]
# Queue and runs are told by environment; only for uploads the client has no variable, but a constant.
fal_client.client.REST_URL = DOOR
fal_client.client.CDN_URL = DOOR
MODEL = "fal-ai/flux/dev"


def given(latency_s: float = 0.3, **more: Any) -> dict[str, Any]:
    faults = {"latency_s": latency_s, **more.pop("faults", {})}
    return {"prompt": "a red fox", "image_size": {"width": 64, "height": 64}, "_emulator": faults, **more}


def describe(status: fal_client.Status) -> dict[str, Any]:
    logs = getattr(status, "logs", None)
    return {
        "state": type(status).__name__,
        "logs": logs,
        "error": getattr(status, "error", None),
        "error_type": getattr(status, "error_type", None),
        "metrics": getattr(status, "metrics", None),
    }


def failure(error: fal_client.FalClientHTTPError) -> dict[str, Any]:
    return {"status": error.status_code, "message": error.message, "error_type": error.error_type}


def refused(action: Any) -> dict[str, Any] | None:
    try:
        action()
    except fal_client.FalClientHTTPError as error:
        return failure(error)
    return None


def a_picture() -> Path:
    path = Path(tempfile.mkdtemp()) / "a start.png"
    Image.new("RGB", (64, 48), (200, 40, 40)).save(path)
    return path


def sync() -> dict[str, Any]:
    seen: dict[str, Any] = {}
    handle = fal_client.submit(MODEL, given(seed=7, num_images=2), priority="low", webhook_url=RECEIVER)
    seen["submitted"] = {"id": handle.request_id, "status_url": handle.status_url}
    seen["events"] = [describe(event) for event in handle.iter_events(with_logs=True)]
    seen["got"] = handle.get()
    seen["status"] = describe(fal_client.status(MODEL, handle.request_id, with_logs=True))
    seen["result"] = fal_client.result(MODEL, handle.request_id)

    unwanted = fal_client.submit(MODEL, given(60))
    unwanted.cancel()
    seen["canceled"] = [describe(event) for event in unwanted.iter_events(interval=0.02)][-1]
    seen["canceled_result"] = refused(unwanted.get)
    seen["cancel_too_late"] = refused(handle.cancel)

    seen["run"] = fal_client.run("local/aurora", {"prompt": "a lighthouse", "width": 64, "height": 64, "seed": 3})
    seen["slow_run"] = fal_client.run(MODEL, given(3), headers={"Prefer": "wait=2"})
    updates: list[dict[str, Any]] = []
    seen["subscribed"] = fal_client.subscribe(
        MODEL, given(), with_logs=True, on_queue_update=lambda status: updates.append(describe(status))
    )
    seen["updates"] = updates
    seen["streamed"] = list(fal_client.stream(MODEL, given()))
    clip = {"prompt": "waves", "duration": 0.5, "width": 64, "height": 64}
    seen["video"] = fal_client.subscribe("local/drift", clip)

    seen["uploaded"] = fal_client.upload_file(a_picture())
    seen["uploaded_old_way"] = fal_client.upload_file(a_picture(), repository="fal")
    image = {"prompt": "repaint it", "image_url": seen["uploaded"], "_emulator": {"latency_s": 0.1}}
    repaint = fal_client.submit(f"{MODEL}/image-to-image", image)
    repaint.get()
    seen["repainted"] = repaint.request_id

    seen["invalid"] = refused(lambda: fal_client.submit(MODEL, {"num_images": 0}))
    seen["blank"] = refused(lambda: fal_client.submit(MODEL, {}))
    seen["unknown"] = refused(lambda: fal_client.submit("fal-ai/no-such-app", {"prompt": "x"}))
    seen["policy"] = refused(lambda: fal_client.subscribe(MODEL, given(faults={"fail": "content_policy"})))
    seen["stranger"] = refused(lambda: fal_client.SyncClient(key="sk_nobody").submit(MODEL, given()))
    return seen


async def in_async() -> dict[str, Any]:
    seen: dict[str, Any] = {}
    client = fal_client.AsyncClient()
    handle = await client.submit(MODEL, given(num_images=2, seed=7))
    seen["submitted"] = {"id": handle.request_id, "status_url": handle.status_url}
    seen["events"] = [describe(event) async for event in handle.iter_events(with_logs=True)]
    seen["got"] = await handle.get()
    seen["status"] = describe(await client.status(MODEL, handle.request_id, with_logs=True))
    seen["result"] = await client.result(MODEL, handle.request_id)
    unwanted = await client.submit(MODEL, given(60))
    await unwanted.cancel()
    seen["canceled"] = [describe(event) async for event in unwanted.iter_events(interval=0.02)][-1]
    try:
        await unwanted.get()
    except fal_client.FalClientHTTPError as error:
        seen["canceled_result"] = failure(error)
    try:
        await handle.cancel()
    except fal_client.FalClientHTTPError as error:
        seen["cancel_too_late"] = failure(error)
    seen["run"] = await client.run("local/aurora", {"prompt": "a lighthouse", "width": 64, "height": 64, "seed": 3})
    try:
        await client.run(MODEL, given(3600), headers={"Prefer": "wait=1"})
    except fal_client.FalClientHTTPError as error:
        seen["sent_on"] = failure(error)
    updates: list[dict[str, Any]] = []
    seen["subscribed"] = await client.subscribe(
        MODEL, given(), with_logs=True, on_queue_update=lambda status: updates.append(describe(status))
    )
    seen["updates"] = updates
    seen["streamed"] = [event async for event in client.stream(MODEL, given())]
    return seen


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"sync": sync(), "async": asyncio.run(in_async())}))
