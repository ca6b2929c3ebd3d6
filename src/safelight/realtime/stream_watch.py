"""Event streams whose reader's right is gone end soon, like the channels of sockets do (S6).

A stream is one long answer: whoever was let in at its beginning may be removed, and its key revoked, while it lasts.
All open streams of a process are looked at together, in three statements, however many there are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

import structlog

from safelight.access.principal import Principal, Role
from safelight.realtime.door import Door
from safelight.realtime.room import AWAY
from safelight.realtime.session import Grant

__all__ = ["Hold", "StreamWatch"]

log = structlog.get_logger("realtime")

LOOK_S: Final = 4.0
"""Beside the gate's memory of 5 s, a right that is gone is gone within 10 s."""


class Hold:
    """One open stream. `is_over`: its reader has to show anew that it may."""

    __slots__ = ("grant", "is_over")

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.is_over = False


class StreamWatch:
    """`holding` for each stream; `run` beside. `wake(project)` makes a stream that waits look at its hold."""

    def __init__(self, door: Door, wake: Callable[[UUID], None]) -> None:
        self._door = door
        self._wake = wake
        self._holds: set[Hold] = set()

    @contextmanager
    def holding(self, principal: Principal, project: UUID, role: Role | None) -> Generator[Hold]:
        """While a stream that was just allowed is open."""
        hold = Hold(self._door.grant(principal, project, role))
        self._holds.add(hold)
        try:
            yield hold
        finally:
            self._holds.discard(hold)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            held = list(self._holds)
            if not held:
                continue
            try:
                found = await self._door.recheck({hold.grant for hold in held}, ())
            except AWAY as error:
                log.warning("realtime.recheck_failed", error=repr(error))
                continue
            now = time.monotonic()
            for hold in held:
                expires_at = hold.grant.expires_at
                if found.of(hold.grant) is None:
                    self._door.forget()  # or the reader would be let in again by what is remembered
                    self._end(hold)
                elif expires_at is not None and now >= expires_at:
                    self._end(hold)

    def _end(self, hold: Hold) -> None:
        hold.is_over = True
        self._wake(hold.grant.project)
