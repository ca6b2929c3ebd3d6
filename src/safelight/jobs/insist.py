"""Writing down what must not be forgotten, through a database that is away for a moment (P8)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from safelight.db.pool import AWAY
from safelight.stopping import end_if_canceled

log: Final = structlog.get_logger("jobs")

T = TypeVar("T")

AWAY_S: Final = 300.0
"""A failover takes seconds, a restart with recovery perhaps minutes. Afterwards what we know is lost."""
PAUSE_S: Final = 0.25
PAUSE_MAX_S: Final = 5.0


async def insist(write: Callable[[], Awaitable[T]]) -> T:
    """`await write()`, again and again until the database has it or AWAY_S have passed.

    `write` must be safe to repeat: an answer to the commit may be what was lost.
    """
    loop = asyncio.get_running_loop()
    ends_at, pause_s = loop.time() + AWAY_S, PAUSE_S
    while True:
        try:
            return await write()
        except AWAY as error:
            end_if_canceled()
            if loop.time() + pause_s > ends_at:
                raise
            log.warning("database.away", error=repr(error), again_in_s=pause_s)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_MAX_S)
