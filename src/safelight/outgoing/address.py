"""Where a webhook may go: https, to the public internet, and to private hosts that the operator named (J12, M4)."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final

import httpx

from safelight.media.address import is_public
from safelight.media.dialer import Resolver, resolve

URL_MAX: Final = 2_000
RESOLVE_S: Final = 5.0
REMEMBERED_S: Final = 60.0
"""A submit with a webhook_url asks again for the same host; sending checks anew in any case."""
REMEMBERED_MAX: Final = 1_000
_NO_SUCH_HOST: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class AddressRefused(ValueError):
    """The sentence says what is wrong and what to do."""


class Addresses:
    """Judges URLs when they are given to us. `allow_hosts`: `host:port` of private receivers, by setting."""

    def __init__(
        self,
        allow_hosts: frozenset[str] = frozenset(),
        resolver: Resolver = resolve,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.allow_hosts = frozenset(host.lower().translate({91: None, 93: None}) for host in allow_hosts)
        self._resolver = resolver
        self._clock = clock
        self._good_until: dict[tuple[str, int], float] = {}

    def parse(self, url: str) -> httpx.URL:
        """Raises AddressRefused for what can be seen without a look-up."""
        if len(url) > URL_MAX:
            raise AddressRefused(f"is longer than {URL_MAX} characters")
        if not url.isprintable() or " " in url:
            raise AddressRefused("holds a blank or a character that no URL has")
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, ValueError, UnicodeError) as error:
            raise AddressRefused("is no URL") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise AddressRefused("is https:// and a host")
        if parsed.userinfo:
            raise AddressRefused("holds a user name or password: prove who sends by the signature instead")
        if parsed.fragment:
            raise AddressRefused("holds a fragment (#…), which is never sent")
        if not 1 <= port_of(parsed) <= 65_535:
            raise AddressRefused(f"names port {port_of(parsed)}, which nobody listens at")
        if parsed.scheme == "http" and not self.is_allowed(parsed):
            raise AddressRefused(
                "begins with http://, and what is sent there can be read on the way: use https, or name the host in "
                f"SAFELIGHT_ALLOW_HOSTS ({parsed.host}:{port_of(parsed)})"
            )
        return parsed

    def is_allowed(self, url: httpx.URL) -> bool:
        return f"{url.host}:{port_of(url)}" in self.allow_hosts

    async def check(self, url: str) -> None:
        """Raises AddressRefused, also for a name that does not exist or is in a private network.

        A resolver that is down refuses nobody: whoever sends looks again.
        """
        parsed = self.parse(url)
        where = (parsed.host, port_of(parsed))
        if self.is_allowed(parsed) or self._good_until.get(where, 0.0) > self._clock():
            return
        try:
            async with asyncio.timeout(RESOLVE_S):
                found = await self._resolver(*where)
        except socket.gaierror as error:
            if error.errno in _NO_SUCH_HOST:
                raise AddressRefused(f"names a host that does not exist: {parsed.host}") from error
            return
        except UnicodeError as error:
            raise AddressRefused("names a host that cannot exist") from error
        except (OSError, TimeoutError):
            return
        if found and not any(is_public(address) for address in found):
            raise AddressRefused(private(parsed.host, port_of(parsed)))
        if len(self._good_until) >= REMEMBERED_MAX:
            self._good_until.clear()
        self._good_until[where] = self._clock() + REMEMBERED_S


def private(host: str, port: int) -> str:
    return (
        f"leads into a private network ({host}), where webhooks are not sent; "
        f"whoever runs this installation may allow it with SAFELIGHT_ALLOW_HOSTS={host}:{port}"
    )


def port_of(url: httpx.URL) -> int:
    return url.port if url.port is not None else (443 if url.scheme == "https" else 80)
