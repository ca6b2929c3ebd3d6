"""The queue in front of one socket: bounded, and mostly empty (S7).

Where the server lets us (transport.py), what is ready goes into the transport at once, as bytes framed once for all
sockets. Only what the transport does not take is queued here, and written out by a task as it drains.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from safelight.realtime.transport import framed

__all__ = ["Batch", "Outlet", "Raw", "Wire"]

BYTES_MAX: Final = 512 * 1024
"""Live traffic beyond this is not queued: the reader catches up from its cursor."""
BYTES_HARD_MAX: Final = 2 * 2**20
"""Answers to the client's own messages, and presence. Beyond it the socket is closed."""
FRAMES_MAX: Final = 2_000
LOW_BYTES: Final = 64 * 1024
LOW_FRAMES: Final = FRAMES_MAX // 2
"""From here down there is room again."""


class Wire:
    """One ready message, shared by all sockets that get it."""

    __slots__ = ("data", "is_text", "text")

    def __init__(self, data: bytes, *, is_text: bool = True) -> None:
        self.data = data
        self.is_text = is_text
        self.text: str | None = None

    def as_text(self) -> str:
        """Decoded once, however many sockets get it."""
        if self.text is None:
            self.text = self.data.decode()
        return self.text


class Batch:
    """Messages that go out together, framed once."""

    __slots__ = ("_framed", "wires")

    def __init__(self, wires: Sequence[Wire]) -> None:
        self.wires = wires
        self._framed: bytes | None = None

    def __len__(self) -> int:
        return len(self.wires)

    @property
    def framed(self) -> bytes:
        if self._framed is None:
            self._framed = b"".join([framed(wire.data, is_text=wire.is_text) for wire in self.wires])
        return self._framed


class Raw(Protocol):
    """The transport, where there is a way to it."""

    @property
    def is_writable(self) -> bool: ...
    def write(self, frames: bytes) -> None: ...


class Outlet:
    """`offer` what may be dropped, `put` what may not; `run` writes what had to wait, until cancelled."""

    __slots__ = (
        "_bytes", "_is_finished", "_queue", "_raw", "_roomy", "_send_bytes", "_send_text", "_woken", "is_overrun",
    )  # fmt: skip

    def __init__(
        self,
        send_text: Callable[[str], Awaitable[None]],
        send_bytes: Callable[[bytes], Awaitable[None]],
        raw: Raw | None = None,
    ) -> None:
        self.is_overrun = False
        """More than the hard limit was put: nothing more is taken, the socket is to be closed."""
        self._send_text = send_text
        self._send_bytes = send_bytes
        self._raw = raw
        self._queue: deque[Wire] = deque()
        self._bytes = 0
        self._is_finished = False
        self._woken = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()

    @property
    def is_over(self) -> bool:
        """Nothing is taken any more."""
        return self.is_overrun or self._is_finished

    @property
    def queued_bytes(self) -> int:
        """What waits here because the reader is slow; shared messages count for each who waits for them."""
        return self._bytes

    def offer(self, batch: Batch) -> bool:
        """Send or queue them all, or none where the reader is too slow."""
        if self._is_open():
            self._raw.write(batch.framed)  # pyright: ignore[reportOptionalMemberAccess] -- open says that it is there
            return True
        if self.is_over or self._bytes >= BYTES_MAX or len(self._queue) >= FRAMES_MAX:
            return False
        for wire in batch.wires:
            self._add(wire)
        return True

    def put(self, wire: Wire) -> None:
        """Send or queue it in any case, up to the hard limit."""
        if self._is_open():
            self._raw.write(framed(wire.data, is_text=wire.is_text))  # pyright: ignore[reportOptionalMemberAccess]
            return
        if self._bytes > BYTES_HARD_MAX or len(self._queue) >= 2 * FRAMES_MAX:
            self.is_overrun = True
            self._woken.set()
        if not self.is_over:
            self._add(wire)

    def finish(self) -> None:
        """Take nothing more; `run` returns after what is queued."""
        self._is_finished = True
        self._woken.set()

    async def roomy(self) -> None:
        """Returns when most of the queue has been written."""
        await self._roomy.wait()

    async def run(self) -> None:
        """Write what is queued, in order; returns when overrun or finished. Raises what sending raises."""
        while not self.is_overrun:
            if not self._queue:
                if self._is_finished:
                    return
                self._woken.clear()
                await self._woken.wait()
                continue
            wire = self._queue[0]  # stays at its place while it is sent, so that nothing overtakes it
            if wire.is_text:
                await self._send_text(wire.as_text())
            else:
                await self._send_bytes(wire.data)
            self._queue.popleft()
            self._bytes -= len(wire.data)
            if self._bytes <= LOW_BYTES and len(self._queue) <= LOW_FRAMES and not self._roomy.is_set():
                self._roomy.set()

    def _is_open(self) -> bool:
        """Whether what comes now may go into the transport at once: nothing waits before it."""
        return not self._queue and self._raw is not None and not self.is_over and self._raw.is_writable

    def _add(self, wire: Wire) -> None:
        self._queue.append(wire)
        self._bytes += len(wire.data)
        if self._bytes > LOW_BYTES or len(self._queue) > LOW_FRAMES:
            self._roomy.clear()
        self._woken.set()
