"""queue.fal.run (providers.md §1.3-§1.8): paths as theirs, below whatever this is mounted at."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from safelight.emulators.courier import Letter
from safelight.emulators.drop import Dropped
from safelight.emulators.engine import Engine, Overloaded
from safelight.emulators.fal_bodies import (
    NORMAL_STATUS,
    Endpoint,
    billable_units,
    error_of,
    parse_endpoint,
    result_body,
    status_body,
    task_urls,
    webhook_body,
)
from safelight.emulators.fal_errors import BALANCE, known
from safelight.emulators.faults import FaultError
from safelight.emulators.settings import HANG_S, EmulatorSettings
from safelight.emulators.signing import FalSigner
from safelight.emulators.task import Broken, Order, Stopped, Succeeded, Task, abridge
from safelight.emulators.timeline import Phase
from safelight.emulators.wanted import Unwanted, read_wanted
from safelight.emulators.wire import BadBody, gateway_503, json_answer, origin_of, read_object

BIG_RESULT_BYTES = 10_000  # from here on fal keeps a result for minutes only (§1.6)
STREAM_TICK_S = 0.1
QUEUE_URL = "safelight.fal_queue_url"
"""Scope key: where the queue is reached when its paths are served at the root of a host of their own."""

REFUSED: dict[str, tuple[int, Any]] = {
    "401": (401, {"detail": "Authentication is required to access this application"}),
    "402": (403, {"detail": BALANCE}),
    "404": (404, {"detail": "Application not found"}),
    "422": (422, {"detail": [{"loc": ["body"], "msg": "Invalid input", "type": "value_error"}]}),
    "429": (429, {"detail": "Too many requests"}),
    "455": (503, {"detail": "Service unavailable"}),
    "500": (500, {"detail": "Internal server error"}),
    "503": (503, {"detail": "Service unavailable"}),
}


class FalDialect:
    """fal's webhooks: signed over the body's hash, retried until the result expires."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self._settings = settings
        self.signer = FalSigner.from_seed(settings.seed)
        self._forger = FalSigner.from_seed(settings.seed + 1, self.signer.user_id)

    def ended(self, task: Task) -> None:
        """fal bills nothing that one could ask for."""

    def letter(self, task: Task, *, age_s: float = 0.0, forged: bool = False) -> Letter | None:
        url = task.order.webhook_url
        if url is None or (isinstance(task.outcome, Stopped) and task.faults.cancel != "webhook"):
            return None
        body = msgspec.json.encode(webhook_body(task, forged=forged))
        signer = self._forger if forged else self.signer
        return Letter(url, body, signer.headers(task.id, body, int(time.time() - age_s)))

    def lifetime_s(self, task: Task) -> float:
        """How long the result JSON is kept after the end."""
        if isinstance(task.outcome, Succeeded) and len(msgspec.json.encode(result_body(task))) >= BIG_RESULT_BYTES:
            return self._settings.big_result_lifetime_s
        return self._settings.result_lifetime_s

    def retries(self, task: Task) -> tuple[float, int]:
        return self.lifetime_s(task), self._settings.webhook_retries_max


