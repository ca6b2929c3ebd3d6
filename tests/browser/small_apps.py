"""Small apps of their own, built as an app is built and served from an origin that is not Safelight's."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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
def served(files: Path, answers: Mapping[str, Callable[[], str]] | None = None) -> Iterator[str]:
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
