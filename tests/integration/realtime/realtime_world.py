"""A whole installation on a real port, and raw sockets to it: what is seen here is what any client sees."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from safelight.access import keys
from safelight.db.pool import Transaction
from safelight.server.run import listen, running
from safelight.server.settings import Settings
from safelight.server.system import System

DEADLINE_S = 60.0
Json = dict[str, Any]


async def until(condition: Callable[[], Awaitable[Any]], what: str = "", deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `condition` gives something true, and give it back."""
    ends_at = time.monotonic() + deadline_s
    while True:
        if found := await condition():
            return found
        assert time.monotonic() < ends_at, f"waited {deadline_s} s for {what or condition}"
        await asyncio.sleep(0.03)


@dataclass
class World:
    """One running process of an installation, and the project that tests play in."""

    url: str
    system: System
    project: UUID
    secret_key: str
    publishable_key: str
    stop: asyncio.Event = field(repr=False)
    task: asyncio.Task[None] = field(repr=False)

    @property
    def topic(self) -> str:
        return f"realtime:task-updates:{self.project}"

    def token(self, user: str, ttl_s: int = 3600) -> str:
        return self.system.context.gate.tokens.issue(user, ttl_s)

    async def member(self, role: str, ttl_s: int = 3600) -> str:
        """A person's token with this role in the project."""
        name = f"{role}-{uuid4().hex[:8]}"
        await self.write(
            "insert into members (project_id, user_id, role) values ($1, $2, $3)", self.project, name, role
        )
        self.system.context.gate.forget()
        return self.token(name, ttl_s)

    async def write(self, query: str, *args: Any, project: UUID | None = None) -> Any:
        """One statement in a transaction of its own, as any code of ours writes."""

        async def work(tx: Transaction) -> Any:
            found = await tx.conn.fetchval(query, *args)
            tx.touch(project or self.project)
            return found

        return await self.system.db.run(work)

    async def value(self, query: str, *args: Any) -> Any:
        async with self.system.db.connection() as conn:
            return await conn.fetchval(query, *args)

    async def head(self) -> int:
        return await self.value("select head from project_heads where project_id = $1", self.project)

    async def add_shot(self, name: str = "a shot", project: UUID | None = None) -> UUID:
        wanted = project or self.project
        return await self.write(
            "insert into shots (project_id, name) values ($1, $2) returning id", wanted, name, project=wanted
        )

    async def add_job(self) -> UUID:
        return await self.write(
            "insert into jobs (id, project_id, model, provider, endpoint, kind, input, quoted, deadline_at,"
            " request_hash, webhook_url) values ($1, $2, 'local/aurora', 'local', 'aurora', 'image',"
            " '{\"prompt\": \"a red fox\"}', 5, now() + interval '1 hour', 'x', 'https://secret.example') returning id",
            uuid4(),
            self.project,
        )

    async def add_generation(self, job: UUID, index: int = 0) -> UUID:
        return await self.write(
            "insert into generations (id, project_id, job_id, output_index, kind, mime, bytes, files, model)"
            " values ($1, $2, $3, $4, 'image', 'image/webp', 10, '{\"original\": \"secret/key\"}', 'm') returning id",
            uuid4(),
            self.project,
            job,
            index,
        )

    def address(self, key: str | None, vsn: str | None = "2.0.0", path: str = "/realtime/v1/websocket") -> str:
        query = "&".join(f"{name}={value}" for name, value in (("apikey", key), ("vsn", vsn)) if value is not None)
        return f"{self.url.replace('http', 'ws', 1)}{path}?{query}"

    @contextlib.asynccontextmanager
    async def socket(self, key: str | None = None, vsn: str = "2.0.0", **more: Any) -> AsyncIterator[Wire]:
        """An open socket, by default with the project's publishable key."""
        async with connect(self.address(key or self.publishable_key, vsn), proxy=None, max_size=2**24, **more) as ws:
            yield Wire(ws, vsn)

    async def refusal(self, key: str | None, **more: Any) -> tuple[int, Json]:
        """What a connection is refused with."""
        from websockets.exceptions import InvalidStatus

        try:
            async with connect(self.address(key, **more), proxy=None, open_timeout=DEADLINE_S):
                raise AssertionError("it was let in")
        except InvalidStatus as error:
            return error.response.status_code, json.loads(error.response.body)

    def http(self, key: str | None = None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key or self.secret_key}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=DEADLINE_S, trust_env=False)

    async def close(self) -> None:
        self.stop.set()
        await self.task


