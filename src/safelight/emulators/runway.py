"""api.dev.runwayml.com (providers.md §4.4): tasks that are asked after, no webhooks, fresh URLs at each look."""

from __future__ import annotations

from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from safelight.emulators.courier import Letter
from safelight.emulators.engine import Engine
from safelight.emulators.faults import FaultError
from safelight.emulators.submitting import is_unknown, misread, refused_key, take
from safelight.emulators.task import JSON, Broken, Order, Stopped, Succeeded, Task, abridge
from safelight.emulators.timeline import STEPS, Phase
from safelight.emulators.wanted import Unwanted, Wanted, read_wanted
from safelight.emulators.wire import BadBody, iso_time, json_answer, origin_of, read_object

VERSION = "2024-11-06"
OPERATIONS = ("text_to_image", "image_to_video", "text_to_video")
FAILURES = {
    "content_policy": ("SAFETY.INPUT.TEXT", "The prompt was refused by moderation."),
    "transient": ("INTERNAL.BAD_OUTPUT.CODE01", "The output was not good enough."),
    "odd": ("INPUT_PREPROCESSING.ODD", "Something we do not name."),
}
SIDE_MAX = 512
"""Real media, but not for minutes on a laptop."""


class RunwayDialect:
    """Tells nobody."""

    def ended(self, task: Task) -> None:
        return None

    def letter(self, task: Task, *, age_s: float = 0.0, forged: bool = False) -> Letter | None:
        return None

    def retries(self, task: Task) -> tuple[float, int]:
        return 0.0, 0


class Runway:
    """The handlers. State is the engine's."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.dialect = RunwayDialect()
        self.deleted: set[str] = set()

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/tasks/{id}", self.read, methods=["GET"]),
            Route("/v1/tasks/{id}", self.delete, methods=["DELETE"]),
            Route("/v1/{operation}", self.create, methods=["POST"]),
            Route("/files/{name}", self.get_file, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """Faults in `_emulator` beside the prompt."""
        if (refusal := self._check(request)) is not None:
            return refusal
        try:
            order = self._read_order(request, await read_object(request))
        except (BadBody, FaultError, Unwanted) as error:
            return json_answer({"error": f"Validation of body failed: {error}", "docUrl": "https://docs"}, 400)
        return await take(
            self.engine, self.dialect, order, answer=lambda task: json_answer({"id": task.id}), refuse=_refuse
        )

    def _read_order(self, request: Request, body: JSON) -> Order:
        operation = request.path_params["operation"]
        if operation not in OPERATIONS or not isinstance(body.get("model"), str):
            raise Unwanted("model", "Invalid model", "invalid", {}, body.get("model"))
        faults = self.engine.faults.resolve(body.pop("_emulator", None))
        if faults.fail is not None and faults.fail not in FAILURES:
            raise FaultError(f"_emulator: fail: Runway has no failure {faults.fail!r}; there are {sorted(FAILURES)}")
        prompt = str(body.get("promptText") or "")
        if operation == "image_to_video" and not body.get("promptImage"):
            raise Unwanted("promptImage", "Required", "missing", {}, None)
        if operation != "image_to_video" and not prompt:
            raise Unwanted("promptText", "Required", "missing", {}, None)
        model = f"{operation}/{body['model']}"
        return Order(
            id=str(uuid4()),
            model=model,
            input=abridge({"prompt": prompt, **body}),
            webhook_url=None,
            faults=faults,
            public_url=f"{self.engine.settings.base_url or origin_of(request)}/runway",
            wanted=_wanted(operation, body),
            extra={"file_lifetime_s": self.engine.settings.kie_url_lifetime_s},
        )

    async def read(self, request: Request) -> Response:
        if (refusal := self._check(request)) is not None:
            return refusal
        task = self.engine.find(request.path_params["id"])
        if task is None or task.id in self.deleted:
            return _refuse(404)
        wrong = misread(task, _refuse)
        return wrong if wrong is not None else json_answer(self._task(task))

    def _task(self, task: Task) -> JSON:
        now = self.engine.clock()
        body: JSON = {"id": task.id, "createdAt": iso_time(task.timeline.accepted_at)}
        if is_unknown(task):
            return {**body, "status": "REHEARSING"}
        match task.outcome:
            case None if task.timeline.at(now).phase is Phase.QUEUED:
                return {**body, "status": "PENDING"}
            case None:
                return {**body, "status": "RUNNING", "progress": task.timeline.steps_done(now) / STEPS}
            case Stopped():
                return {**body, "status": "CANCELLED"}
            case Broken(reason=reason):
                code, said = FAILURES[reason]
                return {**body, "status": "FAILED", "failure": said, "failureCode": code}
            case Succeeded(files=files):
                return {
                    **body,
                    "status": "SUCCEEDED",
                    "output": [file.url for file in files],
                    "cost": {"credits": 5 * len(files)},
                }

    async def delete(self, request: Request) -> Response:
        """Stops a task; deletes one that has ended, with its files."""
        if (refusal := self._check(request)) is not None:
            return refusal
        task = self.engine.find(request.path_params["id"])
        if task is None or task.id in self.deleted:
            return _refuse(404)
        if not await self.engine.cancel(task):
            self.deleted.add(task.id)
        return Response(status_code=204)

    async def get_file(self, request: Request) -> Response:
        return await self.engine.shelf.serve(request.path_params["name"])

    def _check(self, request: Request) -> Response | None:
        if refused_key("bearer", request.headers.get("authorization", "")):
            return _refuse(401)
        if request.headers.get("x-runway-version") != VERSION:
            return json_answer({"error": "The X-Runway-Version header is missing or unknown."}, 400)
        return None


def _wanted(operation: str, body: JSON) -> Wanted:
    across, _, down = str(body.get("ratio") or "1280:720").partition(":")
    if not (across.isdigit() and down.isdigit() and 1 <= int(across) <= 4096 and 1 <= int(down) <= 4096):
        raise Unwanted("ratio", "Invalid ratio", "invalid", {}, body.get("ratio"))
    is_video = operation != "text_to_image"
    scale = (SIDE_MAX / 2 if is_video else SIDE_MAX) / max(int(across), int(down))
    sides = {"width": max(64, int(int(across) * scale)), "height": max(64, int(int(down) * scale))}
    small = {**sides, "duration": 1} if is_video else {**sides}
    return read_wanted("runway video" if is_video else "still", small, "png")


def _refuse(status: int) -> Response:
    words = {
        401: "The API key is invalid.",
        402: "You do not have enough credits.",
        404: "The task was not found.",
        429: "Too many requests.",
    }
    return json_answer({"error": words.get(status, f"HTTP {status}")}, status)
