"""The bus over PostgreSQL's NOTIFY; the default where there is no NATS.

The NOTIFY is sent after the commit, on a connection of its own, gathered over a few milliseconds: inside the
writer's transaction it would make all commits wait for each other's flush (design.md, The change log).
"""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar, Final
from uuid import UUID

import asyncpg

from safelight.realtime.bus_base import CONNECT_TIMEOUT_S, PAYLOAD_BYTES_MAX, SEND_TIMEOUT_S, GatheringBus, Said

__all__ = ["HINT_CHANNEL", "TOPIC_CHANNEL", "PgBus"]

HINT_CHANNEL: Final = "safelight_hint"
"""Also what the trigger's own NOTIFY uses, where an installation has switched it on."""
TOPIC_CHANNEL: Final = "safelight_bus"
ALL: Final = "all"
"""Said instead of more projects than fit: look everywhere."""


class PgBus(GatheringBus):
    """See bus_base.Bus."""

    GATHER_S: ClassVar[float] = 0.008
    """Commits of this long share one NOTIFY: each is a transaction of its own."""
    CHECK_S: ClassVar[float] = 60.0

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self._dsn = dsn

    async def _connect(self) -> Any:
        untyped: Any = asyncpg
        conn: Any = await untyped.connect(
            self._dsn,
            timeout=CONNECT_TIMEOUT_S,
            server_settings={"application_name": "safelight-bus", "jit": "off"},
        )
        own_pid: int = conn.get_server_pid()

        def lost(_: Any) -> None:
            self._lose()

        def heard(_: Any, pid: int, channel: str, payload: str) -> None:
            if pid != own_pid:  # what we said ourselves was delivered when we said it
                self._hear(channel, payload)

        try:
            conn.add_termination_listener(lost)
            await conn.add_listener(HINT_CHANNEL, heard)
            await conn.add_listener(TOPIC_CHANNEL, heard)
        except BaseException:
            await self._close(conn)
            raise
        return conn

    async def _send(self, conn: Any, said: Said) -> int:
        channels = [TOPIC_CHANNEL] * len(said.messages)
        payloads = [f"{topic} {payload}" for topic, payload in said.messages]
        if said.projects is None or said.projects:
            joined = ALL if said.projects is None else ",".join(map(str, said.projects))
            channels.append(HINT_CHANNEL)
            payloads.append(joined if len(joined) <= PAYLOAD_BYTES_MAX else ALL)
        await conn.execute(
            "select pg_notify(c, p) from unnest($1::text[], $2::text[]) as m (c, p)",
            channels,
            payloads,
            timeout=SEND_TIMEOUT_S,
        )
        return len(channels)

    async def _check(self, conn: Any) -> None:
        await conn.execute("select 1", timeout=SEND_TIMEOUT_S)

    async def _close(self, conn: Any) -> None:
        with contextlib.suppress(Exception):
            await conn.close(timeout=1)

    def _hear(self, channel: str, payload: str) -> None:
        if channel == TOPIC_CHANNEL:
            topic, _, body = payload.partition(" ")
            self._heard_message(topic, body)
        elif payload == ALL:
            self._heard_hint(None)
        else:
            try:
                self._heard_hint(frozenset(map(UUID, payload.split(","))))
            except ValueError:
                self.stats.dropped += 1  # NOTIFY is open to everybody who may connect
