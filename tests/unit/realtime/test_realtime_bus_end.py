"""A bus ends when it is told to, whatever its library does with the cancel."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, ClassVar

import pytest

from safelight.realtime import bus_base
from safelight.realtime.bus_base import GatheringBus, Said


class Away(GatheringBus):
    """Nobody answers, and its library loses a cancel that comes while it is timing out (`asyncio.wait_for` does)."""

    GATHER_S: ClassVar[float] = 0.001
    CHECK_S: ClassVar[float] = 60.0

    def __init__(self, loses: int) -> None:
        super().__init__()
        self.loses = loses
        self.is_connecting = asyncio.Event()

    async def _connect(self) -> Any:
        self.is_connecting.set()
        if self.loses:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            self.loses -= 1
        raise ConnectionRefusedError

    async def _send(self, conn: Any, said: Said) -> int:
        return 0

    async def _check(self, conn: Any) -> None:
        return

    async def _close(self, conn: Any) -> None:
        return


@pytest.mark.parametrize("loses", [0, 1, 3])
async def test_a_bus_that_nobody_answers_ends_though_cancels_are_lost(
    loses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_base, "CANCEL_AGAIN_S", 0.01)
    bus = Away(loses)
    await bus.start()
    await bus.is_connecting.wait()
    async with asyncio.timeout(60):
        await bus.stop()
    assert bus._keeper is not None
    assert bus._keeper.done()
