"""The public keys of an identity provider, read from its JWKS address and kept.

A key that is not known is asked for at most once a minute, by one request for all who wait. While the address does
not answer, the keys already known go on for a day: an outage of the identity provider is not one of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import jwt
import msgspec
import structlog

from safelight.access.errors import Unauthorized, Unavailable

log: Final = structlog.get_logger("access")

ALGORITHMS: Final = frozenset({"RS256", "ES256", "EdDSA"})
"""One per key type. Neither `none` nor a shared secret can ever come from a public document."""
AGE_MAX: Final = timedelta(minutes=10)
"""Keys are read again after that, so that one that was withdrawn ends."""
STALE_MAX: Final = timedelta(hours=24)
READ_PAUSE: Final = timedelta(seconds=60)
"""Between two readings: anybody can make key ids up, and an address that hangs holds up one request a minute."""
FAILED_PAUSE: Final = timedelta(seconds=5)
"""The same after a failure, for those who cannot be let in without a reading."""
TIMEOUT_S: Final = 5.0
BYTES_MAX: Final = 256_000
KEYS_MAX: Final = 100
RSA_BITS_MIN: Final = 2048

Clock = Callable[[], datetime]


class KeySet:
    """The keys behind one address. `client` is somebody else's to close."""

    def __init__(self, url: str, client: httpx.AsyncClient, clock: Clock) -> None:
        if urlsplit(url).scheme not in ("https", "http") or not urlsplit(url).hostname:
            raise ValueError("the JWKS address is an http(s) URL")
        self._url = url
        self._client = client
        self._clock = clock
        self._keys: Sequence[jwt.PyJWK] = ()
        self._read_at: datetime | None = None
        self._tried_at: datetime | None = None
        self._reading = asyncio.Lock()

    async def key(self, kid: str | None, algorithm: str) -> jwt.PyJWK:
        """The one key for a token's header.

        Raises Unauthorized (`foreign`) if the provider has no such key, Unavailable if that cannot be told now.
        """
        found = self._find(kid, algorithm)
        if found is not None and (self._age() < AGE_MAX or self._reading.locked()):
            return found
        async with self._reading:
            found = self._find(kid, algorithm)
            if self._is_due(is_known=found is not None):
                await self._read()
                found = self._find(kid, algorithm)
        if found is not None:
            return found
        if self._failing():
            raise Unavailable("The sign-in provider's keys cannot be read at the moment.", retry_after_s=5)
        raise Unauthorized("The token is signed with a key that its issuer does not publish.", "foreign")

    def _find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        if self._age() > STALE_MAX:
            return None
        fitting = [key for key in self._keys if key.algorithm_name == algorithm and kid in (None, key.key_id)]
        # Without a key id there must be no choice: trying one after another would let a token pick its key.
        return fitting[0] if len(fitting) == 1 else None

    def _age(self) -> timedelta:
        return self._clock() - self._read_at if self._read_at else timedelta.max

    def _failing(self) -> bool:
        return self._tried_at is not None and (self._read_at is None or self._read_at < self._tried_at)

    def _is_due(self, *, is_known: bool) -> bool:
        if self._tried_at is None:
            return True
        if is_known and self._age() < AGE_MAX:
            return False
        pause = FAILED_PAUSE if self._failing() and not is_known else READ_PAUSE
        return not timedelta(0) <= self._clock() - self._tried_at < pause

    async def _read(self) -> None:
        before, self._tried_at = self._tried_at, self._clock()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                keys = parse(await self._body())
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            log.warning("jwks.unreadable", url=self._url, error=repr(error), keys_kept=len(self._keys))
            return
        except asyncio.CancelledError:
            self._tried_at = before  # whoever waits next tries at once
            raise
        self._keys, self._read_at = keys, self._tried_at
        log.info("jwks.read", url=self._url, keys=[key.key_id for key in keys])

    async def _body(self) -> bytes:
        async with self._client.stream("GET", self._url, headers={"Accept": "application/json"}) as response:
            response.raise_for_status()
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > BYTES_MAX:
                    raise ValueError(f"more than {BYTES_MAX} bytes")
            return bytes(body)


class _Document(msgspec.Struct, frozen=True):
    keys: list[dict[str, Any]]


def parse(body: bytes) -> list[jwt.PyJWK]:
    """The signing keys of a JWKS document that we can use. Raises ValueError if it has none."""
    try:
        document = msgspec.json.decode(body, type=_Document)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a JWKS document: {error}") from None
    keys = [key for entry in document.keys[:KEYS_MAX] if (key := _usable(entry)) is not None]
    if not keys:
        raise ValueError("no key in it can be used")
    return keys


def _usable(entry: dict[str, Any]) -> jwt.PyJWK | None:
    if entry.get("use", "sig") != "sig" or "d" in entry:
        return None  # a private key in a public document is nobody's key any more
    try:
        key = jwt.PyJWK(entry)
    except Exception as error:  # whatever is wrong with one entry, the others stand
        log.debug("jwks.key_skipped", kid=entry.get("kid"), error=repr(error))
        return None
    if key.algorithm_name not in ALGORITHMS or (entry.get("kty") == "RSA" and key.key.key_size < RSA_BITS_MIN):
        return None
    return key
