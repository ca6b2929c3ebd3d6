"""What the tests of the fal door share: a whole installation, TLS before it, and somebody who receives webhooks."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import uvicorn
from conformance_parts import Certificates
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

sys.path.append(str(Path(__file__).parents[1] / "integration" / "api"))

from api_world import World, a_world

from safelight.compat.fal import run
from safelight.emulators.serve import running as emulators_running
from safelight.emulators.settings import EmulatorSettings
from safelight.server.run import listen

__all__ = ["Receiver", "World", "impatient_runs", "installation", "receiver", "tls"]


@contextlib.asynccontextmanager
async def serving(app: Any, certificates: Certificates | None = None) -> AsyncIterator[str]:
    """The app on a port of its own: `host:port`."""
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        ssl_certfile=str(certificates.certificate) if certificates else None,
        ssl_keyfile=str(certificates.key) if certificates else None,
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield f"localhost:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await task
        listener.close()


def tls(world: World, certificates: Certificates) -> contextlib.AbstractAsyncContextManager[str]:
    """The same installation, reached by TLS: fal_client knows nothing else."""
    return serving(world.system.app, certificates)


class Receiver:
    """An app's own server that is told of results. `failures`: so many messages are refused first."""

    def __init__(self, failures: int = 0) -> None:
        self.address = ""
        self.failures = failures
        self.messages: list[tuple[dict[str, str], bytes]] = []
        self.heard = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://{self.address}/told?of=it"

    async def take(self, request: Request) -> Response:
        self.messages.append((dict(request.headers), await request.body()))
        self.heard.set()
        self.failures -= 1
        return Response(status_code=200 if self.failures < 0 else 503)

    async def message(self, request_id: str, deadline_s: float = 60.0) -> tuple[dict[str, str], bytes]:
        async with asyncio.timeout(deadline_s):
            while True:
                self.heard.clear()
                for headers, body in self.messages:
                    if headers.get("x-fal-webhook-request-id") == request_id:
                        return headers, body
                await self.heard.wait()


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = Starlette(routes=[Route("/told", made.take, methods=["POST"])])
    async with serving(app) as made.address:
        yield made


@contextlib.asynccontextmanager
async def installation(postgres: str, template: str, folder: Path, receivers: Receiver) -> AsyncIterator[World]:
    """A world of its own for a whole module, with emulated providers."""
    name = f"safelight_test_{uuid.uuid4().hex[:12]}"
    conn = await asyncpg.connect(postgres)
    await conn.execute(f"create database {name} template {template} strategy file_copy")
    emulated = EmulatorSettings(seed=5, image_latency_s=0.1, video_latency_s=0.2, media_threads=1)
    try:
        with emulators_running(emulated) as at:
            allowed = (at.base_url.partition("://")[2], receivers.address)
            dsn = urlunsplit(urlsplit(postgres)._replace(path=f"/{name}"))
            world = await a_world(dsn, at, folder, allow_hosts=allowed)
            try:
                yield world
            finally:
                await world.close()
    finally:
        await conn.execute(f"drop database {name} with (force)")
        await conn.close()


@contextlib.contextmanager
def impatient_runs() -> Iterator[None]:
    """A run that takes longer than two seconds is sent on, as it is after 25 s in earnest."""
    before, run.HOLD_S = run.HOLD_S, 2.0  # type: ignore[misc]
    try:
        yield
    finally:
        run.HOLD_S = before  # type: ignore[misc]
