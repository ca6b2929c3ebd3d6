"""One WebSocket: reads frames into its session, carries out what the session says, writes what is queued."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterable
from typing import Any, Final
from uuid import UUID

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from safelight.access.principal import Principal
from safelight.changes.log import NoLog
from safelight.realtime.door import Door, Refused, key_of
from safelight.realtime.hub import Hub
from safelight.realtime.outlet import Outlet, Wire
from safelight.realtime.phoenix import Vsn
from safelight.realtime.room import AWAY, Room
from safelight.realtime.session import (
    Action,
    Ask,
    Attach,
    Close,
    Detach,
    Grant,
    Join,
    Publish,
    Refusals,
    Renew,
    Send,
    Session,
    Track,
    Untrack,
)
from safelight.realtime.transport import EXTENSION

__all__ = ["Connection"]

log = structlog.get_logger("realtime")

CLOSE_S: Final = 5.0
"""Whoever does not take our last frames within this is cut off."""
PAUSE_MAX_S: Final = 1.0
"""Longest pause between two reads of a client that says too much; its beat still comes through."""
TOO_SLOW: Final = 1013


class Connection:
    """`run` it in the request's own task; `end`, `close` and `tick` from anywhere on the loop."""

    def __init__(
        self, websocket: WebSocket, vsn: Vsn, opener: Principal, hub: Hub, door: Door, refusals: Refusals
    ) -> None:
        self.vsn = vsn
        raw = websocket.scope.get("extensions", {}).get(EXTENSION)
        self.outlet = Outlet(websocket.send_text, websocket.send_bytes, raw)
        self.opener_key: UUID | None = key_of(opener)
        self._websocket = websocket
        self._opener = opener
        self._hub = hub
        self._door = door
        self._session = Session(vsn, time.monotonic(), refusals)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: Close | None = None
        self._is_cut = False
        self._reader: asyncio.Task[Any] | None = None
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def grants(self) -> list[tuple[Join, Grant]]:
        return [(join, join.grant) for join in self._session.joins.values() if join.grant is not None]

    async def run(self) -> None:
        """Until either side ends it."""
        await self._websocket.accept()
        self._reader = asyncio.current_task()
        writer = asyncio.create_task(self._write(), name="socket-write")
        try:
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                data = message.get("text")
                self.perform(self._session.receive(message["bytes"] if data is None else data, time.monotonic()))
                if self._session.pause_s:
                    await asyncio.sleep(min(self._session.pause_s, PAUSE_MAX_S))
        except asyncio.CancelledError:
            if not self._is_cut:
                raise  # the server stops; else it was us, and the socket is done with
        except (WebSocketDisconnect, RuntimeError, OSError):
            return
        finally:
            if self._alarm is not None:
                self._alarm.cancel()
            for join in list(self._session.joins.values()):
                self._hub.detach(join)
            self._session.joins.clear()
            for task in (writer, *self._tasks):
                task.cancel()
            await asyncio.gather(writer, *self._tasks, return_exceptions=True)

    # -- from anywhere

    def end(self, join: Join, message: str) -> None:
        """End a join so that the client joins again."""
        self.perform(self._session.ended(join, message))

    def renewed(self, join: Join, grant: Grant) -> None:
        self._session.renewed(join, grant)

    def tick(self, now: float) -> None:
        self.perform(self._session.tick(now))
        if self.outlet.is_overrun:
            self.close(TOO_SLOW, "too slow")

    def close(self, code: int, reason: str) -> None:
        """Say goodbye after what is queued; whoever does not take it is cut off."""
        if self._closing is not None:
            return
        self._closing = Close(code, reason)
        self.outlet.finish()
        asyncio.get_running_loop().call_later(CLOSE_S, self._cut)

    def _cut(self) -> None:
        self._is_cut = True
        if self._reader is not None and not self._reader.done():
            self._reader.cancel()

    # -- actions

    def perform(self, actions: Iterable[Action], room: Room | None = None) -> None:
        """Carry them out, in order."""
        for action in actions:
            match action:
                case Send(data):
                    self.outlet.put(Wire(data))
                case Publish(join, event, body, is_json):
                    assert join.grant is not None
                    self._hub.publish(join.grant.project, join.name, event, body, is_json=is_json, sender=join)
                case Ask(join, token):
                    self._start(self._ask(join, token))
                case Renew(join, token):
                    self._start(self._renew(join, token))
                case Attach(join):
                    assert room is not None
                    self._hub.attach(room, self, join)
                case Detach(join):
                    self._hub.detach(join)
                case Track(join, meta):
                    self._hub.track(join, meta)
                case Untrack(join):
                    self._hub.untrack(join)
                case Close(code, reason):
                    self.close(code, reason)
        self._set_alarm()

    def _set_alarm(self) -> None:
        """Refusals that are held back are due to the tenth of a second, not to the next tick."""
        due = self._session.wake_at
        if due is not None and self._alarm is None:
            delay_s = max(due - time.monotonic(), 0.0)
            self._alarm = asyncio.get_running_loop().call_later(delay_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.perform(self._session.tick(time.monotonic()))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Bounded by the session: so many joins a second, one renewal a frame, and frames are paced."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, join: Join, token: str | None) -> None:
        try:
            grant = await self._door.admit(self._opener, join.name, join.config, token)
            room = await self._hub.enter(grant.project)
            if room.epoch is None:
                raise TimeoutError
        except Refused as refused:
            self.perform(self._session.refused(join, refused.reason, time.monotonic(), may_wait=refused.may_wait))
        except NoLog:
            self.perform(self._session.refused(join, "Unauthorized: There is no such project", time.monotonic()))
        except AWAY as error:
            log.warning("realtime.join_failed", error=repr(error))
            self.perform(self._session.refused(join, "UnableToSubscribe: Try again", time.monotonic()))
        else:
            self.perform(self._session.admitted(join, grant, room.epoch, room.cursor), room)

    async def _renew(self, join: Join, token: str) -> None:
        try:
            grant = await self._door.admit(self._opener, join.name, join.config, token)
        except Refused as refused:
            if not refused.may_wait:  # a key in place of a token says nothing about the old one
                self.end(join, refused.reason)
        except AWAY as error:
            log.warning("realtime.renewal_failed", error=repr(error))  # the old one holds until it expires
        else:
            if join.grant is not None and grant.project == join.grant.project:
                self._session.renewed(join, grant)

    async def _write(self) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
            await self.outlet.run()
            closing = self._closing or Close(TOO_SLOW, "too slow")
            await self._websocket.close(closing.code, closing.reason)
