"""The kinds of bus under test: how each is made, spoken to from outside, cut and put back."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sysconfig
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from safelight.realtime.bus_base import Bus
from safelight.realtime.bus_nats import NatsBus
from safelight.realtime.bus_pg import PgBus

NAMESPACE = "test"


class Kind(Protocol):
    settings: dict[str, Any]
    """Of a whole process that uses it."""

    def make(self) -> Bus: ...

    async def nonsense(self) -> int:
        """Somebody else says what no process of ours says; how many messages."""
        ...

    async def cut(self) -> None:
        """All connections end; new ones may or may not be possible."""
        ...

    async def mend(self) -> None:
        """Connections are possible again."""
        ...

    async def close(self) -> None: ...


class PgKind:
    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.settings: dict[str, Any] = {}

    def make(self) -> Bus:
        return PgBus(self._dsn)

    async def nonsense(self) -> int:
        for payload in ("", "x,y"):
            await self._run("select pg_notify('safelight_hint', $1)", payload)
        return 2

    async def cut(self) -> None:
        await self._run(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'safelight-bus'"
            " and datname = current_database()"
        )

    async def mend(self) -> None:
        return

    async def close(self) -> None:
        return

    async def _run(self, query: str, *args: Any) -> None:
        conn = await asyncpg.connect(self._dsn)
        try:
            await conn.execute(query, *args)
        finally:
            await conn.close()


class NatsKind:
    """A nats-server of the test's own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._log = folder / "nats.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._start()
        self.settings: dict[str, Any] = {"nats_url": f"nats://127.0.0.1:{self._port}"}

    def _start(self) -> None:
        script = Path(sysconfig.get_path("scripts")) / "nats-server"
        self._process = subprocess.Popen(
            [script, "-a", "127.0.0.1", "-p", str(self._port), "-l", self._log], stdin=subprocess.DEVNULL
        )

    def make(self) -> Bus:
        return NatsBus(self.settings["nats_url"], NAMESPACE)

    async def nonsense(self) -> int:
        from nats.aio.client import Client

        client = Client()
        await client.connect(self.settings["nats_url"])
        for subject, payload in ((f"safelight.{NAMESPACE}.hint.x", b""), (f"safelight.{NAMESPACE}.topic.x", b"\xff")):
            await client.publish(subject, payload)
        await client.flush()
        await client.close()
        return 2

    async def cut(self) -> None:
        await self.close()

    async def mend(self) -> None:
        self._start()

    async def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            self._process = None


def a_kind(name: str, dsn: str, folder: Path) -> Kind:
    return PgKind(dsn) if name == "pg" else NatsKind(folder)
