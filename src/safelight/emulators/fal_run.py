"""fal.run (providers.md §1.12): the answer is the model's own, or a stream of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from safelight.emulators.drop import Dropped
from safelight.emulators.engine import Overloaded
from safelight.emulators.fal import STREAM_TICK_S, Fal, complaint_answer
from safelight.emulators.fal_bodies import error_of, parse_endpoint, result_body
from safelight.emulators.faults import FaultError
from safelight.emulators.task import Task
from safelight.emulators.timeline import STEPS
from safelight.emulators.wire import BadBody, json_answer


class FalRun:
    """Direct runs. They hold their connection, have no status and no webhook, and are limited in number."""

    def __init__(self, fal: Fal) -> None:
        self._fal = fal
        self._engine = fal.engine
        self._running = 0

    async def run(self, request: Request) -> Response:
        """`POST https://fal.run/{full id}`: the answer is the model's. With `/stream` at the end, as events."""
        stranger = self._fal.refuse_stranger(request)
        if stranger is not None:
            return stranger
        path, streamed = request.path_params["endpoint"], False
        if path.endswith("/stream"):
            path, streamed = path.removesuffix("/stream"), True
        endpoint = parse_endpoint(path)
        if endpoint is None:
            return json_answer({"detail": "Application not found"}, 404)
        if self._running >= self._fal.settings.fal_run_concurrency:
            body = {"detail": "Too many concurrent requests", "error_type": "concurrent_requests_limit"}
            return json_answer(body, 429, {"X-Fal-needs-retry": "1"})
        try:
            order = await self._fal.read_order(request, endpoint, None)
        except BadBody as bad:
            return json_answer({"detail": str(bad)}, bad.status)
        except FaultError as error:
            return complaint_answer("_emulator", str(error), "value_error", {}, None)
        refusal = self._fal.refusal(order)
        if refusal is not None:
            return refusal
        try:
            task = self._engine.accept(order, self._fal.dialect)
        except Overloaded:
            return json_answer({"detail": "Too many requests are queued"}, 429, {"Retry-After": "1"})
        if streamed:
            headers = {"x-fal-request-id": task.id}
            return StreamingResponse(self._steps(task), media_type="text/event-stream", headers=headers)
        self._running += 1
        try:
            await task.ended.wait()
        finally:
            self._running -= 1
        return Dropped() if order.faults.submit == "lose_answer" else self._fal.output(task)

    async def _steps(self, task: Task) -> AsyncIterator[bytes]:
        shown = 0
        while task.outcome is None:
            done = task.timeline.steps_done(self._engine.clock())
            if done > shown:
                shown = done
                yield b"data: " + msgspec.json.encode({"progress": done / STEPS, "images": []}) + b"\n\n"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STREAM_TICK_S):
                    await task.ended.wait()
        error = error_of(task)
        yield b"data: " + msgspec.json.encode(error.body if error else result_body(task)) + b"\n\n"
