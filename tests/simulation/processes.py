"""Real processes of an installation, to be killed: an api, a worker, the emulated providers, one embedded database."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

START_S = 90.0
"""A loaded machine starts Python slowly; nothing here asserts how long it takes."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Emulators:
    """The emulated providers; never killed in a test, because they stand for the outside."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "safelight.emulators", "--image-latency-s", "0.4", "--kie-hmac-key", "k" * 16],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = str(json.loads(self._process.stdout.readline())["base_url"])

    def set_faults(self, faults: dict[str, object]) -> None:
        httpx.put(f"{self.url}/_emulator/faults", json=faults).raise_for_status()

    def accepted(self) -> list[dict[str, object]]:
        """Every submit that was accepted, and so would be billed."""
        return [
            request
            for name in ("fal", "kie")
            for request in httpx.get(f"{self.url}/{name}/_emulator/requests", timeout=30).json()
        ]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._log.close()


class Node:
    """One process of the installation, with its roles."""

    def __init__(self, name: str, environment: dict[str, str], log: Path) -> None:
        self.name = name
        self._environment = environment
        self._log_path = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from safelight.server.run import serve\n"
                 "from safelight.server.settings import Settings\nserve(Settings())"],
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=log,
            )  # fmt: skip

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nobody is told."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(30)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def said(self) -> str:
        return self._log_path.read_text(errors="replace")[-4000:]


def wait_until_ready(url: str, node: Node) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert node.is_running, f"{node.name} ended: {node.said()}"
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"{node.name} did not get ready: {node.said()}")
