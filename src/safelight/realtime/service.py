"""Realtime as a part of a process: its routes, what runs beside them, and its end (S4, S6, S8)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from safelight.access.errors import AccessError, Unauthorized, Unavailable
from safelight.access.gate import Gate
from safelight.db.pool import Database
from safelight.observe.metrics import Metrics
from safelight.realtime.broadcast_api import BroadcastApi
from safelight.realtime.bus_base import Bus
from safelight.realtime.connection import Connection
from safelight.realtime.door import Door
from safelight.realtime.feed import Feed
from safelight.realtime.flags import HINT, FlagBoard, Flags
from safelight.realtime.hub import Hub
from safelight.realtime.phoenix import Vsn
from safelight.realtime.presence_relay import PresenceRelay
from safelight.realtime.relay import BroadcastRelay
from safelight.realtime.room import AWAY
from safelight.realtime.session import Refusals
from safelight.stopping import side_by_side

__all__ = ["Realtime"]

log = structlog.get_logger("realtime")

SOCKETS_MAX: Final = 20_000
TICK_S: Final = 2.0
TICKED_AT_ONCE: Final = 500
"""Then others get a turn of the loop."""
RECHECK_S: Final = 4.0
"""Beside the gate's memory of 5 s, a right that is gone is gone within 10 s (S6)."""
REFUSE_S: Final = 2.0
"""A refused connection is answered after this: clients that come back at once are slowed (facts, §1.1)."""
REFUSING_MAX: Final = 500
"""Of those that wait; beyond it the answer comes at once, or waiting would be the attack."""
DISABLED_SPREAD_S: Final = 3.0
GOING_AWAY: Final = 1001
RESTART: Final = 1012


