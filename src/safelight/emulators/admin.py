"""`/_emulator`: set faults, read what was accepted and what was delivered. Not part of any provider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from safelight.emulators.engine import Engine
from safelight.emulators.faults import NO_RULE, FaultError, FaultRule, parse_rule
from safelight.emulators.wire import BadBody, json_answer, read_bytes

FAULTS_BYTES_MAX = 256 * 1024


class Admin:
    """Over one provider's engine, or over all of them."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = engines

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/_emulator/faults", self.faults, methods=["GET", "PUT", "DELETE"]),
            Route("/_emulator/requests", self.requests, methods=["GET", "DELETE"]),
            Route("/_emulator/deliveries", self.deliveries, methods=["GET", "DELETE"]),
        ]

    async def faults(self, request: Request) -> Response:
        """GET what is in force by provider; PUT for all requests from now on; DELETE = no faults."""
        if request.method == "PUT":
            try:
                rule = parse_rule(msgspec.json.decode(await read_bytes(request, FAULTS_BYTES_MAX)))
            except BadBody as bad:
                return json_answer({"detail": str(bad)}, bad.status)
            except (msgspec.DecodeError, FaultError) as error:
                return json_answer({"detail": str(error)}, 422)
            self._set(rule)
        elif request.method == "DELETE":
            self._set(NO_RULE)
        return json_answer({engine.provider: _as_put(engine.faults.rule) for engine in self._engines})

    def _set(self, rule: FaultRule) -> None:
        for engine in self._engines:
            engine.faults.set(rule)

    async def requests(self, request: Request) -> Response:
        """The accepted submits, oldest first, as one list; `X-Total-Count` counts also those forgotten."""
        if request.method == "DELETE":
            for engine in self._engines:
                engine.requests.clear()
                engine.accepted_total = 0
            return Response(status_code=204)
        accepted = sorted((each for engine in self._engines for each in engine.requests), key=_at)
        total = sum(engine.accepted_total for engine in self._engines)
        return json_answer(accepted, 200, {"X-Total-Count": str(total)})

    async def deliveries(self, request: Request) -> Response:
        """Every webhook attempt and how it was answered, oldest first, as one list."""
        if request.method == "DELETE":
            for engine in self._engines:
                engine.courier.deliveries.clear()
            return Response(status_code=204)
        sent = [
            {"provider": engine.provider, **each.as_dict()}
            for engine in self._engines
            for each in engine.courier.deliveries
        ]
        return json_answer(sorted(sent, key=_at))


def _at(entry: dict[str, Any]) -> float:
    return entry["at"]


def _as_put(rule: FaultRule) -> dict[str, Any]:
    """The rule in the form in which it can be PUT."""
    raw = msgspec.to_builtins(rule)
    return {**raw.pop("always", {}), **{name: value for name, value in raw.items() if value not in ({}, [], None)}}
