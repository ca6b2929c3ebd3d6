"""api.replicate.com (providers.md §3): predictions, their webhooks, and everything gone after an hour."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from safelight.emulators.courier import Letter
from safelight.emulators.drop import Dropped
from safelight.emulators.engine import Engine, Overloaded
from safelight.emulators.faults import FaultError
from safelight.emulators.replicate_bodies import (
    FAILURES,
    REFUSED,
    forged_prediction,
    invalid,
    new_id,
    prediction,
    problem,
    secret_from_seed,
    standard_headers,
    throttled,
)
from safelight.emulators.replicate_files import ReplicateFiles
from safelight.emulators.settings import HANG_S, EmulatorSettings
from safelight.emulators.task import JSON, Order, Stopped, Succeeded, Task, abridge
from safelight.emulators.uploads import UploadStore
from safelight.emulators.wanted import Unwanted, read_wanted
from safelight.emulators.wire import BadBody, gateway_503, json_answer, origin_of, read_object

EVENTS = ("start", "output", "logs", "completed")
LOGS_EVERY_S = 0.5  # `output` and `logs` at most every 500 ms (§3.3)
WAIT_S, WAIT_MAX_S = 60.0, 60.0
PAGE = 100
PROMPT_MAX = 20_000
RETRIES = (650.0, 4)  # lifetime and count that give the courier four growing retries: about a minute at scale 0.1
PREFER = re.compile(r"^wait(?:=(\d{1,3}))?$")
VERSION = re.compile(r"[0-9a-f]{64}")


class ReplicateDialect:
    """Webhooks: Standard Webhooks over the whole prediction; only the terminal one is ever retried."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self.secret = secret_from_seed(settings.seed)
        self._forger = secret_from_seed(settings.seed + 1)

    def ended(self, task: Task) -> None:
        """Replicate bills nothing that one could ask for."""

    def letter(self, task: Task, *, age_s: float = 0.0, forged: bool = False) -> Letter | None:
        if task.order.webhook_url is None or "completed" not in _events(task):
            return None
        return self.event(task, "completed", age_s=age_s, forged=forged)

    def event(self, task: Task, kind: str, *, age_s: float = 0.0, forged: bool = False, part: int = 0) -> Letter:
        """One webhook of a task that has a URL for it."""
        url = task.order.webhook_url
        assert url is not None
        body = prediction(task, time.time(), f"{task.order.public_url}/v1")
        raw = msgspec.json.encode(forged_prediction(body) if forged else body)
        message_id = f"msg_{task.id}_{kind}{part or ''}"
        secret = self._forger if forged else self.secret
        return Letter(url, raw, standard_headers(secret, message_id, raw, int(time.time() - age_s)))

    def retries(self, task: Task) -> tuple[float, int]:
        return RETRIES


