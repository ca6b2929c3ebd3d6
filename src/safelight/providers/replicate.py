"""Replicate: predictions of official models, versions and deployments (providers.md §3).

`Prefer: wait` is never sent: a submit that waits is a submit whose answer can be lost for a minute longer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlsplit

import structlog

from safelight.providers.base import (
    JSON,
    Accepted,
    AccountProblem,
    Ambiguous,
    CancelAnswer,
    Capabilities,
    Failed,
    Missing,
    Observation,
    ProgressSink,
    Refused,
    Rejected,
    SubmitRequest,
    TaskRef,
    Transient,
    Unchanged,
    WebhookNote,
    WebhookRequest,
)
from safelight.providers.failures import failure
from safelight.providers.http import RESULT_ANSWER_MAX, Answer, AnswerTooLarge, Api, is_turned_away, origin
from safelight.providers.loose_json import as_list, as_object, as_text
from safelight.providers.replicate_answers import detail_of, read_prediction, refusal
from safelight.providers.replicate_webhook import ReplicateSecret, verify_note

log: Final = structlog.get_logger("providers.replicate")

CAPABILITIES: Final = Capabilities(
    cancel=True,
    webhooks=True,
    lookup=True,
    result_lifetime_s=3600.0,  # input, output, files and logs alike (§3.2)
    concurrency=60,
    rate_per_s=10.0,  # 600 new predictions a minute (§3.4)
)
TASK_ID_MAX: Final = 200
PAGES_MAX: Final = 10
"""Of the list of predictions, up to 100 each: a minute at the full rate."""
VERSION: Final = re.compile(r"[0-9a-f]{64}")
TERMINAL: Final = frozenset({"succeeded", "failed", "canceled", "aborted"})
BUSY_S: Final = 5.0
"""After a 429 that does not say how long: the limit is per minute, spread evenly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicateSettings:
    token: str = field(repr=False)
    api_url: str = "https://api.replicate.com/v1"
    webhook_secret: str | None = field(default=None, repr=False)
    """`whsec_…`; None = asked for with the token."""


class ReplicateProvider:
    """Implements `Provider`."""

    name = "replicate"
    disabled: str | None = None

    def __init__(self, settings: ReplicateSettings, capabilities: Capabilities = CAPABILITIES) -> None:
        """Raises ValueError for a webhook secret that is none."""
        self.capabilities = capabilities
        self._url = settings.api_url.rstrip("/")
        self._api = Api({"authorization": f"Bearer {settings.token}"}, base_urls=(settings.api_url,))
        self._secret = ReplicateSecret(self._api, f"{self._url}/webhooks/default/secret", settings.webhook_secret)

    async def submit(self, request: SubmitRequest, progress: ProgressSink) -> Accepted:
        path, body = create_request(request)
        if request.webhook_url is not None:
            await self._have_secret()
        answer = await self._api.submit("POST", self._url + path, body=body)
        _raise_account_problem(answer)
        task_id = as_text(answer.object.get("id"), TASK_ID_MAX)
        if task_id is not None and (answer.ok or answer.status >= 500):
            return Accepted(TaskRef(task_id, request.endpoint, {"kind": request.kind}))
        if answer.ok:
            raise Ambiguous(failure("submit_unknown", "the answer cannot be read", status=answer.status))
        if answer.status == 429:
            said = answer.retry_after_s()
            raise Refused(failure("provider_busy", status=429, body=answer.kept_body), BUSY_S if said is None else said)
        if is_turned_away(answer):
            why = failure("provider_unavailable", status=503, body=answer.kept_body)
            raise Refused(why, answer.retry_after_s())
        if answer.status >= 500 or answer.status in (408, 409, 499):
            raise Ambiguous(failure("submit_unknown", status=answer.status, body=answer.kept_body))
        raise Rejected(refusal(answer))

    async def inspect(self, ref: TaskRef) -> Observation:
        try:
            answer = await self._api.read("GET", self._prediction(ref), limit=RESULT_ANSWER_MAX)
        except AnswerTooLarge:
            return Failed(failure("result_too_large"))
        _raise_account_problem(answer)
        if answer.status == 404:
            return Missing()
        _raise_transient(answer)
        if not answer.ok:
            return Unchanged(f"{answer.status}: {detail_of(answer)}"[:200])
        return read_prediction(answer.object, str(ref.handle.get("kind", "")))

    async def renew_url(self, ref: TaskRef, url: str) -> str | None:
        return None  # the files' lifetime is the prediction's: there is no second address

    async def find(self, attempt_id: str, endpoint: str, since: datetime) -> TaskRef | None:
        """Among the recent predictions, the one whose webhook carries the attempt's id (§3.4)."""
        url: str | None = f"{self._url}/predictions"
        for _ in range(PAGES_MAX):
            if url is None:
                return None
            try:
                answer = await self._api.read("GET", url, limit=RESULT_ANSWER_MAX)
            except AnswerTooLarge:
                return None
            _raise_account_problem(answer)
            _raise_transient(answer)
            results = [as_object(each) for each in as_list(answer.object.get("results"))]
            for each in results:
                task_id = as_text(each.get("id"), TASK_ID_MAX)
                if task_id is not None and _carries(each.get("webhook"), attempt_id):
                    return TaskRef(task_id, endpoint)
            if not results or _is_before(results[-1].get("created_at"), since):
                return None
            url = self._next_page(answer.object.get("next"))
        return None

    async def cancel(self, ref: TaskRef) -> CancelAnswer:
        answer = await self._api.read("POST", f"{self._prediction(ref)}/cancel")
        _raise_account_problem(answer)
        if answer.ok:
            status = answer.object.get("status")
            return CancelAnswer("too_late" if status in TERMINAL and status != "canceled" else "requested")
        if answer.status in (400, 404, 409, 422):
            return CancelAnswer("too_late")
        raise Transient(refusal(answer), answer.retry_after_s())

    async def verify_webhook(self, request: WebhookRequest) -> WebhookNote:
        return await verify_note(request, self._secret)

    async def close(self) -> None:
        await self._api.close()

    async def _have_secret(self) -> None:
        """Fetch it before the first webhook needs it: that is to be answered within milliseconds (P4)."""
        try:
            await self._secret.current()
        except Transient:
            log.warning("replicate.no_webhook_secret")

    def _prediction(self, ref: TaskRef) -> str:
        """Built by rule: the URLs of an answer are not followed with our token."""
        return f"{self._url}/predictions/{quote(ref.task_id, safe='')}"

    def _next_page(self, said: object) -> str | None:
        url = as_text(said, 4096)
        return url if url is not None and origin(url) == origin(self._url) else None


