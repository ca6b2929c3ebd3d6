"""api.lumalabs.ai/dream-machine (providers.md §4.5): generations with unsigned callbacks, and a list of them."""

from __future__ import annotations

from itertools import islice
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from safelight.emulators.courier import Letter
from safelight.emulators.engine import Engine
from safelight.emulators.faults import FaultError
from safelight.emulators.submitting import is_unknown, misread, refused_key, take
from safelight.emulators.task import JSON, Broken, Order, Stopped, Succeeded, Task, abridge
from safelight.emulators.timeline import Phase
from safelight.emulators.wanted import Unwanted, read_wanted
from safelight.emulators.wire import BadBody, iso_time, json_answer, origin_of, read_object

FAILURES = {
    "content_policy": "400: the prompt did not pass moderation",
    "transient": "the generation did not finish",
}
CALLBACK_RETRIES = 3
LIST_MAX = 100


class LumaDialect:
    """Callbacks with the generation as their body, and no signature."""

    def ended(self, task: Task) -> None:
        return None

    def letter(self, task: Task, *, age_s: float = 0.0, forged: bool = False) -> Letter | None:
        url = task.order.webhook_url
        if url is None or isinstance(task.outcome, Stopped):
            return None
        body = generation(task, Phase.RUNNING)
        if forged:
            # All a forger lacks is the secret in the path: it says what it likes, to where it guesses.
            url = f"{url.rpartition('/')[0]}/{'0' * 32}"
            body = {**body, "state": "completed", "assets": {"image": "https://evil.example/a.png"}}
        return Letter(url, msgspec.json.encode(body), {})

    def retries(self, task: Task) -> tuple[float, int]:
        return 3600.0, CALLBACK_RETRIES


class Luma:
    """The handlers. State is the engine's."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.dialect = LumaDialect()
        self._recent: dict[str, None] = {}

    def routes(self) -> list[BaseRoute]:
        path = "/dream-machine/v1/generations"
        return [
            Route(path, self.list, methods=["GET"]),
            Route(path + "/{id}", self.read, methods=["GET"]),
            Route(path + "/{kind}", self.create, methods=["POST"]),
            Route("/files/{name}", self.get_file, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """Faults in `_emulator` beside the prompt."""
        if refused_key("bearer", request.headers.get("authorization", "")):
            return _refuse(401)
        try:
            order = self._read_order(request, await read_object(request))
        except (BadBody, FaultError, Unwanted) as error:
            return json_answer({"detail": str(error)}, 400)
        self._recent[order.id] = None
        while len(self._recent) > LIST_MAX:
            del self._recent[next(iter(self._recent))]
        return await take(
            self.engine,
            self.dialect,
            order,
            answer=lambda task: json_answer(generation(task, Phase.QUEUED, may_end=False), 201),
            refuse=_refuse,
        )

    def _read_order(self, request: Request, body: JSON) -> Order:
        kind = request.path_params["kind"]
        if kind not in ("image", "video") or not isinstance(body.get("model"), str) or not body.get("prompt"):
            raise Unwanted("model", "model and prompt are needed", "missing", {}, None)
        callback_url = body.pop("callback_url", None)
        if callback_url is not None and urlsplit(str(callback_url)).scheme not in ("http", "https"):
            raise Unwanted("callback_url", "it is not a URL", "invalid", {}, callback_url)
        faults = self.engine.faults.resolve(body.pop("_emulator", None))
        if faults.fail is not None and faults.fail not in FAILURES:
            raise FaultError(f"_emulator: fail: Luma has no failure {faults.fail!r}; there are {sorted(FAILURES)}")
        given: dict[str, Any] = {**body, "duration": 1} if kind == "video" else body
        return Order(
            id=str(uuid4()),
            model=f"{kind}/{body['model']}",
            input=abridge(body),
            webhook_url=callback_url,
            faults=faults,
            public_url=f"{self.engine.settings.base_url or origin_of(request)}/luma",
            wanted=read_wanted("luma video" if kind == "video" else "still", given, "png"),
            extra={"file_lifetime_s": self.engine.settings.kie_url_lifetime_s, "kind": kind},
        )

    async def read(self, request: Request) -> Response:
        if refused_key("bearer", request.headers.get("authorization", "")):
            return _refuse(401)
        task = self.engine.find(request.path_params["id"])
        if task is None:
            return _refuse(404)
        wrong = misread(task, _refuse)
        return wrong if wrong is not None else json_answer(self._shown(task))

    async def list(self, request: Request) -> Response:
        if refused_key("bearer", request.headers.get("authorization", "")):
            return _refuse(401)
        newest = (self.engine.find(each) for each in islice(reversed(self._recent), LIST_MAX))
        known = [self._shown(task) for task in newest if task is not None]
        return json_answer({"generations": known, "count": len(known), "has_more": False})

    def _shown(self, task: Task) -> JSON:
        return generation(task, task.timeline.at(self.engine.clock()).phase)

    async def get_file(self, request: Request) -> Response:
        return await self.engine.shelf.serve(request.path_params["name"])


def generation(task: Task, phase: Phase, *, may_end: bool = True) -> JSON:
    """The generation object, by its outcome or, while there is none, its phase."""
    order = task.order
    state, reason, assets = ("queued" if phase is Phase.QUEUED else "dreaming"), None, None
    match task.outcome if may_end else None:
        case Succeeded(files=files):
            state = "completed"
            assets = {order.extra["kind"]: files[0].url} if files else {}
        case Broken(reason=why):
            state, reason = "failed", FAILURES[why]
        case Stopped():
            state, reason = "failed", "deleted"
        case None:
            pass
    if is_unknown(task):
        state, assets = "sleepwalking", None
    return {
        "id": task.id,
        "generation_type": order.extra["kind"],
        "state": state,
        "failure_reason": reason,
        "created_at": iso_time(task.timeline.accepted_at),
        "assets": assets,
        "model": order.model.partition("/")[2],
        "request": {**order.input, "callback_url": order.webhook_url},
    }


def _refuse(status: int) -> Response:
    words = {401: "Invalid API key", 402: "Insufficient credits", 404: "Generation not found", 429: "Too many requests"}
    return json_answer({"detail": words.get(status, f"HTTP {status}")}, status)
