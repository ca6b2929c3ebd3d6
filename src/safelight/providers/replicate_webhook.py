"""Proof that a webhook is Replicate's: Standard Webhooks with the account's one secret (providers.md §3.3, §6)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from safelight.providers.base import Transient, WebhookForged, WebhookNote, WebhookRequest
from safelight.providers.failures import failure
from safelight.providers.http import AnswerTooLarge, Api
from safelight.providers.loose_json import as_object, as_text, decode
from safelight.providers.signed import secret_bytes, verify

KEPT_S: Final = 24 * 3600.0
"""A fetched secret is asked for again after a day."""
REFETCH_S: Final = 60.0
"""A signature that does not fit may mean a new secret: asked for at most so often, whoever forges how much."""
UNREADABLE_S: Final = 5.0
"""While the secret cannot be had, it is not asked for more often: every webhook would."""
TASK_ID_MAX: Final = 200


class ReplicateSecret:
    """The account's signing secret: configured, else fetched once and kept in memory."""

    def __init__(self, api: Api, url: str, configured: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ValueError for a configured secret that is none."""
        self._api = api
        self._url = url
        self._configured = secret_bytes(configured) if configured is not None else None
        self._clock = clock
        self._fetched: tuple[bytes, float] | None = None
        self._failed_at: float | None = None
        self._lock = asyncio.Lock()

    async def current(self) -> bytes:
        """Raises Transient where it cannot be had now."""
        if self._configured is not None:
            return self._configured
        async with self._lock:
            if self._fetched is None or self._clock() - self._fetched[1] > KEPT_S:
                self._fetched = (await self._fetch(), self._clock())
            return self._fetched[0]

    async def newer_than(self, known: bytes) -> bytes:
        """Another secret, if there is one. Raises Transient."""
        if self._configured is not None:
            return self._configured
        async with self._lock:
            if self._fetched is not None and (
                self._fetched[0] != known or self._clock() - self._fetched[1] < REFETCH_S
            ):
                return self._fetched[0]
            self._fetched = (await self._fetch(), self._clock())
            return self._fetched[0]

    async def _fetch(self) -> bytes:
        now = self._clock()
        unreadable = failure("provider_unreachable", "its webhook secret cannot be read")
        if self._failed_at is not None and now - self._failed_at < UNREADABLE_S:
            raise Transient(unreadable)
        self._failed_at = now
        try:
            answer = await self._api.read("GET", self._url)
            said = as_text(answer.object.get("key"), 1000) if answer.ok else None
            found = secret_bytes(said) if said is not None else None
        except (AnswerTooLarge, ValueError) as error:
            raise Transient(unreadable) from error
        if found is None:
            raise Transient(unreadable)
        self._failed_at = None
        return found


async def verify_note(request: WebhookRequest, secret: ReplicateSecret) -> WebhookNote:
    """Raises WebhookForged, or Transient where the secret is out of reach."""
    if "webhook-signature" not in request.headers:
        raise WebhookForged("webhook-signature is missing")
    known = await secret.current()
    try:
        message_id = verify([known], request)
    except WebhookForged:
        newer = await secret.newer_than(known)
        if newer == known:
            raise
        message_id = verify([newer], request)
    body = as_object(decode(request.body))
    task_id = as_text(body.get("id"), TASK_ID_MAX)
    if task_id is None:
        raise WebhookForged("the body names no prediction")
    # A repeated delivery has another time and signature but the same id. What it says is a hint: the GET decides.
    return WebhookNote(event_key=message_id, task_id=task_id)
