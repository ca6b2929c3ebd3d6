"""Runs the emulators as a server of their own: for `safelight emulate`, the demo, tests and benchmarks."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from safelight.emulators.app import Emulators, create_fal_host_app
from safelight.emulators.drop import AbortableProtocol
from safelight.emulators.fal_doors import ByHost, HostKind
from safelight.emulators.settings import EmulatorSettings

__all__ = ["Address", "FalHostsAt", "run", "running", "serving"]

STARTUP_MAX_S = 30.0
SHUTDOWN_MAX_S = 3  # then open streams are cut


@dataclass(frozen=True, slots=True)
class FalHostsAt:
    """One TLS port where fal's hosts are told apart by name: for clients that know hosts and nothing else.

    `names` maps what stands in the URL (without port) to the host that it plays.
    """

    certificate: Path
    key: Path
    names: Mapping[str, HostKind]
    port: int = 0


@dataclass(frozen=True, slots=True)
class Address:
    """Where the emulators were found to listen."""

    base_url: str
    fal_hosts_port: int | None = None

    @property
    def fal_url(self) -> str:
        return f"{self.base_url}/fal"

    @property
    def kie_url(self) -> str:
        return f"{self.base_url}/kie"

    @property
    def replicate_url(self) -> str:
        return f"{self.base_url}/replicate"

    @property
    def openai_url(self) -> str:
        return f"{self.base_url}/openai"

    @property
    def runway_url(self) -> str:
        """What RUNWAYML_BASE_URL is set to."""
        return f"{self.base_url}/runway/v1"

    @property
    def luma_url(self) -> str:
        """What LUMAAI_BASE_URL is set to."""
        return f"{self.base_url}/luma/dream-machine/v1"

    @property
    def comfyui_url(self) -> str:
        return f"{self.base_url}/comfyui"


@asynccontextmanager
async def serving(
    settings: EmulatorSettings | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    fal_hosts: FalHostsAt | None = None,
) -> AsyncGenerator[Address]:
    """Serve within this event loop until the block ends. Port 0 = any free one. Raises OSError if it is taken."""
    settings = settings or EmulatorSettings()
    listener = _listen(host, port)
    base_url = f"http://{_named(host)}:{listener.getsockname()[1]}"
    if settings.base_url is not None:
        base_url = settings.base_url
    elif fal_hosts is not None:
        settings = dataclasses.replace(settings, base_url=base_url)
    emulators = Emulators(settings)
    servers = [(_server(emulators.app()), listener)]
    hosts_port: int | None = None
    if fal_hosts is not None:
        names = {name: create_fal_host_app(kind, emulators) for name, kind in fal_hosts.names.items()}
        second = _listen(host, fal_hosts.port)
        hosts_port = second.getsockname()[1]
        servers.append((_server(ByHost(names), fal_hosts), second))
    running = [asyncio.create_task(server.serve([sock])) for server, sock in servers]
    try:
        async with asyncio.timeout(STARTUP_MAX_S):
            while not all(server.started for server, _ in servers):
                for task in running:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.005)
        yield Address(base_url, hosts_port)
    finally:
        for server, _ in reversed(servers):
            server.should_exit = True
        await asyncio.gather(*running, return_exceptions=True)
        for _, sock in servers:
            sock.close()


def run(
    host: str = "127.0.0.1",
    port: int = 0,
    settings: EmulatorSettings | None = None,
    *,
    fal_hosts: FalHostsAt | None = None,
    on_ready: Callable[[Address], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. Says where on standard output, or to `on_ready`."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows; not the main thread
            import signal

            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop.set)
        async with serving(settings, host=host, port=port, fal_hosts=fal_hosts) as address:
            (on_ready or _announce)(address)
            await stop.wait()

    import uvloop

    uvloop.run(main())


@contextmanager
def running(
    settings: EmulatorSettings | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    fal_hosts: FalHostsAt | None = None,
) -> Generator[Address]:
    """Serve in a thread of its own until the block ends: for tests and scripts without a loop."""
    ready = threading.Event()
    found: list[Address] = []
    failed: list[BaseException] = []
    stop: list[Callable[[], object]] = []

    async def main() -> None:
        leave = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(leave.set))
        async with serving(settings, host=host, port=port, fal_hosts=fal_hosts) as address:
            found.append(address)
            ready.set()
            await leave.wait()

    def body() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=body, name="safelight-emulators", daemon=True)
    thread.start()
    ready.wait(STARTUP_MAX_S + 5)
    if not found:
        raise RuntimeError("the emulators did not start") from (failed[0] if failed else None)
    try:
        yield found[0]
    finally:
        stop[0]()
        thread.join(STARTUP_MAX_S)


def _announce(address: Address) -> None:
    lines = [f"Emulators at {address.base_url}", f"  fal  {address.fal_url}", f"  kie  {address.kie_url}"]
    lines += [f"  replicate  {address.replicate_url}", f"  openai  {address.openai_url}"]
    if address.fal_hosts_port is not None:
        lines.append(f"  fal hosts over TLS at port {address.fal_hosts_port}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def _named(host: str) -> str:
    """The host as it may stand in a URL: one cannot call "every address"."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


class _Server(uvicorn.Server):
    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # pyright: ignore[reportIncompatibleMethodOverride]  # signals belong to whoever runs us
        return contextlib.nullcontext()


def _server(app: ASGIApp, tls: FalHostsAt | None = None) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http=AbortableProtocol,
            ws="websockets-sansio",
            lifespan="off" if tls else "on",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=SHUTDOWN_MAX_S,
            ssl_certfile=str(tls.certificate) if tls else None,
            ssl_keyfile=str(tls.key) if tls else None,
        )
    )
