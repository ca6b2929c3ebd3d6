"""Emulators on a real port and a receiver of webhooks beside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from safelight.emulators.serve import Address, serving
from safelight.emulators.settings import EmulatorSettings

DEADLINE_S = 30.0


@dataclass
class Inbox:
    """What arrived, and how it is answered: `answers` first, then 200."""

    url: str = ""
    received: list[Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        self.bodies.append(await request.body())
        self.received.append(request)
        status = self.answers.pop(0) if self.answers else 200
        return Response(status_code=status, headers={"location": f"{self.url}/elsewhere"} if status == 302 else None)

    async def holds(self, count: int) -> None:
        await until(lambda: len(self.received) >= count)


async def until(true: Callable[[], bool]) -> None:
    """Wait for a condition, generously."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, "it did not become true"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def open_inbox() -> AsyncGenerator[Inbox]:
    box = Inbox()
    app = Starlette(routes=[Route("/{path:path}", box.take, methods=["GET", "POST"])])
    config = uvicorn.Config(app, port=0, log_config=None, log_level="warning", lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    box.url = f"http://127.0.0.1:{port}/hooks/fal/attempt-1/token"
    yield box
    server.should_exit = True
    await task


@dataclass
class Desk:
    """One running pair of emulators and clients that know the keys."""

    at: Address
    fal: httpx.AsyncClient
    kie: httpx.AsyncClient

    async def fal_submit(
        self, webhook: str | None = None, model: str = "fal-ai/flux/dev", **given: Any
    ) -> httpx.Response:
        faults = given.pop("faults", {})
        body = {"prompt": "a red fox", "image_size": {"width": 64, "height": 64}, **given}
        body["_emulator"] = {"latency_s": 0.05, **faults}
        params = {"fal_webhook": webhook} if webhook else {}
        return await self.fal.post(f"/queue/{model}", params=params, json=body)

    async def fal_ended(self, submitted: httpx.Response) -> httpx.Response:
        """The status answer once COMPLETED."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            status = await self.fal.get(submitted.json()["status_url"], params={"logs": "1"})
            if status.json().get("status") == "COMPLETED":
                return status
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)

    async def fal_result(self, submitted: httpx.Response) -> httpx.Response:
        await self.fal_ended(submitted)
        return await self.fal.get(submitted.json()["response_url"])

    async def kie_create(
        self, webhook: str | None = None, model: str = "google/nano-banana", **given: Any
    ) -> httpx.Response:
        faults = given.pop("faults", {})
        body: dict[str, Any] = {"model": model, "input": {"prompt": "a red fox", "width": 64, "height": 64, **given}}
        body["input"]["_emulator"] = {"latency_s": 0.05, **faults}
        if webhook:
            body["callBackUrl"] = webhook
        return await self.kie.post("/api/v1/jobs/createTask", json=body)

    async def kie_ended(self, created: httpx.Response, path: str = "/api/v1/jobs/recordInfo") -> dict[str, Any]:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            answer = await self.kie.get(path, params={"taskId": created.json()["data"]["taskId"]})
            data = answer.json()["data"]
            if data is not None and (
                data.get("state") in ("success", "fail") or data.get("successFlag", 0) in (1, 2, 3)
            ):
                return data
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)

    async def accepted(self) -> list[dict[str, Any]]:
        return (await self.fal.get(f"{self.at.base_url}/_emulator/requests")).json()

    async def deliveries(self) -> list[dict[str, Any]]:
        return (await self.fal.get(f"{self.at.base_url}/_emulator/deliveries")).json()


@asynccontextmanager
async def open_desk(settings: EmulatorSettings) -> AsyncGenerator[Desk]:
    async with (
        serving(settings) as at,
        httpx.AsyncClient(
            base_url=at.fal_url, headers={"Authorization": "Key a:b"}, timeout=DEADLINE_S, verify=False
        ) as fal,
        httpx.AsyncClient(
            base_url=at.kie_url, headers={"Authorization": "Bearer k"}, timeout=DEADLINE_S, verify=False
        ) as kie,
    ):
        yield Desk(at, fal, kie)
