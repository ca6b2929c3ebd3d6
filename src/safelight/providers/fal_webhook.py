"""Proof that a webhook comes from fal: an ED25519 signature over ids, time and body (providers.md §1.10)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import time
from collections.abc import Callable
from typing import Final

import structlog

from safelight.providers.base import Transient, WebhookForged, WebhookNote, WebhookRequest
from safelight.providers.failures import failure
from safelight.providers.http import AnswerTooLarge, Api
from safelight.providers.loose_json import as_list, as_object, as_text, decode

log: Final = structlog.get_logger("providers.fal")

TOLERANCE_S = 300
"""fal's own rule for the age of a signature."""
KEYS_MAX_AGE_S = 24 * 3600.0
"""fal's own rule: keys are not cached longer."""
REFETCH_MIN_S = 60.0
"""An unknown signature makes us look for new keys at most this often: forgers shall not steer our requests."""
FETCH_S = 5.0
"""Submits and webhooks wait for the first fetch; fal gives a webhook 15 s and comes again."""
KEYS_MAX = 16
HEADER_LENGTH_MAX = 256


class FalKeys:
    """fal's public keys, fetched when first needed, one fetch at a time."""

    def __init__(self, api: Api, url: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._url = url
        self._monotonic = monotonic
        self._keys: tuple[bytes, ...] = ()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching = asyncio.Lock()

    async def current(self) -> tuple[bytes, ...]:
        """Raw 32-byte keys, at most a day old. Raises Transient where there are none."""
        if not self._fresh():
            await self._fetch(lambda: not self._fresh())
        if not self._fresh():
            raise Transient(failure("provider_unreachable", "the keys for its webhooks"), REFETCH_MIN_S)
        return self._keys

    async def newer_than(self, known: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Keys after a signature that `known` does not explain: fetched again, at most once a minute."""
        await self._fetch(lambda: self._keys == known)
        return self._keys

    def _fresh(self) -> bool:
        return self._fetched_at is not None and self._monotonic() - self._fetched_at < KEYS_MAX_AGE_S

    async def _fetch(self, still_wanted: Callable[[], bool]) -> None:
        async with self._fetching:
            now = self._monotonic()
            if not still_wanted() or (self._tried_at is not None and now - self._tried_at < REFETCH_MIN_S):
                return
            self._tried_at = now
            try:
                async with asyncio.timeout(FETCH_S):
                    answer = await self._api.read("GET", self._url, with_key=False)
            except (Transient, AnswerTooLarge, TimeoutError) as error:
                log.warning("fal.keys_unreachable", error=repr(error))
                return
            keys = parse_keys(answer.data)
            if not answer.ok or not keys:
                log.warning("fal.keys_unreadable", status=answer.status)
                return
            self._keys, self._fetched_at = keys, now


def parse_keys(jwks: object) -> tuple[bytes, ...]:
    """The Ed25519 keys of a JWKS; others are passed over."""
    keys: list[bytes] = []
    for item in as_list(as_object(jwks).get("keys"))[:KEYS_MAX]:
        key = as_object(item)
        x = key.get("x")
        if key.get("crv") != "Ed25519" or not isinstance(x, str):
            continue
        try:
            raw = base64.urlsafe_b64decode(x + "=" * (-len(x) % 4))
        except (binascii.Error, ValueError):
            continue
        if len(raw) == 32:
            keys.append(raw)
    return tuple(keys)


async def verify(request: WebhookRequest, keys: FalKeys) -> WebhookNote:
    """Raises WebhookForged, or Transient where the keys cannot be had.

    The note is a hint even though the body is signed: fal keeps the truth, and its copy may be newer.
    """
    request_id = _header(request, "x-fal-webhook-request-id")
    user_id = _header(request, "x-fal-webhook-user-id")
    timestamp = _header(request, "x-fal-webhook-timestamp")
    try:
        signature = bytes.fromhex(_header(request, "x-fal-webhook-signature"))
        age_s = abs(request.received_at.timestamp() - int(timestamp))
    except ValueError:
        raise WebhookForged("a header is malformed") from None
    if age_s > TOLERANCE_S:
        raise WebhookForged(f"signed {age_s:.0f} s away from our time")
    message = "\n".join((request_id, user_id, timestamp, hashlib.sha256(request.body).hexdigest())).encode()
    known = await keys.current()
    if not _signed(message, signature, known) and not _signed(message, signature, await keys.newer_than(known)):
        raise WebhookForged("no key of fal made this signature")
    task_id = _task_id(request.body) or request_id
    # One event a request: its end. A repeated delivery has another time and signature but the same id.
    return WebhookNote(event_key=task_id, task_id=task_id)


def _header(request: WebhookRequest, name: str) -> str:
    value = request.headers.get(name, "")
    if not value or len(value) > HEADER_LENGTH_MAX:
        raise WebhookForged(f"{name} is missing or too long")
    return value


def _signed(message: bytes, signature: bytes, keys: tuple[bytes, ...]) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    for raw in keys:
        try:
            Ed25519PublicKey.from_public_bytes(raw).verify(signature, message)
        except InvalidSignature:
            continue
        return True
    return False


def _task_id(body: bytes) -> str | None:
    """The id of the submit's answer. The header may carry that of the platform's own retry instead."""
    return as_text(as_object(decode(body)).get("request_id"), HEADER_LENGTH_MAX)
