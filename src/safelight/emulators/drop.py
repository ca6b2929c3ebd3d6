"""Answers that end in a broken connection: what a client sees when a provider or the network dies.

ASGI has no word for it, so the server that `serve.py` starts lends each request the way to its own socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

ABORT = "safelight.abort"


class AbortableProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with `scope["extensions"]["safelight.abort"]` = close the socket now."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"call": self.transport.abort}}


class Dropped(Response):
    """No answer: the connection closes. With `body`, its first half is sent before."""

    def __init__(self, body: bytes = b"", media_type: str | None = None, after_s: float = 0.0) -> None:
        super().__init__(body, media_type=media_type)
        self._after_s = after_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._after_s:
            await wait_unless_disconnected(receive, self._after_s)
        abort = cast("Callable[[], None] | None", scope.get("extensions", {}).get(ABORT, {}).get("call"))
        if self.body or abort is None:
            # Without our server the next best: an answer that promises more than it gives.
            headers = self.raw_headers if self.body else [(b"content-length", b"1")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            half = bytes(self.body)[: len(self.body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
        if abort is None:
            raise ConnectionResetError("the emulator drops this connection on request")
        abort()
        while (await receive())["type"] != "http.disconnect":
            pass  # until the server has noticed, so that it does not take our silence for a mistake


async def wait_unless_disconnected(receive: Receive, seconds: float) -> None:
    """Sleep, but not on behalf of a client that has left."""

    async def left() -> None:
        message: Message = {"type": ""}
        while message["type"] != "http.disconnect":
            message = await receive()

    leaving = asyncio.create_task(left())
    try:
        await asyncio.wait({leaving}, timeout=seconds)
    finally:
        leaving.cancel()