class Replicate:
    """The handlers. State is the engine's."""

    def __init__(self, engine: Engine, uploads: UploadStore) -> None:
        self.engine = engine
        self.settings = engine.settings
        self.dialect = ReplicateDialect(engine.settings)
        self._files = ReplicateFiles(self, uploads)
        self._following: set[asyncio.Task[None]] = set()

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/predictions", self.create, methods=["POST"]),
            Route("/v1/models/{owner}/{name}/predictions", self.create, methods=["POST"]),
            Route("/v1/deployments/{owner}/{name}/predictions", self.create, methods=["POST"]),
            Route("/v1/predictions", self.list_all, methods=["GET"]),
            Route("/v1/predictions/{id}", self.get, methods=["GET"]),
            Route("/v1/predictions/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/v1/webhooks/default/secret", self.webhook_secret, methods=["GET"]),
            Route("/v1/models/{owner}/{name}/versions/{version}", self.version, methods=["GET"]),
            Route("/v1/account", self.account, methods=["GET"]),
            Route("/stream/{id}", self.stream, methods=["GET"]),
            Route("/files/{name}", self.get_file, methods=["GET"]),
            *self._files.routes(),
        ]

    async def close(self) -> None:
        for each in self._following:
            each.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)

    def public_url(self, request: Request) -> str:
        """`…/replicate` as clients reach it."""
        return f"{self.settings.base_url or origin_of(request)}/replicate"

    def refuse_stranger(self, request: Request) -> Response | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        known = self.settings.replicate_tokens
        if scheme.lower() not in ("bearer", "token") or not token or (known is not None and token not in known):
            return _refused("401")
        return None

    # --- create ------------------------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        """`{"version"?, "input": {…}, "webhook"?, "webhook_events_filter"?}`; faults in `input._emulator`."""
        if (stranger := self.refuse_stranger(request)) is not None:
            return stranger
        try:
            order = self._read_order(request, await read_object(request))
        except BadBody as bad:
            return json_answer(problem(bad.status, {"title": "Invalid request", "detail": str(bad)}), bad.status)
        except Unwanted as bad:
            return json_answer(invalid(bad.field, bad.message), 422)
        except FaultError as error:
            return json_answer(invalid("_emulator", str(error)), 422)
        if (refusal := self._refusal(order)) is not None:
            return refusal
        try:
            task = self.engine.accept(order, self.dialect)
        except Overloaded:
            return json_answer(throttled(1.0), 429)
        self._follow(task)
        if order.faults.webhook == "before_answer":
            await self.engine.told(task)
        match order.faults.submit:
            case "lose_answer":
                return Dropped()
            case "hang":
                return Dropped(after_s=HANG_S)
            case "slow":
                await asyncio.sleep(self.engine.slow_s(order))
            case "garbage":
                return Response("<html>upstream", media_type="text/html")
            case "500_accepted":
                return _refused("500")
            case _:
                pass
        await self._wait(request, task)
        return json_answer(self._body(task), 201)

    def _read_order(self, request: Request, body: JSON) -> Order:
        model, version, deployment = _named(request, body)
        given: Any = body.get("input")
        if not isinstance(given, dict):
            raise BadBody(422, "input is required")
        given = dict(cast("JSON", given))
        webhook, events = body.get("webhook"), body.get("webhook_events_filter")
        if webhook is not None and urlsplit(str(webhook)).scheme not in ("http", "https"):
            raise BadBody(422, "webhook is not a URL")
        if events is not None and (not isinstance(events, list) or not set(cast("list[str]", events)) <= set(EVENTS)):
            raise BadBody(422, f"webhook_events_filter takes {', '.join(EVENTS)}")
        faults = self.engine.faults.resolve(given.pop("_emulator", None))
        if faults.fail is not None and faults.fail not in FAILURES:
            raise FaultError(f"_emulator: fail: Replicate has no failure {faults.fail!r}; there are {sorted(FAILURES)}")
        prompt = given.get("prompt")
        if not isinstance(prompt, str) or not 0 < len(prompt) <= PROMPT_MAX:
            raise Unwanted("prompt", "prompt is required", "required", {}, prompt)
        return Order(
            id=new_id(),
            model=model,
            input=abridge(given),
            webhook_url=webhook,
            faults=faults,
            public_url=self.public_url(request),
            wanted=read_wanted(model, {**given, "num_images": given.get("num_outputs")}, "webp"),
            extra={
                "version": version,
                "deployment": deployment,
                "events": events,
                "file_lifetime_s": self.settings.replicate_lifetime_s,
            },
        )

    def _refusal(self, order: Order) -> Response | None:
        fault = self.engine.refusal(order)
        if fault is None:
            return None
        if fault == "lose_request":
            return Dropped()
        if fault == "429":
            return json_answer(throttled(order.faults.retry_after_s), 429)
        return _refused(fault)

    async def _wait(self, request: Request, task: Task) -> None:
        """`Prefer: wait[=n]`: hold the answer until the prediction has ended, for so long."""
        asked = PREFER.match(request.headers.get("prefer", "").replace(" ", ""))
        if asked is None:
            return
        seconds = min(float(asked[1] or WAIT_S), WAIT_MAX_S)
        try:
            async with asyncio.timeout(seconds):
                await task.ended.wait()
        except TimeoutError:
            pass  # it is answered as it is

    # --- read, cancel ------------------------------------------------------------------------------------------

    def _body(self, task: Task) -> JSON:
        now = self.engine.clock()
        lifetime_s = self.settings.replicate_lifetime_s
        is_old = task.ended_at is not None and now > task.ended_at + lifetime_s
        removed = is_old or (task.faults.result == "gone" and task.outcome is not None)
        return prediction(task, now, f"{task.order.public_url}/v1", removed=removed)

    def _find(self, request: Request) -> Task | Response:
        if (stranger := self.refuse_stranger(request)) is not None:
            return stranger
        task = self.engine.find(request.path_params["id"])
        if task is None or (task.faults.cancel == "missing" and isinstance(task.outcome, Stopped)):
            return _refused("404")
        return task

    async def get(self, request: Request) -> Response:
        task = self._find(request)
        if isinstance(task, Response):
            return task
        task.status_reads += 1
        body = self._body(task)
        if task.faults.status is not None and task.status_reads <= task.faults.status_times:
            match task.faults.status:
                case "unknown":
                    body |= {"status": "reviewing", "output": None}
                case "hang":
                    return Dropped(after_s=HANG_S)
                case "404":
                    return _refused("404")
                case "500":
                    return _refused("500")
        return json_answer(body)

    async def list_all(self, request: Request) -> Response:
        """Newest first, by pages; `cursor` is where the next begins."""
        if (stranger := self.refuse_stranger(request)) is not None:
            return stranger
        said = request.query_params.get("cursor", "0")
        start = int(said) if said.isdecimal() and len(said) < 9 else 0
        ids = [each["id"] for each in reversed(self.engine.requests)]
        tasks = [task for each in ids[start : start + PAGE] if (task := self.engine.find(each)) is not None]
        api = f"{self.public_url(request)}/v1/predictions"
        after, before = start + PAGE, max(0, start - PAGE)
        return json_answer(
            {
                "previous": f"{api}?cursor={before}" if start else None,
                "next": f"{api}?cursor={after}" if after < len(ids) else None,
                "results": [self._body(task) for task in tasks],
            }
        )

    async def cancel(self, request: Request) -> Response:
        task = self._find(request)
        if isinstance(task, Response):
            return task
        if await self.engine.cancel(task):
            # In the queue it is gone at once; a running model gets a signal.
            try:
                async with asyncio.timeout(0.05):
                    await task.ended.wait()
            except TimeoutError:
                pass
        return json_answer(self._body(task))

    async def webhook_secret(self, request: Request) -> Response:
        return self.refuse_stranger(request) or json_answer({"key": self.dialect.secret})

    async def version(self, request: Request) -> Response:
        if (stranger := self.refuse_stranger(request)) is not None:
            return stranger
        output = {"type": "array", "items": {"type": "string", "format": "uri"}, "title": "Output"}
        return json_answer(
            {
                "id": request.path_params["version"],
                "created_at": "2026-01-01T00:00:00.000Z",
                "cog_version": "0.16.0",
                "openapi_schema": {"components": {"schemas": {"Output": output}}},
            }
        )

    async def account(self, request: Request) -> Response:
        answer = {"type": "user", "username": "emulator", "name": "Emulator", "github_url": "https://github.com/"}
        return self.refuse_stranger(request) or json_answer(answer)

    async def get_file(self, request: Request) -> Response:
        return await self.engine.shelf.serve(request.path_params["name"])

    # --- while it goes on --------------------------------------------------------------------------------------

    async def stream(self, request: Request) -> Response:
        """`urls.stream`: server-sent events. The URL is its own permission."""
        task = self.engine.find(request.path_params["id"])
        if task is None:
            return _refused("404")
        return StreamingResponse(_stream(task), media_type="text/event-stream")

    def _follow(self, task: Task) -> None:
        """Tell of the start, the logs and the output, if they are wanted: each once, never again."""
        wanted = set(_events(task)) & {"start", "logs", "output"}
        if task.order.webhook_url is None or not wanted or task.faults.webhook == "lost":
            return
        following = asyncio.create_task(self._tell(task, wanted))
        self._following.add(following)
        following.add_done_callback(self._following.discard)

    async def _tell(self, task: Task, wanted: set[str]) -> None:
        part = 0
        if not await _ended_within(task, task.timeline.starts_at - self.engine.clock()) and "start" in wanted:
            await self.engine.courier.post(task, self.dialect.event(task, "start"), "start")
        while not await _ended_within(task, LOGS_EVERY_S):
            if "logs" in wanted:
                part += 1
                await self.engine.courier.post(task, self.dialect.event(task, "logs", part=part), "logs")
        if "output" in wanted and isinstance(task.outcome, Succeeded):
            await self.engine.courier.post(task, self.dialect.event(task, "output"), "output")


