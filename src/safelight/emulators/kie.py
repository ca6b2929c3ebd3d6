"""api.kie.ai (providers.md §2): HTTP 200 and the truth in `code`, no cancel, callbacks that prove little."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from safelight.emulators.courier import Letter
from safelight.emulators.drop import Dropped
from safelight.emulators.engine import Engine, Overloaded
from safelight.emulators.faults import FaultError
from safelight.emulators.kie_bodies import (
    FAILURES,
    VEO_MODELS,
    callback,
    credits_for,
    envelope,
    failure_of,
    flaw_in,
    record,
    veo_callback,
    veo_flaw_in,
    veo_record,
)
from safelight.emulators.settings import HANG_S, EmulatorSettings
from safelight.emulators.signing import kie_headers
from safelight.emulators.task import JSON, Order, Stopped, Succeeded, Task, abridge
from safelight.emulators.wanted import Unwanted, read_wanted
from safelight.emulators.wire import BadBody, gateway_503, json_answer, origin_of, read_object

RATE_WINDOW_S = 10.0
SIGNED_URLS_MAX = 10_000


class KieDialect:
    """Callbacks: signed over id and time only, and only with a key; no published retries."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self._settings = settings
        self.credits_spent = 0

    def ended(self, task: Task) -> None:
        if isinstance(task.outcome, Succeeded):
            self.credits_spent += credits_for(task)

    def letter(self, task: Task, *, age_s: float = 0.0, forged: bool = False) -> Letter | None:
        url = task.order.webhook_url
        if url is None or isinstance(task.outcome, Stopped):
            return None
        write = veo_callback if task.order.extra["veo"] else callback
        body = msgspec.json.encode(write(task, forged=forged))
        key = self._settings.kie_webhook_hmac_key
        if key is not None and forged:
            key = f"not {key}"
        return Letter(url, body, kie_headers(key, task.id, int(time.time() - age_s)))

    def retries(self, task: Task) -> tuple[float, int]:
        return self._settings.result_lifetime_s, self._settings.kie_webhook_retries


