"""The socket's transport, for those who write ready frames to thousands of them (issue 3, fan-out).

uvicorn frames each message anew for each socket. Its protocol, extended by a few lines, hands the hub the transport
behind the ASGI connection: the same port, the same app, and bytes that were framed once. Under another server the
extension is not there and messages go the ordinary way.
"""

from __future__ import annotations

from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

__all__ = ["EXTENSION", "RawSocket", "SocketProtocol", "framed"]

EXTENSION: Final = "safelight.raw_socket"
_TEXT: Final = 0x81
_BINARY: Final = 0x82


def framed(data: bytes, *, is_text: bool) -> bytes:
    """A whole message as one unmasked frame (RFC 6455 §5.2)."""
    first, size = _TEXT if is_text else _BINARY, len(data)
    if size < 126:
        return bytes((first, size)) + data
    if size < 65_536:
        return bytes((first, 126)) + size.to_bytes(2) + data
    return bytes((first, 127)) + size.to_bytes(8) + data


class RawSocket:
    """Writes ready frames. Only between accept and close, and only while the transport takes them."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: SocketProtocol) -> None:
        self._protocol = protocol

    @property
    def is_writable(self) -> bool:
        """Whether the connection is open and its buffer below the transport's mark."""
        protocol = self._protocol
        return protocol.writable.is_set() and protocol.handshake_complete and not protocol.close_sent

    def write(self, frames: bytes) -> None:
        """Into the transport's buffer; what is written in one turn of the loop leaves in one system call."""
        self._protocol.transport.write(frames)


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, with a way to the transport in the ASGI scope. Without extensions of WebSocket: frames are plain."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)
        if scope is not None:  # it is not where the handshake was refused
            scope["extensions"][EXTENSION] = RawSocket(self)