async def _stream(task: Task) -> AsyncIterator[bytes]:
    await task.ended.wait()
    match task.outcome:
        case Succeeded(files=files):
            for number, file in enumerate(files):
                yield f"event: output\nid: {number}\ndata: {file.url}\n\n".encode()
            yield b"event: done\ndata: {}\n\n"
        case Stopped():
            yield b'event: done\ndata: {"reason": "canceled"}\n\n'
        case _:
            yield b'event: error\ndata: {"detail": "prediction failed"}\n\n'
            yield b'event: done\ndata: {"reason": "error"}\n\n'


async def _ended_within(task: Task, seconds: float) -> bool:
    try:
        async with asyncio.timeout(max(seconds, 0.0)):
            await task.ended.wait()
    except TimeoutError:
        return False
    return True


def _events(task: Task) -> list[str]:
    return list(EVENTS) if task.order.extra["events"] is None else task.order.extra["events"]


def _named(request: Request, body: JSON) -> tuple[str, str, str | None]:
    """Model, version and deployment. Raises BadBody where nothing is named."""
    owner, name = request.path_params.get("owner"), request.path_params.get("name")
    if owner is not None:
        is_deployment = "/deployments/" in request.url.path
        return f"{owner}/{name}", "hidden", f"{owner}/{name}" if is_deployment else None
    said = body.get("version")
    if not isinstance(said, str) or not said:
        raise BadBody(422, "version is required")
    model, _, version = said.rpartition(":")
    if VERSION.fullmatch(version):
        return model or "somebody/something", version, None
    if not model and len(said.split("/")) == 2:
        return said, "hidden", None
    raise BadBody(422, "Invalid version or not permitted")


def _refused(fault: str) -> Response:
    if fault == "503_gateway":
        return gateway_503()
    status, body = REFUSED[fault]
    return json_answer(problem(status, body), status)
