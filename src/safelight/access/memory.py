"""A short, bounded memory of answers, so that hot paths cost no query and a flood of misses costs few.

What was found and what was not are kept apart: made-up keys never push out real ones. Of many who ask the same at
once, one looks. Only so many look at all at a time; beyond a bound of those who wait, asking is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from datetime import datetime
from typing import Final, Generic, TypeVar

from safelight.access.errors import Unavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

TTL_S: Final = 5.0
"""A revocation in another process is in force here after that."""
SIZE_MAX: Final = 10_000
LOOKS_MAX: Final = 4
"""Of a pool of 12: whoever floods us with unknown keys leaves connections for those who work."""
WAITING_MAX: Final = 512


class Memory(Generic[K, V]):
    """Answers by key, None for what is not there."""

    def __init__(self, clock: Callable[[], datetime], *, ttl_s: float = TTL_S, size_max: int = SIZE_MAX) -> None:
        self._clock = clock
        self._ttl_s = ttl_s
        self._size_max = size_max
        self._found: dict[K, tuple[float, V]] = {}
        self._missing: dict[K, float] = {}
        self._looking: dict[K, asyncio.Event] = {}
        self._looks = asyncio.Semaphore(LOOKS_MAX)
        self._waiting = 0
        self._life = 0

    def __len__(self) -> int:
        return len(self._found) + len(self._missing)

    async def get(self, key: K, look: Callable[[], Awaitable[V | None]]) -> V | None:
        """What is remembered, else what `look()` finds. Raises Unavailable if too many are looking, and its errors."""
        is_known, value = self._recall(key)
        if not is_known and (other := self._looking.get(key)) is not None:
            await other.wait()
            is_known, value = self._recall(key)  # if the other failed, look ourselves
        if is_known:
            return value
        return await self._look(key, look)

    def forget(self) -> None:
        """Drop everything, also what is being looked up right now: something was just changed here."""
        self._life += 1
        self._found.clear()
        self._missing.clear()
        self._looking.clear()

    def _recall(self, key: K) -> tuple[bool, V | None]:
        if (kept := self._found.get(key)) is not None and self._is_fresh(kept[0]):
            return True, kept[1]
        if (missed_at := self._missing.get(key)) is not None and self._is_fresh(missed_at):
            return True, None
        return False, None

    def _is_fresh(self, at: float) -> bool:
        return 0 <= self._clock().timestamp() - at < self._ttl_s  # a clock set back makes nothing last

    async def _look(self, key: K, look: Callable[[], Awaitable[V | None]]) -> V | None:
        if self._waiting >= WAITING_MAX:
            raise Unavailable("Too many requests are being checked at once.", retry_after_s=1)
        life, done = self._life, asyncio.Event()
        self._looking[key] = done
        self._waiting += 1
        try:
            async with self._looks:
                at = self._clock().timestamp()
                value = await look()
            if life == self._life:
                self._keep(key, value, at)
            return value
        finally:
            self._waiting -= 1
            if self._looking.get(key) is done:
                del self._looking[key]
            done.set()

    def _keep(self, key: K, value: V | None, at: float) -> None:
        self._found.pop(key, None)
        self._missing.pop(key, None)
        if value is None:
            self._missing[key] = at
            if len(self._missing) > self._size_max:
                del self._missing[next(iter(self._missing))]
        else:
            self._found[key] = (at, value)
            if len(self._found) > self._size_max:
                del self._found[next(iter(self._found))]
