"""Connects to the address that was checked, not to a name that may answer differently the second time (M4)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import cast

import httpcore

from safelight.media.address import is_public
from safelight.media.errors import PrivateAddress

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Addresses of a host, best first. Raises OSError."""

ADDRESSES_TRIED_MAX = 4
"""A host with more dead addresses than this is down for us; each costs a connect timeout."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """The system's resolver, off the event loop."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """httpcore's way to the network, with the check between the name and the connection.

    TLS is not touched: httpcore takes the server name for SNI and the certificate from the URL.
    """

    def __init__(
        self, allow_hosts: frozenset[str], resolver: Resolver, inner: httpcore.AsyncNetworkBackend | None = None
    ) -> None:
        self._allow_hosts = allow_hosts
        self._resolver = resolver
        # httpcore's stub hides the class behind a conditional import.
        self._inner = inner or cast(httpcore.AsyncNetworkBackend, httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises PrivateAddress, or httpcore's ConnectError and ConnectTimeout."""
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolver(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"resolving {host} took too long") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} does not resolve: {error}") from error
        if f"{host}:{port}" not in self._allow_hosts:
            public = [address for address in addresses if is_public(address)]
            if addresses and not public:
                raise PrivateAddress(f"{host} is an address of a private network, which results may not come from.")
            addresses = public
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses[:ADDRESSES_TRIED_MAX]:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise PrivateAddress("A result never comes from a socket file.")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)
