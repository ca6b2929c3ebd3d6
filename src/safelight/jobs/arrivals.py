"""What the inbox is known to hold: proven results in memory, and whether there are others to look for.

Both are served in turns: a steady stream of the one never keeps the other waiting for more than a batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from safelight.jobs.inbox import Proven

BATCH_MAX: Final = 64
"""Proven results in one commit: their wallets and heads stay locked until it is over."""
PROVEN_MAX: Final = 2_000
"""Proven results waiting in memory; more are found in the inbox when their turn comes."""


class Arrivals:
    """Filled by whoever receives webhooks, emptied by one consumer."""

    def __init__(self) -> None:
        self._proven: list[Proven] = []
        self._has_hints = False
        self._some = asyncio.Event()

    def add(self, proven: Sequence[Proven] = (), has_hints: bool = True) -> None:
        """The inbox is not empty: it has these, and (`has_hints`) others."""
        if is_much := len(self._proven) + len(proven) > PROVEN_MAX:
            proven = ()
        self._proven.extend(proven)
        self._has_hints = self._has_hints or has_hints or is_much
        if self._proven or self._has_hints:
            self._some.set()

    async def wait(self) -> None:
        """Until there is something."""
        await self._some.wait()

    def take_proven(self) -> list[Proven]:
        """The next batch of proven results, oldest first; empty if there are none."""
        batch, self._proven = self._proven[:BATCH_MAX], self._proven[BATCH_MAX:]
        self._rest()
        return batch

    def take_hints(self) -> bool:
        """Whether there may be others in the inbox. Whoever is told so looks; what comes meanwhile is told again."""
        has_hints, self._has_hints = self._has_hints, False
        self._rest()
        return has_hints

    def _rest(self) -> None:
        if not (self._proven or self._has_hints):
            self._some.clear()
