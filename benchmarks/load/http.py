"""One keep-alive HTTP/1.1 connection that sends ready-made bytes: no headers built, no body copied, per request."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import httptools


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` 0: the connection was lost before the answer was whole. `at`: `time.monotonic()` of its last byte."""

    status: int
    at: float
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection(asyncio.Protocol):
    """One request at a time. Not answered requests get an `Answer(0)` when the connection ends."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._done: Callable[[Answer], None] | None = None
        self._body: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, done: Callable[[Answer], None]) -> None:
        assert self._transport is not None
        assert self._done is None
        self._done = done
        self._transport.write(request)

    async def ask(self, request: bytes) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.send(request, lambda answer: future.done() or future.set_result(answer))
        return await future

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._finish(0)

    # httptools' side

    def on_message_begin(self) -> None:
        self._body.clear()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self._finish(status)

    def _finish(self, status: int) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(Answer(status, time.monotonic(), b"".join(self._body)))


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


async def connect(address: Address) -> Connection:
    _, connection = await asyncio.get_running_loop().create_connection(Connection, address.host, address.port)
    return connection


def request(
    address: Address, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of a request on a connection that is kept."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address.host}:{address.port}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + (body or b"")
