"""What goes to one socket: gathered for one turn of the loop, and bounded where the reader is slow (S7).

Where the server lets us (transport.py), all that one turn of the loop has for a socket leaves in one write, as bytes
framed once for all sockets. Only what the transport does not take waits here until it drains. Elsewhere a task sends
message by message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from safelight.realtime.transport import Raw, framed

__all__ = ["Batch", "Outlet", "Pen", "Wire"]

BYTES_MAX: Final = 512 * 1024
"""Live traffic beyond this is not queued: the reader catches up from its cursor."""
BYTES_HARD_MAX: Final = 2 * 2**20
"""Answers to the client's own messages, and presence. Beyond it the socket is closed."""
FRAMES_MAX: Final = 2_000
LOW_BYTES: Final = 64 * 1024
LOW_FRAMES: Final = FRAMES_MAX // 2
"""From here down there is room again."""
PIECE_BYTES: Final = 64 * 1024
"""One write; more of one turn is written at once instead of being gathered."""
SOCKETS_AT_ONCE: Final = 500
"""Written to before others get a turn of the loop: some 5 ms."""
JOINED_MAX: Final = 16
"""Pieces kept for the turn: lanes that get several messages in it. Whoever catches up has pieces of its own."""


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

    __slots__ = ("_framed", "count", "size", "wires")

    def __init__(self, wires: Sequence[Wire]) -> None:
        self.wires = wires
        self.count = len(wires)
        self.size = sum([len(wire.data) for wire in wires])
        """Bytes, without framing."""
        self._framed: bytes | None = None

    def __len__(self) -> int:
        return self.count

    @property
    def framed(self) -> bytes:
        if self._framed is None:
            self._framed = b"".join([framed(wire.data, is_text=wire.is_text) for wire in self.wires])
        return self._framed


class Pen:
    """Once a turn of the loop, writes what was gathered for each socket. One for all sockets of a process."""

    __slots__ = ("_joined", "_noted")

    def __init__(self) -> None:
        self._noted: list[Outlet] = []
        self._joined: dict[tuple[Batch, ...], bytes] = {}

    def note(self, outlet: Outlet) -> None:
        """It has something to write."""
        if not self._noted:
            asyncio.get_running_loop().call_soon(self._write)
        self._noted.append(outlet)

    def joined(self, batches: Sequence[Batch]) -> bytes:
        """Their frames as one piece; made once for all sockets that get the same in this turn."""
        key = tuple(batches)
        found = self._joined.get(key)
        if found is None:
            found = b"".join([batch.framed for batch in key])
            if len(self._joined) < JOINED_MAX:
                self._joined[key] = found
        return found

    def _write(self) -> None:
        noted, self._noted = self._noted, []
        for outlet in noted[:SOCKETS_AT_ONCE]:
            outlet.flush()
        self._joined.clear()
        if len(noted) > SOCKETS_AT_ONCE:
            if not self._noted:
                asyncio.get_running_loop().call_soon(self._write)
            self._noted = noted[SOCKETS_AT_ONCE:] + self._noted


