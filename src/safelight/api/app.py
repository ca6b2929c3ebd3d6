"""The HTTP application: routes, problems, headers, and the studio's files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from safelight import __version__
from safelight.api import (
    canvas,
    changes,
    credits,
    hooks,
    jobs,
    library,
    models,
    ops,
    problem,
    session,
    shots,
    templates,
    uploads,
    webhook_endpoints,
    worker_api,
)
from safelight.api.context import SEQ_HEADER, Context
from safelight.observe.requests import RequestObserver

JSON_BODY_MAX: Final = 16 * 1024 * 1024
"""A start image as a data URL in the input (10 MB as base64) and some room. Uploads have their own limit."""
SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
PAGE_POLICY: Final = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
NO_STUDIO: Final = b"The studio is not built. Run `make demo`, or `npm run build` in js/.\n"


def create_app(
    context: Context,
    *,
    media: BaseRoute,
    studio: Path,
    cors_origins: Sequence[str] = (),
    extra: Sequence[BaseRoute] = (),
    follows_only: bool = False,
) -> ASGIApp:
    """The whole HTTP side. `media` serves stored files; `extra` are routes of other rooms (realtime).

    `follows_only`: nothing but following changes and operation, for a process that is there for realtime alone (O2).
    """
    app = FastAPI(
        title="Safelight",
        version=__version__,
        description="Jobs for outside image and video models: every result appears in every open window, is stored "
        "for good, and is paid for exactly once.",
        docs_url="/docs",
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.context = context
    problem.install(app)
    resources = (
        jobs.router, library.router, shots.router, canvas.router, templates.router, uploads.router, credits.router,
        session.router, models.router, webhook_endpoints.router, worker_api.router,
    )  # fmt: skip
    for router in (*(resources if not follows_only else ()), changes.router, ops.router):
        app.include_router(router)
    if not follows_only:
        # Before those that are asked less: routes are tried in order.
        app.router.routes[:0] = [media, hooks.hook_route(context)]
    app.router.routes.extend(extra)
    if not follows_only:
        _serve_studio(app, studio)
    _describe(app)
    inner: ASGIApp = _BodyLimit(app)
    if not follows_only:
        inner = _Door(hooks.hook_route(context), inner)
    whole: ASGIApp = _Headers(inner)
    if cors_origins:
        whole = CORSMiddleware(
            whole,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["authorization", "content-type", "idempotency-key", "safelight-client", "last-event-id",
                           "apikey", "upload-offset", "content-range",
                           "x-fal-target-url", "x-fal-queue-priority", "x-fal-request-timeout", "x-fal-runner-hint"],
            expose_headers=[SEQ_HEADER, "Location", "Retry-After", "x-fal-request-id"],
            max_age=600,
        )  # fmt: skip
    return RequestObserver(whole, context.metrics)


def _serve_studio(app: FastAPI, studio: Path) -> None:
    index = studio / "index.html"

    async def page(request: Request) -> Response:
        redirect = await session.open_studio(request)
        if redirect is not None:
            return redirect
        if not index.is_file():
            return Response(NO_STUDIO, 503, {"Retry-After": "10"}, "text/plain")
        return FileResponse(index, headers={"Cache-Control": "no-store", "Content-Security-Policy": PAGE_POLICY})

    app.router.add_route("/", page, methods=["GET", "HEAD"], include_in_schema=False)
    if (studio / "assets").is_dir():
        app.mount("/assets", _Immutable(directory=studio / "assets"))
    for name in ("favicon.svg", "favicon.ico", "manifest.webmanifest"):
        if (studio / name).is_file():
            path = studio / name
            app.router.add_route(f"/{name}", _file(path), methods=["GET", "HEAD"], include_in_schema=False)


def _file(path: Path) -> Callable[[Request], Awaitable[Response]]:
    async def serve(_: Request) -> Response:
        return FileResponse(path, headers={"Cache-Control": "max-age=86400"})

    return serve


class _Immutable(StaticFiles):
    """Built files carry a hash in their name: they never change."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def _by_text(*codes: str) -> dict[str, Any]:
    """Problems as OpenAPI has them: the status is a text."""
    return {str(status): described for status, described in problem.documented(*codes).items()}