def create_request(request: SubmitRequest) -> tuple[str, JSON]:
    """Path and body of the create call for an endpoint.

    `owner/name` is an official model, `owner/name:version` or a bare version id any model, and
    `deployments/owner/name` one of the account's own deployments. Raises Rejected for anything else.
    """
    body: JSON = {"input": request.input}
    if request.webhook_url is not None:
        body["webhook"] = request.webhook_url
        body["webhook_events_filter"] = ["completed"]
    endpoint = request.endpoint.strip("/")
    model, _, version = endpoint.rpartition(":")
    if version and VERSION.fullmatch(version):
        return "/predictions", {**body, "version": version}
    parts = endpoint.split("/")
    path = "/".join(quote(part, safe="") for part in parts)
    if not model and all(parts):
        if len(parts) == 2:
            return f"/models/{path}/predictions", body
        if len(parts) == 3 and parts[0] == "deployments":
            return f"/{path}/predictions", body
    raise Rejected(failure("provider_refused", f"{request.endpoint[:100]!r} names no model of Replicate's"))


def _carries(webhook: object, attempt_id: str) -> bool:
    """Whether a webhook's path has the attempt's id as a part of its own."""
    url = as_text(webhook, 4096)
    return url is not None and attempt_id in urlsplit(url).path.split("/")


def _is_before(said: object, since: datetime) -> bool:
    try:
        return datetime.fromisoformat(str(said)) < since
    except (ValueError, TypeError):
        return False


def _raise_account_problem(answer: Answer) -> None:
    """401, 402, 403. Replicate's own words go to the log: they speak to the account's owner, not to the user."""
    code = {401: "provider_key", 402: "provider_balance", 403: "provider_key"}.get(answer.status)
    if code is None:
        return
    log.error("replicate.account", status=answer.status, said=answer.text[:500])
    raise AccountProblem(failure(code, status=answer.status))


def _raise_transient(answer: Answer) -> None:
    """What is no word about the task: ask again later."""
    if answer.status in (408, 429) or answer.status >= 500:
        code = "provider_busy" if answer.status == 429 else "provider_unreachable"
        raise Transient(failure(code, status=answer.status, body=answer.kept_body), answer.retry_after_s())
