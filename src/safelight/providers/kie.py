"""KIE.ai: its market jobs and its Veo family (providers.md §2). The truth is in the body's `code`, not in HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import structlog

from safelight.providers.base import (
    JSON,
    Accepted,
    AccountProblem,
    Ambiguous,
    CancelAnswer,
    Capabilities,
    Failed,
    Failure,
    Missing,
    Observation,
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
    WebhookForged,
    WebhookNote,
    WebhookRequest,
)
from safelight.providers.failures import failure
from safelight.providers.http import Answer, AnswerTooLarge, Api, is_turned_away
from safelight.providers.loose_json import as_object, as_text, decode
from safelight.providers.outputs import find_outputs

log: Final = structlog.get_logger("providers.kie")

CAPABILITIES: Final = Capabilities(
    cancel=False,
    webhooks=True,
    result_lifetime_s=24 * 3600.0,  # of the URL; the file lives 14 days (§2.6)
    concurrency=100,
    rate_per_s=2.0,  # 20 new tasks in 10 s
)
SUBMIT_PAUSE_S: Final = 10.0
"""KIE's rate window: waiting less cannot help (§2.6)."""
MAINTENANCE_PAUSE_S: Final = 120.0
TOLERANCE_S: Final = 300
"""Age of a webhook's signature; KIE publishes none (§2.4)."""
TASK_ID_MAX: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class KieSettings:
    key: str = field(repr=False)
    api_url: str = "https://api.kie.ai"
    webhook_hmac_key: str | None = field(default=None, repr=False)
    """From the account's settings. Without it callbacks are unsigned and the secret URL is their only proof."""


# --- what KIE's codes mean --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Meaning:
    """Of a `code` on submit, or of a `failCode` of a task that ended."""

    code: str
    transient: bool
    on_submit: type[Refused | Rejected | AccountProblem | Ambiguous]


MEANINGS: Final[Mapping[int, Meaning]] = {
    400: Meaning("invalid_input", False, Rejected),
    401: Meaning("provider_key", False, AccountProblem),
    402: Meaning("provider_balance", False, AccountProblem),
    403: Meaning("provider_key", False, AccountProblem),
    404: Meaning("provider_refused", False, Rejected),
    405: Meaning("provider_refused", False, Rejected),
    408: Meaning("provider_timeout", True, Ambiguous),
    413: Meaning("invalid_input", False, Rejected),
    422: Meaning("invalid_input", False, Rejected),
    429: Meaning("provider_busy", True, Refused),
    433: Meaning("provider_limit", False, AccountProblem),
    451: Meaning("input_unreachable", False, Rejected),
    455: Meaning("provider_maintenance", True, Refused),
    500: Meaning("provider_failed", True, Ambiguous),
    501: Meaning("provider_failed", True, Ambiguous),
    505: Meaning("provider_refused", False, Rejected),
}
UNKNOWN: Final = Meaning("provider_failed", False, Ambiguous)
"""A code nobody documents: on submit nobody knows, and a task that failed of it is not bought again by itself."""

VEO_ENDED: Final = frozenset({400, 451, 501})
"""Of a record's envelope without a record in it: the clip was refused, its picture not readable, or it failed."""

POLICY: Final = re.compile(
    r"content polic|violat\w* .*polic|nsfw|flagged|prohibited|sensitive|inappropriate|unsafe|moderation|safety",
    re.IGNORECASE,
)
"""KIE has no code of its own for refused content: 400, 422, 500 and 501 were seen, and only the text says it."""


def task_failure(code: object, message: object, *, status: int | None = None, body: Any = None) -> Failure:
    """The failure behind a `failCode` (a string, perhaps empty) and a `failMsg`."""
    text = message if isinstance(message, str) else None
    if text and POLICY.search(text):
        return failure("content_policy", text, status=status, body=body)
    number = int(code) if isinstance(code, int | str) and str(code).isdecimal() else 0
    meaning = MEANINGS.get(number, UNKNOWN)
    return failure(meaning.code, text, transient=meaning.transient, status=status, body=body)


# --- the two families -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Family:
    """One pair of endpoints of KIE's."""

    create: str
    record: str
    flat: bool
    """The input stands beside `model`, not below `input`."""


JOBS: Final = Family("/api/v1/jobs/createTask", "/api/v1/jobs/recordInfo", flat=False)
VEO: Final = Family("/api/v1/veo/generate", "/api/v1/veo/record-info", flat=True)


def family_of(endpoint: str) -> Family:
    return VEO if endpoint == "veo3" or endpoint.startswith("veo3_") else JOBS


