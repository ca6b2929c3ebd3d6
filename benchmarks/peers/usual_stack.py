"""Starts and stops the usual stack, on the same PostgreSQL with the same settings as Safelight's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import sql
from benchmarks.load.http import Address, request
from benchmarks.load.run import Watch
from benchmarks.peers.usual.schema import TABLE
from benchmarks.processes import NotReady, Program, data_dir, free_port, remove
from safelight.db import embedded

CONCURRENCY: Final = 4
"""Worker processes of Celery: two a core, because a task mostly waits for the commit."""
READY_S: Final = 60.0


def ensure_redis() -> str:
    """The path of a redis-server. As root with apt, installs Debian's. Raises NotReady."""
    found = shutil.which("redis-server")
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "redis-server"],
            check=False,
            env={"DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        found = shutil.which("redis-server")
    if found is None:
        raise NotReady(
            "the peers need redis-server on PATH: install it (apt install redis-server, brew install redis) and run "
            "again, or measure Safelight alone with --no-peers"
        )
    return found


@dataclass(slots=True)
class UsualStack:
    """`start` it, post to `address`, `stop` it."""

    address: Address
    programs: list[Program]
    database: embedded.Embedded
    home: Path
    ready_s: float

    name = "usual stack"

    @classmethod
    def start(cls) -> UsualStack:
        redis = ensure_redis()
        home = data_dir()
        began = time.monotonic()
        programs: list[Program] = []
        database = embedded.start_sync(home)
        try:
            redis_port, port = free_port(), free_port()
            env = {
                "BENCH_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
                "BENCH_DATABASE_URL": database.dsn,
            }
            programs.append(
                Program(
                    "redis",
                    [redis, "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
                    home / "redis.log",
                )
            )
            programs[-1].wait_for_port(redis_port)
            sql.fetch(database.dsn, TABLE)
            programs.append(
                Program(
                    "celery",
                    [sys.executable, "-m", "celery", "-A", "benchmarks.peers.usual.tasks", "worker",
                     "--concurrency", str(CONCURRENCY), "--loglevel", "WARNING",
                     "--without-gossip", "--without-mingle", "--without-heartbeat"],
                    home / "celery.log",
                    env | {"C_FORCE_ROOT": "1"},
                )
            )  # fmt: skip
            programs.append(
                Program(
                    "uvicorn",
                    [sys.executable, "-m", "uvicorn", "benchmarks.peers.usual.web:app", "--host", "127.0.0.1",
                     "--port", str(port), "--loop", "uvloop", "--http", "httptools", "--no-access-log",
                     "--log-level", "warning", "--timeout-keep-alive", "75"],
                    home / "web.log",
                    env,
                )
            )  # fmt: skip
            stack = cls(Address("127.0.0.1", port), programs, database, home, 0.0)
            programs[-1].wait_for_url(f"{stack.address.url}/healthz")
            stack._await_worker()
            stack.ready_s = time.monotonic() - began
        except BaseException:
            _stop(programs, database, home)
            raise
        return stack

    @property
    def pids(self) -> list[int]:
        database = self.database.pid
        return [*(program.pid for program in self.programs), *([database] if database else [])]

    def requests(self, ids: list[str]) -> list[bytes]:
        return [
            request(self.address, "POST", "/webhook", json.dumps(_body(each), separators=(",", ":")).encode())
            for each in ids
        ]

    def watch(self) -> Watch:
        return Watch(self.address, rb'"id":"([0-9a-f-]{36})"')

    def rows(self) -> int:
        return sql.value(self.database.dsn, "select count(*) from results")

    def settle(self, count: int, timeout_s: float = 60.0) -> int:
        """Wait until `count` rows are there, so that one run's backlog does not burden the next; returns how many."""
        deadline = time.monotonic() + timeout_s
        while (rows := self.rows()) < count and time.monotonic() < deadline:
            time.sleep(0.5)
        return rows

    def _await_worker(self) -> None:
        """One webhook through the whole chain."""
        body = json.dumps(_body(str(uuid.uuid4()))).encode()
        asked = urllib.request.Request(
            f"{self.address.url}/webhook", body, {"Content-Type": "application/json"}, method="POST"
        )
        urllib.request.urlopen(asked, timeout=10).close()
        deadline = time.monotonic() + READY_S
        while not self.rows():
            for program in self.programs:
                program.check()
            if time.monotonic() > deadline:
                raise NotReady(f"celery took nothing: {self.programs[1].last_words()}")
            time.sleep(0.05)

    def stop(self) -> None:
        _stop(self.programs, self.database, self.home)


def _body(identity: str) -> dict[str, object]:
    """The same result that Safelight's signed worker reports."""
    stored = {"key": f"bench/{identity}.png", "mime": "image/png", "bytes": 100_000, "width": 1024, "height": 1024}
    return {"task_id": identity, "status": "succeeded", "outputs": [stored]}


def _stop(programs: list[Program], database: embedded.Embedded, home: Path) -> None:
    for program in reversed(programs):
        program.stop()
    database.stop_sync()
    remove(home)
