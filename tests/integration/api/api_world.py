"""A whole installation on a real port, as `safelight serve` runs it, and what a test asks of it as a client.

Clients are real httpx over real sockets; what they see is what anybody sees. The database is looked at directly only
to show that nothing changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse
from pydantic import SecretStr

from safelight.access import keys
from safelight.emulators.serve import Address
from safelight.server.run import listen, running
from safelight.server.settings import Settings
from safelight.server.system import System

DEADLINE_S = 60.0
"""Of every wait. Nothing here takes a tenth of it on a quiet machine."""
LOOK_EVERY_S = 0.03
CREDITS = 1_000_000
KIE_HMAC = "hmac of ours"
ENDS = ("completed", "failed", "canceled")

Build = Callable[..., Awaitable["World"]]
Json = dict[str, Any]


async def until(condition: Callable[[], Awaitable[Any]], what: str = "", deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `condition` gives something true, and give it back."""
    ends_at = time.monotonic() + deadline_s
    while True:
        if found := await condition():
            return found
        assert time.monotonic() < ends_at, f"waited {deadline_s} s for {what or condition}"
        await asyncio.sleep(LOOK_EVERY_S)


def small(**given: Any) -> Json:
    """The body of a small local job."""
    prompt = given.pop("prompt", f"a red fox {uuid4()}")
    return {"model": "local/aurora", "input": {"prompt": prompt, "width": 64, "height": 64}, **given}


def fal(faults: Mapping[str, Any] | None = None, **given: Any) -> Json:
    """The body of a small job at the emulated fal."""
    asked: Json = {"prompt": f"a red fox {uuid4()}", "image_size": {"width": 64, "height": 64}}
    if faults:
        asked["_emulator"] = dict(faults)
    return {"model": "fal-ai/flux/schnell", "input": asked, **given}


def kie(faults: Mapping[str, Any] | None = None, **given: Any) -> Json:
    """The body of a job at the emulated KIE."""
    asked: Json = {"prompt": f"a red fox {uuid4()}"}
    if faults:
        asked["_emulator"] = dict(faults)
    return {"model": "google/nano-banana", "input": asked, **given}


def assert_problem(answer: httpx.Response, status: int, code: str, *words: str) -> Json:
    """The answer is a whole problem document (RFC 9457) with this code, and its sentence says these words."""
    assert answer.status_code == status, f"{answer.status_code}, not {status}: {answer.text[:500]}"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["code"] == code, body
    assert body["status"] == status
    assert body["type"].startswith("https://")
    assert body["title"]
    assert body["detail"]
    assert body["instance"].startswith("/")
    for word in words:
        assert word in json.dumps(body), f"{word!r} is not said in {body}"
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    return body


def ok(answer: httpx.Response, status: int = 200) -> Any:
    """The body of a good answer."""
    assert answer.status_code == status, f"{answer.status_code}, not {status}: {answer.text[:1000]}"
    if status == 204:
        assert answer.content == b""
        return None
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def seq_of(answer: httpx.Response) -> int:
    return int(answer.headers["safelight-seq"])


