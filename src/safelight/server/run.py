"""Running an installation as a process: sockets, signals, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog
import uvicorn
import uvloop

from safelight.observe.logging import configure
from safelight.realtime.line import LineProtocol
from safelight.realtime.phoenix import FRAME_BYTES_MAX
from safelight.realtime.transport import SocketProtocol
from safelight.server.settings import Settings
from safelight.server.system import LAST_WORDS_S, System, system
from safelight.stopping import end

log: Final = structlog.get_logger("server")

SOCKETS_SPREAD_S: Final = 2.0
"""Sockets are closed over this long, so that their clients do not all come back at once."""

DRAIN_S: Final = 3
"""Requests and streams get this long to end by themselves when we stop."""

GC_YOUNG: Final = 5_000
"""Allocations between collections of the youngest objects (Python's default, 700, is from another age)."""

STUCK_MS: Final = 60_000
"""Sent and never acknowledged for this long: the other side is gone."""

LISTENING: Final = frozenset({"api", "realtime"})
"""Roles that clients connect to."""

Ready = Callable[[System], Coroutine[Any, Any, None]]


def serve(settings: Settings, on_ready: Ready | None = None) -> None:
    """Serve until SIGINT or SIGTERM. Raises OSError if the port is taken."""
    listener = listen(settings.host, settings.port) if LISTENING & set(settings.roles) else None
    with contextlib.closing(listener) if listener is not None else contextlib.nullcontext():
        serve_on(settings, listener, on_ready)


def serve_on(settings: Settings, listener: socket.socket | None, on_ready: Ready | None = None) -> None:
    """As `serve`, on a socket that is there. `on_ready` runs once requests are answered."""
    configure(settings.log_format, settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(settings, listener, on_ready))


async def _main(settings: Settings, listener: socket.socket | None, on_ready: Ready | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    port = listener.getsockname()[1] if listener is not None else settings.port
    await running(settings, listener, f"http://{_reachable(settings.host)}:{port}", stop, on_ready)


async def running(
    settings: Settings, listener: socket.socket | None, base_url: str, stop: asyncio.Event, on_ready: Ready | None
) -> None:
    """Everything up, until `stop` is set or a part fails."""
    async with system(settings, base_url=base_url) as whole:
        background = asyncio.create_task(whole.run_background(), name="background")
        server = _server(whole.app) if listener is not None else None
        serving: asyncio.Task[None] | None = None
        if server is not None and listener is not None:
            serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
            while not server.started and not serving.done():  # noqa: ASYNC110 -- uvicorn offers no event
                await asyncio.sleep(0.005)
        _settle_down()
        log.info("server.ready", url=base_url, roles=list(settings.roles))
        greeting = asyncio.create_task(on_ready(whole), name="ready") if on_ready is not None else None
        stopping = asyncio.create_task(stop.wait())
        watched: set[asyncio.Task[Any]] = {background, stopping, *({serving} if serving else ())}
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        finally:
            log.info("server.stopping")
            whole.feed.drain()
            whole.desk.close()
            await whole.realtime.drain(SOCKETS_SPREAD_S)
            if server is not None and serving is not None:
                server.should_exit = True
                with contextlib.suppress(Exception):
                    await serving
            await end(background, stopping, greeting, again_s=LAST_WORDS_S)
        for task in (background, greeting):
            if task is not None and not task.cancelled() and isinstance(error := task.exception(), Exception):
                raise error


def _settle_down() -> None:
    """Everything that lives as long as the process is there now: no collection needs to walk through it again.

    A full collection of it takes 60 ms and more, in the middle of somebody's webhook.
    """
    gc.freeze()
    gc.set_threshold(GC_YOUNG, 20, 20)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises OSError that names the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Inherited by every connection: a client that no longer takes what we send is let go (S7).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STUCK_MS)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"Cannot listen on {host}:{port}: {error.strerror}") from error
    listener.listen(2048)
    listener.setblocking(False)
    return listener


def _reachable(host: str) -> str:
    """What a browser on this machine types for it."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 -- compared with, not bound to
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self):  # pyright: ignore[reportIncompatibleMethodOverride]
        yield


def _server(app: Any) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            loop="none",
            http=LineProtocol,
            ws=SocketProtocol,
            ws_per_message_deflate=False,  # 129 kB a socket, and 1.7 times the work (issue 3)
            ws_max_size=2 * FRAME_BYTES_MAX,  # the session says it in words; this bounds what is taken in before
            lifespan="off",
            access_log=False,
            log_config=None,
            proxy_headers=True,
            server_header=False,
            timeout_graceful_shutdown=DRAIN_S,
            timeout_keep_alive=75,
            backlog=2048,
        )
    )
