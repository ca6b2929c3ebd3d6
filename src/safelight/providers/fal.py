"""fal.ai's queue: submit once, then status and always the result (providers.md §1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import structlog

from safelight.providers.base import (
    JSON,
    Accepted,
    AccountProblem,
    Ambiguous,
    CancelAnswer,
    Canceled,
    Capabilities,
    Failed,
    Missing,
    Observation,
    Output,
    ProgressSink,
    Refused,
    Rejected,
    Running,
    SubmitRequest,
    Succeeded,
    TaskRef,
    Transient,
    Unchanged,
    Waiting,
    WebhookNote,
    WebhookRequest,
)
from safelight.providers.failures import failure
from safelight.providers.fal_errors import TYPE_LENGTH_MAX, read_error, status_failure, to_failure
from safelight.providers.fal_webhook import FalKeys, verify
from safelight.providers.http import RESULT_ANSWER_MAX, Answer, AnswerTooLarge, Api, is_turned_away, origin
from safelight.providers.loose_json import as_list, as_object, as_text
from safelight.providers.outputs import find_outputs

log: Final = structlog.get_logger("providers.fal")

CAPABILITIES: Final = Capabilities(
    cancel=True,
    webhooks=True,
    result_lifetime_s=360.0,  # of a result of 10 kB and more; smaller ones live an hour (§1.6)
    concurrency=40,
)
LOGS_MAX = 20
LOG_LENGTH_MAX = 300
REQUEST_ID_MAX = 200
OWN_DOMAINS: Final = ("fal.run", "falrun.com")
"""Besides the configured queue, the only hosts whose URLs of a submit's answer are followed."""
GATEWAY_STATUSES: Final = frozenset({502, 503, 504})
"""A result GET may answer these for a moment after the task has succeeded (§1.6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FalSettings:
    key: str = field(repr=False)
    queue_url: str = "https://queue.fal.run"
    rest_url: str = "https://rest.fal.ai"
    jwks_url: str | None = None
    """Where the keys of webhooks are; None = at the rest host's well-known place."""

    @property
    def keys_url(self) -> str:
        return self.jwks_url or f"{self.rest_url.rstrip('/')}/.well-known/jwks.json"


class FalProvider:
    """Implements `Provider`."""

    name = "fal"
    disabled: str | None = None

    def __init__(self, settings: FalSettings, capabilities: Capabilities = CAPABILITIES) -> None:
        self.capabilities = capabilities
        self._queue_url = settings.queue_url.rstrip("/")
        self._api = Api({"authorization": f"Key {settings.key}"}, base_urls=(settings.queue_url, settings.keys_url))
        self._keys = FalKeys(self._api, settings.keys_url)

    async def submit(self, request: SubmitRequest, progress: ProgressSink) -> Accepted:
        params: dict[str, str] = {}
        if request.webhook_url is not None:
            params["fal_webhook"] = request.webhook_url
            await self._have_keys()
        url = f"{self._queue_url}/{request.endpoint}"
        answer = await self._api.submit("POST", url, body=request.input, params=params)
        _raise_account_problem(answer)
        task_id = as_text(answer.object.get("request_id"), REQUEST_ID_MAX)
        if task_id is not None:
            # Also where the status is an error: with an id there is something to ask about.
            return Accepted(self._ref(request, task_id, answer.object))
        if answer.ok:
            raise Ambiguous(failure("submit_unknown", "the answer cannot be read", status=answer.status))
        if answer.status == 429:
            raise Refused(failure("provider_busy", status=429, body=answer.kept_body), answer.retry_after_s())
        if is_turned_away(answer):
            why = failure("provider_unavailable", status=503, body=answer.kept_body)
            raise Refused(why, answer.retry_after_s())
        if answer.status >= 500 or answer.status in (408, 499):
            raise Ambiguous(failure("submit_unknown", status=answer.status, body=answer.kept_body))
        raise Rejected(to_failure(answer))

    async def inspect(self, ref: TaskRef) -> Observation:
        answer = await self._api.read("GET", self._url(ref, "status_url"), params={"logs": "1"})
        _raise_account_problem(answer)
        if answer.status == 404:
            return Missing()
        _raise_transient(answer)
        status = answer.object.get("status")
        match status:
            case "IN_QUEUE":
                position = answer.object.get("queue_position")
                return Waiting(position if isinstance(position, int) and position >= 0 else None)
            case "IN_PROGRESS":
                logs = _logs(answer.object.get("logs"))
                return Running(message=logs[-1] if logs else None, logs=logs)
            case "COMPLETED":
                return await self._result(ref, answer)
            case _:
                return Unchanged(str(status or answer.text)[:200])

    async def renew_url(self, ref: TaskRef, url: str) -> str | None:
        return None

    async def find(self, attempt_id: str, endpoint: str, since: datetime) -> TaskRef | None:
        return None  # no documented way: a lost submit is found by its webhook only

    async def cancel(self, ref: TaskRef) -> CancelAnswer:
        answer = await self._api.read("PUT", self._url(ref, "cancel_url"))
        _raise_account_problem(answer)
        if answer.ok:
            return CancelAnswer("requested")
        if answer.status in (400, 404):
            return CancelAnswer("too_late")
        raise Transient(to_failure(answer), answer.retry_after_s())

    async def verify_webhook(self, request: WebhookRequest) -> WebhookNote:
        return await verify(request, self._keys)

    async def close(self) -> None:
        await self._api.close()

    async def _have_keys(self) -> None:
        """Fetch the keys before the first webhook needs them: it is to be answered within milliseconds (P4)."""
        try:
            await self._keys.current()
        except Transient:
            log.warning("fal.no_webhook_keys")

    # --- result ---------------------------------------------------------------------------------------------------

    async def _result(self, ref: TaskRef, status: Answer) -> Observation:
        """COMPLETED says only that it ended; how, the result says (§1.4)."""
        try:
            answer = await self._api.read("GET", self._url(ref, "response_url"), limit=RESULT_ANSWER_MAX)
        except AnswerTooLarge:
            return Failed(failure("result_too_large"))
        if answer.ok:
            outputs = _outputs(answer.data, str(ref.handle.get("kind", "")))
            if outputs:
                return Succeeded(outputs, _cost(answer, status))
        return _end_without_result(answer, status)

    # --- references -----------------------------------------------------------------------------------------------

    def _ref(self, request: SubmitRequest, task_id: str, answer: Mapping[str, Any]) -> TaskRef:
        handle: JSON = {"kind": request.kind}
        for name in ("status_url", "response_url", "cancel_url"):
            url = answer.get(name)
            if isinstance(url, str) and self._may_follow(url):
                handle[name] = url
        return TaskRef(task_id, request.endpoint, handle)

    def _url(self, ref: TaskRef, name: str) -> str:
        """As fal gave it; built by its rule where it gave none, or one we would not send our key to."""
        said = ref.handle.get(name)
        if isinstance(said, str) and self._may_follow(said):
            return said
        tail = {"status_url": "/status", "cancel_url": "/cancel"}.get(name, "")
        return f"{self._queue_url}/{app_of(ref.endpoint)}/requests/{quote(ref.task_id, safe='')}{tail}"

    def _may_follow(self, url: str) -> bool:
        there = origin(url)
        if there is None or len(url) > 2048:
            return False
        if there == origin(self._queue_url):
            return True
        scheme, host, port = there
        own = any(host == domain or host.endswith(f".{domain}") for domain in OWN_DOMAINS)
        return own and scheme == "https" and port == 443


