"""Drives the official `openai` client, sync and async, and prints what it saw as one JSON object."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from typing import Any

import openai
from openai import AsyncOpenAI, OpenAI

MODEL = "gpt-image-2.5-flare"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def given(prompt: str = "a red fox", faults: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "prompt": prompt,
        "size": "64x64",
        **more,
        "extra_body": {"_emulator": {"latency_s": 0.4, **(faults or {})}},
    }


def shown(answer: Any) -> dict[str, Any]:
    return {
        "heads": [base64.b64decode(image.b64_json)[:4].hex() for image in answer.data],
        "format": answer.output_format,
        "size": answer.size,
        "tokens": answer.usage.total_tokens,
        "sum": answer.usage.input_tokens + answer.usage.output_tokens,
        "created": answer.created,
    }


def event(each: Any) -> dict[str, Any]:
    return {
        "class": type(each).__name__,
        "type": each.type,
        "index": getattr(each, "partial_image_index", None),
        "head": base64.b64decode(each.b64_json)[:4].hex(),
        "tokens": each.usage.total_tokens if hasattr(each, "usage") else None,
    }


def failure(error: openai.APIStatusError) -> dict[str, Any]:
    return {
        "class": type(error).__name__,
        "status": error.status_code,
        "code": error.code,
        "type": error.type,
        "message": str(error),
        "request_id": error.request_id,
    }


def sync() -> dict[str, Any]:
    client = OpenAI(max_retries=0)
    seen: dict[str, Any] = {"models": [each.id for each in client.models.list()]}
    seen["made"] = shown(client.images.generate(**given(n=2)))
    seen["jpeg"] = shown(client.images.generate(**given(output_format="jpeg", quality="low")))
    seen["streamed"] = [event(each) for each in client.images.generate(**given(stream=True, partial_images=2))]

    picture = ("a.png", io.BytesIO(PNG), "image/png")
    edit = given()
    edit["extra_body"] = {"_emulator": json.dumps({"latency_s": 0.2})}
    seen["edited"] = shown(client.images.edit(image=picture, **edit))
    several = [("a.png", PNG, "image/png"), ("b.png", PNG, "image/png")]
    edit["stream"], edit["partial_images"] = True, 1
    seen["edited_stream"] = [event(each) for each in client.images.edit(image=several, mask=picture, **edit)]

    for name, call in (
        ("moderated", lambda: client.images.generate(**given(faults={"fail": "content_policy"}))),
        ("quota", lambda: client.images.generate(**given(faults={"submit": "402"}))),
        ("busy", lambda: client.images.generate(**given("busy", {"submit": "429"}))),
        ("broken", lambda: client.images.generate(**given(faults={"submit": "500"}))),
        ("wrong", lambda: client.images.generate(**given(n=11))),
        ("retired", lambda: client.images.generate(**given() | {"model": "gpt-image-1"})),
        ("stranger", lambda: OpenAI(api_key="sk-b", max_retries=0).images.generate(**given())),
    ):
        try:
            call()
        except openai.APIStatusError as error:
            seen[name] = failure(error)
    try:
        for _ in client.images.generate(**given(faults={"fail": "content_policy"}, stream=True, partial_images=1)):
            pass
    except openai.APIError as error:
        seen["moderated_stream"] = {"code": error.code, "message": error.message}
    patient = OpenAI(max_retries=3)
    seen["patient"] = shown(patient.images.generate(**given("patience", {"submit": "429", "retry_after_s": 0.1})))
    return seen


async def not_sync() -> dict[str, Any]:
    client = AsyncOpenAI(max_retries=0)
    made = shown(await client.images.generate(**given()))
    stream = await client.images.generate(**given(stream=True, partial_images=1))
    return {"made": made, "streamed": [event(each) async for each in stream]}


def main() -> None:
    seen = {"sync": sync(), "async": asyncio.run(not_sync()), "version": openai.__version__}
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main()
