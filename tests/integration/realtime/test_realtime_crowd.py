"""The benchmark's crowd of clients speaks our protocol: what it counts is what was sent (issue 3, fan-out)."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from benchmarks.figures.fanout_plans import our_plan, write_plan
from benchmarks.load.crowd import Crowd, Plan
from benchmarks.load.http import Address
from realtime_world import World


class Server:
    """As the benchmark knows it."""

    def __init__(self, world: World) -> None:
        parts = urlsplit(world.url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.address = Address(parts.hostname, parts.port)
        self.key = world.secret_key
        self.headers = {"Authorization": f"Bearer {world.secret_key}"}


async def counted(plan: Plan, listeners: int, speakers: int) -> tuple[Any, Any]:
    def work() -> tuple[Any, Any]:
        crowd = Crowd(plan)
        try:
            assert crowd.open(listeners, speakers) > 0
            crowd.beat()
            return crowd.saturate(0.2, 3), crowd.probe(40, 0.5)
        finally:
            crowd.close()

    return await asyncio.to_thread(work)


async def test_a_broadcast_reaches_every_listener(world: World) -> None:
    server = Server(world)
    flow, probe = await counted(our_plan(server, f"bench:{world.project}"), 12, 2)
    assert flow.delivered >= 3 * 12
    assert (probe.sent, probe.lost) == (20, 0)
    assert probe.delivered >= 20 * 12
    assert 0 < probe.p50_ms <= probe.p99_ms


@pytest.mark.parametrize("has_stream", [False, True])
async def test_a_write_reaches_every_follower(world: World, has_stream: bool) -> None:
    server = Server(world)
    plan = write_plan(server, str(world.project), has_stream=has_stream)
    before = await world.head()
    flow, probe = await counted(plan, 5, 2)
    assert (probe.sent, probe.lost) == (20, 0)
    assert flow.delivered >= 3 * 5
    assert await world.head() - before >= 20 + 3
    names = await world.value("select json_agg(distinct name)::text from shots where project_id = $1", world.project)
    assert all(name.startswith("^") for name in json.loads(names))
