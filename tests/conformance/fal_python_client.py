"""Drives the official fal_client, sync and async, and prints what it saw as one JSON object."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import fal_client

MODEL = "fal-ai/flux/dev"


def given(**more: Any) -> dict[str, Any]:
    faults = {"latency_s": 0.5, **more.pop("faults", {})}
    return {"prompt": "a red fox", "image_size": {"width": 64, "height": 64}, "_emulator": faults, **more}


def describe(status: fal_client.Status) -> dict[str, Any]:
    logs = getattr(status, "logs", None)
    return {
        "state": type(status).__name__,
        "position": getattr(status, "position", None),
        "logs": None if logs is None else len(logs),
        "error_type": getattr(status, "error_type", None),
        "metrics": getattr(status, "metrics", None),
    }


def failure(error: fal_client.FalClientHTTPError) -> dict[str, Any]:
    return {"status": error.status_code, "message": error.message, "error_type": error.error_type}


def sync() -> dict[str, Any]:
    seen: dict[str, Any] = {}
    handle = fal_client.submit(MODEL, given(), priority="low", start_timeout=30)
    seen["submitted"] = {"id": handle.request_id, "response_url": handle.response_url}
    seen["events"] = [describe(event) for event in handle.iter_events(with_logs=True, interval=0.02)]
    seen["got"] = handle.get()
    seen["status"] = describe(fal_client.status(MODEL, handle.request_id, with_logs=True))
    seen["result"] = fal_client.result(MODEL, handle.request_id)

    unwanted = fal_client.submit(MODEL, given(faults={"latency_s": 60}))
    unwanted.cancel()
    seen["canceled"] = [describe(event) for event in unwanted.iter_events(interval=0.02)][-1]
    try:
        unwanted.get()
    except fal_client.FalClientHTTPError as error:
        seen["canceled_result"] = failure(error)
    try:
        fal_client.cancel(MODEL, handle.request_id)
    except fal_client.FalClientHTTPError as error:
        seen["cancel_too_late"] = failure(error)

    seen["run"] = fal_client.run(MODEL, given())
    updates: list[dict[str, Any]] = []
    seen["subscribed"] = fal_client.subscribe(
        MODEL, given(), with_logs=True, on_queue_update=lambda status: updates.append(describe(status))
    )
    seen["updates"] = updates
    seen["streamed"] = list(fal_client.stream(MODEL, given()))
    try:
        fal_client.submit(MODEL, {"_emulator": {"latency_s": 0.1}}).get()
    except fal_client.FalClientHTTPError as error:
        seen["invalid"] = failure(error)
    try:
        fal_client.submit(MODEL, given(faults={"fail": "transient"})).get()
    except fal_client.FalClientHTTPError as error:
        seen["transient"] = failure(error)
    seen["patient"] = fal_client.submit(MODEL, given(prompt="patience", faults={"submit": "429"})).request_id
    seen["lost"] = fal_client.submit(MODEL, given(prompt="lost", faults={"submit": "lose_request"})).request_id
    return seen


async def in_async() -> dict[str, Any]:
    seen: dict[str, Any] = {}
    client = fal_client.AsyncClient()
    handle = await client.submit(MODEL, given())
    seen["submitted"] = {"id": handle.request_id, "response_url": handle.response_url}
    seen["events"] = [describe(event) async for event in handle.iter_events(with_logs=True, interval=0.02)]
    seen["got"] = await handle.get()
    seen["status"] = describe(await client.status(MODEL, handle.request_id, with_logs=True))
    seen["result"] = await client.result(MODEL, handle.request_id)
    unwanted = await client.submit(MODEL, given(faults={"latency_s": 60}))
    await unwanted.cancel()
    seen["canceled"] = [describe(event) async for event in unwanted.iter_events(interval=0.02)][-1]
    try:
        await unwanted.get()
    except fal_client.FalClientHTTPError as error:
        seen["canceled_result"] = failure(error)
    try:
        await client.cancel(MODEL, handle.request_id)
    except fal_client.FalClientHTTPError as error:
        seen["cancel_too_late"] = failure(error)
    seen["run"] = await client.run(MODEL, given())
    updates: list[dict[str, Any]] = []
    seen["subscribed"] = await client.subscribe(
        MODEL, given(), with_logs=True, on_queue_update=lambda status: updates.append(describe(status))
    )
    seen["updates"] = updates
    seen["streamed"] = [event async for event in client.stream(MODEL, given())]
    return seen


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"sync": sync(), "async": asyncio.run(in_async())}))
