"""All rooms and topics of a process (design.md, Realtime). On one event loop, like everything it calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from safelight.realtime.feed import Feed
from safelight.realtime.outlet import Pen
from safelight.realtime.presence import plain
from safelight.realtime.presence_relay import PresenceRelay, Shown
from safelight.realtime.room import HubStats, Member, Room, Seat
from safelight.realtime.session import Join
from safelight.realtime.topic import Topic

__all__ = ["Hub"]

IDLE_S: Final = 10.0
"""A room that everybody has left is kept for those who come back."""

Relay = Callable[[UUID, str, str, bytes, bool], None]
"""`relay(project, topic name, event, body, is_json)`: tell the other processes."""


class Hub:
    """`enter` a project's room, `attach` a join to it, `publish` on its topics."""

    def __init__(self, feed: Feed, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.stats = HubStats()
        self.pen = Pen()
        self.relay: Relay | None = None
        self.presence: PresenceRelay | None = None
        self._feed = feed
        self._clock = clock
        self._rooms: dict[UUID, Room] = {}
        self._entering: dict[UUID, int] = {}
        self._topics: dict[tuple[UUID, str], Topic] = {}

    @property
    def rooms(self) -> int:
        return len(self._rooms)

    @property
    def channels(self) -> int:
        return sum(len(room.members) for room in self._rooms.values())

    def members(self) -> Iterable[Member]:
        for room in list(self._rooms.values()):
            yield from list(room.members.values())

    async def stop(self) -> None:
        for topic in self._topics.values():
            topic.close()
        rooms, self._rooms = list(self._rooms.values()), {}
        await asyncio.gather(*(room.close() for room in rooms))

    async def sweep(self) -> None:
        """Close rooms that nobody is in any more. Called now and then."""
        now = self._clock()
        for project, room in list(self._rooms.items()):
            if not room.members and project not in self._entering and now - room.idle_since > IDLE_S:
                del self._rooms[project]
                await room.close()

    # -- joining

    async def enter(self, project: UUID) -> Room:
        """The project's room, standing somewhere. Raises NoLog, TimeoutError."""
        room = self._rooms.get(project)
        if room is None:
            room = self._rooms[project] = Room(project, self._feed, self.stats, self._clock)
            room.open()
        self._entering[project] = self._entering.get(project, 0) + 1
        try:
            await room.enter()
        except Exception:
            room.idle_since = self._clock() - IDLE_S
            raise
        else:
            room.idle_since = self._clock()
            return room
        finally:
            self._entering[project] -= 1
            if not self._entering[project]:
                del self._entering[project]

    def attach(self, room: Room, seat: Seat, join: Join) -> None:
        """In the same turn of the loop in which the client's answer named the room's cursor."""
        member = Member(seat, join, room.cursor)
        key = (room.project, join.name)
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = self._open_topic(room.project, join)
        topic.add(member)
        room.attach(member)

    def detach(self, join: Join) -> None:
        if join.grant is None:
            return
        project = join.grant.project
        room = self._rooms.get(project)
        if room is not None:
            room.detach(join)
        topic = self._topics.get((project, join.name))
        if topic is not None:
            topic.remove(join)
            if not topic.members:
                topic.close()
                del self._topics[project, join.name]

    def _open_topic(self, project: UUID, join: Join) -> Topic:
        def tell(holder: int, key: str, meta: dict[str, Any] | None) -> None:
            if self.presence is not None:
                self.presence.tell(project, join.name, holder, key, meta)

        if self.presence is not None:
            self.presence.ask(project, join.name)
        return Topic(join.topic, self.stats, tell)

    # -- presence of other processes

    def show(self, project: UUID, name: str, holder: tuple[str, int], key: str, meta: dict[str, Any] | None) -> None:
        """See presence_relay.Topics."""
        topic = self._topics.get((project, name))
        if topic is not None:
            topic.show(holder, key, meta)

    def shown(self, project: UUID | None, name: str) -> Iterable[Shown]:
        """See presence_relay.Topics."""
        for (of_project, of_name), topic in self._topics.items():
            if project is None or (of_project, of_name) == (project, name):
                for holder, key, meta in topic.board.held():
                    if isinstance(holder, int):
                        yield of_project, of_name, holder, key, plain(meta)

    def opened(self) -> Iterable[tuple[UUID, str]]:
        """See presence_relay.Topics."""
        return self._topics.keys()

    def forget(self, node: str) -> None:
        """See presence_relay.Topics."""
        for topic in self._topics.values():
            topic.forget(node)

    # -- speaking

    def publish(
        self, project: UUID, name: str, event: str, body: bytes, *, is_json: bool = True, sender: Join | None = None
    ) -> None:
        """Broadcast on a topic (its name without `realtime:`), here and in the other processes."""
        self.receive(project, name, event, body, is_json, sender)
        if self.relay is not None:
            self.relay(project, name, event, body, is_json)

    def receive(
        self, project: UUID, name: str, event: str, body: bytes, is_json: bool, sender: Join | None = None
    ) -> None:
        """A broadcast, to those who are on the topic in this process."""
        topic = self._topics.get((project, name))
        if topic is not None:
            topic.publish(event, body, is_json=is_json, sender=sender)

    def tell(self, event: str, body: bytes) -> None:
        """A broadcast of ours on every project's main topic."""
        for room in self._rooms.values():
            room.tell(event, body)

    def track(self, join: Join, meta: Mapping[str, Any]) -> None:
        if (topic := self._topic(join)) is not None:
            topic.track(join, meta)

    def untrack(self, join: Join) -> None:
        if (topic := self._topic(join)) is not None:
            topic.untrack(join)

    def _topic(self, join: Join) -> Topic | None:
        return self._topics.get((join.grant.project, join.name)) if join.grant is not None else None
