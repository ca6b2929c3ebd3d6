"""A user's own ComfyUI: workflows as models, start images handed over, the truth in history and queue.

The prompt's id is our attempt's, chosen before anything is sent, so that a lost answer is found again by asking for
it. Nothing is ever stopped that is not ours: other people may draw on the same server (providers.md §5).
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

import structlog

from safelight.providers.base import (
    FOREVER_S,
    JSON,
    Accepted,
    AccountProblem,
    Ambiguous,
    CancelAnswer,
    Capabilities,
    Missing,
    Observation,
    ProgressSink,
    Refused,
    Rejected,
    SubmitRequest,
    TaskRef,
    Transient,
    Waiting,
    WebhookForged,
    WebhookNote,
    WebhookRequest,
)
from safelight.providers.comfyui.api import ComfyApi
from safelight.providers.comfyui.history import MARK, queued, read_history, refusal, remembered
from safelight.providers.comfyui.socket import Socket
from safelight.providers.comfyui.workflow import Workflow
from safelight.providers.failures import failure
from safelight.providers.http import RESULT_ANSWER_MAX, Answer, AnswerTooLarge, is_turned_away, origin
from safelight.providers.loose_json import as_object, as_text

log: Final = structlog.get_logger("providers.comfyui")

CAPABILITIES: Final = Capabilities(
    cancel=True,
    webhooks=False,
    lookup=True,
    result_lifetime_s=FOREVER_S,  # until the operator tidies up
    concurrency=8,  # it draws one after the other; a few in its queue keep it busy
    first_look_s=2.0,
)
FOLDER: Final = "safelight"
"""In the server's input folder: what we hand over is easy to find and to delete."""
PREPARE_S: Final = 25.0
"""For all start images together. Nothing has been sent by then, so that it may be tried again."""
HISTORY_LOOKED_AT: Final = 64
"""Last prompts that are searched for our mark, on servers that choose ids themselves."""
EMULATOR: Final = "_emulator"


class InputUnreadable(Exception):
    """A start image could not be had; `may_repeat`: not just now."""

    def __init__(self, message: str, *, may_repeat: bool) -> None:
        super().__init__(message)
        self.may_repeat = may_repeat


Bring = Callable[[str, Path], Awaitable[str]]
"""Put the picture at a URL into a file, guarded as every download is; its media type. Raises InputUnreadable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComfySettings:
    url: str
    """Of the server, e.g. `http://127.0.0.1:8188`. That it is named here is what allows a private address."""
    workflows: Sequence[Workflow]
    bring: Bring
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Sent with every request and the socket's: ComfyUI knows no keys, what stands before it may."""

    @property
    def results_url(self) -> str:
        """The only address below which its results are fetched."""
        return f"{self.url.rstrip('/')}/view"


def is_address(url: str) -> bool:
    """Whether it can be a server's."""
    return origin(url) is not None and "?" not in url and "#" not in url


