"""The operator's own machines, which come for their work over HTTP (P3).

Nothing is sent: an attempt is laid on a desk, and a worker that asks for its model takes it from there. Offering twice
is offering once, so a lost answer costs nothing. The desk is ours, but to the life of a job it is a provider like any
other: it is asked how a task is, and asked to stop it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from safelight.providers.base import (
    FOREVER_S,
    Accepted,
    CancelAnswer,
    Capabilities,
    Observation,
    ProgressSink,
    SubmitRequest,
    TaskRef,
    WebhookForged,
    WebhookNote,
    WebhookRequest,
)

CAPABILITIES: Final = Capabilities(
    cancel=True,
    webhooks=False,
    lookup=True,
    inspect=False,  # it may be asked, but says by itself when that is worth it
    result_lifetime_s=FOREVER_S,
    concurrency=10_000,  # who waits for a worker takes nobody's place
)


class Desk(Protocol):
    """Where attempts lie until a worker takes them. Keeps what it is given across crashes."""

    async def offer(self, attempt_id: UUID) -> None:
        """Lay it there, once. Raises Ambiguous where that is not known to have worked."""
        ...

    async def state(self, attempt_id: UUID) -> Observation:
        """How it is. Raises Transient."""
        ...

    async def stop(self, attempt_id: UUID) -> bool:
        """Take it back, or have its worker told to stop; False if it has ended. Raises Transient."""
        ...


class PullProvider:
    """Implements `Provider`."""

    name = "pull"
    disabled: str | None = None

    def __init__(self, desk: Desk, capabilities: Capabilities = CAPABILITIES) -> None:
        self.capabilities = capabilities
        self._desk = desk

    async def submit(self, request: SubmitRequest, progress: ProgressSink) -> Accepted:
        await self._desk.offer(UUID(request.attempt_id))
        return Accepted(TaskRef(request.attempt_id, request.endpoint))

    async def inspect(self, ref: TaskRef) -> Observation:
        return await self._desk.state(UUID(ref.task_id))

    async def renew_url(self, ref: TaskRef, url: str) -> str | None:
        return None

    async def find(self, attempt_id: str, endpoint: str, since: datetime) -> TaskRef | None:
        """Whether or not the offer arrived: it is there now."""
        await self._desk.offer(UUID(attempt_id))
        return TaskRef(attempt_id, endpoint)

    async def cancel(self, ref: TaskRef) -> CancelAnswer:
        return CancelAnswer("requested" if await self._desk.stop(UUID(ref.task_id)) else "too_late")

    async def verify_webhook(self, request: WebhookRequest) -> WebhookNote:
        raise WebhookForged("pull workers report over the API, with a key")

    async def close(self) -> None:
        return None