class Kie:
    """The handlers. State is the engine's, except the rate window and signed URLs."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.settings = engine.settings
        self.dialect = KieDialect(engine.settings)
        self._recent: deque[float] = deque(maxlen=1000)
        self._signed: dict[str, tuple[str, float]] = {}

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/api/v1/jobs/createTask", self.create, methods=["POST"]),
            Route("/api/v1/jobs/recordInfo", self.record_info, methods=["GET"]),
            Route("/api/v1/veo/generate", self.veo_generate, methods=["POST"]),
            Route("/api/v1/veo/record-info", self.veo_record_info, methods=["GET"]),
            Route("/api/v1/chat/credit", self.credit, methods=["GET"]),
            Route("/api/v1/common/download-url", self.download_url, methods=["POST"]),
            Route("/files/{name}", self.get_file, methods=["GET"]),
            Route("/signed/{token}", self.get_signed, methods=["GET"]),
        ]

    # --- create ------------------------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        """`{"model", "callBackUrl"?, "input": {…}}`; faults in `input._emulator`."""
        return await self._create(request, veo=False)

    async def veo_generate(self, request: Request) -> Response:
        """The flat body of Veo; faults in `_emulator` beside the prompt."""
        return await self._create(request, veo=True)

    async def _create(self, request: Request, *, veo: bool) -> Response:
        try:
            self._check_key(request)
            order = self._read_order(request, await read_object(request), veo=veo)
            self._check_rate_and_credits()
        except _Refused as refused:
            return self._answer(refused.code, message=refused.message)
        except BadBody as bad:
            return self._answer(400 if bad.status == 413 else 422, message=str(bad))
        except FaultError as error:
            return self._answer(422, message=str(error))
        refusal = self._refusal(order)
        if refusal is not None:
            return refusal
        try:
            task = self.engine.accept(order, self.dialect)
        except Overloaded:
            return self._answer(429)
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
                return self._answer(500)
            case _:
                pass
        return self._answer(200, {"taskId": task.id})

    def _read_order(self, request: Request, body: JSON, *, veo: bool) -> Order:
        given: Any = dict(body) if veo else body.get("input")
        model = body.get("model", "veo3_fast" if veo else None)
        if not isinstance(model, str) or not model or (veo and model not in VEO_MODELS):
            raise _Refused(422, "The model name you specified is not supported. Please verify the model name.")
        if not isinstance(given, dict):
            raise _Refused(422, "input is required")
        given = {str(name): value for name, value in given.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        callback_url = body.get("callBackUrl")
        if callback_url is not None and urlsplit(str(callback_url)).scheme not in ("http", "https"):
            raise _Refused(422, "callBackUrl is not a URL")
        faults = self.engine.faults.resolve(given.pop("_emulator", None))
        if faults.fail is not None and faults.fail not in FAILURES:
            raise FaultError(f"_emulator: fail: KIE has no failure {faults.fail!r}; there are {sorted(FAILURES)}")
        for name in ("model", "callBackUrl") if veo else ():
            given.pop(name, None)
        flaw = veo_flaw_in(model, given) if veo else flaw_in(model, given)
        if flaw is not None:
            raise _Refused(flaw.code, flaw.message)
        try:
            wanted = read_wanted(model, given, "png")
        except Unwanted as bad:
            raise _Refused(422, f"{bad.field}: {bad.message}") from None
        task_id = f"veo_task_{uuid4().hex[:24]}" if veo else uuid4().hex
        return Order(
            id=task_id,
            model=model,
            input=abridge(given),
            webhook_url=callback_url,
            faults=faults,
            public_url=f"{self.settings.base_url or origin_of(request)}/kie",
            wanted=wanted,
            extra={"veo": veo, "file_lifetime_s": self.settings.kie_url_lifetime_s},
        )

    def _check_key(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise _Refused(401)
        if self.settings.kie_keys is not None and key not in self.settings.kie_keys:
            raise _Refused(401)

    def _check_rate_and_credits(self) -> None:
        if self.credits_left <= 0:
            raise _Refused(402)
        limit = self.settings.kie_rate_per_10s
        if limit is None:
            return
        now = self.engine.clock()
        while self._recent and self._recent[0] <= now - RATE_WINDOW_S:
            self._recent.popleft()
        if len(self._recent) >= limit:
            raise _Refused(429)
        self._recent.append(now)

    def _refusal(self, order: Order) -> Response | None:
        fault = self.engine.refusal(order)
        if fault is None:
            return None
        if fault == "lose_request":
            return Dropped()
        if fault == "503_gateway":
            return gateway_503()
        if fault == "503":
            return Response("<html>503 Service Temporarily Unavailable", 503, media_type="text/html")
        return self._answer(int(fault))

    # --- read --------------------------------------------------------------------------------------------------

    async def record_info(self, request: Request) -> Response:
        return await self._read(request, veo=False)

    async def veo_record_info(self, request: Request) -> Response:
        return await self._read(request, veo=True)

    async def _read(self, request: Request, *, veo: bool) -> Response:
        try:
            self._check_key(request)
        except _Refused as refused:
            return self._answer(refused.code)
        task = self.engine.find(request.query_params.get("taskId", ""))
        if task is None or task.order.extra["veo"] != veo:
            return self._answer(422, message="recordInfo is null")
        task.status_reads += 1
        body = veo_record(task) if veo else record(task, self.engine.clock())
        if task.faults.status is not None and task.status_reads <= task.faults.status_times:
            match task.faults.status:
                case "unknown":
                    body |= {"successFlag": 7} if veo else {"state": "reviewing", "resultJson": ""}
                case "hang":
                    return Dropped(after_s=HANG_S)
                case "404":
                    return self._answer(422, message="recordInfo is null")
                case "500":
                    return self._answer(500)
        failure = failure_of(task) if veo and self.settings.kie_veo_code_in_envelope else None
        if failure is not None:
            return self._answer(int(failure[0]) if failure[0] in ("400", "451") else 501, message=failure[1])
        return self._answer(200, body)

    async def credit(self, request: Request) -> Response:
        try:
            self._check_key(request)
        except _Refused as refused:
            return self._answer(refused.code)
        return self._answer(200, self.credits_left)

    @property
    def credits_left(self) -> int:
        return self.settings.kie_credits - self.dialect.credits_spent

    # --- files -------------------------------------------------------------------------------------------------

    async def download_url(self, request: Request) -> Response:
        """A signed URL, good for 20 minutes, for a file that was made here."""
        try:
            self._check_key(request)
            url = str((await read_object(request)).get("url", ""))
        except _Refused as refused:
            return self._answer(refused.code)
        except BadBody as bad:
            return self._answer(422, message=str(bad))
        name = urlsplit(url).path.rsplit("/", 1)[-1]
        if not self.engine.shelf.has(name):
            return self._answer(422, message="The URL was not generated here")
        token = uuid4().hex
        self._signed[token] = (name, self.engine.clock() + self.settings.kie_signed_url_lifetime_s)
        while len(self._signed) > SIGNED_URLS_MAX:
            del self._signed[next(iter(self._signed))]
        base = f"{self.settings.base_url or origin_of(request)}/kie"
        return self._answer(200, f"{base}/signed/{token}")

    async def get_file(self, request: Request) -> Response:
        return await self.engine.shelf.serve(request.path_params["name"])

    async def get_signed(self, request: Request) -> Response:
        name, until = self._signed.get(request.path_params["token"], ("", 0.0))
        if until < self.engine.clock():
            return json_answer({"detail": "Forbidden"}, 403)
        return await self.engine.shelf.serve(name, signed=True)

    def _answer(self, code: int, data: Any = None, message: str | None = None) -> Response:
        status = code if self.settings.kie_mirror_code_in_http else 200
        return json_answer(envelope(code, data, message), status)


class _Refused(Exception):
    """Nothing was accepted."""

    def __init__(self, code: int, message: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
