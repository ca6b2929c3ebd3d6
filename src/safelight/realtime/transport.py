"""The socket itself, for those who write ready frames to thousands of them (issue 3, fan-out; decision 008).

uvicorn frames each message anew for each socket, and keeps for each the whole request that opened it: its task, the
frames of every middleware, queues and events. Its protocol, extended, lets the app take a socket over once it is
accepted: the request ends, messages come as calls, and bytes that were framed once go straight to the kernel. The same
port, the same app. Under another server the extension is not there and everything goes the ordinary way.
"""

from __future__ import annotations

import os
from typing import Any, Final, Protocol

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.http11 import Request
from websockets.protocol import State
from websockets.streams import StreamReader

try:
    from websockets.speedups import apply_mask
except ImportError:  # a machine its compiled part was not built for
    from websockets.utils import apply_mask

__all__ = ["EXTENSION", "Raw", "Receiver", "SocketProtocol", "framed", "short_text"]

EXTENSION: Final = "safelight.raw_socket"
NOT_UTF8: Final = 1007
_TEXT: Final = 0x81
_BINARY: Final = 0x82
_BETWEEN_FRAMES: Final = StreamReader.at_eof.__code__
"""Where websockets' parser waits when the next byte begins a frame."""


def framed(data: bytes, *, is_text: bool) -> bytes:
    """A whole message as one unmasked frame (RFC 6455 §5.2)."""
    first, size = _TEXT if is_text else _BINARY, len(data)
    if size < 126:
        return bytes((first, size)) + data
    if size < 65_536:
        return bytes((first, 126)) + size.to_bytes(2) + data
    return bytes((first, 127)) + size.to_bytes(8) + data


def short_text(data: bytes) -> str | None:
    """The text, if these bytes are exactly one whole text message of a client that has at most 125 bytes."""
    if len(data) < 6 or data[0] != _TEXT or data[1] - 0x80 != len(data) - 6 or len(data) > 6 + 125:
        return None
    try:
        return apply_mask(data[6:], data[2:6]).decode()
    except UnicodeDecodeError:
        return None


class Receiver(Protocol):
    """Whoever took a socket over."""

    def received(self, data: str | bytes) -> None:
        """A whole message."""
        ...

    def drained(self) -> None:
        """`is_writable` again."""
        ...

    def lost(self) -> None:
        """The connection is gone: the last call, and it comes once."""
        ...


class Raw(Protocol):
    """A socket that can be taken over, between accept and close."""

    @property
    def is_writable(self) -> bool:
        """Whether it is open and its buffer is below the transport's mark."""
        ...

    def take_over(self, receiver: Receiver) -> None:
        """The request that opened the socket may end; from here on everything goes to the receiver."""
        ...

    def write(self, frames: bytes) -> None:
        """Ready frames. What the kernel does not take now is kept and goes out by itself. Never raises."""
        ...

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self, code: int, reason: str) -> None:
        """Say goodbye, and wait a moment for the answer."""
        ...

    def abort(self) -> None:
        """Let go at once."""
        ...


class _Nowhere:
    """Takes the place of the queue that nobody reads any more."""

    def put_nowait(self, message: object) -> None:
        return


class _NoEvent:
    """Takes the place of an event that nobody waits for any more."""

    def set(self) -> None:
        return

    def clear(self) -> None:
        return


_NOWHERE: Final = _Nowhere()
_NO_EVENT: Final = _NoEvent()


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, with itself in the ASGI scope (`Raw`). Without extensions of WebSocket: frames are plain."""

    _receiver: Receiver | None = None
    _is_taken = False
    _fd = -1
    is_writable = False  # plain, because it is asked for each message and socket

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        # Clients beat every 25 s, and a session that hears nothing for 60 s ends: two pings more would cost 5,000
        # quiet sockets 2 % of a core, and a timer each.
        self.ping_interval = None

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)
        if scope is not None:  # it is not where the handshake was refused
            scope["extensions"][EXTENSION] = self

    async def run_asgi(self) -> None:
        """As uvicorn's, but a socket that was taken over outlives its request."""
        try:
            untyped: Any = self
            await untyped.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except BaseException:
            self.logger.exception("Exception in ASGI application\n")
            self.send_500_response()
        else:
            if not self.handshake_complete:
                self.logger.error("ASGI callable returned without completing handshake.")
                self.send_500_response()
            elif self._is_taken:
                return
        if self.close_timer is None:
            self.transport.close()

    # -- taken over: see Raw

    def take_over(self, receiver: Receiver) -> None:
        left: list[Any] = []
        while not self.queue.empty():
            left.append(self.queue.get_nowait())
        self._receiver, self._is_taken = receiver, True
        untyped: Any = self
        self.is_writable = self.writable.is_set() and not self.disconnected
        untyped.queue, untyped.writable = _NOWHERE, _NO_EVENT
        untyped.scope = untyped.request = untyped.response = None  # nobody needs them any more, and there are thousands
        if self.transport.get_extra_info("sslcontext") is None:
            self._fd = self.transport.get_extra_info("socket").fileno()
        for message in left:
            if message["type"] == "websocket.receive":
                data = message.get("text")
                receiver.received(message["bytes"] if data is None else data)
        if self.disconnected:
            self._lose()
        elif self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def write(self, frames: bytes) -> None:
        transport = self.transport
        if transport.is_closing():
            return
        if self._fd >= 0 and not transport.get_write_buffer_size():
            # Nothing waits before it, and the descriptor is the transport's own (decision 008).
            try:
                sent = os.write(self._fd, frames)
            except OSError:  # full, or broken: the transport finds out which
                sent = 0
            if sent == len(frames):
                return
            frames = frames[sent:]
        transport.write(frames)

    def pause_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def close(self, code: int, reason: str) -> None:
        if self.close_sent or self.transport.is_closing():
            return
        try:
            self.conn.send_close(code, reason)
        except InvalidState:
            self.transport.close()
            return
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent, self.is_writable = True, False
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def abort(self) -> None:
        self.transport.abort()

    # -- what uvicorn's calls

    def data_received(self, data: bytes) -> None:
        # A quiet client's beat is one short message; the parser would take a quarter of what it costs.
        if self._receiver is not None and (text := short_text(data)) is not None and self._is_between_messages():
            self._receiver.received(text)
        else:
            super().data_received(data)

    def _is_between_messages(self) -> bool:
        """Nothing is half read: no frame, and no message in fragments."""
        conn: Any = self.conn
        inner = conn.parser.gi_yieldfrom
        waits = None if inner is None else inner.gi_yieldfrom
        return (
            waits is not None
            and waits.gi_code is _BETWEEN_FRAMES
            and conn.cur_size is None
            and conn.state is State.OPEN
            and not self.close_sent
            and not conn.reader.buffer
        )

    def send_receive_event_to_app(self) -> None:
        if self._receiver is None:
            super().send_receive_event_to_app()
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type != "text":
            self._receiver.received(bytes(data))
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self.close(NOT_UTF8, "not UTF-8")
        else:
            self._receiver.received(text)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.is_writable = False

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._receiver is not None and not self.close_sent:
            self.is_writable = True
            self._receiver.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lose()

    def _lose(self) -> None:
        self.is_writable = False
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.lost()
