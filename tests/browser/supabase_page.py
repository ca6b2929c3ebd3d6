"""A page with the unmodified `@supabase/supabase-js` in it, and the installation that it talks to."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import jwt
from playwright.sync_api import Page
from studio_page import SOON_MS

from safelight.access import keys, projects
from safelight.access.principal import Principal, Role
from safelight.credits import ledger
from safelight.db import migrate
from safelight.db.pool import Database, Transaction

CLIENTS = Path(__file__).parents[1] / "conformance" / "node_realtime"
BUNDLE = CLIENTS / "node_modules" / "@supabase" / "supabase-js" / "dist" / "umd" / "supabase.js"

INSTALL_S = 240

PAGE = """<!doctype html><title>an app</title><script src="/supabase.js"></script><script>
const shown = (payload) =>
  payload?.payload instanceof ArrayBuffer
    ? { ...payload, payload: { bytes: [...new Uint8Array(payload.payload)] } }
    : payload
const lab = {
  said: [],
  clients: {},
  channels: {},
  token: null,
  say(what) { lab.said.push(what) },
  open(url, key, token, client = 'c') {
    lab.token = token
    lab.clients[client] = supabase.createClient(url, key, token ? { accessToken: async () => lab.token } : {})
  },
  channel({ name, topic, config, on = [], client = 'c' }) {
    const channel = lab.clients[client].channel(topic, config ? { config } : undefined)
    for (const [type, filter] of on) {
      channel.on(type, filter, (payload) => lab.say({ channel: name, on: type, payload: shown(payload) }))
    }
    lab.channels[name] = channel
    channel.subscribe((status, error) => lab.say({ channel: name, status, error: error?.message ?? null }))
  },
  send: (name, event, payload) => lab.channels[name].send({ type: 'broadcast', event, payload }),
  sendBytes: (name, event, bytes) =>
    lab.channels[name].send({ type: 'broadcast', event, payload: new Uint8Array(bytes).buffer }),
  httpSend: (name, event, payload) => lab.channels[name].httpSend(event, payload),
  async setToken(token) { lab.token = token; await lab.clients.c.realtime.setAuth() },
}
window.lab = lab
</script>"""


@dataclass(slots=True)
class App:
    """An installation's socket process with a database of its own, and the keys of one project in it."""

    url: str
    page_url: str
    project: str
    secret_key: str
    publishable_key: str
    dsn: str
    jwt_secret: str
    start: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes]
    http: httpx.Client

    @property
    def topic(self) -> str:
        return f"task-updates:{self.project}"

    def token(self, user: str) -> str:
        now = int(time.time())
        return jwt.encode({"sub": user, "iat": now, "exp": now + 3600}, self.jwt_secret, "HS256")

    def member(self, role: str = "editor") -> str:
        """A person's token."""
        user = f"{role}-{uuid.uuid4().hex[:8]}"
        members = "insert into members (project_id, user_id, role) values ($1, $2, $3)"
        in_thread(execute(self.dsn, members, uuid.UUID(self.project), user, role))
        return self.token(user)

    def add_shot(self, name: str = "a shot") -> str:
        answer = self.http.post(f"/v1/projects/{self.project}/shots", json={"name": name})
        return answer.raise_for_status().json()["id"]

    def add_job(self) -> str:
        """There is no worker here: it stays where it is."""
        job = {"model": "local/aurora", "input": {"prompt": "a red fox"}, "n": 1}
        return self.http.post(f"/v1/projects/{self.project}/jobs", json=job).raise_for_status().json()["id"]

    def expect_channels(self, count: int) -> None:
        """Waits until the server counts so many."""
        deadline = time.monotonic() + SOON_MS / 1000
        while f"safelight_realtime_channels {count}.0\n" not in (said := self.http.get("/metrics").text):
            assert time.monotonic() < deadline, [line for line in said.splitlines() if "realtime_channels" in line]
            time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Tab:
    """A page with the client in it."""

    page: Page
    app: App

    def do(self, what: str, *args: Any) -> Any:
        return self.page.evaluate(f"async (args) => await lab.{what}(...args)", list(args))

    def open(self, token: str | None) -> None:
        self.do("open", self.app.url, self.app.publishable_key, token)

    def channel(self, name: str, on: list[Any], topic: str | None = None, **more: Any) -> None:
        """Make and subscribe it, without waiting."""
        self.do("channel", {"name": name, "topic": topic or self.app.topic, "on": on, **more})

    def subscribed(self, name: str, on: list[Any], topic: str | None = None, **more: Any) -> None:
        mark = self.mark()
        self.channel(name, on, topic, **more)
        self.wait("said.status === 'SUBSCRIBED'", name, mark)

    def mark(self) -> int:
        return self.page.evaluate("() => lab.said.length")

    def wait(self, condition: str, channel: str, after: int = 0) -> Any:
        """The first thing that the channel said from `after` on for which the condition holds."""
        found = self.page.wait_for_function(
            "([channel, after]) => lab.said.slice(after)"
            f".find((said) => said.channel === channel && ({condition})) ?? null",
            arg=[channel, after],
            timeout=SOON_MS,
        )
        return found.json_value()

    def event(self, on: str, condition: str, channel: str, after: int = 0) -> Any:
        """The payload of the first such event."""
        return self.wait(f"said.on === '{on}' && ((p) => {condition})(said.payload)", channel, after)["payload"]

    def statuses(self, channel: str, after: int = 0) -> list[str]:
        said = self.page.evaluate("(after) => lab.said.slice(after)", after)
        return [each["status"] for each in said if each["channel"] == channel and "status" in each]


def installed() -> None:
    """The published client is there, from npm."""
    if BUNDLE.is_file():
        return
    npm = shutil.which("npm")
    assert npm is not None, "the client comes from npm"
    done = subprocess.run([npm, "ci"], cwd=CLIENTS, capture_output=True, text=True, timeout=INSTALL_S)
    assert done.returncode == 0, done.stderr


def in_thread(work: Coroutine[Any, Any, Any]) -> Any:
    """Playwright has this thread's event loop."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(work)))
    thread.start()
    thread.join()
    return found[0]


async def execute(dsn: str, statement: str, *args: Any) -> None:
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute(statement, *args)
    finally:
        await conn.close()


async def a_project(dsn: str) -> tuple[str, str, str]:
    """Its id, its secret and its publishable key, in a new database with today's schema."""
    await migrate.upgrade(dsn)
    db = await Database.connect(dsn)
    admin = Principal("key", "test", None, None, Role.ADMIN, "secret")

    async def work(tx: Transaction) -> tuple[str, str, str]:
        project = await projects.create_project(tx, admin, "An app")
        await ledger.grant(tx.conn, project.id, 100_000, "test", "", "test")
        made = [
            await keys.create_key(tx, project_id=project.id, kind=kind, name="") for kind in ("secret", "publishable")
        ]
        return str(project.id), made[0].plaintext, made[1].plaintext

    try:
        return await db.run(work)
    finally:
        await db.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Files(SimpleHTTPRequestHandler):
    """The app's own page and the published bundle, as they come from npm."""

    def do_GET(self) -> None:
        body = BUNDLE.read_bytes() if self.path == "/supabase.js" else PAGE.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if self.path == "/supabase.js" else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return
