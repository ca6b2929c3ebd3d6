"""Past the framework to the socket of an event stream that is open (decision 008, for Server-Sent Events).

A stream that waits at the log's end is owed the same bytes as all others of its project. They are framed once and
written to each socket directly, instead of waking a task for each stream and going through every layer of the
framework. The stream's own task is what opens and ends it, beats, and helps a reader that is slow or behind. Under
another server the extension is not there, and everything goes the ordinary way.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["EXTENSION", "Line", "LineProtocol", "Told", "line_of"]

EXTENSION: Final = "safelight.line"


class Told:
    """What all streams of a project are told at once, framed once."""

    __slots__ = ("_chunk", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._chunk: bytes | None = None

    @property
    def chunk(self) -> bytes:
        """As one chunk of a chunked answer (RFC 9112 §7.1)."""
        if self._chunk is None:
            self._chunk = b"%x\r\n%b\r\n" % (len(self.data), self.data)
        return self._chunk


class Line:
    """Writes pieces into one open, chunked answer."""

    __slots__ = ("_cycle", "_fd", "_transport")

    def __init__(self, protocol: Any) -> None:
        self._cycle = protocol.cycle
        self._transport = protocol.transport
        has_tls = self._transport.get_extra_info("sslcontext") is not None
        self._fd: int = -1 if has_tls else self._transport.get_extra_info("socket").fileno()

    def write(self, told: Told) -> bool:
        """False where it cannot go out now: the answer has not begun or is over, or its reader is slow. Never waits.

        What was taken is written in full, by us or by the transport.
        """
        cycle, transport = self._cycle, self._transport
        if (
            not cycle.chunked_encoding
            or cycle.response_complete
            or cycle.disconnected
            or transport.is_closing()
            or transport.get_write_buffer_size()
        ):
            return False
        chunk = told.chunk
        if self._fd >= 0:
            # Nothing waits before it, and the descriptor is the transport's own.
            try:
                sent = os.write(self._fd, chunk)
            except OSError:  # full, or broken: the transport finds out which
                sent = 0
            if sent < len(chunk):
                transport.write(chunk[sent:])
        else:
            transport.write(chunk)
        return True


class LineProtocol(HttpToolsProtocol):
    """uvicorn's, with itself in the ASGI scope."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: Any = self.scope
        scope.setdefault("extensions", {})[EXTENSION] = self


def line_of(scope: Mapping[str, Any]) -> Line | None:
    """The way to the socket of this request's answer, where the server offers one."""
    protocol = scope.get("extensions", {}).get(EXTENSION)
    # Of requests that came in one piece only the first is being answered.
    return Line(protocol) if protocol is not None and not protocol.pipeline else None
