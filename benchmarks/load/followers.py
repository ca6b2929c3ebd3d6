"""Windows that look on: clients that hold a stream open and note when each result reaches them.

Both kinds speak the real wire and do as little as a client can: they cut the stream into whole messages and look for
the result's id. The same work for Safelight's event stream and for the peers' Socket.IO.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Final, Protocol

import aiohttp
import httptools

from benchmarks.load.http import Address

CONNECT_S: Final = 15.0


class Seen:
    """When each expected id reached each client, first time only."""

    def __init__(self, pattern: bytes, expected: set[bytes], clients: int) -> None:
        self._find: Callable[[bytes], list[bytes]] = re.compile(pattern).findall
        self._expected = expected
        self.at: list[dict[bytes, float]] = [{} for _ in range(clients)]
        self.doubled = 0
        self.left = len(expected) * clients
        self.whole = asyncio.Event()

    def message(self, client: int, data: bytes, at: float) -> None:
        seen = self.at[client]
        for identity in self._find(data):
            if identity in seen:
                self.doubled += 1
            elif identity in self._expected:
                seen[identity] = at
                self.left -= 1
                if self.left == 0:
                    self.whole.set()


class Follower(Protocol):
    async def open(self) -> None: ...
    async def close(self) -> None: ...


class EventStream(asyncio.Protocol):
    """A Server-Sent Events client."""

    def __init__(self, seen: Seen, number: int, address: Address, request: bytes) -> None:
        self._seen, self._number, self._address, self._request = seen, number, address, request
        self._parser = httptools.HttpResponseParser(self)
        self._rest = b""
        self._at = 0.0
        self._live: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    async def open(self) -> None:
        """Returns when the first beat has come: from then on nothing is missed."""
        loop = asyncio.get_running_loop()
        self._live = loop.create_future()
        self._transport, _ = await loop.create_connection(lambda: self, self._address.host, self._address.port)
        self._transport.write(self._request)
        async with asyncio.timeout(CONNECT_S):
            await self._live

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._at = time.monotonic()
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        events, cut, rest = (self._rest + body).rpartition(b"\n\n")
        self._rest = rest
        if cut:
            if self._live is not None and not self._live.done() and b"event: head" in events:
                self._live.set_result(None)
            self._seen.message(self._number, events, self._at)

    def on_message_complete(self) -> None:
        self._fail(f"the stream ended with status {self._parser.get_status_code()}: {self._rest[:300]!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the connection was lost")

    def _fail(self, said: str) -> None:
        if self._live is not None and not self._live.done():
            self._live.set_exception(ConnectionError(said))


class SocketIo:
    """A Socket.IO client (Engine.IO 4 over WebSocket)."""

    def __init__(self, seen: Seen, number: int, address: Address) -> None:
        self._seen, self._number, self._address = seen, number, address
        self._session: aiohttp.ClientSession | None = None
        self._reading: asyncio.Task[None] | None = None
        self._live = asyncio.Event()

    async def open(self) -> None:
        self._session = aiohttp.ClientSession()
        socket = await self._session.ws_connect(
            f"{self._address.url}/socket.io/?EIO=4&transport=websocket", compress=0, max_msg_size=0
        )
        self._reading = asyncio.create_task(self._read(socket))
        async with asyncio.timeout(CONNECT_S):
            await self._live.wait()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            at = time.monotonic()
            text: str = message.data
            if text.startswith("42"):
                self._seen.message(self._number, text.encode(), at)
            elif text == "2":  # ping
                await socket.send_str("3")
            elif text.startswith("0"):  # opened: join the main namespace
                await socket.send_str("40")
            elif text.startswith("40"):
                self._live.set()

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        if self._session is not None:
            await self._session.close()