@dataclass
class World:
    """One running process of an installation, and the project that tests play in."""

    settings: Settings = field(repr=False)
    url: str
    emulators: Address = field(repr=False)
    system: System = field(repr=False)
    project: str = ""
    admin: httpx.AsyncClient = field(init=False, repr=False)
    """With a secret key of the whole installation."""
    api: httpx.AsyncClient = field(init=False, repr=False)
    """With a secret key of the project."""
    _clients: list[httpx.AsyncClient] = field(default_factory=list, repr=False)
    _stop: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _running: asyncio.Task[None] | None = field(default=None, repr=False)

    # --- who asks ---------------------------------------------------------------------------------------------

    def client(self, credential: str | None = None, **headers: str) -> httpx.AsyncClient:
        """Somebody with this key or token; without one, nobody. Closed at the end of the test."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if credential is not None:
            sent["authorization"] = f"Bearer {credential}"
        made = httpx.AsyncClient(base_url=self.url, headers=sent, timeout=DEADLINE_S, trust_env=False)
        self._clients.append(made)
        return made

    async def new_project(self, credits: int = CREDITS, name: str = "a project") -> str:
        project = ok(await self.admin.post("/v1/projects", json={"name": name}), 201)["id"]
        if credits:
            grant = {"amount": credits, "key": "start"}
            ok(await self.admin.post(f"/v1/projects/{project}/credits/grants", json=grant), 201)
        return project

    async def new_key(self, project: str | None = None, kind: str = "secret") -> str:
        asked = {"kind": kind, "name": "a test"}
        return ok(await self.admin.post(f"/v1/projects/{project or self.project}/keys", json=asked), 201)["key"]

    def token(self, user: str, ttl_s: int = 3600) -> str:
        return self.system.context.gate.tokens.issue(user, ttl_s)

    async def user(self, role: str | None, project: str | None = None, name: str | None = None) -> httpx.AsyncClient:
        """A person with this role in the project (None: a stranger), by JWT."""
        name = name or f"{role or 'stranger'}-{uuid4().hex[:8]}"
        if role is not None:
            path = f"/v1/projects/{project or self.project}/members/{name}"
            ok(await self.admin.put(path, json={"role": role}), 204)
        return self.client(self.token(name))

    # --- what is asked ----------------------------------------------------------------------------------------

    @property
    def p(self) -> str:
        return f"/v1/projects/{self.project}"

    async def submit(self, body: Json | None = None, **headers: str) -> Json:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return ok(await self.api.post(f"{self.p}/jobs", json=body or small(), headers=sent), 202)

    async def job(self, identity: str) -> Json:
        return ok(await self.api.get(f"/v1/jobs/{identity}"))

    async def reaches(self, identity: str, *statuses: str) -> Json:
        """Wait until the job has one of these statuses; another end than these fails at once."""

        async def look() -> Json | None:
            found = await self.job(identity)
            if found["status"] in statuses:
                return found
            assert found["status"] not in ENDS, f"{found['status']}, not {statuses}: {found['error']}"
            return None

        return await until(look, f"job {identity} to be {statuses}")

    async def ends(self, identity: str) -> Json:
        return await self.reaches(identity, *ENDS)

    async def ends_in(self, project: str, identity: str) -> Json:
        """As `ends`, for a job of any project."""

        async def look() -> Json | None:
            found = ok(await self.admin.get(f"/v1/jobs/{identity}"))
            assert found["project_id"] == project
            return found if found["status"] in ENDS else None

        return await until(look, f"job {identity} to end")

    async def pictures(self, count: int = 1, **given: Any) -> list[str]:
        """Ids of so many finished pictures of one job, with all that comes later (M2): they change no more."""
        job = await self.submit(small(n=count, **given))
        made: list[str] = (await self.reaches(job["id"], "completed"))["generations"]

        async def have_large() -> bool:
            found = [ok(await self.api.get(f"/v1/generations/{each}")) for each in made]
            return all("1024" in each["urls"]["thumbs"] for each in found)

        await until(have_large, "the larger thumbnails")
        return made

    async def wallet(self) -> Json:
        return ok(await self.api.get(f"{self.p}/credits"))

    async def everything(self, path: str, limit: int = 100) -> tuple[list[Json], int]:
        """All pages of a list, and the seq of the first."""
        items: list[Json] = []
        cursor: str | None = None
        seq: int | None = None
        while True:
            asked = {"limit": limit, **({"cursor": cursor} if cursor else {})}
            answer = await self.api.get(path, params=asked)
            page = ok(answer)
            assert set(page) == {"items", "next_cursor"}
            assert len(page["items"]) <= limit
            seq = seq_of(answer) if seq is None else seq
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return items, seq

    async def changes(self, after: int, **params: Any) -> list[Json]:
        """All entries after the cursor."""
        found: list[Json] = []
        while True:
            page = ok(await self.api.get(f"{self.p}/changes", params={"after": after, "limit": 1000, **params}))
            found += page["changes"]
            if not page["changes"] or page["changes"][-1]["seq"] >= page["head"]:
                return found
            after = page["changes"][-1]["seq"]

    async def head(self) -> int:
        return ok(await self.api.get(f"{self.p}/changes", params={"limit": 1}))["head"]

    @contextlib.asynccontextmanager
    async def events(self, path: str, who: httpx.AsyncClient | None = None, **headers: str) -> AsyncIterator[Events]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with aconnect_sse(who or self.api, "GET", path, headers=sent) as source:
            assert source.response.status_code == 200, await source.response.aread()
            yield Events(source.aiter_sse())

    # --- what nobody asks over HTTP ---------------------------------------------------------------------------

    async def rows(self, query: str, *args: Any) -> list[Any]:
        async with self.system.db.connection() as conn:
            return await conn.fetch(query, *args)

    async def value(self, query: str, *args: Any) -> Any:
        async with self.system.db.connection() as conn:
            return await conn.fetchval(query, *args)

    async def footprint(self) -> dict[str, int]:
        """How much there is, at one moment: rows of every table, and every project's head."""
        async with self.system.db.snapshot() as conn:
            tables = await conn.fetch(
                "select relname from pg_class where relkind in ('r', 'p') and not relispartition"
                " and relnamespace = 'public'::regnamespace and relname <> 'model_durations' order by 1"
            )
            counts = {row["relname"]: await conn.fetchval(f'select count(*) from "{row["relname"]}"') for row in tables}
            heads = await conn.fetch("select project_id, head from project_heads")
        return counts | {f"head of {row['project_id']}": row["head"] for row in heads}

    async def is_quiet(self) -> bool:
        """No task waits or runs (a thumbnail may follow its job), no webhook waits, nobody has a job in hand."""
        return not await self.value(
            "select (select count(*) from pgqueuer.pgqueuer) + (select count(*) from inbox where processed_at is null)"
            " + (select count(*) from job_work where lease_until > now() and lease_by is not null)"
        )

    @contextlib.asynccontextmanager
    async def unchanged(self) -> AsyncIterator[None]:
        """What happens inside leaves no row and no change behind. No job may be on its way: it would leave its own."""
        await until(self.is_quiet, "the queue to be empty")
        before = await self.footprint()
        yield
        await until(self.is_quiet, "the queue to be empty")
        after = await self.footprint()
        changed = {name: (count, after.get(name)) for name, count in before.items() if after.get(name) != count}
        assert after == before, f"this was to change nothing: {changed}"

    async def asked_of_provider(self) -> list[Json]:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(f"{self.emulators.base_url}/_emulator/requests")).json()

    async def attempt_of(self, job: str) -> Json:
        """The job's latest attempt as the emulator has it: its webhook's whole address too."""

        async def look() -> Json | None:
            attempts = await self.rows("select id from attempts where job_id = $1 order by number desc", UUID(job))
            ours = {str(row["id"]) for row in attempts}
            return next((each for each in await self.asked_of_provider() if each["attempt"] in ours), None)

        return await until(look, f"job {job} to be at its provider")

    # --- life -------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()
        self._stop.set()
        if self._running is not None:
            await self._running


