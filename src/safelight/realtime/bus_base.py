"""Hints between the processes of an installation: what every bus promises, and what all kinds of it share.

Everything on the bus is a hint: *look sooner*. It may be lost, doubled or late; whoever listens has its own slower
way to find out (the feed sweeps heads every second, workers look for work). So nothing is stored, nothing waits for
an answer, and what does not fit is dropped and counted. After a time without connection everybody is told once that
anything may have changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol
from uuid import UUID

import structlog

from safelight.stopping import end

__all__ = ["PAYLOAD_BYTES_MAX", "Bus", "BusStats", "GatheringBus", "HintListener", "Said", "TopicListener"]

log = structlog.get_logger("realtime")

PAYLOAD_BYTES_MAX: Final = 7900
"""PostgreSQL takes less than 8000, and what one bus carries the other carries too."""
PROJECTS_MAX: Final = 1000
"""More in one breath are said as: look everywhere."""
MESSAGES_MAX: Final = 1000
"""Topic messages waiting to be sent; more than this in 8 ms, or while the other side is away, is dropped."""
CONNECT_TIMEOUT_S: Final = 5
SEND_TIMEOUT_S: Final = 5.0
RETRY_S: Final = (0.1, 5.0)
MISSED_S: Final = 0.5

HintListener = Callable[[frozenset[UUID] | None], None]
TopicListener = Callable[[str], None]


@dataclass(slots=True)
class BusStats:
    """Counters since the start, for metrics."""

    sent: int = 0
    received: int = 0
    dropped: int = 0
    connects: int = 0


class Bus(Protocol):
    """`start`, then `hint` and `publish`; `stop`. Listeners are called on the event loop and must not block."""

    stats: BusStats
    is_connected: bool

    def on_hint(self, listener: HintListener) -> None:
        """`listener(projects)` when another process touched their logs; None: any project may have changed."""
        ...

    def on(self, topic: str, listener: TopicListener) -> None:
        """`listener(payload)` for each message of the topic; after a time without connection, once with `""`."""
        ...

    def hint(self, projects: frozenset[UUID]) -> None:
        """Tell the other processes that these logs grew. Call after the commit (`db.on_touch(bus.hint)`)."""
        ...

    def publish(self, topic: str, payload: str = "") -> None:
        """Tell every process, this one too (on the loop's next turn). Payload and topic: up to 7.9 kB together."""
        ...

    async def start(self) -> None:
        """Connect in the background; a server that is away is tried again for ever."""
        ...

    async def stop(self) -> None:
        """Send what is gathered, then leave."""
        ...


@dataclass(frozen=True, slots=True)
class Said:
    """What was gathered for one sending. `projects` None: any may have changed."""

    projects: frozenset[UUID] | None
    messages: tuple[tuple[str, str], ...]
    """Topic and payload."""

    def __bool__(self) -> bool:
        return bool(self.messages) or self.projects is None or bool(self.projects)


class GatheringBus(ABC):
    """Gathers what is said, keeps a connection, calls who listens. A kind of bus says how: `_connect`, `_send`."""

    GATHER_S: ClassVar[float]
    """What is said within this long is sent together."""
    CHECK_S: ClassVar[float]
    """A connection that died without a word is noticed after this; the sweep carries on meanwhile."""

    def __init__(self) -> None:
        self.stats = BusStats()
        self.is_connected = False
        self._hint_listeners: list[HintListener] = []
        self._topic_listeners: dict[str, list[TopicListener]] = {}
        self._projects: set[UUID] = set()
        self._is_everywhere = False
        self._messages: dict[tuple[str, str], None] = {}  # ordered, each once: the same hint twice is one hint
        self._pending = asyncio.Event()
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._missed: asyncio.TimerHandle | None = None

    # -- what a kind of bus does

    @abstractmethod
    async def _connect(self) -> Any:
        """A connection that listens and calls `_lose` at its end. Raises when there is none."""

    @abstractmethod
    async def _send(self, conn: Any, said: Said) -> int:
        """Hand it to the others; how many messages that were."""

    @abstractmethod
    async def _check(self, conn: Any) -> None:
        """Raise if nobody answers at the other end."""

    @abstractmethod
    async def _close(self, conn: Any) -> None:
        """Let go of it, alive or not."""

    # -- listening and telling: see Bus

    def on_hint(self, listener: HintListener) -> None:
        self._hint_listeners.append(listener)

    def on(self, topic: str, listener: TopicListener) -> None:
        self._topic_listeners.setdefault(topic, []).append(listener)

    def hint(self, projects: frozenset[UUID]) -> None:
        self._note(projects)
        self._pending.set()

    def publish(self, topic: str, payload: str = "") -> None:
        for listener in self._topic_listeners.get(topic, ()):
            asyncio.get_running_loop().call_soon(self._call, listener, payload)
        if len(self._messages) >= MESSAGES_MAX or len(f"{topic} {payload}".encode()) > PAYLOAD_BYTES_MAX:
            self.stats.dropped += 1
            return
        self._messages[topic, payload] = None
        self._pending.set()

    # -- life

    async def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name="bus")

    async def stop(self) -> None:
        if self._missed is not None:
            self._missed.cancel()
        await end(self._keeper)

    async def _keep(self) -> None:
        tries = 0
        while True:
            self._lost.clear()
            try:
                conn = await self._connect()
            except Exception as error:
                if tries == 0:
                    log.warning("realtime.bus_away", bus=type(self).__name__, error=repr(error))
                await asyncio.sleep(random.uniform(0, min(RETRY_S[1], RETRY_S[0] * 2**tries)))
                tries = min(tries + 1, 10)
                continue
            try:
                await self._serve(conn)
            except Exception as error:
                log.warning("realtime.bus_lost", bus=type(self).__name__, error=repr(error))
            finally:
                self.is_connected = False
                await self._close(conn)
            tries = 1
            await asyncio.sleep(random.uniform(0, RETRY_S[0]))

    async def _serve(self, conn: Any) -> None:
        """Send until the connection is lost (raises)."""
        self.stats.connects += 1
        self.is_connected = True
        if self.stats.connects > 1:
            self._assume_the_worst()
        try:
            while not self._lost.is_set():
                if await _set_within(self._pending, self.CHECK_S):
                    await asyncio.sleep(self.GATHER_S)
                    await self._flush(conn)
                else:
                    await self._check(conn)
        except asyncio.CancelledError:
            await self._flush(conn)
            raise
        raise ConnectionError("the connection was closed")

    def _lose(self) -> None:
        self._lost.set()
        self._pending.set()

    async def _flush(self, conn: Any) -> None:
        self._pending.clear()
        if self._lost.is_set():
            return  # kept for the next connection
        said = Said(None if self._is_everywhere else frozenset(self._projects), tuple(self._messages))
        if not said:
            return
        self._projects, self._is_everywhere, self._messages = set(), False, {}
        try:
            self.stats.sent += await self._send(conn, said)
        except Exception:
            self._keep_for_later(said)  # twice is no harm
            raise

    def _keep_for_later(self, said: Said) -> None:
        self._note(said.projects)
        kept = dict.fromkeys(said.messages) | self._messages
        self.stats.dropped += max(0, len(kept) - MESSAGES_MAX)
        self._messages = dict.fromkeys(list(kept)[:MESSAGES_MAX])
        self._pending.set()

    def _note(self, projects: frozenset[UUID] | None) -> None:
        if projects is None or len(self._projects) + len(projects) > PROJECTS_MAX:
            self._is_everywhere = True
            self._projects.clear()
        elif not self._is_everywhere:
            self._projects |= projects

    # -- hearing

    def _heard_hint(self, projects: frozenset[UUID] | None) -> None:
        self.stats.received += 1
        for listener in self._hint_listeners:
            self._call(listener, projects)

    def _heard_message(self, topic: str, payload: str) -> None:
        self.stats.received += 1
        for listener in self._topic_listeners.get(topic, ()):
            self._call(listener, payload)

    def _lost_some(self) -> None:
        """More came than was heard. A flood of it makes one look, a moment later."""
        self.stats.dropped += 1
        if self._missed is None:
            self._missed = asyncio.get_running_loop().call_later(MISSED_S, self._assume_the_worst)

    def _assume_the_worst(self) -> None:
        """Hints were lost: everybody looks once."""
        self._missed = None
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


async def _set_within(event: asyncio.Event, timeout_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
    return event.is_set()
