"""The paths of the door (K4).

`/compat/fal/{app}` is fal's queue, `/compat/fal/run/{app}` its direct runs, `/compat/fal/storage/…` its storage, and
`/compat/fal/proxy` what `@fal-ai/client` calls a proxy. Below `/compat/fal/p/{project}/` is all of it again, for keys
that open several projects.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

import structlog
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from safelight.access.errors import Unauthorized
from safelight.compat.fal.callbacks import Callbacks, Output
from safelight.compat.fal.door import PATH, Door, TooManyHeld, root_of
from safelight.compat.fal.errors import flat, of_error
from safelight.compat.fal.files import Files
from safelight.compat.fal.queue import Queue
from safelight.compat.fal.run import Run
from safelight.compat.fal.wire import Answer
from safelight.db.pool import Row

log: Final = structlog.get_logger("compat")

Handler = Callable[[Request], Awaitable[Response]]

PROXY_HOSTS: Final[Mapping[str, str]] = {"queue.fal.run": "/queue", "fal.run": "/run", "rest.fal.ai": ""}
PROXY_METHODS: Final = ["GET", "POST", "PUT"]
JWKS_AGE_S: Final = 3600


def fal_door(door: Door, callbacks: Callbacks) -> tuple[BaseRoute, Output]:
    """The whole door at its place, and what callbacks say of a job that has ended."""
    files = Files(door)
    queue = Queue(door, files, callbacks)
    run = Run(door, queue)

    async def jwks(request: Request) -> Response:
        answer = Answer(callbacks.signer.jwks(), 200, {"Cache-Control": f"public, max-age={JWKS_AGE_S}"})
        return answer.response()

    def route(path: str, handler: Handler, *methods: str) -> Route:
        return Route(path, _answered(handler, door), methods=list(methods))

    def queue_at(prefix: str) -> list[BaseRoute]:
        asked = prefix + "/{endpoint:path}/requests/{request_id}"
        return [
            route(f"{asked}/status/stream", queue.stream, "GET"),
            route(f"{asked}/status", queue.status, "GET"),
            route(f"{asked}/cancel", queue.cancel, "PUT"),
            route(f"{asked}/response", queue.result, "GET"),
            route(f"{asked}/wait", run.wait, "GET"),
            route(asked, queue.result, "GET"),
            route(prefix + "/{endpoint:path}", queue.submit, "POST"),
        ]

    inner: list[BaseRoute] = [
        route("/.well-known/jwks.json", jwks, "GET"),
        route("/storage/upload/initiate", files.initiate, "POST"),
        route("/storage/upload/initiate-multipart", files.multipart, "POST"),
        route("/storage/auth/token", files.token, "POST"),
        route("/upload/{token}", files.put, "PUT"),
        route("/files/upload", files.post, "POST"),
        route("/files/upload/multipart", files.multipart, "POST"),
        route("/files/{file:uuid}/{signature}/{name}", files.get, "GET", "HEAD"),
        route("/run/{endpoint:path}", run.run, "POST"),
        *queue_at("/queue"),
        *queue_at(""),
    ]
    router = Router([_proxy(inner), *inner])

    async def output(row: Row) -> Answer:
        return await queue.output(None, row)

    return Mount(PATH, Router([Mount("/p/{project:uuid}", router), *router.routes])), output


def _proxy(inner: list[BaseRoute]) -> Route:
    return Route("/proxy", Proxy(Router(inner)), methods=PROXY_METHODS)


class Proxy:
    """One URL for everything, the true one in `x-fal-target-url`: what `proxyUrl` of `@fal-ai/client` asks for.

    Nothing is passed on to fal: the target says what is wanted, and this installation does it.
    """

    def __init__(self, router: ASGIApp) -> None:
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = urlsplit(Headers(scope=scope).get("x-fal-target-url", ""))
        prefix = PROXY_HOSTS.get(target.hostname or "")
        if target.scheme != "https" or prefix is None:
            await Answer("Invalid request", 400).response()(scope, receive, send)
            return
        path = prefix + unquote(target.path)
        inner = {
            **scope,
            "path": root_of(Request(scope)) + path,
            "raw_path": (root_of(Request(scope)) + prefix + target.path).encode(),
            "query_string": target.query.encode(),
        }
        await self._router(inner, receive, send)


def _answered(handler: Handler, door: Door) -> Handler:
    """Every error in fal's shapes."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except TooManyHeld:
            said = "Too many runs and streams are open; the queue takes more."
            return flat(
                429, said, "concurrent_requests_limit", {"X-Fal-Needs-Retry": "1", "Retry-After": "2"}
            ).response()
        except Exception as error:
            if isinstance(error, Unauthorized):
                door.metrics.credential_refused(error.reason)
            try:
                return of_error(error).response()
            except Exception:
                log.error("request.failed", path=request.url.path, exc_info=error)
                said = "Something went wrong on our side; the log has the details."
                return flat(500, said, "internal_error").response()

    return answer
