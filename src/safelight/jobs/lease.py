"""Keeping a job's lease while its work goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from enum import Enum
from typing import Final

from safelight.db.pool import Row
from safelight.jobs import work
from safelight.jobs.insist import AWAY
from safelight.jobs.parts import Parts
from safelight.stopping import end, end_if_canceled


class LetGo(Enum):
    """The lease was given back together with what was written: the turn is over."""

    LET_GO = "let go"


LET_GO: Final = LetGo.LET_GO


class LeaseLost(Exception):
    """Another worker has the job now: stop, it knows better."""


@asynccontextmanager
async def holding_lease(
    parts: Parts, job: Row, on_cancel: Callable[[], None] | None = None, *, must_finish: bool = False
) -> AsyncGenerator[None]:
    """Renew the lease while the body works; a lost lease cancels the body and raises LeaseLost.

    `on_cancel` is called once if the user asks to cancel meanwhile. `must_finish`: the body goes on without its
    lease, because what it will learn nobody else can.
    """
    body = asyncio.current_task()
    assert body is not None
    lost = False

    async def renewing() -> None:
        nonlocal lost, on_cancel
        gap_s = min(parts.policy.lease_s / 3, 1.0 if on_cancel else parts.policy.lease_s / 3)
        renewed_at = parts.now()
        while True:
            await asyncio.sleep(gap_s)
            try:
                async with asyncio.timeout(5), parts.db.connection() as conn:
                    row = await work.renew(conn, job["id"], worker=parts.worker, lease_s=parts.policy.lease_s)
            except AWAY:
                end_if_canceled()
                if must_finish or parts.now() - renewed_at < timedelta(seconds=parts.policy.lease_s):
                    continue
                row = None
            if row is None:
                if must_finish:
                    return
                lost = True
                body.cancel()
                return
            renewed_at = parts.now()
            if on_cancel is not None and row["cancel_requested_at"] is not None:
                on_cancel()
                on_cancel = None

    renewer = asyncio.create_task(renewing())
    try:
        yield
    except asyncio.CancelledError:
        if lost and body.uncancel() == 0:
            raise LeaseLost from None
        raise
    finally:
        await end(renewer)
        if not renewer.cancelled():
            renewer.result()
