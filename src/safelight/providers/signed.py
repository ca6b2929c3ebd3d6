"""A worker of the operator's own, which reports by signed webhook with the result inside (Standard Webhooks).

Nothing is submitted by us: the worker already listens (a benchmark's, a GPU machine's), and the attempt's id is the
task's. Because the signature covers the body, what it says is an observation, not a hint.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

import msgspec

from safelight.providers.base import (
    FOREVER_S,
    Accepted,
    CancelAnswer,
    Capabilities,
    Failed,
    Observation,
    Output,
    ProgressSink,
    Running,
    StoredFile,
    SubmitRequest,
    Succeeded,
    TaskRef,
    Unchanged,
    WebhookForged,
    WebhookNote,
    WebhookRequest,
)
from safelight.providers.failures import CODES, failure

CAPABILITIES: Final = Capabilities(
    cancel=False, webhooks=True, inspect=False, result_lifetime_s=FOREVER_S, concurrency=10_000
)
TOLERANCE_S: Final = 300
"""The specification's five minutes, each way."""
SIGNATURES_MAX: Final = 8
"""In one header: the old key's and the new one's while a key changes, and some room."""
OUTPUTS_MAX: Final = 32
SECRET_MIN_BYTES: Final = 16
STORED_KEY: Final = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9][A-Za-z0-9._/-]{0,511}")
"""A key in our storage that climbs nowhere."""


@dataclass(frozen=True, slots=True)
class SignedSettings:
    secrets: Sequence[str] = field(repr=False)
    """`whsec_…`; several while a secret is changed. Any of them proves."""


class _Stored(msgspec.Struct, frozen=True):
    key: str
    mime: str
    bytes: int
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    thumbhash: str | None = None


class _Output(msgspec.Struct, frozen=True):
    stored: _Stored | None = None
    data: str | None = None
    url: str | None = None
    mime: str | None = None


class _Error(msgspec.Struct, frozen=True):
    code: str = "provider_failed"
    message: str | None = None
    transient: bool | None = None


class _Report(msgspec.Struct, frozen=True):
    task_id: str
    status: Literal["running", "succeeded", "failed"]
    outputs: list[_Output] = []
    percent: float | None = None
    message: str | None = None
    error: _Error | None = None


_READ: Final = msgspec.json.Decoder(_Report)


class SignedProvider:
    """Implements `Provider`."""

    name = "signed"
    disabled: str | None = None

    def __init__(self, settings: SignedSettings, capabilities: Capabilities = CAPABILITIES) -> None:
        """Raises ValueError for a secret that is none."""
        self.capabilities = capabilities
        self._keys = tuple(secret_bytes(secret) for secret in settings.secrets)
        if not self._keys:
            raise ValueError("a signed worker needs at least one secret")

    async def submit(self, request: SubmitRequest, progress: ProgressSink) -> Accepted:
        return Accepted(TaskRef(request.attempt_id, request.endpoint))

    async def inspect(self, ref: TaskRef) -> Observation:
        return Unchanged("a signed worker reports by itself")

    async def renew_url(self, ref: TaskRef, url: str) -> str | None:
        return None

    async def find(self, attempt_id: str, endpoint: str, since: datetime) -> TaskRef | None:
        return TaskRef(attempt_id, endpoint)

    async def cancel(self, ref: TaskRef) -> CancelAnswer:
        return CancelAnswer("unsupported")

    async def verify_webhook(self, request: WebhookRequest) -> WebhookNote:
        message_id = verify(self._keys, request)
        try:
            report = _READ.decode(request.body)
            return WebhookNote(message_id, report.task_id, _observation(report))
        except (msgspec.ValidationError, msgspec.DecodeError, ValueError) as error:
            # It is truly our worker's, so it is no forgery, but it changes nothing.
            return WebhookNote(message_id, None, Unchanged(f"unreadable report: {error}"[:200]))

    async def close(self) -> None:
        return None


def secret_bytes(secret: str) -> bytes:
    """The key in `whsec_<base64>`, padding optional. Raises ValueError."""
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ValueError("a webhook secret is `whsec_` and base64") from None
    if len(key) < SECRET_MIN_BYTES:
        raise ValueError(f"a webhook secret has at least {SECRET_MIN_BYTES} bytes")
    return key


def verify(keys: Sequence[bytes], request: WebhookRequest) -> str:
    """The message's id, proven. Raises WebhookForged.

    By hand and not by `standardwebhooks`, which reads its own clock and knows one secret; tests hold the two equal.
    """
    headers = request.headers
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or len(message_id) > 256 or "." in message_id:
        raise WebhookForged("webhook-id is missing or malformed")
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        raise WebhookForged("webhook-timestamp is missing or malformed")
    if abs(request.received_at.timestamp() - int(timestamp)) > TOLERANCE_S:
        raise WebhookForged("signed too far from our time")
    signed = f"{message_id}.{timestamp}.".encode(errors="replace") + request.body
    due = [b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in keys]
    for said in headers.get("webhook-signature", "").split(" ", SIGNATURES_MAX)[:SIGNATURES_MAX]:
        if any(hmac.compare_digest(each, said.encode(errors="replace")) for each in due):
            return message_id
    raise WebhookForged("no signature fits")


def _observation(report: _Report) -> Observation:
    """Raises ValueError."""
    match report.status:
        case "running":
            percent = report.percent
            return Running(percent if percent is not None and 0 <= percent <= 100 else None, report.message)
        case "failed":
            error = report.error or _Error()
            code = error.code if error.code in CODES else "provider_failed"
            return Failed(failure(code, error.message or report.message, transient=error.transient))
        case "succeeded":
            if not 1 <= len(report.outputs) <= OUTPUTS_MAX:
                raise ValueError(f"a success has 1 to {OUTPUTS_MAX} outputs")
            return Succeeded([_output(output) for output in report.outputs])


def _output(said: _Output) -> Output:
    if (said.stored is not None) + (said.data is not None) + (said.url is not None) != 1:
        raise ValueError("an output is exactly one of stored, data, url")
    if said.stored is not None:
        stored = said.stored
        if STORED_KEY.fullmatch(stored.key) is None or stored.bytes < 0:
            raise ValueError("the stored file's key or size is malformed")
        file = StoredFile(
            stored.key, stored.mime, stored.bytes, stored.width, stored.height, stored.duration_s, stored.thumbhash
        )
        return Output(stored=file, mime=stored.mime)
    if said.data is not None:
        return Output(data=base64.b64decode(said.data, validate=True), mime=said.mime)
    if not (said.url or "").startswith(("https://", "http://")):
        raise ValueError("an output's url is http(s)")
    return Output(url=said.url, mime=said.mime)
