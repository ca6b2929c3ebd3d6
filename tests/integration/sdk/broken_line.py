"""A TCP line to a real server that breaks when told to."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit


class BrokenLine:
    """Passes bytes both ways. After `cut(n, times)` a connection that has brought n bytes of answers is closed."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname
        assert parts.port
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._after = 0
        self._left = 0
        self._plan = 0
        self.broken = 0
        self._closing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, after: int, times: int) -> None:
        with self._lock:
            self._after, self._left = after, times
            self._plan += 1

    def close(self) -> None:
        self._closing = True
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            threading.Thread(target=self._requests, args=(near, far), daemon=True).start()
            threading.Thread(target=self._answers, args=(far, near), daemon=True).start()

    def _requests(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                far.sendall(data)
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_WR)

    def _answers(self, far: socket.socket, near: socket.socket) -> None:
        passed, plan = 0, self._plan
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                with self._lock:
                    if plan != self._plan:
                        passed, plan = 0, self._plan
                    is_cut = self._left > 0 and passed + len(data) > self._after
                    if is_cut:
                        self._left -= 1
                        self.broken += 1
                if is_cut:
                    near.sendall(data[: max(0, self._after - passed)])
                    break
                near.sendall(data)
                passed += len(data)
        for each in (near, far):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes the other thread; close alone would leave it reading
            each.close()
