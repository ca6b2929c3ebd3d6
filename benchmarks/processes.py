"""Programs under measurement: started, waited for, weighed and ended as whole trees."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent


class NotReady(Exception):
    """A program did not come up; the message has its last words."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def data_dir() -> Path:
    """A fresh folder that the database's own account may reach (as root, a home would be opened to others)."""
    path = Path(tempfile.mkdtemp(prefix="safelight-bench-", dir="/var/tmp"))
    path.chmod(0o755)
    return path


def remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Weight:
    """Of a set of processes. PSS: shared pages counted once, spread over those who share them."""

    processes: int
    pss_mb: float
    cpu_s: float
    """Processor time spent so far by those that live."""
    database_cpu_s: float
    """Of it, by PostgreSQL."""


class Program:
    """A child process with its output in a file."""

    def __init__(self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name, self._log = name, log
        self.started_at = time.monotonic()
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_for_url(self, url: str, timeout_s: float = 60.0) -> float:
        """Seconds from the start to the first 200."""
        while time.monotonic() - self.started_at < timeout_s:
            self.check()
            try:
                with urllib.request.urlopen(url, timeout=2):
                    return time.monotonic() - self.started_at
            except (OSError, urllib.error.URLError):
                time.sleep(0.01)
        raise NotReady(f"{self.name} did not answer {url} in {timeout_s:.0f} s: {self.last_words()}")

    def wait_for_port(self, port: int, timeout_s: float = 30.0) -> None:
        while time.monotonic() - self.started_at < timeout_s:
            self.check()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        raise NotReady(f"{self.name} did not listen on {port}: {self.last_words()}")

    def check(self) -> None:
        """Raises NotReady if it has ended."""
        if self.process.poll() is not None:
            raise NotReady(f"{self.name} ended with {self.process.returncode}: {self.last_words()}")

    def last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def stop(self, grace_s: float = 20.0) -> None:
        """SIGTERM, then SIGKILL for what is left of its tree."""
        tree = family([self.pid])
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(grace_s)
            except subprocess.TimeoutExpired:
                print(f"{self.name} did not stop in {grace_s:.0f} s and is killed", file=sys.stderr)
        for process in tree:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()


def family(pids: Iterable[int]) -> list[psutil.Process]:
    """These processes and all below them, each once."""
    found: dict[int, psutil.Process] = {}
    for pid in pids:
        try:
            parent = psutil.Process(pid)
            members = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        found |= {each.pid: each for each in members}
    return list(found.values())


def weigh(pids: Iterable[int]) -> Weight:
    """Needs the right to read others' memory maps: root, where PostgreSQL runs under its own account."""
    count, pss, cpu, database = 0, 0, 0.0, 0.0
    for process in family(pids):
        try:
            pss += process.memory_full_info().pss
            times, name = process.cpu_times(), process.name()
        except psutil.NoSuchProcess:
            continue
        count += 1
        # With children that have ended: PostgreSQL's processes come and go.
        spent = times.user + times.system + times.children_user + times.children_system
        cpu += spent
        if name == "postgres":
            database += spent
    return Weight(count, pss / 2**20, cpu, database)
