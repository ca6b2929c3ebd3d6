"""A python-socketio server with one room; tuned: no compression, no upgrade, WebSocket only."""

from __future__ import annotations

from typing import Any

import socketio

server = socketio.AsyncServer(
    async_mode="asgi", transports=["websocket"], ping_interval=3600, http_compression=False, cors_allowed_origins="*"
)


@server.event
async def connect(sid: str, environ: dict[str, Any]) -> None:
    if "role=sub" in environ["QUERY_STRING"]:
        await server.enter_room(sid, "room")


@server.event
async def say(sid: str, data: Any) -> None:
    await server.emit("said", data, room="room")


async def plain(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


app = socketio.ASGIApp(server, plain)
