"""Group commit for finished jobs: results that arrive while one commit is under way share the next (C1)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import structlog

from safelight.credits.ledger import SettlementRefused
from safelight.db import task_queue
from safelight.db.pool import Database
from safelight.jobs import settle
from safelight.jobs.aftermath import Aftermath
from safelight.stopping import end_if_canceled

log: Final = structlog.get_logger("jobs")

BATCH_MAX: Final = 64
"""Jobs in one transaction: their wallets and heads stay locked until it commits."""


SETTLING: Final = "settling"
"""The lane of the database by which jobs are completed, whoever brings their results."""


class SettlerStopped(Exception):
    """Nobody commits any more: this process is ending, and the next worker stores and settles again."""


class Settler:
    """Completes jobs in batches. `run` must be running for `settle` to return."""

    def __init__(self, db: Database, aftermath: Aftermath, now: Callable[[], datetime]) -> None:
        self._db = db
        self._aftermath = aftermath
        self._now = now
        self._waiting: list[tuple[settle.Result, asyncio.Future[settle.Completed]]] = []
        self._wake = asyncio.Event()
        self._has_stopped = False

    async def settle(self, result: settle.Result) -> settle.Completed:
        """Complete a job; returns after the commit. Raises what the transaction raised, or SettlerStopped."""
        if self._has_stopped:
            raise SettlerStopped
        future: asyncio.Future[settle.Completed] = asyncio.get_running_loop().create_future()
        self._waiting.append((result, future))
        self._wake.set()
        return await future

    async def run(self) -> None:
        """Commit what is waiting, for as long as this is awaited."""
        self._has_stopped = False
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    batch = self._waiting[:BATCH_MAX]
                    await self._commit(batch)
                    del self._waiting[: len(batch)]
        finally:
            self._has_stopped = True
            for _, future in self._waiting:
                future.cancel()
            self._waiting.clear()

    async def _commit(self, batch: Sequence[tuple[settle.Result, asyncio.Future[settle.Completed]]]) -> None:
        # Two results of one job (a doubled webhook): the second must see what the first did.
        first = {result.job_id: (result, future) for result, future in reversed(batch)}
        again = [
            pair for pair in batch if pair is not first[pair[0].job_id] and pair[1] is not first[pair[0].job_id][1]
        ]
        together = list(first.values())
        try:
            done = await self.settle_many([result for result, _ in together])
        except Exception as error:
            end_if_canceled()
            if len(together) == 1:
                _fail(together[0][1], error)
            else:
                # One bad result must not take the others down: each gets its own transaction.
                if not isinstance(error, SettlementRefused):
                    log.warning("settle.batch_failed", jobs=len(together), error=repr(error))
                for pair in together:
                    await self._commit([pair])
        else:
            for (_, future), completed in zip(together, done, strict=True):
                if not future.done():
                    future.set_result(completed)
        for pair in again:
            await self._commit([pair])

    async def settle_many(self, results: Sequence[settle.Result]) -> list[settle.Completed]:
        """Complete these jobs (each once in the list) in one transaction, and tell whom it concerns."""
        now = self._now()
        has_large = any(output.needs_large for result in results for output in result.outputs)
        if has_large or any(result.has_target for result in results):
            done = await self._db.run(lambda tx: settle.settle_many(tx, results, now))
        else:
            done = await self._db.run(lambda tx: settle.settle_at_once(tx, results, now), is_one_statement=True)
        self._aftermath.completed(done)
        if has_large:
            with contextlib.suppress(OSError):
                await task_queue.notify(self._db)
        return done


def _fail(future: asyncio.Future[settle.Completed], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