class Realtime:
    """`start`, serve `routes`, `run` beside, `drain`, `stop`."""

    def __init__(
        self,
        *,
        db: Database,
        gate: Gate,
        feed: Feed,
        bus: Bus,
        node: str,
        metrics: Metrics,
        clock: Callable[[], datetime],
        environ: Mapping[str, str],
        own_origins: Collection[str] = (),
    ) -> None:
        self.refusals = Refusals()
        self._metrics = metrics
        self._door = Door(gate, db, clock, own_origins)
        self.hub = Hub(feed)
        self._relay = BroadcastRelay(bus, node, self.hub.receive)
        self.hub.relay = self._relay.tell
        self._presence = self.hub.presence = PresenceRelay(bus, node, self.hub)
        self.flags = FlagBoard(db, environ, self._flags_changed)
        bus.on(HINT, lambda _: self.flags.look())
        self._connections: set[Connection] = set()
        self._refusing = 0
        self._is_draining = False
        self._ends = asyncio.Event()
        """Nobody who is refused waits any longer."""
        self._closing: asyncio.Task[None] | None = None
        self._measure(metrics)

    @property
    def routes(self) -> list[BaseRoute]:
        sockets: list[BaseRoute] = [
            WebSocketRoute(path, self._socket) for path in ("/realtime/v1/websocket", "/socket/websocket")
        ]
        return [*sockets, *BroadcastApi(self.hub, self._door, self.refusals).routes()]

    # -- life

    async def start(self) -> None:
        await self.flags.refresh()

    async def run(self) -> None:
        """Until cancelled."""
        await side_by_side(self.flags.run(), self._tick(), self._recheck())

    async def drain(self, spread_s: float) -> None:
        """Close every socket, spread over this time, so that the clients do not come back all at once."""
        self._is_draining = True
        self._ends.set()
        await self._close_all(RESTART, "the server restarts", spread_s)

    async def stop(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
        await self.hub.stop()

    async def _close_all(self, code: int, reason: str, spread_s: float) -> None:
        connections = list(self._connections)
        if not connections:
            return
        rounds = max(1, min(len(connections), int(spread_s * 20)))
        for each in range(rounds):
            for connection in connections[each::rounds]:
                connection.close(code, reason)
            if each + 1 < rounds:
                await asyncio.sleep(spread_s / rounds)

    # -- the socket

    async def _socket(self, websocket: WebSocket) -> None:
        try:
            vsn = Vsn(websocket.query_params.get("vsn") or Vsn.V1)
        except ValueError:
            await self._refuse(websocket, 400, "vsn is 1.0.0 or 2.0.0")
            return
        if not self.flags.now.realtime_enabled:
            await self._refuse(websocket, 503, "Realtime is switched off: poll for changes")
            return
        if self._is_draining or len(self._connections) >= SOCKETS_MAX:
            await self._refuse(websocket, 503 if self._is_draining else 429, "ConnectionRateLimitReached: Try again")
            return
        try:
            opener = await self._door.authenticate(websocket, with_cookie=True)
        except Unavailable as error:
            await self._refuse(websocket, 503, error.detail)
        except Unauthorized as error:
            self._metrics.credential_refused(error.reason)
            await self._refuse(websocket, 401, error.detail)
        except AccessError as error:
            await self._refuse(websocket, 403, error.detail)
        except AWAY as error:
            log.warning("realtime.connect_failed", error=repr(error))
            await self._refuse(websocket, 503, "The database does not answer: try again")
        else:
            connection = Connection(websocket, vsn, opener, self.hub, self._door, self.refusals, self._ended)
            self._connections.add(connection)
            self._metrics.follows("socket", 1)
            await connection.run()  # returns at once where the socket can be taken over

    def _ended(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._metrics.follows("socket", -1)

    async def _refuse(self, websocket: WebSocket, status: int, error: str) -> None:
        self.refusals.connections += 1
        if self._refusing < REFUSING_MAX and not self._is_draining:
            self._refusing += 1
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REFUSE_S):
                        await self._ends.wait()
            finally:
                self._refusing -= 1
        headers = {"Cache-Control": "no-store"} | ({"Retry-After": "5"} if status in (429, 503) else {})
        try:
            await websocket.send_denial_response(JSONResponse({"error": error}, status, headers))
        except (RuntimeError, WebSocketDisconnect, OSError):
            return  # gone already

    # -- beside

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for number, connection in enumerate(list(self._connections)):
                connection.tick(time.monotonic())
                if number % TICKED_AT_ONCE == TICKED_AT_ONCE - 1:
                    await asyncio.sleep(0)
            self._presence.beat()
            await self.hub.sweep()

    async def _recheck(self) -> None:
        while True:
            await asyncio.sleep(RECHECK_S)
            held = [(each, join, grant) for each in list(self._connections) for join, grant in each.grants]
            openers = {each.opener_key for each in self._connections if each.opener_key is not None}
            if not held and not openers:
                continue
            try:
                found = await self._door.recheck({grant for _, _, grant in held}, openers)
            except AWAY as error:
                log.warning("realtime.recheck_failed", error=repr(error))
                continue
            if any(found.of(grant) is None for _, _, grant in held):
                self._door.forget()  # or the very next join would be let in by what is remembered
            for connection in [each for each in self._connections if _is_out(each.opener_key, openers, found.keys)]:
                connection.close(1008, "the key was revoked")
            for connection, join, grant in held:
                if join.grant is not grant:
                    continue  # it got another meanwhile
                now = found.of(grant)
                if now is None:
                    connection.end(join, "Unauthorized: access to this project has ended")
                elif now is not grant:
                    connection.renewed(join, now)

    def _flags_changed(self, flags: Flags) -> None:
        """Every client is told; with realtime switched off, their sockets end after it."""
        self.hub.tell("config", flags.encoded())
        if not flags.realtime_enabled and not self._is_draining:
            if self._closing is not None:
                self._closing.cancel()
            self._closing = asyncio.create_task(
                self._close_all(GOING_AWAY, "realtime is switched off", DISABLED_SPREAD_S), name="realtime-off"
            )

    def _measure(self, metrics: Metrics) -> None:
        stats, hub, refusals = self.hub.stats, self.hub, self.refusals
        counters: Mapping[str, tuple[str, Any]] = {
            "realtime_frames": ("Frames queued for sockets", lambda: stats.frames),
            "realtime_broadcasts": ("Broadcasts of clients and servers", lambda: stats.broadcasts),
            "realtime_gaps": ("Slow sockets told to catch up (S7)", lambda: stats.gaps),
            "realtime_catch_ups": ("Members brought up from the log", lambda: stats.catch_ups),
            "realtime_refetches": ("Cursors that could not be continued", lambda: stats.refetches),
            "realtime_faults": ("Rooms that met a fault of ours; must be 0", lambda: stats.faults),
            "realtime_dropped": ("Frames not delivered: reader too slow or no form for it", lambda: stats.dropped),
        }
        for name, (help, read) in counters.items():
            metrics.read_at_scrape("counter", name, help, read)
        metrics.read_at_scrape("gauge", "realtime_channels", "Joined channels", lambda: hub.channels)
        metrics.read_at_scrape(
            "gauge",
            "realtime_queued_bytes",
            "Bytes that wait for slow sockets, each counted once a socket (S7)",
            lambda: sum(each.outlet.queued_bytes for each in self._connections),
        )
        metrics.read_at_scrape("gauge", "realtime_rooms", "Projects followed by sockets", lambda: hub.rooms)
        metrics.read_at_scrape(
            "counter",
            "realtime_refused",
            "What sockets were refused",
            lambda: {field: float(getattr(refusals, field)) for field in refusals.__slots__},
            label="what",
        )


def _is_out(key: UUID | None, asked: Collection[UUID], live: Collection[UUID]) -> bool:
    return key is not None and key in asked and key not in live