class Wire:
    """A socket, in frames."""

    def __init__(self, ws: ClientConnection, vsn: str) -> None:
        self.ws = ws
        self.vsn = vsn
        self.seen: list[Any] = []
        self._ref = 0

    async def send(self, topic: str, event: str, payload: Json, join_ref: str | None = None) -> str:
        self._ref += 1
        ref = str(self._ref)
        if event == "phx_join":
            join_ref = ref
        whole: Any = [join_ref, ref, topic, event, payload]
        if self.vsn == "1.0.0":
            whole = {"join_ref": join_ref, "ref": ref, "topic": topic, "event": event, "payload": payload}
        await self.ws.send(json.dumps(whole))
        return ref

    async def next(self, deadline_s: float = DEADLINE_S) -> Any:
        """The next frame, as [join_ref, ref, topic, event, payload]; a binary one as bytes."""
        async with asyncio.timeout(deadline_s):
            data = await self.ws.recv()
        if isinstance(data, bytes):
            self.seen.append(data)
            return data
        frame = json.loads(data)
        if isinstance(frame, dict):
            frame = [frame["join_ref"], frame["ref"], frame["topic"], frame["event"], frame["payload"]]
        self.seen.append(frame)
        return frame

    async def event(self, *names: str, deadline_s: float = DEADLINE_S) -> Any:
        """The payload of the next frame with one of these event names; a broadcast's own event counts as its name."""
        async with asyncio.timeout(deadline_s):
            while True:
                frame = await self.next()
                if isinstance(frame, bytes):
                    continue
                event, payload = frame[3], frame[4]
                if event in names or (event == "broadcast" and payload["event"] in names):
                    return payload

    async def reply(self, ref: str) -> Json:
        """The answer to one push."""
        while True:
            frame = await self.next()
            if not isinstance(frame, bytes) and frame[3] == "phx_reply" and frame[1] == ref:
                return frame[4]

    async def join(self, topic: str, token: str | None = None, **config: Any) -> tuple[str, Json]:
        """Join and be let in; the join's ref, and the `system` message that names the seq."""
        ref = await self.send(topic, "phx_join", {"config": config, **({"access_token": token} if token else {})})
        answer = await self.reply(ref)
        assert answer["status"] == "ok", answer
        return ref, await self.event("system")

    async def refused(self, topic: str, token: str | None = None, **config: Any) -> str:
        """Join and be refused; why."""
        ref = await self.send(topic, "phx_join", {"config": config, **({"access_token": token} if token else {})})
        answer = await self.reply(ref)
        assert answer["status"] == "error", answer
        return answer["response"]["reason"]

    async def is_quiet(self, topic: str, join_ref: str) -> None:
        """Nothing but beats came before the answer to a push that is sent now."""
        ref = await self.send("phoenix", "heartbeat", {})
        while True:
            frame = await self.next()
            if not isinstance(frame, bytes) and frame[1] == ref and frame[3] == "phx_reply":
                return
            assert frame[3] == "broadcast", frame
            assert frame[4]["event"] == "head", frame

    async def closed(self) -> int:
        """Read until the server closes; its code."""
        try:
            while True:
                await self.next()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006


async def a_world(
    dsn: str, folder: Path, project: World | None = None, *, listener: socket.socket | None = None, **given: Any
) -> World:
    """Start a process. `project`: another process of the same installation, whose project and keys are used."""
    listener = listener or listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    settings = Settings(**{"database_url": dsn, "data": folder, "roles": ("api", "realtime"), **given})
    ready: asyncio.Future[System] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def on_ready(system: System) -> None:
        ready.set_result(system)

    task = asyncio.create_task(running(settings, listener, url, stop, on_ready))
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    system = ready.result()
    if project is not None:
        return World(url, system, project.project, project.secret_key, project.publishable_key, stop, task)
    identity = uuid4()

    async def make(tx: Transaction) -> tuple[str, str]:
        await tx.conn.execute("insert into projects (id, name) values ($1, 'a project')", identity)
        secret = await keys.create_key(tx, project_id=identity, kind="secret", name="")
        publishable = await keys.create_key(tx, project_id=identity, kind="publishable", name="")
        return secret.plaintext, publishable.plaintext

    secret, publishable = await system.db.run(make)
    return World(url, system, identity, secret, publishable, stop, task)
