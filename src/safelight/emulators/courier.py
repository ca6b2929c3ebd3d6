"""Delivers webhooks as the providers do: 15 s, no redirects, retries that grow, and every attempt on record."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from safelight.emulators.settings import TASKS_MAX, WEBHOOK_TIMEOUT_S, WEBHOOKS_AT_ONCE
from safelight.emulators.task import Task, attempt_of

RETRY_FIRST_S = 120.0  # fal's first retry (providers.md §1.10)
RETRY_GROWTH = 1.2  # "growing backoff": fal does not publish the factor


@dataclass(frozen=True, slots=True)
class Letter:
    """One POST, ready to be sent."""

    url: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt and what became of it: `status` or `error`."""

    id: str
    attempt: str | None
    url: str
    kind: str
    """`normal`, `retry`, or the fault: `late`, `double`, `forged`, `stale`, `reordered`, `before_answer`."""
    at: float
    took_ms: float
    status: int | None
    error: str | None

    @property
    def acknowledged(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def final(self) -> bool:
        """No retry follows: taken, or a redirect, which fal treats as a refusal for good."""
        return self.status is not None and 200 <= self.status < 400

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def retry_delays(lifetime_s: float, retries_max: int) -> list[float]:
    """Seconds before each retry, for a result that is kept `lifetime_s`."""
    delays: list[float] = []
    passed, delay = 0.0, RETRY_FIRST_S
    while len(delays) < retries_max and passed + delay <= lifetime_s:
        delays.append(delay)
        passed += delay
        delay *= RETRY_GROWTH
    return delays


class Courier:
    """Sends letters; remembers deliveries."""

    def __init__(self) -> None:
        self.deliveries: deque[Delivery] = deque(maxlen=TASKS_MAX)
        self._client: httpx.AsyncClient | None = None
        self._slots = asyncio.Semaphore(WEBHOOKS_AT_ONCE)

    async def post(self, task: Task, letter: Letter, kind: str) -> Delivery:
        """One attempt. Never raises for what the receiver does."""
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=WEBHOOK_TIMEOUT_S,
                follow_redirects=False,
                trust_env=False,
                limits=httpx.Limits(max_connections=WEBHOOKS_AT_ONCE, max_keepalive_connections=16),
            )
        status: int | None = None
        error: str | None = None
        async with self._slots:
            at, began = time.time(), time.perf_counter()
            try:
                async with asyncio.timeout(WEBHOOK_TIMEOUT_S):
                    headers = {"Content-Type": "application/json", **letter.headers}
                    async with self._client.stream("POST", letter.url, content=letter.body, headers=headers) as answer:
                        status = answer.status_code  # the answer's body is nobody's business
            except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as failure:
                error = f"{type(failure).__name__}: {failure}"[:300]
        delivery = Delivery(
            id=task.id,
            attempt=attempt_of(letter.url),
            url=letter.url,
            kind=kind,
            at=at,
            took_ms=round((time.perf_counter() - began) * 1000, 3),
            status=status,
            error=error,
        )
        self.deliveries.append(delivery)
        return delivery

    async def post_until_taken(
        self, task: Task, write: Callable[[], Letter], first: Delivery, delays: list[float]
    ) -> None:
        """The retries after `first`. `write` signs anew each time, as the timestamp is each attempt's own."""
        delivery = first
        for delay in delays:
            if delivery.final:
                return
            await asyncio.sleep(delay)
            delivery = await self.post(task, write(), "retry")

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
