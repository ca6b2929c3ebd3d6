"""The bus over NATS, where an installation has one (`SAFELIGHT_NATS_URL`): a subject per project.

It says nothing that NOTIFY does not say. It takes the load off the database, and needs no transaction for a word:
hints leave a millisecond after the commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any, ClassVar, Final
from uuid import UUID

from safelight.realtime.bus_base import CONNECT_TIMEOUT_S, SEND_TIMEOUT_S, GatheringBus, Said, log

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

__all__ = ["NatsBus"]

ALL: Final = "all"
PING_S: Final = 20
"""A server that misses two of them is away."""
WAITING_MAX: Final = 10_000
WAITING_BYTES_MAX: Final = 16 * 2**20
"""Of what has come and was not heard yet. Beyond it NATS' client drops, and says so."""


class NatsBus(GatheringBus):
    """See bus_base.Bus. `namespace` keeps installations apart that share a server: letters and digits."""

    GATHER_S: ClassVar[float] = 0.001
    CHECK_S: ClassVar[float] = 30.0

    def __init__(self, url: str, namespace: str) -> None:
        super().__init__()
        if not re.fullmatch("[0-9A-Za-z]+", namespace):
            raise ValueError(f"a namespace is letters and digits: {namespace!r}")
        self._servers = [each.strip() for each in url.split(",")]
        self._hints = f"safelight.{namespace}.hint."
        self._topics = f"safelight.{namespace}.topic."
        self._everything = f"safelight.{namespace}.>"

    async def _connect(self) -> Any:
        from nats.aio.client import Client  # here, because without NATS there is no use for it in memory

        client: Any = Client()
        try:
            async with asyncio.timeout(2 * CONNECT_TIMEOUT_S):
                await client.connect(
                    list(self._servers),
                    name="safelight",
                    no_echo=True,  # what we said ourselves was delivered when we said it
                    allow_reconnect=False,  # that is ours: the same for all kinds of bus
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=CONNECT_TIMEOUT_S,
                    ping_interval=PING_S,
                    error_cb=self._failed,
                    closed_cb=self._closed,
                )
                await client.subscribe(
                    self._everything,
                    cb=self._hear,
                    pending_msgs_limit=WAITING_MAX,
                    pending_bytes_limit=WAITING_BYTES_MAX,
                )
                await client.flush(CONNECT_TIMEOUT_S)  # from here on nothing said is missed
        except BaseException:
            await self._close(client)
            raise
        return client

    async def _send(self, conn: Client, said: Said) -> int:
        names = [ALL] if said.projects is None else map(str, said.projects)
        words = [(self._hints + name, b"") for name in names]
        words += [(self._topics + topic, payload.encode()) for topic, payload in said.messages]
        async with asyncio.timeout(SEND_TIMEOUT_S):
            for subject, payload in words:
                await conn.publish(subject, payload)
            await self._check(conn)
        return len(words)

    async def _check(self, conn: Client) -> None:
        await conn.flush(SEND_TIMEOUT_S)  # pyright: ignore[reportArgumentType] -- seconds, also fractions

    async def _close(self, conn: Client) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1):
                await conn.close()

    async def _closed(self) -> None:
        self._lose()

    async def _failed(self, error: Exception) -> None:
        from nats.errors import SlowConsumerError

        if isinstance(error, SlowConsumerError):
            self._lost_some()
        elif self.is_connected:
            log.warning("realtime.bus_failed", error=repr(error))

    async def _hear(self, message: Msg) -> None:
        subject = message.subject
        try:
            if subject.startswith(self._topics):
                self._heard_message(subject.removeprefix(self._topics), message.data.decode())
            elif subject == self._hints + ALL:
                self._heard_hint(None)
            else:
                self._heard_hint(frozenset((UUID(subject.removeprefix(self._hints)),)))
        except ValueError:
            self.stats.dropped += 1  # the server may be open to others
