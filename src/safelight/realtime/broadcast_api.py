"""Broadcasting over HTTP, as the clients' `httpSend` and servers do it (realtime-protocol.md §1.10)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from safelight.access.errors import AccessError, Unavailable
from safelight.access.principal import Principal
from safelight.realtime.door import Door
from safelight.realtime.hub import Hub
from safelight.realtime.join import project_of
from safelight.realtime.pace import Pace
from safelight.realtime.phoenix import EVENT_MAX, TOPIC_MAX, TOPIC_PREFIX, Malformed, json_value
from safelight.realtime.room import AWAY
from safelight.realtime.session import BROADCAST_BYTES_MAX, Refusals, broadcast_refusal

__all__ = ["BroadcastApi"]

BODY_MAX: Final = 1024 * 1024
MESSAGES_MAX: Final = 100
PER_S: Final = 100.0
BURST: Final = 500.0
CALLERS_MAX: Final = 5_000
CORS: Final[Mapping[str, str]] = {
    # Any page may call: it must bring a key or token of its own, cookies are not looked at here.
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "authorization, apikey, content-type, x-client-info, x-api-key",
    "Access-Control-Max-Age": "600",
    "Cache-Control": "no-store",
}
_STATUS: Final = {"unauthorized": 401, "forbidden": 403, "not_found": 403, "overloaded": 503}


class _Message(msgspec.Struct):
    topic: str
    event: str
    payload: msgspec.Raw = msgspec.Raw(b"{}")


class _Messages(msgspec.Struct):
    messages: list[_Message]


class _No(Exception):
    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


class BroadcastApi:
    """The routes, under both prefixes."""

    def __init__(self, hub: Hub, door: Door, refusals: Refusals) -> None:
        self._hub = hub
        self._door = door
        self._refusals = refusals
        self._paces: OrderedDict[str, Pace] = OrderedDict()

    def routes(self) -> list[BaseRoute]:
        methods = ["POST", "OPTIONS"]
        return [
            route
            for prefix in ("/realtime/v1/api", "/api")
            for route in (
                Route(f"{prefix}/broadcast", self._many, methods=methods, include_in_schema=False),
                Route(f"{prefix}/broadcast/{{topic}}/events/{{event}}", self._one, methods=methods,
                      include_in_schema=False),
            )
        ]  # fmt: skip

    async def _many(self, request: Request) -> Response:
        """`{"messages": [{topic, event, payload}]}`: all of them, or none."""
        return await self._answer(request, self._send_many)

    async def _one(self, request: Request) -> Response:
        """The body is the payload: JSON, or bytes."""
        return await self._answer(request, self._send_one)

    async def _answer(self, request: Request, send: Any) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=dict(CORS))
        try:
            caller = await self._door.authenticate(request, with_cookie=False)
            if not self._pace(caller.actor).take(time.monotonic()):
                raise _No(429, "Too many broadcasts: slow down.")
            await send(request, caller, await _body(request))
        except _No as no:
            return self._refusal(no.status, no.error)
        except Unavailable as error:
            return self._refusal(503, error.detail)
        except AccessError as error:
            return self._refusal(_STATUS.get(error.code, 403), error.detail)
        except AWAY:
            return self._refusal(503, "The database does not answer: try again.")
        return Response(status_code=202, headers=dict(CORS))

    def _refusal(self, status: int, error: str) -> Response:
        self._refusals.broadcasts += 1
        headers = dict(CORS) | ({"Retry-After": "1"} if status in (429, 503) else {})
        body = msgspec.json.encode({"error": error, "message": error})
        return Response(body, status, headers, "application/json")

    async def _send_many(self, request: Request, caller: Principal, body: bytes) -> None:
        try:
            sent = msgspec.json.decode(body, type=_Messages).messages
            payloads = [bytes(message.payload) for message in sent]
            for payload in payloads:
                if not isinstance(json_value(payload), dict):
                    raise Malformed("a payload is an object")
        except (msgspec.MsgspecError, Malformed, RecursionError, UnicodeError) as error:
            raise _No(422, f"The body is not a list of messages: {error}"[:300]) from None
        if len(sent) > MESSAGES_MAX:
            raise _No(422, f"At most {MESSAGES_MAX} messages at a time.")
        allowed = [
            await self._allowed(caller, message.topic, message.event, len(payload))
            for message, payload in zip(sent, payloads, strict=True)
        ]
        for (project, name), message, payload in zip(allowed, sent, payloads, strict=True):
            self._hub.publish(project, name, message.event, payload)

    async def _send_one(self, request: Request, caller: Principal, body: bytes) -> None:
        event = request.path_params["event"]
        is_json = not request.headers.get("content-type", "").startswith("application/octet-stream")
        if is_json:
            try:
                json_value(body or b"{}")
            except (msgspec.MsgspecError, Malformed, RecursionError, UnicodeError) as error:
                raise _No(422, f"The body is no JSON: {error}"[:300]) from None
        project, name = await self._allowed(caller, request.path_params["topic"], event, len(body))
        self._hub.publish(project, name, event, body if body or not is_json else b"{}", is_json=is_json)

    async def _allowed(self, caller: Principal, topic: str, event: str, size: int) -> tuple[UUID, str]:
        name = topic.removeprefix(TOPIC_PREFIX)
        if not name or len(name.encode()) > TOPIC_MAX - len(TOPIC_PREFIX):
            raise _No(422, "A topic has a name of up to 246 bytes.")
        if not event or len(event.encode()) > EVENT_MAX:
            raise _No(422, f"An event has a name of up to {EVENT_MAX} bytes.")
        project = project_of(name) or caller.project_id
        if project is None:
            raise _No(422, "A topic's name ends with its project's id.")
        grant = await self._door.allow_write(caller, project)
        refusal = broadcast_refusal(grant, name, event, size)
        if refusal is not None:
            raise _No(413 if size > BROADCAST_BYTES_MAX else 403, refusal["error"])
        return project, name

    def _pace(self, actor: str) -> Pace:
        pace = self._paces.get(actor)
        if pace is None:
            pace = self._paces[actor] = Pace(PER_S, BURST, time.monotonic())
            if len(self._paces) > CALLERS_MAX:
                self._paces.popitem(last=False)
        return pace


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_MAX:
            raise _No(413, f"A body has at most {BODY_MAX} bytes.")
    return body