class Fal:
    """The handlers. State is the engine's."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.settings = engine.settings
        self.dialect = FalDialect(engine.settings)

    def public_url(self, request: Request) -> str:
        """`…/fal` as clients reach it."""
        return f"{self.settings.base_url or origin_of(request)}/fal"

    def queue_url(self, request: Request) -> str:
        own = request.scope.get(QUEUE_URL)
        return cast("str", own) if own else f"{self.public_url(request)}/queue"

    def refuse_stranger(self, request: Request) -> Response | None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        key = key.strip()
        if scheme.lower() not in ("key", "bearer") or not key:
            return json_answer(REFUSED["401"][1], 401)
        if self.settings.fal_keys is not None and key not in self.settings.fal_keys:
            return json_answer({"detail": "Invalid API key"}, 401)
        return None

    # --- submit ------------------------------------------------------------------------------------------------

    async def submit(self, request: Request) -> Response:
        """`POST /{full id}[?fal_webhook=][&fal_max_queue_length=]`."""
        stranger = self.refuse_stranger(request)
        if stranger is not None:
            return stranger
        endpoint = parse_endpoint(request.path_params["endpoint"])
        if endpoint is None:
            return json_answer({"detail": "Application not found"}, 404)
        try:
            order = await self.read_order(request, endpoint, request.query_params.get("fal_webhook"))
        except BadBody as bad:
            return json_answer({"detail": str(bad)}, bad.status)
        except FaultError as error:
            return complaint_answer("_emulator", str(error), "value_error", {}, None)
        refusal = self.refusal(order) or self._queue_full(request, endpoint)
        if refusal is not None:
            return refusal
        try:
            task = self.engine.accept(order, self.dialect)
        except Overloaded:
            return json_answer({"detail": "Too many requests are queued"}, 429, {"Retry-After": "1"})
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
                return Response("<html>upstream", media_type="text/html", headers={"x-fal-request-id": task.id})
            case "500_accepted":
                return json_answer(REFUSED["500"][1], 500)
            case _:
                pass
        position = self.settings.queue_length
        body = {"status": "IN_QUEUE", "request_id": task.id, "gateway_request_id": task.id}
        body |= task_urls(self.queue_url(request), endpoint.app, task.id) | {"queue_position": position}
        return json_answer(body, 200, {"x-fal-request-id": task.id})

    async def read_order(self, request: Request, endpoint: Endpoint, webhook_url: str | None) -> Order:
        given = await read_object(request)
        faults = self.engine.faults.resolve(given.pop("_emulator", None))
        if faults.fail is not None and not known(faults.fail):
            raise FaultError(f"_emulator: fail: fal has no error {faults.fail!r}")
        wanted, complaint = None, None
        try:
            wanted = read_wanted(endpoint.full, given, "jpeg")
        except Unwanted as bad:
            complaint = Broken(bad.type, bad.field, bad.message, bad.context, bad.value)
        prompt = given.get("prompt")
        if not isinstance(prompt, str):
            # Models are asked only once a runner has the request: fal accepts this, and it fails later.
            kind, said = (
                ("missing", "Field required") if prompt is None else ("string_type", "Input should be a valid string")
            )
            complaint = Broken(kind, "prompt", said, None, given if prompt is None else prompt)
        return Order(
            id=str(uuid4()),
            model=endpoint.full,
            input=abridge(given),
            webhook_url=webhook_url,
            faults=faults,
            public_url=self.public_url(request),
            wanted=wanted,
            complaint=complaint,
            start_timeout_s=_number(request.headers.get("x-fal-request-timeout")),
            extra={"app": endpoint.app},
        )

    def refusal(self, order: Order) -> Response | None:
        fault = self.engine.refusal(order)
        if fault is None:
            return None
        if fault == "lose_request":
            return Dropped()
        if fault == "503_gateway":
            return gateway_503()
        status, body = REFUSED[fault]
        headers: dict[str, str] = {}
        if status == 429 and order.faults.retry_after_s is not None:
            headers["Retry-After"] = f"{order.faults.retry_after_s:g}"
        return json_answer(body, status, headers)

    def _queue_full(self, request: Request, endpoint: Endpoint) -> Response | None:
        limit = _number(request.query_params.get("fal_max_queue_length"))
        if limit is None:
            return None
        now = self.engine.clock()
        queued = sum(
            task.order.extra.get("app") == endpoint.app and task.timeline.at(now).phase is Phase.QUEUED
            for task in self.engine.unfinished()
        )
        return json_answer({"detail": "Queue is too long"}, 429) if queued > limit else None

    # --- status, stream, result, cancel ------------------------------------------------------------------------

    def _find(self, request: Request) -> Task | Response:
        stranger = self.refuse_stranger(request)
        if stranger is not None:
            return stranger
        endpoint = parse_endpoint(request.path_params["endpoint"])
        task = self.engine.find(request.path_params["request_id"])
        if task is None or endpoint is None or task.order.extra["app"] != endpoint.app:
            return json_answer({"status": "NOT_FOUND"}, 404)
        if task.faults.cancel == "missing" and isinstance(task.outcome, Stopped):
            return json_answer({"status": "NOT_FOUND"}, 404)
        return task

    async def status(self, request: Request) -> Response:
        task = self._find(request)
        if isinstance(task, Response):
            return task
        task.status_reads += 1
        headers = {"x-fal-request-id": task.id}
        body = self._status_body(request, task, with_logs=_flag(request.query_params.get("logs")))
        if task.faults.status is not None and task.status_reads <= task.faults.status_times:
            match task.faults.status:
                case "unknown":
                    body["status"] = "REVIEWING"
                    return json_answer(body, 202, headers)
                case "500":
                    return json_answer({"detail": "Internal server error"}, 500, headers)
                case "404":
                    return json_answer({"status": "NOT_FOUND"}, 404, headers)
                case "hang":
                    return Dropped(after_s=HANG_S)
        return json_answer(body, NORMAL_STATUS[body["status"]], headers)

    def _status_body(self, request: Request, task: Task, *, with_logs: bool) -> dict[str, Any]:
        app = task.order.extra["app"]
        return status_body(task, self.queue_url(request), app, self.engine.clock(), with_logs=with_logs)

    async def stream(self, request: Request) -> Response:
        """Status as server-sent events: one for each change, logs as increments, until COMPLETED."""
        task = self._find(request)
        if isinstance(task, Response):
            return task
        with_logs = _flag(request.query_params.get("logs"))
        events = self._events(request, task, with_logs)
        return StreamingResponse(events, media_type="text/event-stream", headers={"x-fal-request-id": task.id})

    async def _events(self, request: Request, task: Task, with_logs: bool) -> AsyncIterator[bytes]:
        last: dict[str, Any] = {}
        told = 0
        while True:
            body = self._status_body(request, task, with_logs=with_logs)
            logs = cast("list[Any]", body.get("logs") or [])
            told = min(told, len(logs)) if body["status"] != "IN_QUEUE" else 0  # a requeued run logs anew
            if "logs" in body:
                body["logs"] = logs[told:] if with_logs else None
            if body | {"logs": None} != last or body.get("logs"):
                last, told = body | {"logs": None}, len(logs)
                yield b"data: " + msgspec.json.encode(body) + b"\n\n"
            if body["status"] == "COMPLETED":
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STREAM_TICK_S):
                    await task.ended.wait()

    async def result(self, request: Request) -> Response:
        task = self._find(request)
        if isinstance(task, Response):
            return task
        headers = {"x-fal-request-id": task.id}
        if task.outcome is None or task.ended_at is None:
            return json_answer({"detail": "Request is still in progress"}, 400, headers)
        expired = self.engine.clock() > task.ended_at + self.dialect.lifetime_s(task)
        if expired or task.faults.result == "gone":
            return json_answer({"detail": "Request not found"}, 404, headers)
        task.result_reads += 1
        if task.result_reads == 1 and (task.faults.result_504_once or task.faults.result == "504_once"):
            return json_answer({"detail": "Gateway timeout"}, 504, headers)
        return self.output(task)

    def output(self, task: Task) -> Response:
        """What the model answered: its result, or its error with its own HTTP status."""
        error = error_of(task)
        if error is not None:
            return json_answer(error.body, error.status, {"x-fal-request-id": task.id, **error.headers})
        units = billable_units(task)
        return json_answer(
            result_body(task),
            200,
            {"x-fal-request-id": task.id, "X-Fal-Billable-Units": units, "X-Fal-Served-From": "emulator"},
        )

    async def cancel(self, request: Request) -> Response:
        task = self._find(request)
        if isinstance(task, Response):
            return task
        headers = {"x-fal-request-id": task.id}
        if await self.engine.cancel(task):
            return json_answer({"status": "CANCELLATION_REQUESTED"}, 202, headers)
        return json_answer({"status": "ALREADY_COMPLETED"}, 400, headers)


def complaint_answer(field: str, message: str, kind: str, context: dict[str, Any], value: Any) -> Response:
    entry = {"loc": ["body", field], "msg": message, "type": kind, "ctx": context, "input": value}
    return json_answer({"detail": [entry]}, 422)


def _flag(text: str | None) -> bool:
    return (text or "").lower() in ("1", "true")


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
