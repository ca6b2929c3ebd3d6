"""Group commit: calls that arrive while a transaction is under way share the next one.

A commit waits for the disk and for locks that many writers want (a wallet, the head of a project's log), so work that
is done one item a transaction is as fast as those waits, and done many at a time it is as fast as the processor. A
lone caller waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

import structlog

from safelight.db.pool import AWAY, Database, Transaction

T = TypeVar("T")
R = TypeVar("R")

log = structlog.get_logger("db")


class Stopping(ConnectionError):
    """This process is ending. Whether the item was committed is not known; callers may ask again elsewhere."""


class GroupCommit(Generic[T, R]):
    """`await group(item)` is what `work` made of the item, after the commit.

    `work(tx, items)` returns one result for each item, in order, or raises: then nothing of that batch is written, and
    each of its items gets a transaction of its own, so that one bad item costs the others nothing but time. As in
    `Database.run`, `work` may be called again and does nothing but SQL; if it `is_one_statement`, that is the
    transaction. Items share one only if `alike` says the same of them. An item whose caller has gone before its batch
    began is left out.
    """

    def __init__(
        self,
        db: Database,
        work: Callable[[Transaction, Sequence[T]], Awaitable[Sequence[R]]],
        *,
        batch_max: int,
        alike: Callable[[T], Hashable] = lambda _: None,
        is_one_statement: bool = False,
    ) -> None:
        self._db = db
        self._work = work
        self._batch_max = batch_max
        self._alike = alike
        self._is_one_statement = is_one_statement
        self._waiting: dict[Hashable, list[tuple[T, asyncio.Future[R]]]] = {}
        self._runners: set[asyncio.Task[None]] = set()

    async def __call__(self, item: T) -> R:
        """Raises what `work` raised for this item, the database's errors, or Stopping."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        kind = self._alike(item)
        waiting = self._waiting.get(kind)
        if waiting is None:
            self._waiting[kind] = [(item, future)]
            runner = asyncio.create_task(self._run(kind), name="group-commit")
            self._runners.add(runner)
            runner.add_done_callback(self._runners.discard)
        else:
            waiting.append((item, future))
        return await future

    async def _run(self, kind: Hashable) -> None:
        """Commit what waits, until nothing does."""
        waiting = self._waiting[kind]
        taken: list[tuple[T, asyncio.Future[R]]] = []
        try:
            while waiting:
                taken, waiting[: self._batch_max] = waiting[: self._batch_max], []
                await self._commit([pair for pair in taken if not pair[1].done()])
        finally:
            del self._waiting[kind]
            for _, future in (*taken, *waiting):
                if not future.done():
                    future.set_exception(Stopping("this process is stopping"))

    async def _commit(self, batch: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        if not batch:
            return
        items = [item for item, _ in batch]
        try:
            results = await self._db.run(lambda tx: self._work(tx, items), is_one_statement=self._is_one_statement)
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, AWAY):
                log.info("group.one_by_one", items=len(batch), error=repr(error)[:200])
                for pair in batch:
                    await self._commit([pair])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
