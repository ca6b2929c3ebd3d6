"""PostgreSQL as part of Safelight: one server per data folder, shared by the processes that use it (O1).

Who uses it holds a shared `flock` on `users.lock`; starting and stopping happen under an exclusive one on
`start.lock`. The kernel drops the locks of a process that dies, so a user killed by SIGKILL never keeps the server
up nor takes it from the others; and if nobody was left to stop it, the next start finds it running and adopts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote

import asyncpg

from safelight.db.embedded_home import (
    EmbeddedError,
    cluster_home,
    default_data_dir,
    has_cluster,
    owner_of,
    service_account,
    socket_dir,
)
from safelight.db.embedded_server import POLL_S, Server, Settings

__all__ = ["Embedded", "EmbeddedError", "Settings", "data_dir_of", "default_data_dir", "exists", "start", "start_sync"]

DATABASE: Final = "safelight"
START_LOCK_S: Final = 90.0
"""Longer than the server's READY_S: whoever starts beside us is allowed its recovery."""
WATCH_S: Final = 1.0
DEFAULTS: Final = Settings()


class Embedded:
    """A running server that this object uses until `stop`."""

    def __init__(self, server: Server, users: IO[bytes], child: subprocess.Popen[bytes] | None) -> None:
        self._server = server
        self._users = users
        self._child = child  # kept so that it is reaped when it ends

    @property
    def dsn(self) -> str:
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """The address of another database on this server."""
        return f"postgresql://postgres@/{quote(database)}?host={quote(str(self.socket_dir), safe='/')}"

    @property
    def home(self) -> Path:
        """The folder of the cluster, its log and its locks."""
        return self._server.home

    @property
    def socket_dir(self) -> Path:
        return self._server.sockets

    @property
    def log_path(self) -> Path:
        return self._server.log_path

    @property
    def pid(self) -> int | None:
        """The server's process id, None when it does not run."""
        return self._server.pid

    def trim_log(self) -> None:
        """Keep the log bounded while the server runs for months; call it now and then."""
        self._server.trim_log()

    async def keep_running(self) -> None:
        """Start the server again whenever it dies under us; runs until cancelled. Costs nothing while it lives.

        Raises EmbeddedError when it cannot be started any more.
        """
        while not self._users.closed:
            await self._exited()
            await asyncio.to_thread(self._revive)

    async def stop(self) -> None:
        """Stop using the server; the last user also ends it. May be called twice."""
        await asyncio.to_thread(self.stop_sync)

    def stop_sync(self) -> None:
        if self._users.closed:
            return
        with _start_lock(self.home):
            self._users.close()
            if self._child is not None:
                self._child.poll()  # if it was killed, be done with it
            with (self.home / "users.lock").open("ab") as users:
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return  # somebody still uses it
                self._server.stop()
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=5)

    async def _exited(self) -> None:
        """Return once the server's process is gone, however it went."""
        pid = self.pid
        if pid is None:
            return
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except (AttributeError, OSError):  # not on macOS, nor under an old seccomp filter
            while self._server.listens():  # noqa: ASYNC110 - nothing tells us there
                await asyncio.sleep(WATCH_S)
            return
        gone = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(handle, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)

    def _revive(self) -> None:
        with _start_lock(self.home):
            if self._users.closed:
                return
            if self._child is not None:
                self._child.poll()
            self._child = self._server.bring_up() or self._child


def exists(data_dir: Path) -> bool:
    """Whether `start` would find a cluster for this folder rather than make one."""
    return has_cluster(data_dir)


def data_dir_of(installation: Path) -> Path:
    """Where the cluster of an installation is whose files are in `installation`.

    The default folder stands in the project, and as root a project is no place for a service's data.
    """
    return default_data_dir() if installation == Path(".safelight") else installation / "pg"


async def start(data_dir: Path, settings: Settings = DEFAULTS) -> Embedded:
    """Start the server of this folder, or join the one that runs. Creates what is missing.

    Raises EmbeddedError with what to do when it cannot. If cancelled, nothing stays running on our account.
    """
    work = asyncio.ensure_future(asyncio.to_thread(start_sync, data_dir, settings))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        with contextlib.suppress(EmbeddedError):
            await (await work).stop()
        raise


def start_sync(data_dir: Path, settings: Settings = DEFAULTS) -> Embedded:
    """`start` for a thread without a running event loop."""
    if sys.platform == "win32":
        raise EmbeddedError("the embedded PostgreSQL needs Linux or macOS: set SAFELIGHT_DATABASE_URL instead.")
    home = cluster_home(data_dir, service_account())
    account = owner_of(home)
    with _start_lock(home):
        users = (home / "users.lock").open("ab")
        try:
            fcntl.flock(users, fcntl.LOCK_SH)
            server = Server(home, socket_dir(home, account), account, settings)
            embedded = Embedded(server, users, server.bring_up())
            asyncio.run(_ensure_database(embedded))
        except BaseException:
            users.close()
            raise
    return embedded


async def _ensure_database(embedded: Embedded) -> None:
    try:
        conn = await _connect(embedded.dsn_of("postgres"))
    except (OSError, asyncpg.PostgresError) as error:
        raise EmbeddedError(f"PostgreSQL runs but refuses us: {error}. Its log: {embedded.log_path}") from error
    try:
        if not await conn.fetchval("select 1 from pg_database where datname = $1", DATABASE):
            await conn.execute(f'create database "{DATABASE}"')
    finally:
        await conn.close()


async def _connect(dsn: str) -> Any:
    return await asyncpg.connect(dsn, timeout=60)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


@contextlib.contextmanager
def _start_lock(home: Path) -> Generator[None]:
    deadline = time.monotonic() + START_LOCK_S
    with (home / "start.lock").open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EmbeddedError(f"another process has been starting or stopping {home} for too long.") from None
                time.sleep(POLL_S)
        yield
