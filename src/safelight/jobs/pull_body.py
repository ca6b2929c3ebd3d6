"""The body of a pull worker's request, bounded in time: no request of ours is longer than half a minute (J1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

from safelight.media.errors import MediaBusy

STALL_S: Final = 20.0
"""Silence of the worker in the middle of a body."""
BODY_S: Final = 24.0
"""Of a body in all. What takes longer comes in parts."""


class Slow(MediaBusy):
    """503 with `Retry-After`, which every client understands: nothing is wrong with the result."""


async def chunks(body: AsyncIterable[bytes], *, stall_s: float, body_s: float) -> AsyncIterator[bytes]:
    """Raises Slow."""
    clock = asyncio.get_running_loop().time
    ends_at, coming = clock() + body_s, aiter(body)
    while True:
        left_s = ends_at - clock()
        if left_s <= 0:
            raise Slow(f"The body took longer than {body_s:g} s: send it in smaller parts.", retry_after_s=1.0)
        try:
            async with asyncio.timeout(min(stall_s, left_s)):
                chunk = await anext(coming)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Slow("The body stopped coming, or came too slowly: send it again.", retry_after_s=1.0) from error
        yield chunk
