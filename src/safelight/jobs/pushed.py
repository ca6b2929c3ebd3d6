"""The last step of a job's chain that a server sees: its end was pushed to open windows (D1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

import structlog

from safelight.db.pool import Database
from safelight.jobs import trace
from safelight.stopping import end_if_canceled

log: Final = structlog.get_logger("jobs")

WAITING_MAX: Final = 10_000
GATHER_S: Final = 1.0
"""Written together, so that tracing a burst costs one statement a second."""
ENDED: Final = frozenset({"completed", "failed", "canceled"})


class LoggedChange(Protocol):
    """What is looked at of an entry of the change log."""

    @property
    def table(self) -> str: ...
    @property
    def id(self) -> UUID: ...
    @property
    def row(self) -> dict[str, Any] | None: ...


class Pushed:
    """Notes the time at which followers were handed a job's end; written a moment later, best effort."""

    def __init__(self, db: Database, now: Callable[[], datetime]) -> None:
        self._db = db
        self._now = now
        self._waiting: list[trace.Step] = []

    def note(self, changes: Iterable[LoggedChange], followers: int) -> None:
        for change in changes:
            row = change.row
            if (
                change.table == "jobs"
                and row is not None
                and row["status"] in ENDED
                and len(self._waiting) < WAITING_MAX
            ):
                detail = {"followers": followers}
                self._waiting.append(trace.Step(change.id, row["attempt"], "pushed", self._now(), detail))

    async def run(self) -> None:
        while True:
            await asyncio.sleep(GATHER_S)
            if self._waiting:
                steps, self._waiting = self._waiting, []
                try:
                    async with self._db.connection() as conn:
                        await trace.write_known(conn, steps)
                except Exception as error:
                    end_if_canceled()
                    log.warning("pushed.not_traced", steps=len(steps), error=repr(error))