def _describe(app: FastAPI) -> None:
    """OpenAPI with our problem document in place of FastAPI's own error shape."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            components = schema.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            shape = problem.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(shape.pop("$defs", {}))
            schemas["Problem"] = shape
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            components["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key (`sk_…`) or a user's JWT"}
            }
            schema["security"] = [{"bearer": []}]
            schema["paths"].update(_PLAIN_ROUTES)
            for operations in schema["paths"].values():
                for operation in operations.values():
                    _use_problems(operation)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi


_PLAIN_ROUTES: Final[Mapping[str, Any]] = {
    "/media/{key}": {
        "get": {
            "tags": ["library"],
            "summary": "Read a stored file",
            "description": "At the signed addresses that generations and uploads name; with `Range`. `?download=NAME` "
            "makes it an attachment.",
            "security": [],
            "parameters": [
                {"name": "key", "in": "path", "required": True, "schema": {"type": "string"}},
                {"name": "e", "in": "query", "description": "When it expires", "schema": {"type": "string"}},
                {"name": "s", "in": "query", "description": "The signature", "schema": {"type": "string"}},
                {"name": "download", "in": "query", "schema": {"type": "string"}},
            ],
            "responses": {
                "200": {"description": "The file", "content": {"*/*": {}}},
                "206": {"description": "The part that was asked for", "content": {"*/*": {}}},
                "304": {"description": "As you have it"},
                **_by_text("forbidden", "not_found", "range_not_satisfiable"),
            },
        }
    },
    "/hooks/{provider}/{attempt}/{token}": {
        "post": {
            "tags": ["operation"],
            "summary": "Receive a provider's webhook",
            "description": "For providers only. Proven by the secret in its path and the provider's signature.",
            "security": [],
            "parameters": [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in ("provider", "attempt", "token")
            ],
            "requestBody": {"content": {"*/*": {}}},
            "responses": {
                "200": {"description": "Stored", "content": {"application/json": {}}},
                **_by_text("unauthorized", "not_found", "too_large"),
            },
        }
    },
}
"""Routes that FastAPI does not know."""


def _use_problems(operation: MutableMapping[str, Any]) -> None:
    responses = operation["responses"]
    if "503" not in responses:
        responses.update(_by_text("overloaded"))
    if "application/json" in operation.get("requestBody", {}).get("content", {}):
        responses.update(_by_text("too_large", "unsupported_media_type"))
    for status, described in responses.items():
        if status == "422" and "application/json" in described.get("content", {}):
            described.clear()
            described.update(problem.documented("invalid_input")[422])


class _Door:
    """The hottest route, asked before the framework, whose layers cost more than a webhook's own work (P4)."""

    def __init__(self, route: Route, app: ASGIApp) -> None:
        self._route = route
        self._app = app
        self._prefix = route.path.partition("{")[0]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(self._prefix):
            match, found = self._route.matches(scope)
            if match is Match.FULL:
                scope.update(found)
                await self._route.handle(scope, receive, send)
                return
        # Also what is nearly it: another method or a path too short is answered like any other.
        await self._app(scope, receive, send)


class _Headers:
    """Headers that every answer carries (O4)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(pair for pair in SECURITY_HEADERS if pair[0] not in present),
                ]
            await send(message)

        await self._app(scope, receive, sending)


class _TooLarge(HTTPException):
    """An HTTPException, because anything else is taken by FastAPI for a body that cannot be parsed."""

    def __init__(self) -> None:
        super().__init__(413, f"A body has at most {JSON_BODY_MAX} bytes; send files as uploads.")


class _BodyLimit:
    """No body beyond the limit is taken in (O4). Uploads and webhooks stream and count for themselves."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS") or _streams(scope["path"]):
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > JSON_BODY_MAX:
            refusal = problem.problem(scope["path"], "too_large", _TooLarge().detail)
            await refusal(scope, receive, send)
            return
        taken = 0

        async def counting() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > JSON_BODY_MAX:
                raise _TooLarge
            return message

        await self._app(scope, counting, send)


def _streams(path: str) -> bool:
    return (
        path.startswith(("/hooks/", "/compat/"))
        or (path.startswith("/v1/uploads/") and path.endswith("/content"))
        or (path.startswith("/v1/worker/jobs/") and "/outputs/" in path)
    )
