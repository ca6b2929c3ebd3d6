"""The guarded door: a provider's result becomes a local file, or a reason why not (M1, M4).

What comes in is limited in size and time, is what it says it is, and comes from the public internet: names are
resolved once, checked, and the connection goes to the checked address (`dialer`). Redirects are followed by hand
and checked again. Proxies of the environment are not used, nothing of ours is sent along, and the file is never
held in memory. Trying again is the caller's decision (`MediaError.retryable`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

import httpcore
import httpx

from safelight import __version__
from safelight.media.dialer import GuardedBackend, Resolver, resolve
from safelight.media.errors import (
    NotMedia,
    PrivateAddress,
    ResultExpired,
    ResultTooLarge,
    ResultTruncated,
    ResultUnreachable,
    StorageUnavailable,
)
from safelight.media.intake import FLUSH_BYTES, Fetched, Intake, SizeLimits

__all__ = ["FetchLimits", "Fetched", "Fetcher", "SizeLimits", "take_bytes", "take_data_uri", "take_file"]

REDIRECTS_MAX: Final = 5
CONNECTIONS_MAX: Final = 32
URL_MAX: Final = 16_384  # signed URLs are long, but not that long
RETRY_AFTER_MAX_S: Final = 300.0
GONE: Final = frozenset({401, 403, 404, 410})
TRANSIENT: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class FetchLimits:
    sizes: SizeLimits = field(default_factory=SizeLimits)
    total_s: float = 600.0
    """The whole download with all its redirects."""
    stall_s: float = 20.0
    """Silence of the host in the middle."""
    connect_s: float = 10.0


class Fetcher:
    """Downloads results. One per process; close it with `close`. Safe to use from many tasks."""

    def __init__(
        self,
        allow_hosts: frozenset[str] = frozenset(),
        limits: FetchLimits | None = None,
        *,
        resolver: Resolver = resolve,
        doors: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """`allow_hosts`: `host:port` of private addresses allowed by setting (emulators).

        `doors`: addresses without a query, as `http://192.168.1.5:8188/view`, of servers of the operator's own, and
        the headers that are sent there and nowhere else. Of such a host only that address is fetched.
        """
        self._doors = {_address(_parse(url)): dict(headers) for url, headers in (doors or {}).items()}
        behind = frozenset(f"{_parse(url).host}:{_port(_parse(url))}" for url in (doors or {}))
        allowed = frozenset(host.lower().translate({91: None, 93: None}) for host in allow_hosts)
        self._behind_doors = behind - allowed
        self._allow_hosts = allowed | behind
        self._limits = limits or FetchLimits()
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=8,
            keepalive_expiry=30.0,
            network_backend=GuardedBackend(self._allow_hosts, resolver),
        )

    async def close(self) -> None:
        await self._pool.aclose()

    async def fetch(self, url: str, *, kinds: frozenset[str] | None, dest: Path) -> Fetched:
        """Download `url` (http, https or data) to `dest`, which is written only by success.

        `kinds`: what is expected (`image`, `video`, `audio`); None = any of them. Raises MediaError.
        """
        if url[:5].lower() == "data:":
            return await take_data_uri(url, kinds=kinds, dest=dest, limits=self._limits.sizes)
        try:
            async with asyncio.timeout(self._limits.total_s):
                return await self._follow(url, kinds, dest)
        except TimeoutError as error:
            raise ResultUnreachable(f"The download took longer than {self._limits.total_s:g} s.") from error

    async def _follow(self, url: str, kinds: frozenset[str] | None, dest: Path) -> Fetched:
        at = _parse(url)
        began_inside = self._is_allowed(at)
        for _ in range(REDIRECTS_MAX + 1):
            found = await self._once(at, kinds, dest)
            if isinstance(found, Fetched):
                return found
            at = _joined(at, found)
            if self._is_allowed(at) and not began_inside:
                # The allowance is for results that name the private host themselves, not for detours to it.
                raise PrivateAddress("The host redirected to an address of a private network.")
        raise ResultUnreachable(f"The host redirected more than {REDIRECTS_MAX} times.", retryable=False)

    def _is_allowed(self, url: httpx.URL) -> bool:
        return f"{url.host}:{_port(url)}" in self._allow_hosts

    async def _once(self, url: httpx.URL, kinds: frozenset[str] | None, dest: Path) -> Fetched | str:
        """One request: the file, or where it redirects to."""
        limits = self._limits
        sent_along = self._doors.get(_address(url))
        if sent_along is None and f"{url.host}:{_port(url)}" in self._behind_doors:
            raise PrivateAddress(f"{url.host} gives results at one address only, and this is another.")
        request = httpcore.Request(
            "GET",
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=_port(url), target=url.raw_path),
            headers=[
                (b"Host", url.netloc),
                (b"Accept", b"image/*, video/*, audio/*, */*;q=0.5"),
                (b"Accept-Encoding", b"identity"),  # no archive bombs, and Content-Length means the file
                (b"User-Agent", f"Safelight/{__version__}".encode()),
                *((name.encode(), value.encode()) for name, value in (sent_along or {}).items()),
            ],
            extensions={
                "timeout": {
                    "connect": limits.connect_s,
                    "read": limits.stall_s,
                    "write": limits.stall_s,
                    "pool": limits.total_s,
                }
            },
        )
        try:
            response = await self._pool.handle_async_request(request)
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise ResultUnreachable(f"{url.host} did not answer: {_reason(error)}.") from error
        try:
            headers = httpx.Headers(response.headers)
            if response.status in (301, 302, 303, 307, 308) and "location" in headers:
                return headers["location"]
            _check_status(response.status, headers, url.host)
            assert isinstance(response.stream, AsyncIterable)
            return await _receive(response.stream, headers, kinds, dest, limits.sizes)
        finally:
            await response.aclose()


async def _receive(
    stream: AsyncIterable[bytes],
    headers: httpx.Headers,
    kinds: frozenset[str] | None,
    dest: Path,
    sizes: SizeLimits,
) -> Fetched:
    length = headers.get("content-length", "")
    expected = int(length) if length.isascii() and length.isdigit() else None
    intake = Intake(dest, kinds=kinds, declared=headers.get("content-type"), limits=sizes)
    try:
        intake.expect(expected)
        async for chunk in stream:
            await intake.write(chunk)
        if expected is not None and intake.received != expected:
            raise ResultTruncated(f"{intake.received:,} of {expected:,} bytes arrived.", retryable=True)
        if intake.received == 0:
            raise ResultTruncated("The result is empty.", retryable=True)
        return await intake.finish()
    except httpcore.TimeoutException as error:
        intake.discard()
        raise ResultUnreachable(f"The host fell silent after {intake.received:,} bytes.") from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        intake.discard()
        raise ResultTruncated(
            f"The connection broke after {intake.received:,} bytes: {_reason(error)}.", retryable=True
        ) from error
    except BaseException:
        intake.discard()
        raise


def _joined(at: httpx.URL, location: str) -> httpx.URL:
    """Where a redirect leads to. Raises ResultUnreachable for nonsense: it is the host's word, not ours."""
    if len(location) > URL_MAX:
        raise ResultUnreachable("The host redirected to an address that is too long.", retryable=False)
    try:
        return _parse(str(at.join(location)))
    except (httpx.InvalidURL, ValueError, UnicodeError) as error:
        raise ResultUnreachable("The host redirected to an address that is malformed.", retryable=False) from error


