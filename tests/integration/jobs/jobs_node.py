"""One worker process with a pool of its own, so that it can be stopped in good order (`stop`) or die (`die`).

One that dies has its connections cut first: whatever it was doing ends without a last word to the database, as after
SIGKILL.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from safelight.db.pool import Database
from safelight.jobs.engine import Engine
from safelight.jobs.parts import Parts
from safelight.jobs.worker import Worker
from safelight.media.fetch import Fetcher
from safelight.providers.base import Provider
from safelight.stopping import end

END_S = 30.0
"""Within which a worker ends that is told to."""


@dataclass
class Node:
    """A worker process with a pool of its own. `alive` are all that run, this one among them until it ends."""

    alive: list[Node]
    db: Database
    parts: Parts
    engine: Engine
    worker: Worker
    providers: dict[str, Provider]
    fetcher: Fetcher
    running: asyncio.Task[None] | None = None
    _asked: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self) -> Node:
        self.running = asyncio.create_task(self.worker.run())
        return self

    async def watch_abandoned(self) -> None:
        """What its own loop does now and then, at once; with the node this ends too, as there."""
        watching = asyncio.create_task(self.worker.reconciler.watch_abandoned())
        self._asked.add(watching)
        await asyncio.wait([watching])
        self._asked.discard(watching)
        if not watching.cancelled():
            watching.result()

    async def stop(self) -> None:
        """In good order, as after SIGTERM."""
        await self._end()
        await self.db.close()
        await self._close()

    async def die(self) -> None:
        """Without a last word: the database hears nothing more of it, and nobody waits for what it was doing."""
        self.db.pool.terminate()
        killing = asyncio.create_task(self._kill())
        await self._end()
        killing.cancel()
        await self._close()

    async def _end(self) -> None:
        if self in self.alive:
            self.alive.remove(self)
        if self.running is not None:
            self.running.cancel()
            await asyncio.wait([self.running], timeout=END_S)
            assert self.running.done(), "the worker does not end"
        await end(*self._asked)

    async def _kill(self) -> None:
        while True:
            for task in self.worker._advancing.values():
                task.cancel()
            await asyncio.sleep(0.02)

    async def _close(self) -> None:
        for provider in self.providers.values():
            await provider.close()
        await self.fetcher.close()
