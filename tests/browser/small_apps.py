"""Small apps of their own, built as an app is built and served from an origin that is not Safelight's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).resolve().parent
VITE = HERE.parents[1] / "js" / "node_modules" / "vite" / "bin" / "vite.js"
CONFIG = HERE / "pages.config.mjs"
BUILD_S = 120


def build(app: Path, into: Path, environment: Mapping[str, str] | None = None) -> None:
    """The app's folder as files to serve. Raises AssertionError with what the bundler said."""
    node = shutil.which("node")
    assert node is not None, "node builds the pages"
    done = subprocess.run(
        [node, str(VITE), "build", str(app), "--config", str(CONFIG), "--outDir", str(into), "--emptyOutDir"],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=BUILD_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def previewed(app: Path, built: Path, safelight: str) -> Generator[str]:
    """Serves a built app with Safelight behind the same origin, as its own `vite.config.ts` does; yields the origin."""
    node = shutil.which("node")
    assert node is not None, "node serves the pages"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--config", str(CONFIG), "--outDir", str(built), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [node, str(VITE), "preview", str(app), *options, "--strictPort"],
        env={**os.environ, "SAFELIGHT": safelight},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        origin = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + BUILD_S
        while not _answers(origin):
            assert process.poll() is None, "vite preview ended"
            assert time.monotonic() < deadline, "vite preview did not come up"
            time.sleep(0.1)
        yield origin
    finally:
        process.terminate()
        process.wait(30)


def _answers(origin: str) -> bool:
    try:
        return httpx.get(origin, trust_env=False).is_success
    except httpx.TransportError:
        return False


@contextmanager
def served(files: Path, answers: Mapping[str, Callable[[], str]] | None = None) -> Generator[str]:
    """Serves the files, and under some paths what a function says at that moment; yields the origin."""
    said = answers or {}

    class Files(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(files))

        def do_GET(self) -> None:
            if self.path not in said:
                super().do_GET()
                return
            body = said[self.path]().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
