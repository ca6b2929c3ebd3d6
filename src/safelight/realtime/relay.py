"""Broadcasts between processes over the bus, cut to what a message of it holds.

Like all on the bus they may be lost; they are then lost for the other process's subscribers, as a broadcast is for
whoever is not there. What must not be lost is in the change log.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Final, Protocol
from uuid import UUID, uuid4

import msgspec

__all__ = ["BroadcastRelay", "Bus"]

TOPIC: Final = "broadcast"
CHUNK_CHARS: Final = 7_000
"""Beside node, id and numbers this stays below PostgreSQL's 8,000 bytes."""
CHUNKS_MAX: Final = 64
OPEN_MAX: Final = 200
"""Messages that have begun to arrive and are not whole."""
OPEN_S: Final = 5.0


class Bus(Protocol):
    """What the relays use of it."""

    def publish(self, topic: str, payload: str = "") -> None: ...
    def on(self, topic: str, listener: Callable[[str], None]) -> None: ...


class _Said(msgspec.Struct, array_like=True):
    project: UUID
    name: str
    event: str
    body: bytes
    is_json: bool


Receive = Callable[[UUID, str, str, bytes, bool], None]


class BroadcastRelay:
    """`tell` the others; `receive` is called with what they tell."""

    def __init__(self, bus: Bus, node: str, receive: Receive) -> None:
        self.dropped = 0
        self._bus = bus
        self._node = node
        self._receive = receive
        self._open: dict[str, tuple[float, dict[int, str]]] = {}
        bus.on(TOPIC, self._heard)

    def tell(self, project: UUID, name: str, event: str, body: bytes, is_json: bool) -> None:
        """The hub's relay."""
        text = base64.b64encode(msgspec.msgpack.encode(_Said(project, name, event, body, is_json))).decode()
        chunks = [text[at : at + CHUNK_CHARS] for at in range(0, len(text), CHUNK_CHARS)]
        if len(chunks) > CHUNKS_MAX:
            self.dropped += 1
            return
        identity = uuid4().hex
        for number, chunk in enumerate(chunks):
            self._bus.publish(TOPIC, f"{self._node} {identity} {number} {len(chunks)} {chunk}")

    def _heard(self, payload: str) -> None:
        parts = payload.split(" ")
        if len(parts) != 5 or parts[0] == self._node:
            return
        _, identity, number, count, chunk = parts
        try:
            text = self._gathered(identity, int(number), int(count), chunk)
            if text is None:
                return
            said = msgspec.msgpack.decode(base64.b64decode(text, validate=True), type=_Said)
        except (ValueError, msgspec.MsgspecError):
            self.dropped += 1  # NOTIFY is open to everybody who may connect
            return
        self._receive(said.project, said.name, said.event, said.body, said.is_json)

    def _gathered(self, identity: str, number: int, count: int, chunk: str) -> str | None:
        if not 0 <= number < count <= CHUNKS_MAX:
            raise ValueError(number)
        if count == 1:
            return chunk
        now = time.monotonic()
        for old in [each for each, (since, _) in self._open.items() if now - since > OPEN_S]:
            del self._open[old]
            self.dropped += 1
        if identity not in self._open and len(self._open) >= OPEN_MAX:
            raise ValueError("too many at once")
        _, chunks = self._open.setdefault(identity, (now, {}))
        chunks[number] = chunk
        if len(chunks) < count:
            return None
        del self._open[identity]
        return "".join(chunks[each] for each in range(count))
