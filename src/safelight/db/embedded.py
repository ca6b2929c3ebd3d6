"""PostgreSQL as part of Safelight: one server per data folder, shared by the processes that use it (O1).

Who uses it holds a shared `flock` on `users.lock`; starting and stopping happen under an exclusive one on
`start.lock`. The kernel drops the locks of a process that dies, so a user killed by SIGKILL never keeps the
server up nor takes it from the others; and if nobody was left to stop it, the next start finds it running
and adopts it.

Why local connections are safe without a password: there is no TCP port. The socket's folder belongs to the
server's account and is closed to others, and the server asks the kernel who connects (`peer`) and admits
root and whoever started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

import asyncpg

from safelight.db.embedded_home import (
    ENV,
    MAJOR,
    SOCKET_NAME,
    Account,
    EmbeddedError,
    binaries,
    cluster_home,
    default_data_dir,
    make_data_dir,
    run_as,
    service_account,
    socket_dir,
)

__all__ = ["Embedded", "EmbeddedError", "Settings", "default_data_dir", "start", "start_sync"]

DATABASE: Final = "safelight"
READY_S: Final = 60.0
"""Recovery after a crash replays at most `max_wal_size` of log, which a slow disk does in less."""
START_LOCK_S: Final = 90.0
"""Longer than READY_S: whoever starts beside us is allowed its recovery."""
STOP_S: Final = 30
"""A fast shutdown writes one checkpoint; past this the server is stopped as by a crash, and recovers."""
RETRY_S: Final = 0.2
WATCH_S: Final = 1.0
LOG_BYTES_MAX: Final = 8 * 2**20
"""The log is set aside when larger, at start and whenever `trim_log` is called; one old one is kept."""
_POLL_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Settings:
    """What may differ between installations. The rest is `_options`."""

    shared_buffers_mb: int = 48
    connections_max: int = 60
    is_durable: bool = True
    """False only for tests: a crash of the machine may then lose the cluster."""


class Embedded:
    """A running server that this object uses until `stop`."""

    def __init__(self, home: Path, sockets: Path, users: IO[bytes], child: subprocess.Popen[bytes] | None) -> None:
        self.home = home
        self.socket_dir = sockets
        self._users = users
        self._child = child  # kept so that it is reaped when it ends
        self._settings = settings

    @property
    def dsn(self) -> str:
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """The address of another database on this server."""
        return f"postgresql://postgres@/{quote(database)}?host={quote(str(self.socket_dir), safe='/')}"

    @property
    def log_path(self) -> Path:
        return self.home / "postgres.log"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, None when it does not run."""
        status = _read_status(self.home)
        return status[0] if status else None

    def trim_log(self) -> None:
        """Keep the log bounded while the server runs for months; call it now and then."""
        _trim_log(self.log_path)

    async def keep_running(self) -> None:
        """Start the server again whenever it dies under us; runs until cancelled. Costs nothing while it lives.

        Raises EmbeddedError when it cannot be started any more.
        """
        while True:
            await self._exited()
            await asyncio.to_thread(self._revive)

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
            while _listens(self.socket_dir):
                await asyncio.sleep(WATCH_S)
            return
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
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
            child = _bring_up(self.home, self.socket_dir, service_account(), self._settings)
            self._child = child or self._child

    async def stop(self) -> None:
        """Stop using the server; the last user also stops it. May be called twice."""
        await asyncio.to_thread(self.stop_sync)

    def stop_sync(self) -> None:
        if self._users.closed:
            return
        with _start_lock(self.home):
            self._users.close()
            with (self.home / "users.lock").open("ab") as users:
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return  # somebody still uses it
                _stop_server(self.home)
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=5)


async def start(data_dir: Path, settings: Settings = Settings()) -> Embedded:
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


def start_sync(data_dir: Path, settings: Settings = Settings()) -> Embedded:
    """`start` for code without an event loop in its thread."""
    if sys.platform == "win32":
        raise EmbeddedError("the embedded PostgreSQL needs Linux or macOS: set SAFELIGHT_DATABASE_URL instead.")
    account = service_account()
    home = cluster_home(data_dir, account)
    with _start_lock(home):
        users = (home / "users.lock").open("ab")
        try:
            fcntl.flock(users, fcntl.LOCK_SH)
            sockets = socket_dir(home, account)
            child = _bring_up(home, sockets, account, settings)
            embedded = Embedded(home, sockets, users, child, settings)
            asyncio.run(_ensure_database(embedded))
        except BaseException:
            users.close()
            raise
    return embedded


