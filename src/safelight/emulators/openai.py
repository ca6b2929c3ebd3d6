"""api.openai.com's images (providers.md §4.1): one call, held open until the pictures are in it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from safelight.emulators.courier import Letter
from safelight.emulators.drop import Dropped
from safelight.emulators.engine import Engine, Overloaded
from safelight.emulators.faults import FaultError
from safelight.emulators.media import MediaSpec, Studio, short_prompt
from safelight.emulators.openai_bodies import (
    FAILURES,
    MODELS,
    REFUSED,
    Asked,
    Complaint,
    Wrong,
    event,
    failure_of,
    images_answer,
    read_request,
    wrong,
)
from safelight.emulators.openai_form import read_form
from safelight.emulators.settings import HANG_S
from safelight.emulators.task import JSON, Broken, Order, Succeeded, Task, abridge
from safelight.emulators.wire import BadBody, gateway_503, json_answer, origin_of, read_bytes, read_object

MINUTE_S = 60.0
CLIENT_ID_MAX = 512
PREVIEW_SHARE = 4  # a preview's sides are a quarter of the picture's: it is made while somebody waits
HTML = b"<!doctype html><title>Sign in</title><p>Please sign in."


class OpenAIDialect:
    """Images send no webhooks."""

    def ended(self, task: Task) -> None:
        """What it cost stands in the answer."""

    def letter(self, task: Task, *, age_s: float = 0.0, forged: bool = False) -> Letter | None:
        return None

    def retries(self, task: Task) -> tuple[float, int]:
        return 0.0, 0


class OpenAI:
    """The handlers. State is the engine's, except the rate window."""

    def __init__(self, engine: Engine, studio: Studio) -> None:
        self.engine = engine
        self.settings = engine.settings
        self._studio = studio
        self._dialect = OpenAIDialect()
        self._recent: deque[float] = deque(maxlen=10_000)

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/images/generations", self.generate, methods=["POST"]),
            Route("/v1/images/edits", self.edit, methods=["POST"]),
            Route("/v1/models", self.models, methods=["GET"]),
        ]

    async def generate(self, request: Request) -> Response:
        """JSON; faults in `_emulator` beside the prompt."""
        return await self._make(request, is_edit=False)

    async def edit(self, request: Request) -> Response:
        """Multipart with `image` or `image[]` and perhaps `mask`; faults as JSON in the field `_emulator`."""
        return await self._make(request, is_edit=True)

    async def models(self, request: Request) -> Response:
        if not self._knows(request):
            return self._refuse(REFUSED["401"])
        listed = [{"id": name, "object": "model", "created": 1_767_225_600, "owned_by": "openai"} for name in MODELS]
        return json_answer({"object": "list", "data": listed})

    # --- one call ----------------------------------------------------------------------------------------------

    async def _make(self, request: Request, *, is_edit: bool) -> Response:
        if not self._knows(request):
            return self._refuse(REFUSED["401"])
        try:
            asked = await _read_edit(request) if is_edit else read_request(await read_object(request), None)
            order = self._order(request, asked)
        except Wrong as bad:
            return self._refuse(bad.complaint)
        except BadBody as bad:
            return self._refuse(Complaint(400, str(bad), "invalid_request_error"))
        except FaultError as error:
            return self._refuse(wrong(str(error), "_emulator").complaint)
        refusal = self._refusal(order) or self._too_many(asked.wanted.count)
        if refusal is not None:
            return refusal
        try:
            task = self.engine.accept(order, self._dialect)
        except Overloaded:
            return self._refuse(REFUSED["503"])
        match order.faults.submit:
            case "lose_answer":
                return Dropped()
            case "hang":
                return Dropped(after_s=HANG_S)
            case "garbage":
                await task.ended.wait()
                return Response("<html>upstream", media_type="text/html")
            case "500_accepted":
                await task.ended.wait()
                return Response("<html>502 Bad Gateway", 502, media_type="text/html")
            case "slow":
                await asyncio.sleep(self.engine.slow_s(order))
            case _:
                pass
        headers = {"x-request-id": f"req_{task.id}", **self._limits()}
        if asked.stream:
            return StreamingResponse(self._stream(task, asked), media_type="text/event-stream", headers=headers)
        return await self._whole(task, asked, headers)

    async def _whole(self, task: Task, asked: Asked, headers: dict[str, str]) -> Response:
        await task.ended.wait()
        match task.outcome:
            case Succeeded():
                body = images_answer(asked, await self._pictures(task))
            case Broken() as broken:
                return self._refuse(failure_of(broken), headers)
            case _:
                return self._refuse(REFUSED["500"], headers)
        if task.faults.result == "cut":
            return Dropped(msgspec.json.encode(body), media_type="application/json")
        return json_answer(body, 200, headers)

    async def _stream(self, task: Task, asked: Asked) -> AsyncIterator[bytes]:
        """Previews spread over the time it takes, then the pictures; or an `error` event."""
        line = task.timeline
        for number in range(asked.previews):
            due = line.starts_at + (line.planned_end_at - line.starts_at) * (number + 1) / (asked.previews + 1)
            if await _ended_before(task, due - self.engine.clock()) and not isinstance(task.outcome, Succeeded):
                break  # a good one shows all that were asked for, however late this machine is
            yield _sse(*event(asked, await self._preview(task, asked, number), number))
        await task.ended.wait()
        match task.outcome:
            case Succeeded():
                # Nothing to show is told too: a stream ends with `completed`.
                pictures = await self._pictures(task) or [b""]
                whole = b"".join(_sse(*event(asked, each, None)) for each in pictures)
                if task.faults.result == "cut":
                    yield whole[: len(whole) // 2]
                    raise ConnectionResetError("the emulator cuts this stream on request")
                yield whole
            case Broken() as broken:
                yield _sse("error", {"type": "error", **failure_of(broken).body()})
            case _:
                yield _sse("error", {"type": "error", **REFUSED["500"].body()})

    async def _preview(self, task: Task, asked: Asked, number: int) -> bytes:
        wanted = asked.wanted
        width, height = (max(16, side // PREVIEW_SHARE) for side in (wanted.width, wanted.height))
        prompt = short_prompt(task.order.prompt)
        spec = MediaSpec("image", prompt, task.number + number, width, height, 0.0, wanted.format)
        return await self._studio.make(spec)

    async def _pictures(self, task: Task) -> list[bytes]:
        """What the answer holds: the files themselves, as good or as bad as was asked for."""
        assert isinstance(task.outcome, Succeeded)
        files = [await self.engine.shelf.data(file.name) for file in task.outcome.files]
        match task.faults.result:
            case "truncated":
                return [data[: len(data) // 2] for data in files]
            case "wrong_type":
                return [HTML for _ in files]
            case "expired" | "gone" | "none":
                return []
            case _:
                return files

    # --- checks ------------------------------------------------------------------------------------------------

    def _knows(self, request: Request) -> bool:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        known = self.settings.openai_keys
        return scheme.lower() == "bearer" and bool(key.strip()) and (known is None or key.strip() in known)

    def _order(self, request: Request, asked: Asked) -> Order:
        faults = self.engine.faults.resolve(asked.faults)
        if faults.fail is not None and faults.fail not in FAILURES:
            raise FaultError(f"_emulator: fail: OpenAI has no failure {faults.fail!r}; there are {sorted(FAILURES)}")
        client_id = request.headers.get("x-client-request-id", "")[:CLIENT_ID_MAX]
        return Order(
            id=uuid4().hex,
            model=asked.model,
            input=abridge(asked.input),
            webhook_url=None,
            faults=faults,
            public_url=f"{self.settings.base_url or origin_of(request)}/openai",
            wanted=asked.wanted,
            extra={"attempt": client_id or None, "is_edit": asked.is_edit},
        )

    def _refusal(self, order: Order) -> Response | None:
        fault = self.engine.refusal(order)
        if fault is None:
            return None
        if fault == "lose_request":
            return Dropped()
        headers: dict[str, str] = {}
        if fault == "429":
            if order.faults.retry_after_s is not None:
                headers = {"retry-after": f"{order.faults.retry_after_s:g}"}
            else:
                headers = {"x-ratelimit-remaining-images": "0", "x-ratelimit-reset-images": "1.5s"}
        if fault == "503_gateway":
            return gateway_503()
        return self._refuse(REFUSED[fault], headers)

    def _too_many(self, count: int) -> Response | None:
        limit = self.settings.openai_rate_per_min
        if limit is None:
            return None
        now = self.engine.clock()
        while self._recent and self._recent[0] <= now - MINUTE_S:
            self._recent.popleft()
        if len(self._recent) + count > limit:
            return self._refuse(REFUSED["429"], self._limits())
        self._recent.extend([now] * count)
        return None

    def _limits(self) -> dict[str, str]:
        limit = self.settings.openai_rate_per_min
        if limit is None:
            return {}
        wait_s = max(0.0, self._recent[0] + MINUTE_S - self.engine.clock()) if self._recent else 0.0
        return {
            "x-ratelimit-limit-images": str(limit),
            "x-ratelimit-remaining-images": str(max(0, limit - len(self._recent))),
            "x-ratelimit-reset-images": f"{wait_s:.3f}s",
        }

    def _refuse(self, complaint: Complaint, headers: dict[str, str] | None = None) -> Response:
        return json_answer(
            complaint.body(), complaint.status, {"x-request-id": f"req_{uuid4().hex}", **(headers or {})}
        )


async def _read_edit(request: Request) -> Asked:
    """Raises BadBody or Wrong."""
    parts = read_form(request.headers.get("content-type", ""), await read_bytes(request))
    files = [part for part in parts if part.file_name is not None]
    given: JSON = {part.name: part.text for part in parts if part.file_name is None}
    if "_emulator" in given:
        try:
            given["_emulator"] = msgspec.json.decode(given["_emulator"])
        except msgspec.DecodeError:
            raise wrong("_emulator is JSON", "_emulator") from None
    return read_request(given, files)


def _sse(name: str, data: Any) -> bytes:
    return f"event: {name}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"


async def _ended_before(task: Task, seconds: float) -> bool:
    try:
        async with asyncio.timeout(max(seconds, 0.0)):
            await task.ended.wait()
    except TimeoutError:
        return False
    return True