class Outlet:
    """`offer` what may be dropped, `put` what may not. It leaves by the pen; with no way to the transport, by `run`."""

    __slots__ = (
        "_bytes", "_frames", "_is_finished", "_pen", "_raw", "_roomy", "_send_bytes", "_send_text",
        "_waiting", "_woken", "is_overrun",
    )  # fmt: skip

    def __init__(
        self,
        pen: Pen,
        raw: Raw | None = None,
        *,
        send_text: Callable[[str], Awaitable[None]] | None = None,
        send_bytes: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> None:
        self.is_overrun = False
        """More than the hard limit was put: nothing more is taken, the socket is to be closed."""
        self._pen = pen
        self._raw = raw
        self._send_text = send_text
        self._send_bytes = send_bytes
        self._waiting: list[Batch] | None = None  # made when needed, like the events: most sockets wait for nothing
        self._bytes = 0
        self._frames = 0
        self._is_finished = False
        self._woken: asyncio.Event | None = None
        self._roomy: asyncio.Event | None = None

    @property
    def is_over(self) -> bool:
        """Nothing is taken any more."""
        return self.is_overrun or self._is_finished

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    @property
    def queued_bytes(self) -> int:
        """What waits here because the reader is slow; shared messages count for each who waits for them."""
        return self._bytes

    def offer(self, batch: Batch) -> bool:
        """Send or queue them all, or none where the reader is too slow."""
        if self._is_finished or self.is_overrun or self._bytes >= BYTES_MAX or self._frames >= FRAMES_MAX:
            return False
        self._add(batch)
        return True

    def put(self, wire: Wire) -> None:
        """Send or queue it in any case, up to the hard limit."""
        if self._bytes > BYTES_HARD_MAX or self._frames >= 2 * FRAMES_MAX:
            self.is_overrun = True
            self._wake()
        if not self.is_over:
            self._add(Batch((wire,)))

    def answer(self, wire: Wire) -> None:
        """As `put`, but at once where nothing waits before it: a lone answer needs no other turn of the loop."""
        raw = self._raw
        if raw is not None and self._waiting is None and raw.is_writable and not self.is_over:
            raw.write(framed(wire.data, is_text=wire.is_text))
        else:
            self.put(wire)

    def forget_sending(self) -> None:
        """The request is over, and what belongs to it; the transport is all there is."""
        self._send_text = self._send_bytes = None

    def finish(self) -> None:
        """Take nothing more; what is queued still goes out, then `run` returns."""
        self._is_finished = True
        self._wake()

    async def roomy(self) -> None:
        """Returns when most of the queue has been written."""
        if self._bytes > LOW_BYTES or self._frames > LOW_FRAMES:
            if self._roomy is None:
                self._roomy = asyncio.Event()
            await self._roomy.wait()

    def flush(self) -> None:
        """Write what waits, as far as the transport takes it: the pen's call, and the transport's when it drained."""
        raw, waiting = self._raw, self._waiting
        if raw is None or waiting is None:
            return
        while waiting and not self.is_overrun and raw.is_writable:
            if self._bytes <= PIECE_BYTES:
                self._waiting = None
                self._bytes = self._frames = 0
                raw.write(waiting[0].framed if len(waiting) == 1 else self._pen.joined(waiting))
                break
            size = count = 0
            while count < len(waiting) and size < PIECE_BYTES:
                size += waiting[count].size
                count += 1
            piece = waiting[:count]
            del waiting[:count]
            self._bytes -= size
            self._frames -= sum([batch.count for batch in piece])
            raw.write(self._pen.joined(piece))
        if not waiting:
            self._waiting = None
        if self._roomy is not None:
            self._tell_room()

    async def run(self) -> None:
        """The ordinary way: send what is queued, in order; returns when overrun or finished. Raises what sending
        raises."""
        assert self._send_text is not None
        assert self._send_bytes is not None
        while not self.is_overrun:
            if not self._waiting:
                if self._is_finished:
                    return
                self._woken = asyncio.Event()
                await self._woken.wait()
                continue
            batch = self._waiting[0]  # stays at its place while it is sent, so that nothing overtakes it
            for wire in batch.wires:
                if wire.is_text:
                    await self._send_text(wire.as_text())
                else:
                    await self._send_bytes(wire.data)
            del self._waiting[0]
            self._bytes -= batch.size
            self._frames -= batch.count
            self._tell_room()

    def _add(self, batch: Batch) -> None:
        self._bytes += batch.size
        self._frames += batch.count
        if self._waiting is not None:  # the pen has this outlet already, or the transport calls when it has drained
            self._waiting.append(batch)
        else:
            self._waiting = [batch]
            if self._raw is not None:
                self._pen.note(self)
        if self._raw is None:
            self._wake()
        elif self._bytes >= PIECE_BYTES:
            self.flush()

    def _tell_room(self) -> None:
        if self._roomy is not None and self._bytes <= LOW_BYTES and self._frames <= LOW_FRAMES:
            self._roomy.set()
            self._roomy = None

    def _wake(self) -> None:
        if self._woken is not None:
            self._woken.set()
