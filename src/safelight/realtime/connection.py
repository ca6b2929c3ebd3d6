"""One WebSocket: reads frames into its session, carries out what the session says, writes what is queued."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
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
from safelight.realtime.transport import EXTENSION, Raw

__all__ = ["Connection"]

log = structlog.get_logger("realtime")

CLOSE_S: Final = 5.0
"""Whoever does not take our last frames within this is cut off."""
PAUSE_MAX_S: Final = 1.0
"""Longest pause between two reads of a client that says too much; its beat still comes through."""
TOO_SLOW: Final = 1013


class Connection:
    """`run` it in the request's own task; `end`, `close` and `tick` from anywhere on the loop.

    Where the server lets us, the socket is taken over: `run` returns, frames come as calls, and `on_end` is told when
    the socket is gone. Else `run` reads until the end.
    """

    __slots__ = (
        "_alarm", "_closing", "_cutter", "_door", "_held", "_hub", "_is_cut", "_on_end", "_opener", "_raw", "_reader",
        "_session", "_tasks", "_websocket", "opener_key", "outlet", "vsn",
    )  # fmt: skip

    def __init__(
        self,
        websocket: WebSocket,
        vsn: Vsn,
        opener: Principal,
        hub: Hub,
        door: Door,
        refusals: Refusals,
        on_end: Callable[[Connection], None],
    ) -> None:
        self.vsn = vsn
        self._raw: Raw | None = websocket.scope.get("extensions", {}).get(EXTENSION)
        self.outlet = Outlet(hub.pen, self._raw, send_text=websocket.send_text, send_bytes=websocket.send_bytes)
        self.opener_key: UUID | None = key_of(opener)
        self._websocket: WebSocket | None = websocket
        self._opener = opener
        self._hub = hub
        self._door = door
        self._session = Session(vsn, time.monotonic(), refusals)
        self._on_end = on_end
        self._tasks: set[asyncio.Task[None]] | None = None
        self._held: deque[str | bytes] | None = None
        self._closing: Close | None = None
        self._cutter: asyncio.TimerHandle | None = None
        self._is_cut = False
        self._reader: asyncio.Task[Any] | None = None
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def grants(self) -> list[tuple[Join, Grant]]:
        return [(join, join.grant) for join in self._session.joins.values() if join.grant is not None]

    async def run(self) -> None:
        """Until the socket is taken over, or until either side ends it."""
        websocket = self._websocket
        assert websocket is not None
        is_taken = False
        try:
            await websocket.accept()
            if self._raw is not None:
                is_taken = True
                self._websocket = None  # and with it the request
                self.outlet.forget_sending()
                self._raw.take_over(self)
            else:
                await self._read(websocket)
        except (WebSocketDisconnect, RuntimeError, OSError):
            return
        finally:
            if not is_taken:
                self.lost()

    async def _read(self, websocket: WebSocket) -> None:
        self._reader = asyncio.current_task()
        writer = asyncio.create_task(self._write(websocket), name="socket-write")
        try:
            while True:
                message = await websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                data = message.get("text")
                self.perform(self._session.receive(message["bytes"] if data is None else data, time.monotonic()))
                if self._session.pause_s:
                    await asyncio.sleep(min(self._session.pause_s, PAUSE_MAX_S))
        except asyncio.CancelledError:
            if not self._is_cut:
                raise  # the server stops; else it was us, and the socket is done with
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, websocket: WebSocket) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
            await self.outlet.run()
            closing = self._closing or Close(TOO_SLOW, "too slow")
            await websocket.close(closing.code, closing.reason)

    # -- a socket that was taken over: see transport.Receiver

    def received(self, data: str | bytes) -> None:
        if self._held is not None:
            self._held.append(data)  # no more than was read already: reading pauses
            return
        actions = self._session.receive(data, time.monotonic())
        if len(actions) == 1 and isinstance(actions[0], Send):
            self.outlet.answer(Wire(actions[0].data))
        else:
            self.perform(actions)
        if self._session.pause_s and self._raw is not None:
            self._held = deque()
            self._raw.pause_reading()
            asyncio.get_running_loop().call_later(min(self._session.pause_s, PAUSE_MAX_S), self._go_on)

    def _go_on(self) -> None:
        held, self._held = self._held, None
        while held:
            self.received(held.popleft())
            if self._held is not None:  # and again it is too much
                self._held.extend(held)
                return
        if self._raw is not None:
            self._raw.resume_reading()

    def drained(self) -> None:
        self.outlet.flush()
        self._close_if_told()

    def lost(self) -> None:
        """Nothing comes or goes any more."""
        self._raw = None
        self._held = None
        self.outlet.finish()
        for timer in (self._alarm, self._cutter):
            if timer is not None:
                timer.cancel()
        for join in list(self._session.joins.values()):
            self._hub.detach(join)
        self._session.joins.clear()
        for task in self._tasks or ():
            task.cancel()
        self._on_end(self)

    # -- from anywhere

    def end(self, join: Join, message: str) -> None:
        """End a join so that the client joins again."""
        self.perform(self._session.ended(join, message))

    def renewed(self, join: Join, grant: Grant) -> None:
        self._session.renewed(join, grant)

    def tick(self, now: float) -> None:
        if actions := self._session.tick(now):
            self.perform(actions)
        if self.outlet.is_overrun:
            self.close(TOO_SLOW, "too slow")

    def close(self, code: int, reason: str) -> None:
        """Say goodbye after what is queued; whoever does not take it is cut off."""
        if self._closing is not None:
            return
        self._closing = Close(code, reason)
        self.outlet.finish()
        self._cutter = asyncio.get_running_loop().call_later(CLOSE_S, self._cut)
        self._close_if_told()

    def _close_if_told(self) -> None:
        if self._closing is None or self._raw is None:
            return
        self.outlet.flush()
        if self.outlet.is_empty or self.outlet.is_overrun:
            self._raw.close(self._closing.code, self._closing.reason)

    def _cut(self) -> None:
        self._is_cut = True
        if self._raw is not None:
            self._raw.abort()
        elif self._reader is not None and not self._reader.done():
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
        if due is None:
            return
        loop, delay_s = asyncio.get_running_loop(), max(due - time.monotonic(), 0.0)
        if self._alarm is not None:
            if self._alarm.when() <= loop.time() + delay_s:
                return
            self._alarm.cancel()
        self._alarm = loop.call_later(delay_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.perform(self._session.tick(time.monotonic()))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Bounded by the session: so many joins a second, one open question a join."""
        task = asyncio.create_task(work)
        if self._tasks is None:
            self._tasks = set()
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        if self._tasks is not None:
            self._tasks.discard(task)
            if not self._tasks:
                self._tasks = None  # a set for each quiet socket is a fifth of a kilobyte

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
        self.perform(self._session.settled(join))
