"""The PostgreSQL process itself: create its cluster, launch it, see how it is, end it.

Why local connections are safe without a password: there is no TCP port. The socket's folder belongs to the server's
account and is closed to others, and the server asks the kernel who connects (`peer`) and admits root and whoever
started it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safelight.db.embedded_home import (
    ENV,
    MAJOR,
    SOCKET_NAME,
    Account,
    EmbeddedError,
    binaries,
    make_data_dir,
    run_as,
)

READY_S: Final = 60.0
"""Recovery after a crash replays at most `max_wal_size` of log, which a slow disk does in less."""
STOP_S: Final = 30
"""A fast shutdown writes one checkpoint; past this the server is stopped as by a crash, and recovers."""
RETRY_S: Final = 0.2
POLL_S: Final = 0.01
LOG_BYTES_MAX: Final = 8 * 2**20
"""The log is set aside when larger, at launch and whenever `trim_log` is called; one old one is kept."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What may differ between installations. The rest is `_options`."""

    shared_buffers_mb: int = 48
    connections_max: int = 60
    is_durable: bool = True
    """False only for tests: a crash of the machine may then lose the cluster."""


@dataclass(frozen=True, slots=True)
class Server:
    """One cluster: `home/data` is PostgreSQL's own, the rest of `home` is ours."""

    home: Path
    sockets: Path
    account: Account
    settings: Settings

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log_path(self) -> Path:
        return self.home / "postgres.log"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, None when it does not run or stopped cleanly."""
        status = self._status()
        return status[0] if status else None

    def bring_up(self) -> subprocess.Popen[bytes] | None:
        """Wait until connections are taken, launching the server if none runs. Returns what was launched.

        Call under the start lock. Raises EmbeddedError.
        """
        deadline = time.monotonic() + READY_S
        child: subprocess.Popen[bytes] | None = None
        log_mark = 0
        while time.monotonic() < deadline:
            pid, state = self._status() or (None, "")
            if state == "ready" and (child is None or pid == child.pid) and self.listens():
                return child
            if child is not None and child.poll() is not None:
                reason = _last_words(self._log_since(log_mark))
                was_killed = child.returncode < 0
                # A killed server's children need a moment to notice: they still hold its shared memory.
                if not was_killed and "still in use" not in reason and "already exists" not in reason:
                    raise EmbeddedError(f"PostgreSQL did not start: {reason} (log: {self.log_path})")
                child = None
                time.sleep(RETRY_S)
            if child is None and not self.listens():
                self.trim_log()
                log_mark = self.log_path.stat().st_size if self.log_path.exists() else 0
                child = self._launch()
            time.sleep(POLL_S)
        raise EmbeddedError(
            f"PostgreSQL was not ready after {READY_S:.0f} s; it may still be recovering, so try again. "
            f"Its log: {self.log_path}"
        )

    def stop(self) -> None:
        """End it and wait until it has. Does nothing if it does not run, also when it was killed."""
        if self.pid is None or not self.listens():
            return
        for mode in ("fast", "immediate"):  # the second is like a crash: nothing committed is lost
            command = [str(binaries(self.account) / "pg_ctl"), "stop", "-D", str(self.data), "-m", mode, "-w"]
            done = run_as(self.account, [*command, "-t", str(STOP_S)], timeout_s=STOP_S + 5)
            if done.returncode == 0 or not self.listens():
                return

    def listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self.sockets / SOCKET_NAME))
            except TimeoutError:
                return True  # its backlog is full: it lives
            except OSError:
                return False
            return True

    def trim_log(self) -> None:
        log = self.log_path
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            shutil.copyfile(log, log.with_name(log.name + ".1"))
            os.truncate(log, 0)  # the server appends: it goes on at the new end

    def _launch(self) -> subprocess.Popen[bytes]:
        programs = binaries(self.account)
        if not self.data.exists():
            self._create_cluster(programs)
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != str(MAJOR):
            raise EmbeddedError(
                f"{self.data} was written by PostgreSQL {version}, this Safelight carries {MAJOR}. Dump it with "
                "the Safelight that wrote it (pg_dump) and restore it into a new --data folder, "
                f"or move {self.home} away to start empty."
            )
        self._write_access_rules()
        for lock in (self.data / "postmaster.pid", self.sockets / f"{SOCKET_NAME}.lock"):
            _drop_if_stale(lock, self.data)
        command = [str(programs / "postgres"), "-D", str(self.data), *self._options()]
        with self.log_path.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own binary, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=ENV,
                umask=0o077,
                start_new_session=True,  # Ctrl-C in the terminal is for us, and we stop PostgreSQL last
                user=self.account.user,
                group=self.account.group,
                extra_groups=self.account.extra_groups,
            )

    def _options(self) -> Iterator[str]:
        durable = "on" if self.settings.is_durable else "off"
        for name, value in {
            "listen_addresses": "",
            "unix_socket_directories": self.sockets,
            "unix_socket_permissions": "0700",
            "hba_file": self.home / "pg_hba.conf",
            "ident_file": self.home / "pg_ident.conf",
            "shared_buffers": f"{self.settings.shared_buffers_mb}MB",
            "max_connections": self.settings.connections_max,
            "huge_pages": "off",
            "io_method": "sync",  # no three I/O workers for a machine that holds its data in memory
            "jit": "off",  # our statements are short: compiling them costs more than running them
            "max_worker_processes": 2,
            "max_parallel_workers": 2,
            "max_parallel_workers_per_gather": 0,
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
            "full_page_writes": durable,  # synchronous_commit stays on: what was committed survives our being killed
            "idle_in_transaction_session_timeout": "60s",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_checkpoints": "off",
            "log_line_prefix": "%m [%p] ",
            "log_min_error_statement": "panic",  # statements carry people's prompts, and swell the log
        }.items():
            yield from ("-c", f"{name}={value}")

    def _create_cluster(self, programs: Path) -> None:
        """initdb beside the place and rename: a half-made cluster is never taken for a whole one."""
        new = self.home / "data.new"
        make_data_dir(new, self.account)
        command = [str(programs / "initdb"), "-D", str(new), "-U", "postgres", "--auth=reject"]
        command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += ["--no-instructions"] if self.settings.is_durable else ["--no-instructions", "--no-sync"]
        done = run_as(self.account, command, timeout_s=READY_S)
        if done.returncode:
            raise EmbeddedError(f"initdb failed in {self.home}: {_last_words(done.stderr or done.stdout)}")
        new.rename(self.data)

    def _write_access_rules(self) -> None:
        """In our folder, not the server's: as root we never write through a path another account controls."""
        names = sorted({"root", pwd.getpwuid(os.geteuid()).pw_name})
        _write(self.home / "pg_ident.conf", "".join(f'safelight "{name}" postgres\n' for name in names))
        _write(
            self.home / "pg_hba.conf",
            "local all postgres peer map=safelight\nlocal replication postgres peer map=safelight\n",
        )

    def _status(self) -> tuple[int, str] | None:
        """Process id and state (`starting`, `ready`, …) from the file that the server itself keeps."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return int(lines[0]), lines[7].strip() if len(lines) > 7 else ""
        except (OSError, ValueError, IndexError):
            return None

    def _log_since(self, mark: int) -> str:
        with contextlib.suppress(OSError), self.log_path.open("rb") as log:
            log.seek(mark)
            return log.read(64 * 1024).decode(errors="replace")
        return ""


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


def _last_words(text: str) -> str:
    """The last line that says why."""
    lines = text.splitlines()
    telling = [line for line in lines if re.search(r"FATAL|PANIC|rror:", line)] or lines
    return telling[-1].strip() if telling else "it gave no reason"