async def _ensure_database(embedded: Embedded) -> None:
    try:
        conn = await asyncpg.connect(embedded.dsn_of("postgres"), timeout=60)
    except (OSError, asyncpg.PostgresError) as error:
        raise EmbeddedError(f"PostgreSQL runs but refuses us: {error}. Its log: {embedded.log_path}") from error
    try:
        if not await conn.fetchval("select 1 from pg_database where datname = $1", DATABASE):
            await conn.execute(f'create database "{DATABASE}"')
    finally:
        await conn.close()


def _launch(home: Path, sockets: Path, account: Account, settings: Settings) -> subprocess.Popen[bytes]:
    programs = binaries(account)
    data = home / "data"
    if not data.exists():
        _create_cluster(home, programs, account, settings)
    version = (data / "PG_VERSION").read_text().strip()
    if version != str(MAJOR):
        raise EmbeddedError(
            f"{data} was written by PostgreSQL {version}, this Safelight carries {MAJOR}. Dump it with the "
            "Safelight that wrote it (pg_dump) and restore it into a new --data folder, "
            f"or move {home} away to start empty."
        )
    _write_access_rules(home)
    for stale in (data / "postmaster.pid", sockets / f"{SOCKET_NAME}.lock"):
        _drop_if_stale(stale, data)
    log_path = home / "postgres.log"
    _trim_log(log_path)
    with log_path.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own binary, no shell
            [str(programs / "postgres"), "-D", str(data), *_options(home, sockets, settings)],
            stdin=subprocess.DEVNULL,
            text=False,
            stdout=log,
            stderr=log,
            cwd="/",
            env=ENV,
            umask=0o077,
            start_new_session=True,  # Ctrl-C in the terminal is for us, and we stop PostgreSQL last
            **account.become(),
        )


def _options(home: Path, sockets: Path, settings: Settings) -> Iterator[str]:
    durable = "on" if settings.is_durable else "off"
    for name, value in {
        "listen_addresses": "",
        "unix_socket_directories": sockets,
        "unix_socket_permissions": "0700",
        "hba_file": home / "pg_hba.conf",
        "ident_file": home / "pg_ident.conf",
        "shared_buffers": f"{settings.shared_buffers_mb}MB",
        "max_connections": settings.connections_max,
        "huge_pages": "off",
        "io_method": "sync",  # no three I/O workers for a machine that holds its data in memory
        "jit": "off",  # our statements are short: compiling them costs more than running them
        "max_parallel_workers": 2,
        "max_parallel_workers_per_gather": 0,
        "max_worker_processes": 2,
        "max_logical_replication_workers": 0,
        "max_wal_senders": 2,  # pg_basebackup while we run
        "max_replication_slots": 0,
        "work_mem": "4MB",
        "maintenance_work_mem": "32MB",
        "autovacuum_max_workers": 1,
        "autovacuum_worker_slots": 2,
        "bgwriter_delay": "1s",
        "bgwriter_lru_maxpages": 0,  # the checkpointer is enough, and it wakes nobody when idle
        "min_wal_size": "32MB",
        "max_wal_size": "256MB",
        "checkpoint_timeout": "10min",
        "fsync": durable,
        "full_page_writes": durable,
        "synchronous_commit": durable,
        "log_timezone": "UTC",
        "timezone": "UTC",
        "log_checkpoints": "off",
        "log_line_prefix": "%m [%p] ",
        "log_min_error_statement": "panic",  # statements carry people's prompts, and swell the log
        "idle_in_transaction_session_timeout": "60s",
    }.items():
        yield from ("-c", f"{name}={value}")


def _create_cluster(home: Path, programs: Path, account: Account, settings: Settings) -> None:
    """initdb beside the place and rename: a half-made cluster is never taken for a whole one."""
    new = home / "data.new"
    make_data_dir(new, account)
    command = [str(programs / "initdb"), "-D", str(new), "-U", "postgres", "--auth=reject", "--encoding=UTF8"]
    command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
    command += [] if settings.is_durable else ["--no-sync"]
    done = run_as(account, command, timeout_s=READY_S)
    if done.returncode:
        raise EmbeddedError(f"initdb failed in {home}: {_last_words(done.stderr or done.stdout)}")
    new.rename(home / "data")


