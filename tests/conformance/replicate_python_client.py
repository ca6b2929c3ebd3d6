"""Drives the official `replicate` client, sync and async, and prints what it saw as one JSON object."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from typing import Any

import replicate
from replicate.exceptions import ModelError, ReplicateError

MODEL = "black-forest-labs/flux-schnell"
VERSION = f"somebody/something:{'0123456789abcdef' * 4}"


def given(prompt: str = "a red fox", faults: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "width": 64, "height": 64, **more, "_emulator": {"latency_s": 0.4, **(faults or {})}}


def shown(prediction: Any) -> dict[str, Any]:
    progress = prediction.progress
    return {
        "id": prediction.id,
        "status": prediction.status,
        "output": prediction.output,
        "percent": None if progress is None else progress.percentage,
        "metrics": prediction.metrics,
    }


def failure(error: ReplicateError) -> dict[str, Any]:
    return {"status": error.status, "title": error.title, "detail": error.detail}


def sync() -> dict[str, Any]:
    seen: dict[str, Any] = {}
    prediction = replicate.predictions.create(model=MODEL, input=given(faults={"latency_s": 1.2, "queue_s": 1.0}))
    seen["created"] = shown(prediction)
    prediction.wait()
    seen["ended"] = shown(prediction)
    seen["got"] = shown(replicate.predictions.get(prediction.id))
    seen["listed"] = [each.id for each in replicate.predictions.list().results]

    inline = given(output_format="png", faults={"result": "data_uri"})  # the client makes files of https and data only
    seen["run"] = [file.read()[:4].hex() for file in replicate.run(MODEL, input=inline)]
    seen["version"] = list(replicate.run(VERSION, input=given()))
    deployed = replicate.deployments.predictions.create("acme/flux", input=given())
    deployed.wait()
    seen["deployed"] = shown(deployed)

    unwanted = replicate.predictions.create(model=MODEL, input=given(faults={"latency_s": 60}))
    unwanted.cancel()
    unwanted.wait()
    seen["canceled"] = shown(unwanted)

    file = replicate.files.create(io.BytesIO(b"\x89PNG\r\n\xff\x00\r\n"), filename="a.png", content_type="image/png")
    seen["file"] = {"size": file.size, "type": file.content_type, "sha256": file.checksums["sha256"]}
    seen["streamed"] = [str(event.event) for event in replicate.stream(MODEL, input=given())]
    seen["secret"] = replicate.webhooks.default.secret().key

    try:
        replicate.run(MODEL, input=given(faults={"fail": "content_policy"}))
    except ModelError as error:
        seen["failed"] = {"error": error.prediction.error, "status": error.prediction.status}
    for name, call in (
        ("invalid", lambda: replicate.run(MODEL, input={"width": 64})),
        ("unknown", lambda: replicate.predictions.get("nobody")),
        ("broke", lambda: replicate.run(MODEL, input=given(faults={"submit": "402"}))),
        ("busy", lambda: replicate.run(MODEL, input=given("busy", {"submit": "429"}))),
    ):
        try:
            call()
        except ReplicateError as error:
            seen[name] = failure(error)
    return seen


async def not_sync() -> dict[str, Any]:
    prediction = await replicate.predictions.async_create(model=MODEL, input=given())
    await prediction.async_wait()
    inline = given(output_format="png", faults={"result": "data_uri"})
    files = await replicate.async_run(MODEL, input=inline)
    return {"ended": shown(prediction), "run": [(await file.aread())[:4].hex() for file in files]}


def main() -> None:
    seen = {"sync": sync(), "async": asyncio.run(not_sync())}
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main()
