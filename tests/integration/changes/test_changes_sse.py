"""The event stream and the poll over a real socket (S2; api.md, Changes)."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
import uvicorn
from httpx_sse import ServerSentEvent, aconnect_sse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from safelight.changes.log import MustRefetch
from safelight.changes.present import Presenters
from safelight.db.pool import Database, Transaction
from safelight.realtime import sse
from safelight.realtime.feed import Feed
from safelight.realtime.line import LineProtocol, line_of

PATIENCE_S = 30


@dataclass
class Served:
    """The two endpoints as the API mounts them, without its auth."""

    db: Database
    feed: Feed
    project: UUID
    url: str
    http: httpx.AsyncClient
    is_ours: bool
    life_s: float = sse.LIFE_S
    beat_s: float = sse.BEAT_S

    async def write(self, count: int = 1) -> int:
        async def work(tx: Transaction) -> int:
            await tx.conn.execute(
                "insert into shots (project_id, name) select $1, i::text from generate_series(1, $2) i",
                self.project,
                count,
            )
            tx.touch(self.project)
            return await tx.head(self.project)

        return await self.db.run(work)

    @asynccontextmanager
    async def stream(self, query: str = "", **headers: str) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
        async with aconnect_sse(self.http, "GET", f"{self.url}/stream?{query}", headers=headers) as source:
            assert source.response.status_code == 200
            assert source.response.headers["content-type"].startswith("text/event-stream")
            assert source.response.headers["cache-control"] == "no-store"
            assert source.response.headers["x-accel-buffering"] == "no"
            yield source.aiter_sse()

    async def poll(self, **query: Any) -> httpx.Response:
        return await self.http.get(f"{self.url}/changes", params=query)


@pytest.fixture(params=[LineProtocol, "auto"], ids=["our server", "another server"])
async def served(request: pytest.FixtureRequest, db: Database) -> AsyncIterator[Served]:
    async with db.connection() as conn:
        project = await conn.fetchval("insert into projects (name) values ('films') returning id")
    feed = Feed(db, Presenters())
    db.on_touch(feed.hint)
    await feed.start()

    async def stream(asked: Request) -> Response:
        cursor = sse.cursor_of(asked.query_params, asked.headers.get("last-event-id"))
        line = line_of(asked.scope)
        return await sse.stream(feed, project, cursor, beat_s=it.beat_s, life_s=it.life_s, line=line)

    async def changes(request: Request) -> Response:
        cursor = sse.cursor_of(request.query_params)
        try:
            body = await sse.poll(
                feed,
                project,
                cursor,
                limit=int(request.query_params.get("limit", 200)),
                wait_s=float(request.query_params.get("wait", 0)),
            )
        except MustRefetch:
            return Response(status_code=410)
        return Response(body, media_type="application/json")

    app = Starlette(routes=[Route("/stream", stream), Route("/changes", changes)])
    listener = socket.create_server(("127.0.0.1", 0))
    options: Any = {"http": request.param, "lifespan": "off", "timeout_graceful_shutdown": 5}
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", **options))
    serving = asyncio.create_task(server.serve([listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        it = Served(db, feed, project, url, http, request.param is LineProtocol)
        try:
            yield it
        finally:
            feed.drain()
            server.should_exit = True
            await serving
            await feed.stop()


async def take(events: AsyncIterator[ServerSentEvent], kind: str, count: int = 1) -> list[ServerSentEvent]:
    found: list[ServerSentEvent] = []
    async with asyncio.timeout(PATIENCE_S):
        async for event in events:
            if event.event == kind:
                found.append(event)
                if len(found) == count:
                    return found
    raise AssertionError(f"the stream ended after {found}")


async def test_the_stream_begins_with_the_head_and_goes_on_with_each_change(served):
    async with served.stream() as events:
        (head,) = await take(events, "head")
        beat = head.json()
        assert head.id == ""
        last = await served.write(3)
        changes = await take(events, "change", 3)
    assert [change.id for change in changes] == [f"{beat['epoch']}:{seq}" for seq in range(last - 2, last + 1)]
    first = changes[0].json()
    assert set(first) == {"seq", "at", "table", "op", "id", "row", "old", "keys", "origin"}
    assert (first["table"], first["op"], first["row"]["name"]) == ("shots", "insert", "1")
    assert ["shots", str(served.project)] in first["keys"]


async def test_many_streams_get_every_change_once_and_in_order_and_share_one_write(served):
    told: list[int] = []
    served.feed.puller.on_told = told.append
    writes = 40

    async def follow(opened: asyncio.Event) -> list[int]:
        async with served.stream() as events:
            (head,) = await take(events, "head")
            opened.set()
            changes = await take(events, "change", writes)
        return [int(change.id.rpartition(":")[2]) - head.json()["head"] for change in changes]

    opened = [asyncio.Event() for _ in range(12)]
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        following = [group.create_task(follow(each)) for each in opened]
        for each in opened:
            await each.wait()
        for _ in range(writes):
            await served.write()
    assert [task.result() for task in following] == [list(range(1, writes + 1))] * len(following)
    assert (sum(told) > 0) is served.is_ours


async def test_a_browser_that_reconnects_goes_on_after_the_last_event_it_saw(served):
    async with served.stream() as events:
        await take(events, "head")
        await served.write(2)
        seen = (await take(events, "change", 1))[0]
    last = await served.write(2)
    async with served.stream("after=0", **{"Last-Event-ID": seen.id}) as events:
        missed = await take(events, "change", 3)
    assert [event.json()["seq"] for event in missed] == [last - 2, last - 1, last]


async def test_a_cursor_in_the_address_begins_there(served):
    last = await served.write(4)
    async with served.stream("after=1") as events:
        assert [event.json()["seq"] for event in await take(events, "change", last - 1)] == list(range(2, last + 1))


async def test_a_cursor_of_another_life_is_told_to_re_read_and_the_stream_ends(served):
    async with served.stream(f"after=1&epoch={uuid.uuid4()}") as events:
        (told,) = await take(events, "must_refetch")
        body = told.json()
        assert set(body) == {"epoch", "head", "oldest"}
        assert [event async for event in events if event.event != "message"] == []
    # whoever did not understand and only reconnects goes on from the head it was told
    last = await served.write()
    async with served.stream(**{"Last-Event-ID": told.id}) as events:
        assert (await take(events, "change"))[0].json()["seq"] == last == body["head"] + 1


async def test_progress_arrives_without_an_id_so_that_the_cursor_stays(served):
    async with served.stream() as events:
        await take(events, "head")
        await served.write()
        (change,) = await take(events, "change")
        served.feed.publish_progress(served.project, b'{"percent":40}')
        (progress,) = await take(events, "progress")
    assert progress.json() == {"percent": 40}
    assert progress.id == change.id  # the last id seen stays what a reconnect sends


async def test_beats_keep_proving_the_head(served):
    served.beat_s = 0.02
    async with served.stream() as events:
        heads = await take(events, "head", 4)
    assert {msgspec.json.decode(head.data)["head"] for head in heads} == {(await served.feed.head(served.project)).head}


async def test_a_stream_ends_by_itself_so_that_the_token_is_checked_again(served):
    served.life_s = 0.05
    served.beat_s = 0.01
    async with served.stream() as events, asyncio.timeout(PATIENCE_S):
        assert [event.event async for event in events]


async def test_shutdown_ends_streams_and_waiting_polls_politely(served):
    async with served.stream() as events:
        await take(events, "head")
        head = (await served.poll()).json()["head"]
        waiting = asyncio.create_task(served.poll(after=head, wait=25))
        while len(served.feed._channels[served.project].users) < 2:
            await asyncio.sleep(0.01)
        served.feed.drain()
        async with asyncio.timeout(PATIENCE_S):
            assert [event async for event in events if event.data] == []
            assert (await waiting).json()["changes"] == []


async def test_the_poll_pages_from_the_beginning_to_the_head(served):
    last = await served.write(30)
    seqs: list[int] = []
    epoch = None
    while True:
        answer = (await served.poll(after=len(seqs), limit=12, **({"epoch": epoch} if epoch else {}))).json()
        assert set(answer) == {"epoch", "head", "changes"}
        epoch = answer["epoch"]
        seqs += [change["seq"] for change in answer["changes"]]
        if seqs[-1] == answer["head"]:
            break
    assert seqs == list(range(1, last + 1))
    assert (await served.poll(after=last, epoch=epoch)).json() == {"epoch": epoch, "head": last, "changes": []}
    assert (await served.poll(after=last + 1, epoch=epoch)).status_code == 410
    assert (await served.poll(after=1, epoch=str(uuid.uuid4()))).status_code == 410


async def test_a_reader_that_never_reads_costs_no_memory_and_delays_nobody(served):
    payload = "insert into nodes (project_id, type, data) select $1, 'big', jsonb_build_object('x', repeat('y', 50000))"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rsplit(":", 1)[1]), limit=2**10)
    writer.write(b"GET /stream?after=0 HTTP/1.1\r\nHost: x\r\n\r\n")
    await writer.drain()
    await reader.readuntil(b"\r\n\r\n")  # and then nothing more
    async with served.stream() as events:
        await take(events, "head")
        for _ in range(200):  # 10 MB

            async def work(tx: Transaction) -> None:
                await tx.conn.execute(payload, served.project)
                tx.touch(served.project)

            await served.db.run(work)
        assert len(await take(events, "change", 200)) == 200
    channel = served.feed._channels[served.project]
    assert sum(len(entry.data) for entry in channel.ring.take(channel.ring.first - 1, 1000, 10**9)) <= 2 * 2**20
    writer.close()