def create_body(request: SubmitRequest) -> JSON:
    """What `create` wants. The names that steer where results are told are ours, whatever the input says."""
    if not family_of(request.endpoint).flat:
        body: JSON = {"model": request.endpoint, "input": request.input}
    else:
        given = {name: value for name, value in request.input.items() if name != "callBackUrl"}
        body = {**given, "model": request.endpoint}
    if request.webhook_url is not None:
        body["callBackUrl"] = request.webhook_url
    return body


class KieProvider:
    """Implements `Provider`."""

    name = "kie"
    disabled: str | None = None

    def __init__(self, settings: KieSettings, capabilities: Capabilities = CAPABILITIES) -> None:
        self.capabilities = capabilities
        self._url = settings.api_url.rstrip("/")
        self._hmac_key = settings.webhook_hmac_key.encode() if settings.webhook_hmac_key else None
        self._api = Api({"authorization": f"Bearer {settings.key}"}, base_urls=(settings.api_url,))

    async def submit(self, request: SubmitRequest, progress: ProgressSink) -> Accepted:
        family = family_of(request.endpoint)
        answer = await self._api.submit("POST", self._url + family.create, body=create_body(request))
        code = code_of(answer)
        if 200 <= code < 300:
            task_id = as_text(as_object(answer.object.get("data")).get("taskId"), TASK_ID_MAX)
            if task_id is None:
                raise Ambiguous(failure("submit_unknown", "the answer cannot be read", status=answer.status))
            return Accepted(TaskRef(task_id, request.endpoint, {"kind": request.kind}))
        raise submit_error(code, answer)

    async def inspect(self, ref: TaskRef) -> Observation:
        family = family_of(ref.endpoint)
        try:
            answer = await self._api.read("GET", self._url + family.record, params={"taskId": ref.task_id})
        except AnswerTooLarge:
            return Failed(failure("result_too_large"))
        code = code_of(answer)
        data = as_object(answer.object.get("data"))
        if 200 <= code < 300 or "successFlag" in data or "state" in data:
            # Also beside another code: a failed clip's record may come with the failure's own (§2.5).
            kind = str(ref.handle.get("kind", ""))
            return read_veo(data, kind, answer) if family is VEO else read_job(data, kind, answer)
        if family is VEO and code in VEO_ENDED:
            return Failed(task_failure(code, message_of(answer), status=code, body=answer.kept_body))
        if code == 422 and "null" in message_of(answer).lower():
            return Missing()  # "recordInfo is null": KIE's word for a task it does not know
        if code == 404 and "code" in answer.object:
            return Missing()
        _raise_no_answer(code, answer)
        return Unchanged(f"{code}: {message_of(answer)}"[:200])

    async def renew_url(self, ref: TaskRef, url: str) -> str | None:
        """A signed URL of the same file, good for 20 minutes; None for a file that was not made there."""
        try:
            answer = await self._api.read("POST", self._url + "/api/v1/common/download-url", body={"url": url})
        except AnswerTooLarge:
            return None
        code = code_of(answer)
        if 200 <= code < 300:
            fresh = as_text(answer.object.get("data"), 8192)
            return fresh if fresh is not None and fresh.startswith(("https://", "http://")) else None
        _raise_no_answer(code, answer)
        return None

    async def find(self, attempt_id: str, endpoint: str, since: datetime) -> TaskRef | None:
        return None  # no list of tasks is documented: a lost submit is found by its callback only

    async def cancel(self, ref: TaskRef) -> CancelAnswer:
        return CancelAnswer("unsupported")

    async def verify_webhook(self, request: WebhookRequest) -> WebhookNote:
        """Only id and time are ever signed: the body is a hint about a task, whose record must be read (§2.4)."""
        body = as_object(decode(request.body))
        data = as_object(body.get("data"))
        task_id = as_text(data.get("taskId") or data.get("task_id"), TASK_ID_MAX)
        if task_id is None:
            raise WebhookForged("the body names no task")
        if self._hmac_key is not None:
            _verify_signature(self._hmac_key, task_id, request)
        return WebhookNote(event_key=f"{task_id}:{_number(body.get('code'))}", task_id=task_id)

    async def close(self) -> None:
        await self._api.close()


def _verify_signature(key: bytes, task_id: str, request: WebhookRequest) -> None:
    timestamp = request.headers.get("x-webhook-timestamp", "")
    said = request.headers.get("x-webhook-signature", "")
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        raise WebhookForged("the time is missing or malformed")
    if abs(request.received_at.timestamp() - int(timestamp)) > TOLERANCE_S:
        raise WebhookForged("signed too far from our time")
    due = base64.b64encode(hmac.digest(key, f"{task_id}.{timestamp}".encode(), hashlib.sha256))
    if not hmac.compare_digest(due, said.encode()):
        raise WebhookForged("the signature does not fit")


