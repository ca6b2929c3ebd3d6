"""An installation of its own, to be ended and begun again: server, embedded database, and the providers outside."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import jwt
from demo_server import START_S, STOP_S, Demo, stop
from supabase_page import free_port, in_thread

from safelight.access import keys, projects, studio_link
from safelight.access.principal import Principal, Role
from safelight.credits import ledger
from safelight.db import embedded
from safelight.db.pool import Database, Transaction

USER = "ann"


@dataclass(slots=True)
class House:
    demo: Demo
    folder: Path
    jwt_secret: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    def token(self, lifetime_s: int) -> str:
        """What the app's own sign-in would issue."""
        now = int(time.time())
        return jwt.encode({"sub": USER, "iat": now, "exp": now + lifetime_s}, self.jwt_secret, "HS256")

    def expect_refused(self, token: str) -> None:
        """Waits until the server no longer takes it."""
        deadline = time.monotonic() + STOP_S
        while self.demo.http.get("/v1/session", headers={"Authorization": f"Bearer {token}"}).status_code != 401:
            assert time.monotonic() < deadline, "the token never expires"
            time.sleep(0.1)

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait(STOP_S)

    def close(self) -> None:
        if self.process.poll() is None:
            stop(self.process)
        else:
            in_thread(stop_database(self.folder / "data"))  # whoever was killed has left it running

    def begin(self) -> float:
        """Starts the server again, and waits for it; the moment it is there is told in ms since 1970."""
        self.process = serve(self.folder, self.environment)
        return self.expect_ready()

    def expect_ready(self) -> float:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.said()
            try:
                if self.demo.http.get("/readyz").is_success:
                    return time.time() * 1000
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"the server did not get ready: {self.said()}")

    def kill_database(self) -> float:
        """SIGKILL while the server goes on; waits until that has a new one."""
        before = self._postgres()
        os.kill(before, signal.SIGKILL)
        deadline = time.monotonic() + START_S
        while (now := self._postgres()) == before:
            assert time.monotonic() < deadline, f"nobody starts the database again: {self.said()}"
            time.sleep(0.02)
        assert now != before
        return self.expect_ready()

    def _postgres(self) -> int:
        """The process that is said to be the database; the last one while there is none."""
        for file in (self.folder / "data").rglob("postmaster.pid"):
            if lines := file.read_text().split():
                self._last = int(lines[0])
        return self._last

    _last: int = 0

    def said(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")[-4000:]


def serve(folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with (folder / "server.log").open("ab") as said:
        command = [sys.executable, "-c", "from safelight.cli.main import app; app()", "serve"]
        return subprocess.Popen(command, env=environment, stdout=said, stderr=said, stdin=subprocess.DEVNULL)


@contextmanager
def a_house(*origins: str) -> Iterator[House]:
    """Pages of these origins may ask it with a token."""
    with tempfile.TemporaryDirectory(prefix="safelight-house-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # as root, the database's own account must reach it
        command = [sys.executable, "-m", "safelight.emulators", "--port", "0", "--kie-hmac-key", "k" * 16]
        emulators = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        house: House | None = None
        try:
            assert emulators.stdout is not None
            outside = str(json.loads(emulators.stdout.readline())["base_url"])
            port, secret = free_port(), secrets.token_hex(32)
            url = f"http://127.0.0.1:{port}"
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith("SAFELIGHT_")},
                "SAFELIGHT_PORT": str(port),
                "SAFELIGHT_DATA": str(folder / "data"),
                "SAFELIGHT_PUBLIC_URL": url,
                "SAFELIGHT_CORS_ORIGINS": ",".join(origins),
                "SAFELIGHT_JWT_SECRET": secret,
                "SAFELIGHT_FAL_KEY": "a:b",
                "SAFELIGHT_FAL_QUEUE_URL": f"{outside}/fal/queue",
                "SAFELIGHT_FAL_REST_URL": f"{outside}/fal/rest",
                "SAFELIGHT_ALLOW_HOSTS": outside.partition("://")[2],
                "SAFELIGHT_ALLOW_EMULATOR": "1",
                "SAFELIGHT_LOG_LEVEL": "warning",
            }
            http = httpx.Client(base_url=url, timeout=30, trust_env=False)
            demo = Demo(url, "", "", "", {"fal": f"{outside}/fal"}, "", http)
            (folder / "data").mkdir(mode=0o755)
            house = House(demo, folder, secret, environment, serve(folder, environment))
            house.expect_ready()
            house.demo = in_thread(furnish(folder / "data", demo))
            yield house
            http.close()
        finally:
            if house is not None:
                house.close()
            emulators.terminate()
            emulators.wait(STOP_S)


async def stop_database(data: Path) -> None:
    await (await embedded.start(embedded.data_dir_of(data))).stop()


async def furnish(data: Path, empty: Demo) -> Demo:
    """A project, a person who owns it, credits, a key and a link to the studio."""
    server = await embedded.start(embedded.data_dir_of(data))
    db = await Database.connect(server.dsn)
    admin = Principal("key", "test", None, None, Role.ADMIN, "secret")

    async def work(tx: Transaction) -> tuple[str, str, str]:
        project = await projects.create_project(tx, admin, "A house")
        await projects.set_member(tx, project.id, USER, "owner", actor="test")
        await ledger.grant(tx.conn, project.id, 1_000_000, "test", "", "test")
        key = await keys.create_key(tx, project_id=None, kind="secret", name="test")
        link = await studio_link.create_link(
            tx, user_id=USER, project_id=project.id, ttl_s=3600, now=datetime.now(UTC), actor="test"
        )
        return str(project.id), key.plaintext, f"{empty.url}/?key={link}"

    try:
        project, key, link = await db.run(work)
    finally:
        await db.close()
        await server.stop()  # the installation's own process goes on using it
    empty.http.headers["Authorization"] = f"Bearer {key}"
    return Demo(empty.url, link, project, key, empty.emulators, server.dsn, empty.http)
