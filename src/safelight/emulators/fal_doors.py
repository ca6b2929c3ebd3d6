"""The ways into the fal emulator: below `/fal`, at hosts of their own, and through `@fal-ai/client`'s proxy.

Unmodified clients cannot be told a path prefix, so `create_fal_host_app` serves one host's paths at the root.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import unquote, urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from safelight.emulators.fal import QUEUE_URL, Fal
from safelight.emulators.fal_rest import FalRest
from safelight.emulators.fal_run import FalRun
from safelight.emulators.wire import json_answer

HostKind = Literal["queue", "run", "rest"]

# What the official proxy lets through by default (providers.md §1.13); ours adds nothing.
PROXY_HOSTS: dict[str, HostKind] = {"queue.fal.run": "queue", "fal.run": "run", "rest.fal.ai": "rest"}
PROXY_REST_TARGETS = frozenset(
    {
        "/storage/upload/initiate?storage_type=fal-cdn-v3",
        "/storage/upload/initiate-multipart?storage_type=fal-cdn-v3",
        "/storage/upload/complete-multipart?storage_type=fal-cdn-v3",
    }
)
PROXY_METHODS = ["GET", "POST", "PUT"]
PROXY_KEY = b"Key emulator:proxy"  # the key a real proxy would add from its own settings


def queue_routes(fal: Fal) -> list[BaseRoute]:
    requests = "/{endpoint:path}/requests/{request_id}"
    return [
        Route(f"{requests}/status/stream", fal.stream, methods=["GET"]),
        Route(f"{requests}/status", fal.status, methods=["GET"]),
        Route(f"{requests}/cancel", fal.cancel, methods=["PUT"]),
        Route(f"{requests}/response", fal.result, methods=["GET"]),
        Route(requests, fal.result, methods=["GET"]),
        Route("/{endpoint:path}", fal.submit, methods=["POST"]),
    ]


def run_routes(run: FalRun) -> list[BaseRoute]:
    return [Route("/{endpoint:path}", run.run, methods=["POST"])]


def rest_routes(rest: FalRest) -> list[BaseRoute]:
    return [
        Route("/.well-known/jwks.json", rest.jwks, methods=["GET"]),
        Route("/storage/upload/initiate", rest.initiate, methods=["POST"]),
        Route("/storage/upload/initiate-multipart", rest.initiate, methods=["POST"]),
        Route("/storage/auth/token", rest.cdn_token, methods=["POST"]),
        Route("/tokens/", rest.realtime_token, methods=["POST"]),
    ]


def file_routes(rest: FalRest) -> list[BaseRoute]:
    """The CDN and the upload URLs, which lie on no host of their own here."""
    return [
        Route("/files/upload", rest.post_file, methods=["POST"]),
        Route("/files/upload/multipart", rest.post_multipart, methods=["POST"]),
        Route("/files/{file}/multipart/{name}/complete", rest.complete_upload, methods=["POST"]),
        Route("/files/{file}/multipart/{name}/{part:int}", rest.put_upload, methods=["PUT"]),
        Route("/files/{name}", rest.get_file, methods=["GET"]),
        Route("/upload/{name}/complete", rest.complete_upload, methods=["POST"]),
        Route("/upload/{name}/{part:int}", rest.put_upload, methods=["PUT"]),
        Route("/upload/{name}", rest.put_upload, methods=["PUT"]),
    ]


class FalHosts:
    """One router a host, over the same tasks."""

    def __init__(self, fal: Fal, run: FalRun, rest: FalRest) -> None:
        self.routers: Mapping[HostKind, Router] = {
            "queue": Router(queue_routes(fal)),
            "run": Router(run_routes(run)),
            "rest": Router(rest_routes(rest)),
        }
        self._files = file_routes(rest)

    def mounts(self) -> list[BaseRoute]:
        """What lies below `/fal`."""
        return [
            *(Mount(f"/{kind}", router) for kind, router in self.routers.items()),
            Route("/proxy", self._proxy_app(), methods=PROXY_METHODS),
            *self._files,
        ]

    def _proxy_app(self) -> ASGIApp:
        return FalProxy(self.routers)


class FalProxy:
    """`/api/fal/proxy` as `@fal-ai/server-proxy` serves it: one URL, the true one in `x-fal-target-url`."""

    def __init__(self, routers: Mapping[HostKind, Router]) -> None:
        self._routers = routers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        target = urlsplit(headers.get("x-fal-target-url", ""))
        kind = PROXY_HOSTS.get(target.hostname or "")
        tail = f"{target.path}?{target.query}"
        if target.scheme != "https" or kind is None or (kind == "rest" and tail not in PROXY_REST_TARGETS):
            await json_answer("Invalid request", 400)(scope, receive, send)
            return
        inner = dict(scope)
        inner["path"] = unquote(target.path)
        inner["raw_path"] = target.path.encode()
        inner["root_path"] = ""
        inner["query_string"] = target.query.encode()
        inner["headers"] = [pair for pair in scope["headers"] if pair[0] != b"authorization"]
        inner["headers"].append((b"authorization", headers.get("authorization", "").encode() or PROXY_KEY))
        await self._routers[kind](inner, receive, send)


class NativeRoot:
    """Tells the handlers that their paths begin at the root of whatever host was asked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            scope = {**scope, QUEUE_URL: f"{scope['scheme']}://{host}"}
        await self._app(scope, receive, send)


class ByHost:
    """One port for several hosts: each `Host` (without port) has its app."""

    def __init__(self, apps: Mapping[str, ASGIApp]) -> None:
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._apps.get(Headers(scope=scope).get("host", "").rsplit(":", 1)[0])
        await (app or json_answer({"detail": "no such host"}, 421))(scope, receive, send)


def native_host_app(kind: HostKind, hosts: FalHosts) -> ASGIApp:
    return NativeRoot(Starlette(routes=[Mount("/", hosts.routers[kind])]))