def _write_access_rules(home: Path) -> None:
    """In our folder, not the server's: as root we never write through a path another account controls."""
    us = pwd.getpwuid(os.geteuid()).pw_name
    names = sorted({"root", us})
    _write(home / "pg_ident.conf", "".join(f'safelight "{name}" postgres\n' for name in names))
    _write(
        home / "pg_hba.conf",
        "local all postgres peer map=safelight\nlocal replication postgres peer map=safelight\n",
    )


def _write(path: Path, text: str) -> None:
    temp = path.with_name(path.name + ".new")
    temp.write_text(text, "utf-8")
    temp.chmod(0o644)  # the service account reads it
    temp.replace(path)


def _drop_if_stale(lock: Path, data: Path) -> None:
    """Remove a lock file whose process id now belongs to another program: PostgreSQL would believe in it.

    That is usual in containers, where ids start over. A server that really still has this data has it as its
    working folder. Nothing is removed where /proc is missing; PostgreSQL itself looks for orphans' memory.
    """
    try:
        pid = int(lock.read_text().split("\n", 1)[0])
        where = os.readlink(f"/proc/{pid}/cwd")
    except (OSError, ValueError):
        return
    if Path(where) != data.resolve():
        lock.unlink(missing_ok=True)


def _bring_up(home: Path, sockets: Path, account: Account, settings: Settings) -> subprocess.Popen[bytes] | None:
    """Wait until the server takes connections, starting it if none runs. Returns the process if we started it."""
    deadline = time.monotonic() + READY_S
    child: subprocess.Popen[bytes] | None = None
    while time.monotonic() < deadline:
        status = _read_status(home)
        if status and status[1] == "ready" and (child is None or status[0] == child.pid) and _listens(sockets):
            return child
        if child is not None and child.poll() is not None:
            child = None
            reason = _last_words(_tail(home))
            # A killed server's children need a moment to notice: they still hold its shared memory.
            if "still in use" not in reason and "already exists" not in reason:
                raise EmbeddedError(f"PostgreSQL did not start: {reason} (log: {home / 'postgres.log'})")
            time.sleep(RETRY_S)
        if child is None and not _listens(sockets):
            child = _launch(home, sockets, account, settings)
        time.sleep(_POLL_S)
    raise EmbeddedError(
        f"PostgreSQL was not ready after {READY_S:.0f} s; it may still be recovering, so try again. "
        f"Its log: {home / 'postgres.log'}"
    )


def _stop_server(home: Path) -> None:
    if _read_status(home) is None:
        return
    account = service_account()
    for mode in ("fast", "immediate"):  # the second is like a crash: nothing committed is lost
        command = [str(binaries(account) / "pg_ctl"), "stop", "-D", str(home / "data"), "-m", mode, "-w"]
        if run_as(account, [*command, "-t", str(STOP_S)], timeout_s=STOP_S + 5).returncode == 0:
            return


def _read_status(home: Path) -> tuple[int, str] | None:
    """Process id and state (`starting`, `ready`, …) from the file that the server itself keeps."""
    try:
        lines = (home / "data" / "postmaster.pid").read_text().splitlines()
        return int(lines[0]), lines[7].strip() if len(lines) > 7 else ""
    except (OSError, ValueError, IndexError):
        return None


def _listens(sockets: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(sockets / SOCKET_NAME))
        except TimeoutError:
            return True  # its backlog is full: it lives
        except OSError:
            return False
        return True


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
                time.sleep(_POLL_S)
        yield


def _trim_log(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        shutil.copyfile(log, log.with_name(log.name + ".1"))
        os.truncate(log, 0)  # the server appends: it goes on at the new end


def _tail(home: Path) -> str:
    try:
        with (home / "postgres.log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
            return log.read().decode(errors="replace")
    except OSError:
        return ""


def _last_words(text: str) -> str:
    """The last line that says why."""
    lines = (
        [line for line in text.splitlines() if re.search(r"FATAL|PANIC|rror:", line)]
        or text.splitlines()
        or ["no reason given"]
    )
    return lines[-1].strip()