@dataclass
class Events:
    """A stream of events, read with a deadline."""

    _source: AsyncIterator[ServerSentEvent]

    async def next(self, *names: str) -> ServerSentEvent:
        """The next event with one of these names; others are passed over."""
        async with asyncio.timeout(DEADLINE_S):
            async for event in self._source:
                if not names or event.event in names:
                    return event
        raise AssertionError(f"the stream ended before an event {names}")

    async def rest(self) -> list[ServerSentEvent]:
        """Everything until the server ends the stream."""
        async with asyncio.timeout(DEADLINE_S):
            return [event async for event in self._source if event.data]  # a lone `retry:` is none


async def a_world(dsn: str, emulators: Address, folder: Path, *, bare: bool = False, **given: Any) -> World:
    """Start a process. `bare`: without project and keys, because another has made them. `given`: settings."""
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    host = emulators.base_url.partition("://")[2]
    settings = Settings(
        **{
            "database_url": dsn,
            "data": folder,
            "public_url": url,
            "fal_key": SecretStr("id:secret"),
            "fal_queue_url": f"{emulators.fal_url}/queue",
            "fal_rest_url": f"{emulators.fal_url}/rest",
            "kie_key": SecretStr("a key"),
            "kie_url": emulators.kie_url,
            "kie_webhook_key": SecretStr(KIE_HMAC),
            "allow_hosts": (host,),
            "allow_emulator": True,
            "provider_rate": {"kie": 0},
            "database_connections": 8,
            **given,
        }
    )
    ready: asyncio.Future[System] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def on_ready(system: System) -> None:
        ready.set_result(system)

    is_api = "api" in settings.roles
    if not is_api:
        listener.close()
    task = asyncio.create_task(running(settings, listener if is_api else None, url, stop, on_ready))
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    world = World(settings, url, emulators, ready.result(), _stop=stop, _running=task)
    if not bare:
        made = await world.system.db.run(lambda tx: keys.create_key(tx, project_id=None, kind="secret", name="all"))
        world.admin = world.client(made.plaintext)
        world.project = await world.new_project()
        world.api = world.client(await world.new_key())
    return world