def _parse(url: str) -> httpx.URL:
    if len(url) > URL_MAX:
        raise ResultUnreachable("The address is too long.", retryable=False)
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, UnicodeError) as error:
        raise ResultUnreachable("The address is malformed.", retryable=False) from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ResultUnreachable(f"Results come by http or https, not {parsed.scheme or 'nothing'!r}.", retryable=False)
    if not 1 <= _port(parsed) <= 65_535:
        raise ResultUnreachable(f"Nobody listens at port {_port(parsed)}.", retryable=False)
    return parsed


def _address(url: httpx.URL) -> str:
    """A URL without its query."""
    return f"{url.scheme}://{url.host}:{_port(url)}{url.raw_path.partition(b'?')[0].decode()}"


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _check_status(status: int, headers: httpx.Headers, host: str) -> None:
    if status == 200:
        return
    if status in GONE:
        raise ResultExpired(f"{host} no longer has the result (HTTP {status}).")
    after = headers.get("retry-after", "")
    raise ResultUnreachable(
        f"{host} answered HTTP {status} instead of the result.",
        retryable=status >= 500 or status in TRANSIENT,
        retry_after_s=min(float(after), RETRY_AFTER_MAX_S) if after.isascii() and after.isdigit() else None,
    )


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


# --- results that are here already ----------------------------------------------------------------------------


async def take_bytes(
    data: bytes,
    *,
    kinds: frozenset[str] | None,
    dest: Path,
    declared: str | None = None,
    limits: SizeLimits | None = None,
) -> Fetched:
    """Bytes of an inline answer, by the same rules as a download. Raises MediaError."""
    intake = Intake(dest, kinds=kinds, declared=declared, limits=limits or SizeLimits())
    try:
        if not data:
            raise ResultTruncated("The result is empty.")
        view = memoryview(data)
        for start in range(0, len(data), FLUSH_BYTES):
            await intake.write(bytes(view[start : start + FLUSH_BYTES]))
        return await intake.finish()
    except BaseException:
        intake.discard()
        raise


async def take_data_uri(
    uri: str, *, kinds: frozenset[str] | None, dest: Path, limits: SizeLimits | None = None
) -> Fetched:
    """A `data:` URI, by the same rules as a download. Raises MediaError."""
    sizes = limits or SizeLimits()
    header, comma, body = uri[5:].partition(",")
    if uri[:5].lower() != "data:" or not comma:
        raise NotMedia("The data URI is malformed.")
    if len(body) > sizes.most(kinds) * 4:  # percent-encoding triples, base64 adds a third
        raise ResultTooLarge("The data URI is too long.")
    declared, *parameters = header.split(";")
    try:
        raw = unquote_to_bytes(body)
        is_base64 = any(parameter.strip().lower() == "base64" for parameter in parameters)
        data = base64.b64decode(raw, validate=True) if is_base64 else raw
    except (binascii.Error, ValueError) as error:
        raise NotMedia("The data URI is not valid base64.") from error
    return await take_bytes(data, kinds=kinds, dest=dest, declared=declared or None, limits=sizes)


async def take_file(
    source: Path,
    *,
    kinds: frozenset[str] | None,
    dest: Path,
    declared: str | None = None,
    limits: SizeLimits | None = None,
) -> Fetched:
    """A file that a provider on this machine made: copied, so that the original may go away. Raises MediaError."""
    intake = Intake(dest, kinds=kinds, declared=declared, limits=limits or SizeLimits())
    try:
        with source.open("rb") as file:
            while block := await asyncio.to_thread(file.read, FLUSH_BYTES):
                await intake.write(block)
        if intake.received == 0:
            raise ResultTruncated("The result is empty.")
        return await intake.finish()
    except OSError as error:
        intake.discard()
        raise StorageUnavailable(f"Cannot read {source.name}: {error.strerror}.") from error
    except BaseException:
        intake.discard()
        raise
