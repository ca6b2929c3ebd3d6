"""A real receiver on a real port, and the room's own sender around a fresh database.

Jobs move by plain SQL here: whatever moves one, the trigger is what writes the event. The whole product, with real
jobs and over HTTP, is in test_outgoing_api.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import uvicorn
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from safelight.db.pool import Database
from safelight.jobs.reads import present_job
from safelight.library.generation import present_generation
from safelight.media.dialer import Resolver, resolve
from safelight.observe.metrics import Metrics
from safelight.outgoing import delivery, endpoint, secret
from safelight.outgoing.address import Addresses
from safelight.outgoing.figures import Figures
from safelight.outgoing.post import GuardedPost
from safelight.outgoing.secret import Signer
from safelight.outgoing.sender import Sender

DEADLINE_S = 120.0
"""Of every wait. Nothing here takes a tenth of it on a quiet machine."""
LOOK_EVERY_S = 0.02
SIGNER = Signer(b"a key that only this test knows..")

Json = dict[str, Any]


def now() -> datetime:
    return datetime.now(UTC)


async def until(condition: Callable[[], Awaitable[Any]], what: str = "", deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `condition` gives something true, and give it back."""
    ends_at = time.monotonic() + deadline_s
    while True:
        if found := await condition():
            return found
        assert time.monotonic() < ends_at, f"waited {deadline_s} s for {what or condition}"
        await asyncio.sleep(LOOK_EVERY_S)


@dataclass(frozen=True)
class Heard:
    """A request that the receiver got."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def said(self) -> Json:
        return msgspec.json.decode(self.body)

    def proven(self, key: str) -> Json:
        """What it says, if the official library finds it signed with this secret; else that library's error."""
        return Webhook(key).verify(self.body, self.headers)


@dataclass
class Receiver:
    """The app's own server. What it answers stands in the path: /ok, /500, /410, /hang …, or in `answers`."""

    url: str
    port: int
    heard: list[Heard] = field(default_factory=list)
    answers: dict[str, list[Response]] = field(default_factory=lambda: defaultdict(list))
    """Of a path, in order; after them, what the path says."""
    hanging: int = 0
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    def at(self, path: str) -> list[Heard]:
        return [each for each in self.heard if each.path == path]

    async def hears(self, count: int, path: str | None = None) -> list[Heard]:
        """Wait until it has heard so much."""

        async def look() -> list[Heard] | None:
            heard = self.heard if path is None else self.at(path)
            return heard if len(heard) >= count else None

        return await until(look, f"{count} webhooks at {path or 'any path'}; heard {len(self.heard)}")

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        self.heard.append(Heard(path, dict(request.headers), await request.body()))
        if self.answers[path]:
            return self.answers[path].pop(0)
        if path == "/hang":
            self.hanging += 1
            await self.let_go.wait()
            return Response(status_code=204)
        if path == "/moved":
            return Response(status_code=302, headers={"location": f"{self.url}/ok"})
        status = path.removeprefix("/")
        return Response(f"this is {path}", int(status) if status.isdigit() else 200)


