"""Hints between the processes of an installation over PostgreSQL's NOTIFY; the default where there is no NATS.

Everything on the bus is a hint: *look sooner*. It may be lost, doubled or late; whoever listens has its own slower
way to find out (the feed sweeps heads every second, workers look for work). So nothing is retried, nothing is stored,
and what does not fit is dropped and counted.

The NOTIFY is sent after the commit, on a connection of its own, gathered over a few milliseconds: inside the
writer's transaction it would make all commits wait for each other's flush (design.md, The change log).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

__all__ = ["HINT_CHANNEL", "BusStats", "PgBus"]

log = structlog.get_logger("realtime")

HINT_CHANNEL: Final = "safelight_hint"
"""Also what the trigger's own NOTIFY uses, where an installation has switched it on."""
TOPIC_CHANNEL: Final = "safelight_bus"
GATHER_S: Final = 0.008
"""Commits of this long share one NOTIFY."""
PAYLOAD_BYTES_MAX: Final = 7900
"""PostgreSQL takes less than 8000."""
ALL: Final = "all"
"""Said instead of more projects than fit: look everywhere."""
PROJECTS_MAX: Final = 1000
"""More than a payload holds: from here on it is ALL anyway."""
MESSAGES_MAX: Final = 1000
"""Topic messages waiting to be sent; more than this in 3 ms, or while the database is away, is dropped."""
CONNECT_TIMEOUT_S: Final = 5
SEND_TIMEOUT_S: Final = 5.0
RETRY_S: Final = (0.1, 5.0)
CHECK_S: Final = 60.0
"""A connection that died without a word is noticed after this; the sweep carries on meanwhile."""

HintListener = Callable[[frozenset[UUID] | None], None]
TopicListener = Callable[[str], None]


@dataclass(slots=True)
class BusStats:
    """Counters since the start, for metrics."""

    sent: int = 0
    received: int = 0
    dropped: int = 0
    connects: int = 0


