"""A database that is away, asked by a library that loses cancels, as `asyncio.wait_for` may."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any


class Away:
    """Does not answer, and loses so many cancels."""

    def __init__(self, loses: int) -> None:
        self.loses = loses
        self.is_asked = asyncio.Event()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        self.is_asked.set()
        while self.loses:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            self.loses -= 1
        await asyncio.Event().wait()
        yield