@contextlib.asynccontextmanager
async def receiving(**tls: Any) -> AsyncIterator[Receiver]:
    """`tls`: uvicorn's `ssl_keyfile` and `ssl_certfile`, for one that speaks https."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    port = listener.getsockname()[1]
    receiver = Receiver(f"http://127.0.0.1:{port}", port)
    app = Starlette(routes=[Route("/{path:path}", receiver._answer, methods=["GET", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", **tls))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield receiver
    finally:
        receiver.let_go.set()
        server.should_exit = True
        server.force_exit = True
        await task
        listener.close()


@dataclass
class Room:
    """A project, and the senders of it."""

    db: Database
    receiver: Receiver
    project: UUID
    senders: list[tuple[Sender, GuardedPost, asyncio.Task[None]]] = field(default_factory=list)

    # --- the project's own side -------------------------------------------------------------------------------

    async def webhook(
        self, path: str = "/ok", events: Sequence[str] = ("*",), project: UUID | None = None, url: str | None = None
    ) -> tuple[UUID, str]:
        """An endpoint at the receiver, and its secret."""
        row, salt = await self.db.run(
            lambda tx: endpoint.create(
                tx, project or self.project, url=url or self.receiver.url + path, description="", events=events,
                actor="test",
            )
        )  # fmt: skip
        return row["id"], SIGNER.secret(row["id"], salt)

    async def endpoint(self, identity: UUID) -> Json:
        async with self.db.connection() as conn:
            return endpoint.present_endpoint(await endpoint.get(conn, identity))

    async def test(self, identity: UUID) -> UUID:
        async with self.db.connection() as conn:
            row = await endpoint.get(conn, identity)
        return await self.db.run(lambda tx: delivery.test(tx, row))

    async def deliveries(self, **wanted: Any) -> list[Json]:
        """As the API shows them, oldest first."""
        async with self.db.connection() as conn:
            rows = await delivery.page(conn, delivery.Wanted(self.project, **wanted), limit=200, before=None)
        return [delivery.present_delivery(row) for row in reversed(rows)]

    async def becomes(
        self, state: str, count: int = 1, tries: int = 1, *, hurry: bool = False, **wanted: Any
    ) -> list[Json]:
        """Wait until so many deliveries are in this state, each after so many tries. `hurry`: time passes meanwhile."""

        async def look() -> list[Json] | None:
            if hurry:
                await self.time_passes()
            found = [each for each in await self.deliveries(**wanted) if each["state"] == state]
            return found if sum(len(each["tries"]) >= tries for each in found) >= count else None

        return await until(look, f"{count} deliveries to be {state} after {tries} tries")

    async def change(self, identity: UUID, **changes: Any) -> None:
        await self.db.run(lambda tx: endpoint.change(tx, identity, endpoint.Changes(**changes), actor="test"))

    async def replay(self, identity: str) -> None:
        await self.db.run(lambda tx: delivery.replay(tx, UUID(identity)))
        self.wake()

    async def rotate(self, identity: UUID) -> str:
        _, salt, _ = await self.db.run(lambda tx: endpoint.rotate(tx, identity, actor="test"))
        return SIGNER.secret(identity, salt)

    async def project_secret(self) -> str:
        async with self.db.connection() as conn:
            return SIGNER.secret(self.project, (await secret.salts_of(conn, self.project))[0])

    # --- jobs -------------------------------------------------------------------------------------------------

    async def new_project(self) -> UUID:
        return await self.value("insert into projects (name) values ('another') returning id")

    async def job(self, webhook_url: str | None = None, project: UUID | None = None) -> UUID:
        job = uuid4()
        await self.execute(
            "insert into jobs (id, project_id, model, provider, endpoint, kind, input, quoted, deadline_at,"
            " request_hash, webhook_url) values ($1, $2, 'local/aurora', 'local', 'aurora', 'image', $3, 0,"
            " now() + '1 hour', '', $4)",
            job, project or self.project, {"prompt": "a red fox"}, webhook_url,
        )  # fmt: skip
        return job

    async def goes(self, job: UUID, *stages: str) -> None:
        for stage in stages:
            await self.execute(_MOVES[stage], job)

    async def completed(self, webhook_url: str | None = None, project: UUID | None = None) -> UUID:
        job = await self.job(webhook_url, project)
        await self.goes(job, "submitting", "completed")
        return job

    # --- the senders ------------------------------------------------------------------------------------------

    def sender(
        self, *, resolver: Resolver = resolve, total_s: float = 45.0, allow: Sequence[str] | None = None
    ) -> Sender:
        """A running one, as in a worker process, but that nobody wakes it by the second: what is due is sent when a
        test says so. `allow`: `host:port` of private receivers."""
        allowed = [f"127.0.0.1:{self.receiver.port}"] if allow is None else allow
        post = GuardedPost(Addresses(frozenset(allowed)), connections_max=128, resolver=resolver, total_s=total_s)
        sender = Sender(
            self.db,
            post,
            SIGNER,
            Figures(self.db, Metrics()),
            show_job=present_job,
            show_generation=lambda row: present_generation(row, lambda key: f"https://media.invalid/{key}?s=x"),
            now=now,
        )
        self.senders.append((sender, post, asyncio.create_task(sender.run())))
        sender.wake()
        return sender

    def wake(self) -> None:
        for sender, _, _ in self.senders:
            sender.wake()

    async def lands(self) -> None:
        """Wait until no try is under way: one that read its address a moment ago still goes there."""

        async def look() -> bool:
            return not any(sender._flying for sender, _, _ in self.senders)

        await until(look, "the tries under way to end")

    async def stop(self) -> None:
        """As after SIGTERM."""
        for _, post, task in self.senders:
            task.cancel()
            await asyncio.wait([task], timeout=DEADLINE_S)
            await post.close()
        self.senders.clear()

    async def time_passes(self) -> None:
        """Everything that waits for its next try is due; no lease ends by it."""
        await self.execute("update webhook_deliveries set due_at = now() where state = 'pending' and claim is null")
        self.wake()

    async def leases_end(self) -> None:
        await self.execute("update webhook_deliveries set due_at = now() where state = 'pending'")
        self.wake()

    # --- the database -----------------------------------------------------------------------------------------

    async def execute(self, query: str, *args: Any) -> None:
        async with self.db.connection() as conn:
            await conn.execute(query, *args)

    async def value(self, query: str, *args: Any) -> Any:
        async with self.db.connection() as conn:
            return await conn.fetchval(query, *args)


_MOVES = {
    "submitting": "update jobs set stage = 'submitting', attempt = attempt + 1 where id = $1",
    "running": "update jobs set stage = 'running' where id = $1",
    "queued": "update jobs set stage = 'queued', error = null, completed_at = null where id = $1",
    "completed": """
        with made as (
            insert into generations (id, project_id, job_id, output_index, kind, mime, bytes, files, model)
            select gen_random_uuid(), project_id, id, 0, 'image', 'image/png', 10,
                jsonb_build_object('original', 'p/' || id || '.png'), model from jobs where id = $1 returning id)
        update jobs set stage = 'completed', charged = 0, completed_at = now(),
            generations = (select array_agg(id) from made)
        where id = $1
    """,
    "failed": """
        update jobs set stage = 'failed', completed_at = now(), error = '{"code": "content_policy", "message": "No."}'
        where id = $1
    """,
    "expired": """
        update jobs set stage = 'expired', completed_at = now(), error = '{"code": "deadline", "message": "Too late."}'
        where id = $1
    """,
    "canceled": "update jobs set stage = 'canceled', completed_at = now() where id = $1",
}
