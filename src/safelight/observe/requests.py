"""Every request, counted, timed and named: ASGI middleware to be put outermost (D3)."""

from __future__ import annotations

import time
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from safelight.observe.logging import REQUEST_ID_HEADER, request_id, request_scope
from safelight.observe.metrics import Metrics

log: Final = structlog.get_logger("http")

_GONE: Final = 499
"""Nobody waited for the answer (nginx's number for it)."""


class RequestObserver:
    """Gives each request an id (a proxy's `X-Request-ID`, else a new one), on every log line and on the answer.

    The time is that until the answer begins, so that a stream that lives for hours is as quick as it was to start.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        identity = request_id(_header(scope, REQUEST_ID_HEADER.encode()))
        began = time.perf_counter()
        is_counted = False

        def count(status: int) -> None:
            nonlocal is_counted
            if not is_counted:
                is_counted = True
                self._count(scope, status, time.perf_counter() - began)

        async def sending(message: Message) -> None:
            match message["type"]:
                case "http.response.start" | "websocket.http.response.start":
                    message = {**message, "headers": [*message.get("headers", ()), _named(identity)]}
                    count(message["status"])
                case "websocket.accept":
                    count(101)
                case "websocket.close":
                    count(403)  # before an accept the server answers that
                case _:
                    pass
            await send(message)

        with request_scope(identity):
            try:
                await self._app(scope, receive, sending)
            except Exception:
                count(500)
                raise
            finally:
                count(_GONE)  # not if it was counted before

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["type"] == "http" else "WEBSOCKET"
        route = _template(scope)
        self._metrics.http(route, method, status, seconds)
        say = log.warning if status >= 500 else log.debug
        # Without the query: sockets have their key in it.
        say("request", method=method, path=scope["path"], route=route, status=status, ms=round(seconds * 1000, 1))


def _template(scope: Scope) -> str:
    """The matched route's path with names in place of values. Plain Starlette routes leave only the values behind."""
    if path := getattr(scope.get("route"), "path", None):
        return path
    if "endpoint" not in scope:
        return "unmatched"
    before, after = str(scope["path"]), ""
    for name, value in reversed(scope.get("path_params", {}).items()):
        before, found, rest = before.rpartition(str(value))
        if not found:
            return "unmatched"
        after = f"{{{name}}}{rest}{after}"
    return before + after


def _named(identity: str) -> tuple[bytes, bytes]:
    return REQUEST_ID_HEADER.encode(), identity.encode()


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)
