"""A TCP proxy that stands for every bad network: it delays, stalls, cuts in the middle, and lets nothing through."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Sequence

DELAY_S = (0.0, 0.05)
STALL_S = (0.2, 2.5)
CHANCES = {"cut": 0.01, "torn": 0.01, "stall": 0.01, "delay": 0.08}
"""For each piece of data; a torn one is passed in part before the connection is reset."""


class FaultyProxy:
    """Listens on `port` and passes each connection to one of the targets. `calm` ends all faults."""

    def __init__(self, chance: random.Random, targets: Sequence[int]) -> None:
        self.port = 0
        self.faults: Counter[str] = Counter()
        self._chance = chance
        self._targets = targets
        self._calm = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def calm(self) -> None:
        """From now on everything passes; what is stalled goes on."""
        self._calm.set()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        there: asyncio.StreamWriter | None = None
        with contextlib.suppress(OSError):
            try:
                back, there = await asyncio.open_connection("127.0.0.1", self._chance.choice(self._targets))
                pumps = [asyncio.create_task(self._pump(reader, there)), asyncio.create_task(self._pump(back, writer))]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)
            except OSError:
                self.faults["refused"] += 1
            finally:
                for end in (writer, there):
                    if end is not None:
                        end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the end of the stream, or a fault that ends it."""
        while data := await reader.read(64 * 1024):
            match self._fault():
                case "cut":
                    return
                case "torn":
                    writer.write(data[: self._chance.randrange(len(data))])
                    await writer.drain()
                    return
                case "stall":
                    await self._wait(STALL_S)
                    if self._chance.random() < 0.5:
                        return
                case "delay":
                    await self._wait(DELAY_S)
                case _:
                    pass
            writer.write(data)
            await writer.drain()

    def _fault(self) -> str | None:
        if self._calm.is_set():
            return None
        roll = self._chance.random()
        for name, part in CHANCES.items():
            if roll < part:
                self.faults[name] += 1
                return name
            roll -= part
        return None

    async def _wait(self, bounds: tuple[float, float]) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._calm.wait(), self._chance.uniform(*bounds))
