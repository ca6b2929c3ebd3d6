"""A bus, a feed and a room end when they are told to, whatever their libraries do with the cancel."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from safelight import stopping
from safelight.changes.present import Presenters
from safelight.realtime.bus_base import GatheringBus, Said
from safelight.realtime.feed import Feed
from safelight.realtime.room import HubStats, Room


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "AGAIN_S", 0.01)


class Nobody:
    """Does not answer, and loses a cancel that comes while it is timing out (`asyncio.wait_for` does)."""

    def __init__(self, loses: int) -> None:
        self.loses = loses
        self._asked = 0

    async def is_asked(self, times: int) -> None:
        async with asyncio.timeout(60):
            while self._asked < times:
                await asyncio.sleep(0.001)

    async def ask(self) -> None:
        self._asked += 1
        if self.loses > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            self.loses -= 1
        raise ConnectionRefusedError

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        await self.ask()
        yield


class Away(GatheringBus):
    GATHER_S: ClassVar[float] = 0.001
    CHECK_S: ClassVar[float] = 60.0

    def __init__(self, nobody: Nobody) -> None:
        super().__init__()
        self._nobody = nobody

    async def _connect(self) -> Any:
        await self._nobody.ask()

    async def _send(self, conn: Any, said: Said) -> int:
        return 0

    async def _check(self, conn: Any) -> None:
        return

    async def _close(self, conn: Any) -> None:
        return


@pytest.mark.parametrize("loses", [0, 1, 3])
async def test_a_bus_that_nobody_answers_ends_though_cancels_are_lost(loses: int) -> None:
    nobody = Nobody(loses)
    bus = Away(nobody)
    await bus.start()
    await nobody.is_asked(1)
    async with asyncio.timeout(60):
        await bus.stop()
    assert bus._keeper is not None
    assert bus._keeper.done()


@pytest.mark.parametrize("loses", [0, 1, 3])
async def test_a_room_and_its_feed_end_though_the_database_is_away_and_cancels_are_lost(loses: int) -> None:
    nobody = Nobody(loses)
    feed: Any = Feed(nobody, Presenters())  # pyright: ignore[reportArgumentType]
    room = Room(uuid.uuid4(), feed, HubStats(), time.monotonic)
    await feed.start()
    room.open()
    await nobody.is_asked(2)  # by the room's pull, and by the sweep
    async with asyncio.timeout(60):
        await room.close()
        await feed.stop()
    assert room._task is not None
    assert room._task.done()
    assert feed._keeper.done()
    assert not feed.puller.under_way()