def app_of(endpoint: str) -> str:
    """`[namespace/]owner/alias` of an endpoint id: what requests are filed under (§1.2)."""
    parts = endpoint.strip("/").split("/")
    return "/".join(parts[: 3 if parts[0] in ("workflows", "comfy") else 2])


# --- reading answers --------------------------------------------------------------------------------------------


def _raise_account_problem(answer: Answer) -> None:
    """401, 402, 403. fal's own words go to the log: they speak to the account's owner, not to the user."""
    code = {401: "provider_key", 402: "provider_balance", 403: "provider_key"}.get(answer.status)
    if code is None:
        return
    if "balance" in answer.text.lower():
        code = "provider_balance"
    log.error("fal.account", status=answer.status, said=answer.text[:500])
    raise AccountProblem(failure(code, status=answer.status))


def _raise_transient(answer: Answer) -> None:
    """What is no word about the task: ask again later."""
    if answer.status == 429 or answer.status >= 500:
        code = "provider_busy" if answer.status == 429 else "provider_unreachable"
        raise Transient(failure(code, status=answer.status, body=answer.kept_body), answer.retry_after_s())


def _end_without_result(answer: Answer, status: Answer) -> Observation:
    """A COMPLETED task whose result GET shows no media: failed, canceled, expired, or just not readable now."""
    error = read_error(answer)
    named = as_text(status.object.get("error_type"), TYPE_LENGTH_MAX)
    said = status.object.get("error")
    if answer.status == 499 or "client_cancelled" in (error.type, named):
        return Canceled()
    if answer.ok and not said:
        return Failed(failure("no_output", status=answer.status, body=answer.kept_body))
    if said and (answer.ok or not (error.type or error.from_model)):
        return Failed(status_failure(named, str(said), status.kept_body))
    if answer.status == 401:
        _raise_account_problem(answer)
    if answer.status == 429 or (answer.status in GATEWAY_STATUSES and not said and not error.from_model):
        raise Transient(to_failure(answer, error), answer.retry_after_s())
    if answer.status == 400 and "in progress" in (error.text or "").lower():
        return Unchanged("completed, yet still in progress")  # a requeue between our two questions
    if answer.status in (404, 410) and error.type is None:
        return Failed(failure("result_expired", status=answer.status, body=answer.kept_body))
    return Failed(to_failure(answer, error))


def _outputs(result: object, kind: str) -> Sequence[Output]:
    outputs = find_outputs(result, kind)
    seed = as_object(result).get("seed")
    flags = as_list(as_object(result).get("has_nsfw_concepts"))
    for index, output in enumerate(outputs):
        if isinstance(seed, int):
            output.meta["seed"] = seed
        # Whether a flagged picture is blank is not settled (§1.6), so it is kept and the flag with it.
        if index < len(flags) and flags[index] is True:
            output.meta["nsfw"] = True
    return outputs


def _cost(answer: Answer, status: Answer) -> JSON | None:
    cost: JSON = {}
    if units := answer.headers.get("x-fal-billable-units"):
        cost["billable_units"] = units[:40]
    inference = as_object(status.object.get("metrics")).get("inference_time")
    if isinstance(inference, int | float):
        cost["inference_s"] = inference
    return cost or None


def _logs(said: object) -> Sequence[str]:
    """The last lines that say something."""
    lines: list[str] = []
    for entry in as_list(said)[-LOGS_MAX:]:
        message = as_object(entry).get("message")
        if isinstance(message, str) and message.strip():
            lines.append(message.strip()[:LOG_LENGTH_MAX])
    return lines
