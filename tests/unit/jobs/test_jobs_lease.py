"""A lease is let go when its work is over, whatever the database does with the cancel."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from lost_cancels import Away
from safelight import stopping
from safelight.jobs.lease import holding_lease


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "AGAIN_S", 0.01)


def parts_on(away: Away) -> Any:
    policy = SimpleNamespace(lease_s=0.003)
    return SimpleNamespace(policy=policy, db=away, worker=uuid.uuid4(), now=lambda: datetime.now(UTC))


@pytest.mark.parametrize("loses", [0, 1, 3])
async def test_renewing_ends_with_the_work(loses: int) -> None:
    away = Away(loses)
    async with asyncio.timeout(60):
        async with holding_lease(parts_on(away), {"id": uuid.uuid4()}, must_finish=True):
            await away.is_asked.wait()
    assert away.loses == 0


async def test_a_cancel_that_comes_while_renewing_ends_is_heard() -> None:
    away = Away(loses=2)

    async def work() -> None:
        async with holding_lease(parts_on(away), {"id": uuid.uuid4()}, must_finish=True):
            await away.is_asked.wait()

    working = asyncio.create_task(work())
    async with asyncio.timeout(60):
        while away.loses == 2:
            await asyncio.sleep(0)
        working.cancel()
        await asyncio.wait([working])
    assert working.cancelled()
