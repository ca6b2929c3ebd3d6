"""Who is on a topic in the other processes, told over the bus.

Each process tells what its own sockets show; a topic that is opened asks what the others have. A process that is not
heard of for a while is gone, and those it showed with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from safelight.realtime.relay import Bus

__all__ = ["PresenceRelay", "Shown"]

TOPIC: Final = "presence"
BEAT_S: Final = 10.0
GONE_S: Final = 35.0
"""Three beats, and some."""
NODES_MAX: Final = 200

Shown = tuple[UUID, str, int, str, dict[str, Any]]
"""Project, topic name, holder, key, meta."""


class Told(msgspec.Struct, array_like=True, omit_defaults=True):
    """`meta` None: no more shown. `holder` None: what do you have there? No project: I am alive."""

    node: str
    project: UUID | None = None
    name: str = ""
    holder: int | None = None
    key: str = ""
    meta: dict[str, Any] | None = None


class Topics(Protocol):
    """What the hub does for the relay."""

    def show(self, project: UUID, name: str, holder: tuple[str, int], key: str, meta: dict[str, Any] | None) -> None:
        """Somebody in another process is on this topic, or (None) no more."""
        ...

    def shown(self, project: UUID | None, name: str) -> Iterable[Shown]:
        """What this process's own sockets show there; without a project, everywhere."""
        ...

    def opened(self) -> Iterable[tuple[UUID, str]]:
        """The topics that somebody here has joined."""
        ...

    def forget(self, node: str) -> None:
        """Everybody of this process is gone."""
        ...


class PresenceRelay:
    """`tell` and `ask`; `beat` now and then."""

    def __init__(self, bus: Bus, node: str, topics: Topics, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._node = node
        self._topics = topics
        self._clock = clock
        self._heard_at: dict[str, float] = {}
        self._beat_at = clock()
        bus.on(TOPIC, self._heard)

    def tell(self, project: UUID, name: str, holder: int, key: str = "", meta: dict[str, Any] | None = None) -> None:
        """One of our sockets shows this there; without meta, no more."""
        self._say(Told(self._node, project, name, holder, key, meta))

    def ask(self, project: UUID, name: str) -> None:
        """What do the others have there?"""
        self._say(Told(self._node, project, name))

    def beat(self) -> None:
        """Say that we live, and let go of those who do not."""
        now = self._clock()
        if now - self._beat_at >= BEAT_S:
            self._beat_at = now
            if next(iter(self._topics.shown(None, "")), None) is not None:
                self._say(Told(self._node))
        for node in [each for each, at in self._heard_at.items() if now - at > GONE_S]:
            del self._heard_at[node]
            self._topics.forget(node)

    def _say(self, told: Told) -> None:
        self._bus.publish(TOPIC, msgspec.json.encode(told).decode())

    def _heard(self, payload: str) -> None:
        if not payload:
            self._begin_anew()
            return
        try:
            told = msgspec.json.decode(payload, type=Told)
        except (msgspec.MsgspecError, RecursionError):
            return  # NOTIFY is open to everybody who may connect
        if told.node == self._node or (told.node not in self._heard_at and len(self._heard_at) >= NODES_MAX):
            return
        self._heard_at[told.node] = self._clock()
        if told.project is None:
            return
        if told.holder is None:
            self._answer(told.project, told.name)
        else:
            self._topics.show(told.project, told.name, (told.node, told.holder), told.key, told.meta)

    def _begin_anew(self) -> None:
        """The bus was away, and with it everybody who went meanwhile: say and ask everything anew."""
        for node in self._heard_at:
            self._topics.forget(node)
        self._answer(None, "")
        for project, name in list(self._topics.opened()):
            self.ask(project, name)

    def _answer(self, project: UUID | None, name: str) -> None:
        for shown in list(self._topics.shown(project, name)):
            self.tell(*shown)
