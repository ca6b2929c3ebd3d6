"""`safelight serve` as a process of its own, on an embedded PostgreSQL of its own; started, stopped and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

START_S = 120.0
"""A loaded machine starts Python slowly; nothing here asserts how long it takes."""
END_S = 60.0
SAFELIGHT = Path(sys.executable).with_name("safelight")


class Served:
    """One process over the folder `data`. Its output is kept, and told when it does not do what it should."""

    def __init__(self, data: Path, name: str = "server", **environ: str) -> None:
        self.data = data
        self.url = ""
        self._output = data.parent / f"{name}.log"
        self._environ = environment() | environ
        self._process: subprocess.Popen[bytes] | None = None
        self._seen = 0

    def start(self) -> Served:
        """Begin; `ready` waits."""
        self._seen = self._output.stat().st_size if self._output.exists() else 0
        with self._output.open("ab") as output:
            command = [str(SAFELIGHT), "serve", "--port", "0", "--data", str(self.data)]
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, env=self._environ, start_new_session=True
            )
        return self

    def ready(self) -> Served:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.is_running, f"it ended with {self.process.returncode}: {self.said()}"
            self.url = next((line["url"] for line in self.lines() if line.get("event") == "server.ready"), "")
            if self.url and httpx.get(f"{self.url}/readyz", timeout=30, trust_env=False).status_code == 200:
                return self
            time.sleep(0.05)
        raise AssertionError(f"it did not get ready: {self.said()}")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Its exit status, once it has ended."""
        try:
            return self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end: {self.said()}") from None

    def stop(self) -> int:
        self.terminate()
        return self.ended()

    def kill(self) -> None:
        """SIGKILL: nobody is told, nothing is flushed."""
        self.process.kill()
        self.process.wait()

    def clean_up(self) -> None:
        if self.is_running:
            self.terminate()
            self.ended()

    def lines(self) -> list[dict[str, Any]]:
        """What this run has logged."""
        found = []
        for line in self._output.read_bytes()[self._seen :].splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return [line for line in found if isinstance(line, dict)]

    def said(self) -> str:
        return self._output.read_text(errors="replace")[-4000:]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAFELIGHT_", "FAL_", "KIE_"))}
    return kept | {"SAFELIGHT_LOG_FORMAT": "json", "SAFELIGHT_LOG_LEVEL": "info"}


def a_key(data: Path) -> str:
    """A secret key of the whole installation, by the command that an operator uses."""
    command = [str(SAFELIGHT), "keys", "create", "--data", str(data)]
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, check=True, timeout=START_S
    ).stdout.strip()


def postgres_pid(data: Path) -> int | None:
    """The embedded server's process, if it runs."""
    for file in data.rglob("postmaster.pid"):
        pid = int(file.read_text().split()[0])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        except PermissionError:
            pass
        return pid
    return None


def client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=START_S, trust_env=False)


def until(condition: Any, what: str) -> Any:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {START_S} s for {what}")