# --- reading answers --------------------------------------------------------------------------------------------


def code_of(answer: Answer) -> int:
    """The envelope's `code`, else the HTTP status: a gateway before KIE knows no envelope. 0 = neither is sensible."""
    code = _number(answer.object.get("code"))
    if code:
        return code
    return 0 if answer.ok else answer.status


def message_of(answer: Answer) -> str:
    said = answer.object.get("msg") or answer.object.get("message")
    return said if isinstance(said, str) else ""


def submit_error(code: int, answer: Answer) -> Exception:
    """What a `create` that was not taken raises."""
    if is_turned_away(answer):
        why = failure("provider_unavailable", status=503, body=answer.kept_body)
        return Refused(why, answer.retry_after_s())
    meaning = MEANINGS.get(code, UNKNOWN)
    if meaning.on_submit is AccountProblem:
        _log_account(code, answer)
        return AccountProblem(failure(meaning.code, status=code))
    if meaning.on_submit is Refused:
        pause_s = SUBMIT_PAUSE_S if code == 429 else MAINTENANCE_PAUSE_S
        said = answer.retry_after_s()
        return Refused(failure(meaning.code, status=code, body=answer.kept_body), pause_s if said is None else said)
    if meaning.on_submit is Rejected:
        return Rejected(task_failure(code, message_of(answer), status=code, body=answer.kept_body))
    return Ambiguous(failure("submit_unknown", message_of(answer), status=code or answer.status, body=answer.kept_body))


def read_job(data: Mapping[str, Any], kind: str, answer: Answer) -> Observation:
    """`data` of jobs/recordInfo."""
    match data.get("state"):
        case "waiting" | "queuing":
            return Waiting()
        case "generating":
            return Running()
        case "success":
            return _succeeded(_embedded(data.get("resultJson")), kind, data, answer)
        case "fail":
            return Failed(task_failure(data.get("failCode"), data.get("failMsg"), body=_kept(data)))
        case other:
            return Unchanged(str(other)[:200])


def read_veo(data: Mapping[str, Any], kind: str, answer: Answer) -> Observation:
    """`data` of veo/record-info. 2 = failed, 3 = taken, but the model behind it failed."""
    match data.get("successFlag"):
        case 0:
            return Running()
        case 1:
            response = dict(as_object(data.get("response")))
            response["resultUrls"] = _embedded(response.get("resultUrls"))
            response.pop("originUrls", None)  # the same clip before it was cropped
            return _succeeded(response, kind, data, answer)
        case 2 | 3:
            return Failed(task_failure(data.get("errorCode"), data.get("errorMessage"), body=_kept(data)))
        case other:
            return Unchanged(str(other)[:200])


def _succeeded(result: object, kind: str, data: Mapping[str, Any], answer: Answer) -> Observation:
    outputs = find_outputs(result, kind)
    if not outputs:
        return Failed(failure("no_output", body=answer.kept_body))
    credits = data.get("creditsConsumed")
    return Succeeded(outputs, {"credits": credits} if isinstance(credits, int | float) else None)


def _embedded(value: object) -> object:
    """KIE writes results as a JSON string inside JSON, older tasks also lists; taken either way."""
    return decode(value.encode(errors="replace")) if isinstance(value, str) else value


def _kept(data: Mapping[str, Any]) -> JSON:
    """What of a failed record is kept: its own words, not our request that it repeats."""
    names = ("state", "successFlag", "failCode", "failMsg", "errorCode", "errorMessage")
    kept = {name: data[name] for name in names if data.get(name) not in (None, "")}
    return kept if len(json.dumps(kept)) <= 2000 else {}


def _raise_no_answer(code: int, answer: Answer) -> None:
    """A read that says nothing about the task: our account, or not just now."""
    meaning = MEANINGS.get(code)
    if meaning is not None and meaning.on_submit is AccountProblem:
        _log_account(code, answer)
        raise AccountProblem(failure(meaning.code, status=code))
    if code in (0, 408, 429, 455) or code >= 500:
        known = meaning.code if meaning is not None and code in (429, 455) else "provider_unreachable"
        pause_s = SUBMIT_PAUSE_S if code == 429 else None
        said = answer.retry_after_s()
        raise Transient(failure(known, message_of(answer), status=code), pause_s if said is None else said)


def _log_account(code: int, answer: Answer) -> None:
    log.error("kie.account", code=code, said=message_of(answer)[:500])


def _number(value: object) -> int:
    if isinstance(value, bool):
        return 0
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 6:
        return int(value)
    return value if isinstance(value, int) and 0 <= value < 1_000_000 else 0