class PgBus:
    """`start`, then `hint` and `publish`; `stop`. Listeners are called on the event loop and must not block."""

    def __init__(self, dsn: str) -> None:
        self.stats = BusStats()
        self.is_connected = False
        self._dsn = dsn
        self._hint_listeners: list[HintListener] = []
        self._topic_listeners: dict[str, list[TopicListener]] = {}
        self._projects: set[UUID] = set()
        self._messages: dict[tuple[str, str], None] = {}  # ordered, each once: the same hint twice is one hint
        self._pending = asyncio.Event()
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    # -- listening

    def on_hint(self, listener: HintListener) -> None:
        """`listener(projects)` when another process touched their logs; None: any project may have changed."""
        self._hint_listeners.append(listener)

    def on(self, topic: str, listener: TopicListener) -> None:
        """`listener(payload)` for each message of the topic; after a time without connection, once with `""`."""
        self._topic_listeners.setdefault(topic, []).append(listener)

    # -- telling

    def hint(self, projects: frozenset[UUID]) -> None:
        """Tell the other processes that these logs grew. Call after the commit (`db.on_touch(bus.hint)`)."""
        if len(self._projects) < PROJECTS_MAX:
            self._projects.update(projects)
        self._pending.set()

    def publish(self, topic: str, payload: str = "") -> None:
        """Tell every process, this one too (on the loop's next turn). Payload and topic: up to 7.9 kB together."""
        for listener in self._topic_listeners.get(topic, ()):
            asyncio.get_running_loop().call_soon(self._call, listener, payload)
        if len(self._messages) >= MESSAGES_MAX or len(f"{topic} {payload}".encode()) > PAYLOAD_BYTES_MAX:
            self.stats.dropped += 1
            return
        self._messages[topic, payload] = None
        self._pending.set()

    # -- life

    async def start(self) -> None:
        """Connect in the background; a database that is away is tried again for ever."""
        self._keeper = asyncio.create_task(self._keep(), name="bus-pg")

    async def stop(self) -> None:
        """Send what is gathered, then leave."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def _keep(self) -> None:
        tries = 0
        while True:
            try:
                conn = await asyncpg.connect(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
                    self._dsn,
                    timeout=CONNECT_TIMEOUT_S,
                    server_settings={"application_name": "safelight-bus", "jit": "off"},
                )
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                if tries == 0:
                    log.warning("realtime.bus_away", error=repr(error))
                await asyncio.sleep(random.uniform(0, min(RETRY_S[1], RETRY_S[0] * 2**tries)))
                tries = min(tries + 1, 10)
                continue
            try:
                await self._serve(conn)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                log.warning("realtime.bus_lost", error=repr(error))
            finally:
                self.is_connected = False
                await self._close(conn)
            tries = 1
            await asyncio.sleep(random.uniform(0, RETRY_S[0]))

    async def _serve(self, conn: Any) -> None:
        """Listen and send until the connection is lost (raises)."""
        own_pid = conn.get_server_pid()
        self._lost.clear()

        def heard(_: Any, pid: int, channel: str, payload: str) -> None:
            if pid != own_pid:  # what we said ourselves was delivered when we said it
                self._hear(channel, payload)

        conn.add_termination_listener(self._lose)
        await conn.add_listener(HINT_CHANNEL, heard)
        await conn.add_listener(TOPIC_CHANNEL, heard)
        self.stats.connects += 1
        self.is_connected = True
        if self.stats.connects > 1:
            self._assume_the_worst()
        try:
            while not self._lost.is_set():
                if await _set_within(self._pending, CHECK_S):
                    await asyncio.sleep(GATHER_S)
                    await self._flush(conn)
                else:
                    await conn.execute("select 1", timeout=SEND_TIMEOUT_S)
        except asyncio.CancelledError:
            await self._flush(conn)
            raise
        raise ConnectionError("the connection was closed")

    def _lose(self, _: Any) -> None:
        self._lost.set()
        self._pending.set()

    async def _flush(self, conn: Any) -> None:
        self._pending.clear()
        if self._lost.is_set():
            return  # kept for the next connection
        projects, self._projects = self._projects, set()
        messages, self._messages = self._messages, {}
        channels = [TOPIC_CHANNEL] * len(messages)
        payloads = [f"{topic} {payload}" for topic, payload in messages]
        if projects:
            joined = ",".join(map(str, projects))
            channels.append(HINT_CHANNEL)
            payloads.append(joined if len(joined) <= PAYLOAD_BYTES_MAX else ALL)
        if channels:
            self.stats.sent += len(channels)
            await conn.execute(
                "select pg_notify(c, p) from unnest($1::text[], $2::text[]) as m (c, p)",
                channels,
                payloads,
                timeout=SEND_TIMEOUT_S,
            )

    # -- hearing

    def _hear(self, channel: str, payload: str) -> None:
        self.stats.received += 1
        if channel == TOPIC_CHANNEL:
            topic, _, body = payload.partition(" ")
            for listener in self._topic_listeners.get(topic, ()):
                self._call(listener, body)
            return
        projects: frozenset[UUID] | None = None
        if payload != ALL:
            try:
                projects = frozenset(map(UUID, payload.split(",")))
            except ValueError:
                self.stats.dropped += 1  # NOTIFY is open to everybody who may connect
                return
        for listener in self._hint_listeners:
            self._call(listener, projects)

    def _assume_the_worst(self) -> None:
        """Hints were lost while we were away: everybody looks once."""
        for listener in self._hint_listeners:
            self._call(listener, None)
        for listeners in self._topic_listeners.values():
            for listener in listeners:
                self._call(listener, "")

    def _call(self, listener: Callable[[Any], None], argument: Any) -> None:
        try:
            listener(argument)
        except Exception:
            log.exception("realtime.bus_listener_failed")

    async def _close(self, conn: Any) -> None:
        with contextlib.suppress(Exception):
            await conn.close(timeout=1)


async def _set_within(event: asyncio.Event, timeout_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
    return event.is_set()
