"""A ComfyUI server (providers.md §5): prompts whose id the client chooses, queue, history, files, and `/ws`.

Every route is also below `/api`. Faults of one prompt go into `extra_data._emulator`; those of the webhook are those
of the socket here. Unlike the real one it draws several prompts at once, so that tests of many jobs end.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, cast
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from safelight.emulators.comfyui_graph import Asked, Refused, read_graph
from safelight.emulators.comfyui_socket import Sockets
from safelight.emulators.courier import Letter
from safelight.emulators.engine import Engine
from safelight.emulators.faults import FaultError
from safelight.emulators.openai_form import read_form
from safelight.emulators.settings import TASKS_MAX
from safelight.emulators.submitting import is_unknown, misread, take
from safelight.emulators.task import JSON, Broken, Order, Stopped, Succeeded, Task, abridge
from safelight.emulators.timeline import Phase
from safelight.emulators.wire import BadBody, json_answer, origin_of, read_bytes, read_object

PROMPT_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
FAILURES = {
    "transient": ("torch.OutOfMemoryError", "Allocation on device 0 would exceed allowed memory. (out of memory)"),
    "odd": ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied (77x2048 and 768x320)"),
    "content_policy": ("ValueError", "The safety checker refused this."),
}
PICTURES_MAX = 200
PICTURE_BYTES_MAX = 64 * 1024 * 1024
OUTPUT_KEYS = {"SaveVideo": "images", "VHS_VideoCombine": "gifs"}


class ComfyDialect:
    """Tells nobody but by its socket."""

    def ended(self, task: Task) -> None:
        return None

    def letter(self, task: Task, *, age_s: float = 0.0, forged: bool = False) -> Letter | None:
        return None

    def retries(self, task: Task) -> tuple[float, int]:
        return 0.0, 0


class ComfyUI:
    """The handlers. State is the engine's, and the pictures that were handed over."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.settings = engine.settings
        self.dialect = ComfyDialect()
        self.pictures: OrderedDict[str, bytes] = OrderedDict()
        self.interrupts: list[str | None] = []
        self._known: OrderedDict[str, None] = OrderedDict()
        self.sockets = Sockets(engine, self._tasks_of, lambda: len(self.engine.unfinished()))

    def routes(self) -> list[BaseRoute]:
        routes: list[BaseRoute] = []
        for base in ("", "/api"):
            routes += [
                Route(f"{base}/prompt", self.prompt, methods=["POST"]),
                Route(f"{base}/queue", self.queue, methods=["GET"]),
                Route(f"{base}/queue", self.change_queue, methods=["POST"]),
                Route(f"{base}/interrupt", self.interrupt, methods=["POST"]),
                Route(f"{base}/history", self.history, methods=["GET"]),
                Route(f"{base}/history/{{id}}", self.one_history, methods=["GET"]),
                Route(f"{base}/view", self.view, methods=["GET"]),
                Route(f"{base}/upload/image", self.upload, methods=["POST"]),
                Route(f"{base}/system_stats", self.system_stats, methods=["GET"]),
                WebSocketRoute(f"{base}/ws", self.sockets.endpoint),
            ]
        if self.settings.comfyui_jobs_api:
            routes.append(Route("/api/jobs/{id}/cancel", self.cancel_job, methods=["POST"]))
        return routes

    # --- prompt ------------------------------------------------------------------------------------------------

    async def prompt(self, request: Request) -> Response:
        if (refusal := self._check(request)) is not None:
            return refusal
        try:
            order = self._read_order(request, await read_object(request))
        except Refused as refused:
            return json_answer(refused.body, 400)
        except (BadBody, FaultError) as error:
            return json_answer(Refused("no_prompt", str(error)).body, 400)
        return await take(self.engine, self.dialect, order, answer=self._taken, refuse=_refuse)

    def _taken(self, task: Task) -> Response:
        self._remember(task)
        return json_answer({"prompt_id": task.id, "number": task.number, "node_errors": {}})

    def _remember(self, task: Task) -> None:
        self._known[task.id] = None
        while len(self._known) > TASKS_MAX:
            self._known.popitem(last=False)

    def _read_order(self, request: Request, body: JSON) -> Order:
        chosen = body.get("prompt_id")
        if chosen is not None and (not isinstance(chosen, str) or PROMPT_ID.fullmatch(chosen) is None):
            raise Refused("invalid_prompt_id", "prompt_id must be a valid UUID")
        extra: JSON = dict(cast("JSON", body.get("extra_data") or {}))
        faults = self.engine.faults.resolve(extra.get("_emulator"))
        if faults.fail is not None and faults.fail not in FAILURES:
            raise FaultError(f"_emulator: fail: ComfyUI has no failure {faults.fail!r}; there are {sorted(FAILURES)}")
        asked = read_graph(body.get("prompt"), self.pictures)
        task_id = chosen if isinstance(chosen, str) and self.settings.comfyui_takes_ids else str(uuid4())
        self._known[task_id] = None  # also where the answer is lost
        return Order(
            id=task_id,
            model="workflow",
            input=abridge({"prompt": asked.prompt, "seed": asked.seed}),
            webhook_url=None,
            faults=faults,
            public_url=f"{self.settings.base_url or origin_of(request)}/comfyui",
            wanted=asked.wanted,
            extra={
                "graph": body["prompt"],
                "extra_data": extra,
                "client_id": body.get("client_id"),
                "attempt": extra.get("safelight_attempt"),
                "asked": extra.get("safelight_attempt"),
                "asked_for": asked,
            },
        )

    # --- what is there -----------------------------------------------------------------------------------------

    def _tasks(self) -> list[Task]:
        return [task for each in self._known if (task := self.engine.find(each)) is not None]

    def _tasks_of(self, client: str) -> list[Task]:
        return [task for task in self._tasks() if task.order.extra["client_id"] == client]

    def _is_queued(self, task: Task) -> bool:
        return task.timeline.at(self.engine.clock()).phase is Phase.QUEUED

    async def queue(self, request: Request) -> Response:
        if (refusal := self._check(request)) is not None:
            return refusal
        there = [task for task in self._tasks() if task.outcome is None and not _is_away(task)]
        return json_answer(
            {
                "queue_running": [_queued(task) for task in there if not self._is_queued(task)],
                "queue_pending": [_queued(task) for task in there if self._is_queued(task)],
            }
        )

    async def history(self, request: Request) -> Response:
        if (refusal := self._check(request)) is not None:
            return refusal
        most = int(request.query_params.get("max_items") or 10_000)
        ended = [task for task in self._tasks() if _is_told(task)]
        return json_answer({task.id: self._entry(task) for task in ended[-most:]})

    async def one_history(self, request: Request) -> Response:
        if (refusal := self._check(request)) is not None:
            return refusal
        task = self.engine.find(request.path_params["id"])
        if task is None:
            return json_answer({})
        if task.faults.status == "404":
            task.status_reads += 1  # it has forgotten the prompt, for so many looks
            if task.status_reads <= task.faults.status_times:
                return json_answer({})
        elif (wrong := misread(task, _refuse)) is not None:
            return wrong
        if is_unknown(task):
            return json_answer({task.id: {**self._entry(task), "status": {"status_str": "pondering", "messages": []}}})
        return json_answer({task.id: self._entry(task)} if _is_told(task) else {})

    def _entry(self, task: Task) -> JSON:
        asked: Asked = task.order.extra["asked_for"]
        at = int(1000 * (task.ended_at or 0.0))
        start = ["execution_start", {"prompt_id": task.id, "timestamp": int(1000 * task.timeline.starts_at)}]
        outputs: JSON = {}
        about: JSON = {"prompt_id": task.id, "node_id": asked.sampler, "node_type": "KSampler", "executed": []}
        end: list[Any]
        match task.outcome:
            case Succeeded(files=files):
                end = ["execution_success", {"prompt_id": task.id, "timestamp": at}]
                listed = [{"filename": file.name, "subfolder": "", "type": "output"} for file in files]
                if task.faults.result == "private_url":
                    listed = [{"filename": "../../etc/passwd", "subfolder": "..", "type": "output"}]
                if listed:
                    outputs[asked.saves] = {OUTPUT_KEYS.get(asked.saves_class, "images"): listed}
            case Broken(reason=reason):
                kind, said = FAILURES[reason]
                end = ["execution_error", {**about, "exception_type": kind, "exception_message": said, "traceback": []}]
            case _:
                end = ["execution_interrupted", {**about, "timestamp": at}]
        is_well = isinstance(task.outcome, Succeeded)
        return {
            "prompt": _queued(task),
            "outputs": outputs,
            "status": {
                "status_str": "success" if is_well else "error",
                "completed": is_well,
                "messages": [start, end],
            },
            "meta": {},
        }

    # --- stop --------------------------------------------------------------------------------------------------

    async def change_queue(self, request: Request) -> Response:
        """`{"delete": ["id"]}` or `{"clear": true}`: pending ones only."""
        if (refusal := self._check(request)) is not None:
            return refusal
        body = await read_object(request)
        named = {str(each) for each in cast("list[Any]", body.get("delete") or [])}
        for task in self.engine.unfinished():
            if self._is_queued(task) and (body.get("clear") is True or task.id in named):
                await self.engine.cancel(task)
        return Response(status_code=200)

    async def interrupt(self, request: Request) -> Response:
        """The named one if it runs; without a name whatever runs."""
        if (refusal := self._check(request)) is not None:
            return refusal
        named = (await read_object(request)).get("prompt_id")
        self.interrupts.append(named)
        del self.interrupts[:-TASKS_MAX]
        for task in self.engine.unfinished():
            if not self._is_queued(task) and named in (None, task.id):
                await self.engine.cancel(task)
        return Response(status_code=200)

    async def cancel_job(self, request: Request) -> Response:
        if (refusal := self._check(request)) is not None:
            return refusal
        task = self.engine.find(request.path_params["id"])
        taken = task is not None and task.faults.cancel != "missing" and await self.engine.cancel(task)
        return json_answer({"cancelled": taken})

    # --- files -------------------------------------------------------------------------------------------------

    async def view(self, request: Request) -> Response:
        if (refusal := self._check(request)) is not None:
            return refusal
        name = request.query_params.get("filename", "")
        if ".." in name or name.startswith("/"):
            return Response(status_code=400)
        if request.query_params.get("type") == "input":
            picture = self.pictures.get("/".join(filter(None, (request.query_params.get("subfolder"), name))))
            return Response(picture, media_type="image/png") if picture is not None else Response(status_code=404)
        return await self.engine.shelf.serve(name)

    async def upload(self, request: Request) -> Response:
        if (refusal := self._check(request)) is not None:
            return refusal
        try:
            raw = await read_bytes(request, PICTURE_BYTES_MAX)
            parts = {part.name: part for part in read_form(request.headers.get("content-type", ""), raw)}
        except BadBody as bad:
            return Response(status_code=bad.status)
        if (picture := parts.get("image")) is None:
            return Response(status_code=400)
        folder = parts["subfolder"].text if "subfolder" in parts else ""
        name, data = picture.file_name or "picture.png", picture.data
        self.pictures[f"{folder}/{name}" if folder else name] = data
        while len(self.pictures) > PICTURES_MAX:
            self.pictures.popitem(last=False)
        return json_answer({"name": name, "subfolder": folder, "type": "input"})

    async def system_stats(self, request: Request) -> Response:
        if (refusal := self._check(request)) is not None:
            return refusal
        return json_answer({"system": {"os": "posix", "comfyui_version": "0.4.0"}, "devices": []})

    def _check(self, request: Request) -> Response | None:
        """What stands before a server on the internet asks for; ComfyUI itself knows no keys."""
        token = self.settings.comfyui_token
        if token is not None and request.headers.get("authorization") != f"Bearer {token}":
            return json_answer({"error": "Unauthorized"}, 401)
        return None


def _queued(task: Task) -> list[Any]:
    extra = task.order.extra
    asked: Asked = extra["asked_for"]
    return [
        task.number,
        task.id,
        extra["graph"],
        {**extra["extra_data"], "client_id": extra["client_id"]},
        [asked.saves],
    ]


def _is_away(task: Task) -> bool:
    """Forgotten by the server, as after a restart."""
    return task.faults.status == "404" and task.status_reads <= task.faults.status_times


def _is_told(task: Task) -> bool:
    """Whether history knows it: what was taken out of the queue leaves no trace there."""
    if task.outcome is None or task.faults.result == "gone":
        return False
    return not (isinstance(task.outcome, Stopped) and (task.ended_at or 0.0) < task.timeline.starts_at)


def _refuse(status: int) -> Response:
    return json_answer({"error": {"type": "http", "message": f"HTTP {status}"}, "node_errors": {}}, status)