class ComfyProvider:
    """Implements `Provider`."""

    name = "comfyui"
    disabled: str | None = None

    def __init__(self, settings: ComfySettings, capabilities: Capabilities = CAPABILITIES) -> None:
        """Raises ValueError for an address that is none."""
        if not is_address(settings.url):
            raise ValueError("ComfyUI's address is http(s):// and a host, perhaps with a port and a path")
        self.capabilities = capabilities
        self._url = settings.url.rstrip("/")
        self._workflows = {workflow.name: workflow for workflow in settings.workflows}
        self._bring = settings.bring
        self._client_id = uuid4().hex
        self._api = ComfyApi(settings.headers, base_urls=(settings.url,))
        self._socket = Socket(self._url, self._client_id, settings.headers)
        self._has_jobs = True
        """Whether this server has `/api/jobs`, as far as it was seen."""

    # --- submit ---------------------------------------------------------------------------------------------------

    async def submit(self, request: SubmitRequest, progress: ProgressSink) -> Accepted:
        workflow = self._workflows.get(request.endpoint)
        if workflow is None:
            raise Rejected(failure("provider_refused", f"there is no workflow {request.endpoint!r}"))
        values, seed = self._values(workflow, request)
        for name in workflow.images & values.keys():
            values[name] = await self._handed_over(values[name])
        graph = workflow.filled(values)
        extra: JSON = {MARK: request.attempt_id}
        if EMULATOR in request.input:
            extra[EMULATOR] = request.input[EMULATOR]
        body: JSON = {
            "prompt": graph,
            "prompt_id": request.attempt_id,
            "client_id": self._client_id,
            "extra_data": extra,
        }
        # Before it is sent: what is not heard is not said again.
        self._socket.follow(request.attempt_id, graph)
        try:
            answer = await self._api.submit("POST", f"{self._url}/prompt", body=body)
            prompt_id = as_text(answer.object.get("prompt_id"), 100)
            if not answer.ok or prompt_id is None:
                raise _submit_error(answer, workflow)
        except (Refused, Rejected, AccountProblem):
            self._socket.forget(request.attempt_id)
            raise
        if prompt_id != request.attempt_id:
            self._socket.forget(request.attempt_id)
            self._socket.follow(prompt_id, graph)
        return Accepted(TaskRef(prompt_id, request.endpoint, {"kind": request.kind, "seed": seed}))

    def _values(self, workflow: Workflow, request: SubmitRequest) -> tuple[JSON, int | None]:
        """The variables' values, and the seed of the result."""
        given = {name: value for name, value in request.input.items() if name != EMULATOR}
        if unknown := sorted(given.keys() - workflow.bind.keys()):
            raise Rejected(failure("invalid_input", f"this workflow has no variable {', '.join(unknown)}"))
        for name in workflow.seeds:
            given.setdefault(name, workflow.drawn_seed(request.attempt_id))
        seeds = [given[name] for name in sorted(workflow.seeds)]
        return given, seeds[0] if seeds else None

    async def _handed_over(self, url: object) -> str:
        """A start image in the server's input folder; the name that `LoadImage` knows it by."""
        if not isinstance(url, str):
            raise Rejected(failure("invalid_input", "a picture is one URL"))
        try:
            with tempfile.TemporaryDirectory(prefix="safelight-comfyui-") as folder:
                file = Path(folder, "picture")
                async with asyncio.timeout(PREPARE_S):
                    mime = await self._bring(url, file)
                    digest = await asyncio.to_thread(_digest, file)
                    name = f"{digest}.{mime.rpartition('/')[2]}"
                    answer = await self._api.upload(
                        f"{self._url}/upload/image", file, name=name, mime=mime, folder=FOLDER
                    )
        except InputUnreadable as error:
            why = failure("input_unreachable", str(error))
            raise (Refused(why) if error.may_repeat else Rejected(why)) from error
        except (Transient, TimeoutError, OSError, AnswerTooLarge) as error:
            raise Refused(failure("provider_unreachable", "the start image could not be handed over")) from error
        _raise_account_problem(answer)
        named = as_text(answer.object.get("name"), 300)
        if not answer.ok or named is None:
            why = failure("provider_busy", "it did not take the start image", status=answer.status)
            raise (
                Refused(why)
                if answer.status >= 500 or answer.ok
                else Rejected(failure("input_unreachable", "it did not take the start image", status=answer.status))
            )
        folder_name = answer.object.get("subfolder")
        return f"{folder_name}/{named}" if isinstance(folder_name, str) and folder_name else named

    # --- the truth ------------------------------------------------------------------------------------------------

    async def inspect(self, ref: TaskRef) -> Observation:
        # History, queue, and history again: it may have moved from one to the other between our questions.
        seen = await self._history(ref)
        if seen is None:
            seen = await self._queue(ref)
        if seen is None:
            seen = await self._history(ref)
        if seen is None:
            self._socket.forget(ref.task_id)
            return Missing()
        return seen

    async def _history(self, ref: TaskRef) -> Observation | None:
        answer = await self._read(f"/history/{ref.task_id}")
        entry = as_object(answer.object.get(ref.task_id))
        if not entry:
            return None
        self._socket.forget(ref.task_id)
        kind = str(ref.handle.get("kind", "image"))
        return read_history(entry, self._workflows.get(ref.endpoint), kind, self._url, ref.handle.get("seed"))

    async def _queue(self, ref: TaskRef) -> Observation | None:
        queue = (await self._read("/queue")).object
        for entry in queued(queue, "queue_running"):
            if entry.prompt_id == ref.task_id:
                # Another process may have sent it: from now on its steps are counted here too.
                self._socket.follow(ref.task_id, entry.graph)
                return self._socket.running(ref.task_id)
        pending = [entry.prompt_id for entry in queued(queue, "queue_pending")]
        return Waiting(pending.index(ref.task_id)) if ref.task_id in pending else None

    async def find(self, attempt_id: str, endpoint: str, since: datetime) -> TaskRef | None:
        """By its id, which is ours; on older servers by our mark."""
        answer = await self._read(f"/history/{attempt_id}")
        if as_object(answer.object.get(attempt_id)):
            return self._ref(attempt_id, endpoint)
        queue = (await self._read("/queue")).object
        last = (await self._read(f"/history?max_items={HISTORY_LOOKED_AT}")).object
        for entry in (*queued(queue, "queue_running"), *queued(queue, "queue_pending"), *remembered(last)):
            if entry.is_of(attempt_id):
                return self._ref(entry.prompt_id, endpoint)
        return None

    def _ref(self, prompt_id: str, endpoint: str) -> TaskRef:
        workflow = self._workflows.get(endpoint)
        kind = workflow.model.kind if workflow is not None else "image"
        return TaskRef(prompt_id, endpoint, {"kind": kind})

    async def renew_url(self, ref: TaskRef, url: str) -> str | None:
        return None

    # --- cancel ---------------------------------------------------------------------------------------------------

    async def cancel(self, ref: TaskRef) -> CancelAnswer:
        if self._has_jobs:
            answer = await self._asked("POST", f"/api/jobs/{ref.task_id}/cancel", {})
            if answer.status not in (404, 405):
                _raise_unread(answer)
                stopped = answer.object.get("cancelled")
                return CancelAnswer("requested" if stopped is True else "too_late")
            self._has_jobs = False  # an older server
        queue = (await self._read("/queue")).object
        if any(each.prompt_id == ref.task_id for each in queued(queue, "queue_pending")):
            _raise_unread(await self._asked("POST", "/queue", {"delete": [ref.task_id]}))
            queue = (await self._read("/queue")).object
            if not any(each.prompt_id == ref.task_id for each in queued(queue, "queue_running")):
                return CancelAnswer("requested")
        if any(each.prompt_id == ref.task_id for each in queued(queue, "queue_running")):
            # Named, because without a name it stops whatever runs; and only now, because old servers do so anyway.
            _raise_unread(await self._asked("POST", "/interrupt", {"prompt_id": ref.task_id}))
            return CancelAnswer("requested")
        return CancelAnswer("too_late")

    async def verify_webhook(self, request: WebhookRequest) -> WebhookNote:
        raise WebhookForged("ComfyUI sends no webhooks")

    async def close(self) -> None:
        await self._socket.close()
        await self._api.close()

    # --- requests -------------------------------------------------------------------------------------------------

    async def _read(self, path: str) -> Answer:
        answer = await self._asked("GET", path, None)
        _raise_unread(answer)
        return answer

    async def _asked(self, method: str, path: str, body: JSON | None) -> Answer:
        try:
            return await self._api.read(method, self._url + path, body=body, limit=RESULT_ANSWER_MAX)
        except AnswerTooLarge as error:
            raise Transient(failure("result_too_large")) from error


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _submit_error(answer: Answer, workflow: Workflow) -> Exception:
    """What a prompt without an id raises."""
    if answer.status in (401, 403):
        _log_account(answer)
        return AccountProblem(failure("provider_key", status=answer.status))
    if answer.status == 429:
        return Refused(failure("provider_busy", status=429), answer.retry_after_s())
    if is_turned_away(answer):
        return Refused(failure("provider_unavailable", status=answer.status), answer.retry_after_s())
    if answer.ok or answer.status >= 500 or answer.status == 408:
        return Ambiguous(failure("submit_unknown", status=answer.status, body=answer.kept_body))
    if answer.status in (404, 405):
        return AccountProblem(failure("provider_misconfigured", "it is no ComfyUI", status=answer.status))
    return Rejected(refusal(answer.object, workflow, answer.status, answer.kept_body))


def _raise_account_problem(answer: Answer) -> None:
    if answer.status in (401, 403):
        _log_account(answer)
        raise AccountProblem(failure("provider_key", status=answer.status))


def _raise_unread(answer: Answer) -> None:
    """An answer that says nothing of the prompt."""
    _raise_account_problem(answer)
    if not answer.ok:
        busy = "provider_busy" if answer.status == 429 else "provider_unreachable"
        raise Transient(failure(busy, status=answer.status, body=answer.kept_body), answer.retry_after_s())


def _log_account(answer: Answer) -> None:
    log.error("comfyui.account", status=answer.status, said=answer.text[:500])
