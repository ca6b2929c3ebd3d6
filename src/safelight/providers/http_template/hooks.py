"""Proving the webhooks of a described provider: by its signature, or by nothing but our own secret URL."""

from __future__ import annotations

import base64
import hashlib
import hmac

from safelight.providers.base import WebhookForged, WebhookNote, WebhookRequest
from safelight.providers.http_template.blanks import BLANK
from safelight.providers.http_template.description import Webhook
from safelight.providers.http_template.reading import Template
from safelight.providers.loose_json import decode
from safelight.providers.signed import verify as verify_standard

ID_MAX = 200


def verify(template: Template, request: WebhookRequest) -> WebhookNote:
    """Raises WebhookForged. The note is a hint: what happened is read from the provider."""
    hook = template.about.webhook
    if hook is None:
        raise WebhookForged("this provider sends no webhooks")
    event = None
    if hook.scheme != "none":
        if template.secret is None:
            raise WebhookForged("there is no secret to prove it by")
        event = verify_standard([template.secret], request) if hook.scheme == "standard" else _hmac(template, request)
    said = template.select("webhook.task_id", decode(request.body))
    named = str(said) if isinstance(said, str | int) and not isinstance(said, bool) else ""
    # The same bytes are the same event: a replay of them changes nothing.
    key = event or hashlib.sha256(request.body).hexdigest()
    return WebhookNote(event_key=key, task_id=named if 0 < len(named) <= ID_MAX else None)


def _hmac(template: Template, request: WebhookRequest) -> str | None:
    """The event's id, if one is signed."""
    hook, secret = template.about.webhook, template.secret
    assert hook is not None
    assert secret is not None
    values = {"body": request.body, "id": b"", "timestamp": b""}
    if hook.id_header is not None:
        values["id"] = _header(request, hook.id_header)
    if hook.timestamp_header is not None:
        values["timestamp"] = _timestamp(request, hook, hook.timestamp_header)
    signed = _filled(hook.signed, values)
    digest = hmac.digest(secret, signed, "sha256")
    due = hook.prefix.encode() + (digest.hex().encode() if hook.encoding == "hex" else base64.b64encode(digest))
    if not hmac.compare_digest(due, request.headers.get(hook.header.lower(), "").encode(errors="replace")):
        raise WebhookForged("the signature does not fit")
    return values["id"].decode(errors="replace") or None


def _filled(form: str, values: dict[str, bytes]) -> bytes:
    made, at = bytearray(), 0
    for blank in BLANK.finditer(form):
        made += form[at : blank.start()].encode() + values[blank[1]]
        at = blank.end()
    return bytes(made) + form[at:].encode()


def _header(request: WebhookRequest, name: str) -> bytes:
    said = request.headers.get(name.lower(), "")
    if not 0 < len(said) <= ID_MAX:
        raise WebhookForged(f"{name} is missing or too long")
    return said.encode(errors="replace")


def _timestamp(request: WebhookRequest, hook: Webhook, name: str) -> bytes:
    said = request.headers.get(name.lower(), "")
    if not (said.isascii() and said.isdecimal() and len(said) <= 12):
        raise WebhookForged(f"{name} is missing or malformed")
    if abs(request.received_at.timestamp() - int(said)) > hook.tolerance_s:
        raise WebhookForged("signed too far from our time")
    return said.encode()
