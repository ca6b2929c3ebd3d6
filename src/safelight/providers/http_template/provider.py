"""A provider described in one file: the same promises as a written adapter, for any JSON API of the usual shape.

It sends one POST per attempt and never a second, calls what may have been accepted `Ambiguous`, follows no address
but those of the host in its file, and reads no more than a bounded answer in bounded time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import structlog

from safelight.providers.base import (
    JSON,
    Accepted,
    AccountProblem,
    CancelAnswer,
    Canceled,
    Capabilities,
    Failed,
    Missing,
    Observation,
    ProgressSink,
    Rejected,
    SubmitRequest,
    Succeeded,
    TaskRef,
    Transient,
    Unchanged,
    WebhookNote,
    WebhookRequest,
)
from safelight.providers.failures import failure
from safelight.providers.http import RESULT_ANSWER_MAX, Answer, AnswerTooLarge, Api, origin
from safelight.providers.http_template import hooks, meaning
from safelight.providers.http_template.blanks import BLANK, ENDPOINT, filled_body, filled_path
from safelight.providers.http_template.reading import Template
from safelight.providers.loose_json import as_list

log: Final = structlog.get_logger("providers.http_template")

ID_MAX: Final = 200
URL_MAX: Final = 2048
FOUND_MAX: Final = 1000
TOO_LATE: Final = frozenset({400, 404, 409, 410, 422})
"""Answers to a cancel that say there is nothing left to stop."""


def capabilities_of(template: Template) -> Capabilities:
    about = template.about
    return Capabilities(
        cancel=about.cancel is not None,
        webhooks=about.webhook is not None,
        lookup=about.find is not None,
        result_lifetime_s=about.limits.result_lifetime_s,
        concurrency=about.limits.concurrency,
        rate_per_s=about.limits.rate_per_s,
        first_look_s=about.limits.first_look_s,
    )


class HttpTemplateProvider:
    """Implements `Provider`."""

    disabled: str | None = None

    def __init__(self, template: Template, capabilities: Capabilities | None = None) -> None:
        self.name = template.name
        self.capabilities = capabilities or capabilities_of(template)
        self._template = template
        self._about = template.about
        headers = dict(template.about.headers)
        if template.about.key is not None and template.key is not None:
            headers[template.about.key.header] = template.about.key.format.replace("{key}", template.key)
        self._api = Api(headers, base_urls=(template.api,), read_s=template.about.limits.read_s)

    async def submit(self, request: SubmitRequest, progress: ProgressSink) -> Accepted:
        told = self._about.submit
        if ENDPOINT.fullmatch(request.endpoint) is None:
            raise Rejected(failure("provider_refused", "the model's endpoint cannot be part of an address"))
        values: dict[str, Any] = {
            "endpoint": request.endpoint,
            "webhook_url": request.webhook_url,
            "attempt_id": request.attempt_id,
            "n": request.n,
            "kind": request.kind,
        }
        texts = {name: "" if value is None else str(value) for name, value in values.items()}
        body = self._body(request, values)
        answer = await self._api.submit(told.method, self._template.api + filled_path(told.path, texts), body=body)
        task_id = _task_id(self._template.select("submit.task_id", answer.data)) if answer.ok else None
        if task_id is not None:
            return Accepted(TaskRef(task_id, request.endpoint, self._handle(answer.data, request)))
        error = meaning.submit_error(self._template, answer)
        if isinstance(error, AccountProblem):
            self._log_account(answer)
        raise error

    async def inspect(self, ref: TaskRef) -> Observation:
        told = self._about.status
        # Where no other answer holds the result, this one may carry it inline.
        limit = RESULT_ANSWER_MAX
        try:
            answer = await self._api.read(told.method, self._url(told.path, ref), limit=limit)
        except AnswerTooLarge:
            return Failed(failure("result_too_large"))
        if answer.status in told.missing_http:
            return Missing()
        unread = self._raise_unread(answer)
        if unread is not None:
            return unread
        state = meaning.state_of(self._template, answer.data)
        if state != "succeeded":
            return meaning.going_on(self._template, state, answer)
        return await self._result(ref, answer)

    async def _result(self, ref: TaskRef, status: Answer) -> Observation:
        told, kind = self._about.result, str(ref.handle.get("kind", ""))
        if told.path is None:
            return meaning.succeeded(self._template, status, kind)
        try:
            answer = await self._api.read(told.method, self._url(told.path, ref), limit=RESULT_ANSWER_MAX)
        except AnswerTooLarge:
            return Failed(failure("result_too_large"))
        if answer.status in (404, 410):
            return Failed(failure("result_expired", status=answer.status, body=answer.kept_body))
        unread = self._raise_unread(answer)
        return unread if unread is not None else meaning.succeeded(self._template, answer, kind)

    async def renew_url(self, ref: TaskRef, url: str) -> str | None:
        return None  # the engine looks again, and a provider that renews its URLs does so then

    async def find(self, attempt_id: str, endpoint: str, since: datetime) -> TaskRef | None:
        told = self._about.find
        if told is None:
            return None
        try:
            answer = await self._api.read("GET", self._template.api + told.path, limit=RESULT_ANSWER_MAX)
        except AnswerTooLarge:
            log.warning("http_template.list_too_large", provider=self.name)
            return None
        self._raise_unread(answer)
        for item in as_list(self._template.select("find.items", answer.data))[:FOUND_MAX]:
            mark = self._template.select("find.mark", item)
            if isinstance(mark, str) and attempt_id in mark:
                task_id = _task_id(self._template.select("find.task_id", item))
                if task_id is not None:
                    return TaskRef(task_id, endpoint, self._kept(item))
        return None

    async def cancel(self, ref: TaskRef) -> CancelAnswer:
        told = self._about.cancel
        if told is None:
            return CancelAnswer("unsupported")
        if told.look_first and isinstance(await self.inspect(ref), Succeeded | Failed | Canceled | Missing):
            return CancelAnswer("too_late")
        try:
            answer = await self._api.read(told.method, self._url(told.path, ref))
        except AnswerTooLarge:
            return CancelAnswer("requested")
        if answer.ok:
            return CancelAnswer("requested")
        if answer.status in TOO_LATE:
            return CancelAnswer("too_late")
        self._raise_unread(answer)
        return CancelAnswer("too_late")

    async def verify_webhook(self, request: WebhookRequest) -> WebhookNote:
        return hooks.verify(self._template, request)

    async def close(self) -> None:
        await self._api.close()

    # --- requests -------------------------------------------------------------------------------------------------

    def _body(self, request: SubmitRequest, values: Mapping[str, Any]) -> JSON:
        """The input where the file wants it. What the file adds is ours, whatever the input says."""
        told = self._about.submit
        if told.input_at is not None:
            body: JSON = {told.input_at: request.input}
        else:
            body = {name: value for name, value in request.input.items() if name not in told.add}
        return {**body, **filled_body(told.add, values)}

    def _url(self, path: str, ref: TaskRef) -> str:
        """Where to ask. A kept URL is followed to our provider's own host and to no other."""
        texts = {"endpoint": ref.endpoint, "task_id": ref.task_id}
        kept = {name: value for name, value in ref.handle.items() if isinstance(value, str)}
        whole = BLANK.fullmatch(path)
        if whole is None:
            return self._template.api + filled_path(path, {**kept, **texts})
        url = kept.get(whole[1], "")
        if len(url) > URL_MAX or origin(url) is None or origin(url) != origin(self._template.api):
            # Our key goes with the request, so it goes nowhere else.
            log.error("http_template.foreign_url", provider=self.name, kept=whole[1])
            raise AccountProblem(failure("provider_misconfigured", f"it gave no {whole[1]} of its own host"))
        return url

    def _handle(self, answer: object, request: SubmitRequest) -> JSON:
        return {**self._kept(answer), "kind": request.kind}

    def _kept(self, answer: object) -> JSON:
        kept: JSON = {}
        for name in self._about.submit.keep:
            value = self._template.select(f"submit.keep.{name}", answer)
            if isinstance(value, str | int) and not isinstance(value, bool) and len(str(value)) <= URL_MAX:
                kept[name] = str(value)
        return kept

    # --- answers --------------------------------------------------------------------------------------------------

    def _raise_unread(self, answer: Answer) -> Unchanged | None:
        """An error answer to a read says nothing of the task: our account, not just now, or words we do not know."""
        if answer.ok:
            return None
        rule = meaning.rule_for(self._template, answer.data, status=answer.status)
        code = rule.code if rule is not None and rule.http else meaning.USUAL.get(answer.status)
        if code in meaning.ACCOUNT:
            self._log_account(answer)
            raise AccountProblem(failure(code, status=answer.status))
        if answer.status in (408, 425, 429) or answer.status >= 500:
            busy = code if code in meaning.BUSY else "provider_unreachable"
            raise Transient(failure(busy, status=answer.status), answer.retry_after_s())
        return Unchanged(f"HTTP {answer.status}: {answer.text}"[:200])

    def _log_account(self, answer: Answer) -> None:
        log.error("http_template.account", provider=self.name, status=answer.status, said=answer.text[:500])


def _task_id(said: object) -> str | None:
    """A task's id as it may stand in a path."""
    if isinstance(said, bool) or not isinstance(said, str | int):
        return None
    text = str(said)
    return text if 0 < len(text) <= ID_MAX and text not in (".", "..") and text.isprintable() else None
