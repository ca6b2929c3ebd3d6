"""One try: one POST through the guard against private addresses, and what came of it in words (J12, M4)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from ssl import SSLContext
from typing import Final

import httpcore
import httpx

from safelight import __version__
from safelight.media.dialer import GuardedBackend, Resolver, resolve
from safelight.media.errors import PrivateAddress
from safelight.outgoing.address import Addresses, AddressRefused, port_of, private

TOTAL_S: Final = 15.0
"""From the look-up of the name to the answer. A receiver does its work after it has answered."""
CONNECT_S: Final = 10.0
BODY_S: Final = 2.0
"""For the answer's body, which is only for people: the status has said all that counts, and no body takes it back."""
RESPONSE_BYTES_MAX: Final = 4_096
"""Read of an answer; the rest is not our business."""
RESPONSE_KEPT: Final = 1_000
"""Characters kept in the log."""
_RETRY_AFTER_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class Posted:
    """What came of a try. `error` is None where it was delivered."""

    status: int | None
    error: str | None
    outcome: str
    """For the metric: `delivered`, `refused`, `timeout`, `unreachable`, `private`."""
    duration_ms: int
    response: str | None = None
    retry_after_s: float | None = None


class GuardedPost:
    """Sends. One per process; close it with `close`. Never follows a redirect, never uses a proxy.

    Every try connects anew, because what a kept connection leads to was checked some time ago.
    """

    def __init__(
        self,
        addresses: Addresses,
        *,
        connections_max: int,
        resolver: Resolver = resolve,
        total_s: float = TOTAL_S,
    ) -> None:
        self._addresses = addresses
        self._backend = GuardedBackend(addresses.allow_hosts, resolver)
        self._connections_max = connections_max
        self._total_s = total_s
        self._pool: httpcore.AsyncConnectionPool | None = None

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Posted:
        """Raises nothing but CancelledError: what goes wrong is an answer too."""
        began = time.monotonic()

        def posted(outcome: str, error: str) -> Posted:
            return Posted(None, error, outcome, _ms_since(began))

        try:
            at = self._addresses.parse(url)
        except AddressRefused as error:
            return posted("private", f"Not sent: the address {error}.")
        try:
            status, said, answer = await self._exchange(at, headers, body)
        except PrivateAddress:
            return posted("private", f"Not sent: the address {private(at.host, port_of(at))}.")
        except (TimeoutError, httpcore.TimeoutException):
            return posted("timeout", f"No answer within {self._total_s:g} seconds.")
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            return posted("unreachable", f"{at.host} cannot be reached: {str(error).rstrip('.') or repr(error)}."[:500])
        after_s = _retry_after_s(said.get("retry-after"), datetime.now(UTC))
        error = None if 200 <= status < 300 else _refusal(status)
        outcome = "delivered" if error is None else "refused"
        return Posted(status, error, outcome, _ms_since(began), answer, after_s)

    async def _exchange(
        self, url: httpx.URL, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, httpx.Headers, str | None]:
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=port_of(url), target=url.raw_path)
        request = httpcore.Request(
            "POST",
            target,
            headers=[
                (b"Host", url.netloc),
                (b"Content-Type", b"application/json"),
                (b"Content-Length", str(len(body)).encode()),
                (b"Accept-Encoding", b"identity"),
                (b"Connection", b"close"),
                (b"User-Agent", f"Safelight/{__version__}".encode()),
                *((name.encode(), value.encode()) for name, value in headers.items()),
            ],
            content=body,
            extensions={
                "timeout": {"connect": CONNECT_S, "read": self._total_s, "write": self._total_s, "pool": self._total_s}
            },
        )
        async with asyncio.timeout(self._total_s):
            response = await self._connections().handle_async_request(request)
        try:
            assert isinstance(response.stream, AsyncIterable)
            return response.status, httpx.Headers(response.headers), await _beginning(response.stream)
        finally:
            await response.aclose()

    def _connections(self) -> httpcore.AsyncConnectionPool:
        if self._pool is None:  # nobody pays for certificates before the first webhook
            self._pool = httpcore.AsyncConnectionPool(
                ssl_context=_tls(),
                max_connections=self._connections_max,
                max_keepalive_connections=0,
                network_backend=self._backend,
            )
        return self._pool


@cache
def _tls() -> SSLContext:
    return httpx.create_ssl_context()


async def _beginning(stream: AsyncIterable[bytes]) -> str | None:
    """The first characters of an answer. One that breaks off or drips on has been an answer all the same."""
    taken = bytearray()
    with contextlib.suppress(httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, TimeoutError):
        async with asyncio.timeout(BODY_S):
            async for chunk in stream:
                taken += chunk
                if len(taken) >= RESPONSE_BYTES_MAX:
                    break
    text = bytes(taken[:RESPONSE_BYTES_MAX]).decode("utf-8", "replace").replace("\0", "�")
    return text[:RESPONSE_KEPT] or None


def _refusal(status: int) -> str:
    if 300 <= status < 400:
        return f"The receiver answered with a redirect (HTTP {status}), which is not followed: set the final address."
    try:
        phrase = f" {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    return f"The receiver answered HTTP {status}{phrase}."


def _retry_after_s(said: str | None, now: datetime) -> float | None:
    """Seconds, or a date. What cannot be read was not said."""
    said = (said or "").strip()
    if said.isascii() and said.isdigit():
        return float(said[:_RETRY_AFTER_DIGITS])
    try:
        at = parsedate_to_datetime(said)
        return max(((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
