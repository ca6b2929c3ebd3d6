"""S7: sockets that never read cost a bounded amount of memory and delay nobody; reading again, they miss nothing.

`SAFELIGHT_TEST_READERS` says how many read (the issue's size: 900) and `SAFELIGHT_TEST_SLOW` how many do not.
With `--log-cli-level=info` it says how late changes came to those who read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from realtime_world import Wire, World, a_world, until
from websockets.asyncio.client import connect

from safelight.realtime import connection, outlet, tail
from safelight.server.run import listen

log = logging.getLogger(__name__)
SLOW = int(os.environ.get("SAFELIGHT_TEST_SLOW", "100"))
READERS = int(os.environ.get("SAFELIGHT_TEST_READERS", "20"))
ROUNDS = 40
ROW_BYTES = 50_000
"""Forty of them are three times what a queue holds."""
SMALL_BUFFER = 8 * 1024
"""Of the kernel, on both sides: else it takes megabytes a socket before anything is slow."""
EVENTS = ["change", "gap"]


@pytest.fixture
async def crowded(dsn: str, tmp_path: Any) -> AsyncIterator[World]:
    listener = listen("127.0.0.1", 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    world = await a_world(dsn, tmp_path, listener=listener)
    yield world
    await world.close()


@contextlib.asynccontextmanager
async def slow_wire(world: World) -> AsyncIterator[tuple[Wire, Any]]:
    """A joined socket that takes little and then stops reading; and what makes it read again."""
    address = urlsplit(world.url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (address.hostname, address.port))
    url = world.address(world.secret_key)
    given: dict[str, Any] = {"ping_interval": None, "compression": None, "close_timeout": 0.1, "max_size": 2**24}
    async with connect(url, sock=sock, proxy=None, **given) as ws:
        wire = Wire(ws, "2.0.0")
        await wire.join(world.topic, broadcast={"events": EVENTS})
        ws.transport.pause_reading()
        yield wire, ws.transport.resume_reading


def queued(world: World) -> list[int]:
    """Bytes that wait for each socket."""
    return [each.outlet.queued_bytes for each in world.system.realtime._connections]


async def test_a_hundred_sockets_that_never_read_cost_little_and_delay_nobody(crowded: World) -> None:
    world, stats = crowded, crowded.system.realtime.hub.stats
    async with contextlib.AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(slow_wire(world)) for _ in range(SLOW)]
        readers = [await stack.enter_async_context(world.socket(world.secret_key)) for _ in range(READERS)]
        begins = [(await reader.join(world.topic, broadcast={"events": EVENTS}))[1]["seq"] for reader in readers]
        late_ms: list[float] = []
        most: list[int] = []
        for number in range(ROUNDS):
            written_at = time.perf_counter()
            await world.write(
                "insert into shots (project_id, name, settings) values ($1, $2, jsonb_build_object('x', $3::text))",
                world.project, f"shot {number}", os.urandom(ROW_BYTES // 2).hex(),
            )  # fmt: skip
            for reader, begin in zip(readers, begins, strict=True):
                got = await reader.event(*EVENTS)
                late_ms.append((time.perf_counter() - written_at) * 1000)
                assert (got["event"], got["payload"]["seq"]) == ("change", begin + number + 1)  # all, and no gap
            most.append(max(queued(world)))
        late_ms.sort()
        p50, p99 = (late_ms[len(late_ms) * each // 100] for each in (50, 99))
        log.info("%d readers beside %d that sleep: P50 %.1f ms, P99 %.1f ms", READERS, SLOW, p50, p99)

        # Bounded: a queue passes its mark by one batch at most, a batch is one piece of the log in its frames.
        assert stats.gaps >= SLOW
        assert max(most) <= outlet.BYTES_MAX + 2 * tail.TAKE_BYTES_MAX
        assert sum(queued(world)) <= SLOW * (outlet.BYTES_MAX + 2 * tail.TAKE_BYTES_MAX)
        assert world.system.feed._budget.used <= tail.RINGS_BYTES_MAX
        async with world.http() as http:
            scraped = (await http.get("/metrics")).text
        (line,) = [line for line in scraped.splitlines() if line.startswith("safelight_realtime_queued_bytes ")]
        assert float(line.split()[1]) == sum(queued(world))

        # Reading again, each is told of its gap and gets every change once, in order; then it is live again.
        async def wake(wire: Wire, resume: Any, begin: int) -> int:
            resume()
            gaps, wanted = 0, begin + 1
            while wanted <= begin + ROUNDS:
                got = await wire.event(*EVENTS)
                if got["event"] == "gap":
                    gaps += 1
                    assert got["payload"]["must_refetch"] is False
                else:
                    assert got["payload"]["seq"] == wanted
                    wanted += 1
            return gaps

        gaps = await asyncio.gather(*(wake(wire, resume, begins[0]) for wire, resume in slow))
        assert all(gaps)
        await until(lambda: all_live(world), "everybody to be live")
        shot = await world.add_shot("after")
        for wire, _ in slow:
            got = await wire.event(*EVENTS)
            assert (got["event"], got["payload"]["id"]) == ("change", str(shot))
        assert sum(queued(world)) == 0


async def all_live(world: World) -> bool:
    return all(member.is_live for member in world.system.realtime.hub.members())


async def test_what_a_slow_stream_holds_is_bounded_in_bytes_also_where_the_log_is_read_anew(world: World) -> None:
    row = os.urandom(40_000).hex()
    for _ in range(30):  # 2.4 MB: ten times what a reader may hold
        await world.write(
            "insert into shots (project_id, name, settings) values ($1, 'x', jsonb_build_object('x', $2::text))",
            world.project, row,
        )  # fmt: skip
    begin, seqs = await world.head() - 30, []
    world.system.feed._channels.clear()  # as after a restart: nothing is in memory
    while len(seqs) < 30:
        found = await world.system.feed.read(world.project, epoch=None, after=begin + len(seqs), limit=1000)
        assert found.entries
        assert sum(len(entry.data) for entry in found.entries) <= tail.TAKE_BYTES_MAX
        seqs += [entry.seq for entry in found.entries]
    assert seqs == list(range(begin + 1, begin + 31))


async def test_a_socket_that_takes_not_even_answers_is_cut_off(crowded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CLOSE_S", 0.1)
    async with slow_wire(crowded):
        (stuck,) = crowded.system.realtime._connections
        while not stuck.outlet.is_overrun:  # what may not be dropped: answers, presence
            stuck.outlet.put(outlet.Wire(b"x" * 100_000))
        assert stuck.outlet.queued_bytes <= outlet.BYTES_HARD_MAX + 100_000

        async def is_out() -> bool:
            return not crowded.system.realtime._connections

        await until(is_out, "the socket to be let go")
    assert crowded.system.realtime.hub.channels == 0
