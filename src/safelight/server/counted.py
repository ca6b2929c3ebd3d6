"""A provider whose requests are counted by what became of them (D3)."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import TypeVar

from safelight.observe.metrics import Metrics
from safelight.providers.base import (
    Accepted,
    CancelAnswer,
    Observation,
    ProgressSink,
    Provider,
    SubmitRequest,
    TaskRef,
    WebhookNote,
    WebhookRequest,
)

T = TypeVar("T")


class CountedProvider:
    """Implements `Provider` around another."""

    def __init__(self, inner: Provider, metrics: Metrics) -> None:
        self._inner = inner
        self._metrics = metrics
        self.name = inner.name
        self.capabilities = inner.capabilities
        self.disabled = inner.disabled

    async def submit(self, request: SubmitRequest, progress: ProgressSink) -> Accepted:
        return await self._counted("submit", self._inner.submit(request, progress))

    async def inspect(self, ref: TaskRef) -> Observation:
        return await self._counted("inspect", self._inner.inspect(ref))

    async def renew_url(self, ref: TaskRef, url: str) -> str | None:
        return await self._counted("renew_url", self._inner.renew_url(ref, url))

    async def find(self, attempt_id: str, endpoint: str, since: datetime) -> TaskRef | None:
        return await self._counted("find", self._inner.find(attempt_id, endpoint, since))

    async def cancel(self, ref: TaskRef) -> CancelAnswer:
        return await self._counted("cancel", self._inner.cancel(ref))

    async def verify_webhook(self, request: WebhookRequest) -> WebhookNote:
        return await self._inner.verify_webhook(request)

    async def close(self) -> None:
        await self._inner.close()

    async def _counted(self, op: str, asking: Awaitable[T]) -> T:
        try:
            answer = await asking
        except BaseException as error:
            self._metrics.provider_request(self.name, op, type(error).__name__)
            raise
        self._metrics.provider_request(self.name, op, "ok")
        return answer
