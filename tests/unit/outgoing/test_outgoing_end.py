"""The sender ends when it is told to, whatever its database does with the cancel."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lost_cancels import Away
from safelight import stopping
from safelight.outgoing.sender import Sender


@pytest.mark.parametrize("loses", [0, 1, 3])
async def test_a_sender_leaves_no_housekeeping_behind(loses: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "AGAIN_S", 0.01)
    away: Any = Away(loses)
    nothing: Any = None
    shown: Any = {"show_job": nothing, "show_generation": nothing, "now": nothing}
    sender = Sender(away, nothing, nothing, nothing, **shown)
    before = asyncio.all_tasks()
    running = asyncio.create_task(sender.run())
    await away.is_asked.wait()
    running.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait([running])
    assert running.cancelled()
    assert away.loses == 0
    assert asyncio.all_tasks() == before
