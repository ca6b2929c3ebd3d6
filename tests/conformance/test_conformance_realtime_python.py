"""The unmodified PyPI client `realtime` works against our socket (S4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from realtime import (
    AsyncRealtimeChannel,
    AsyncRealtimeClient,
    RealtimePostgresChangesListenEvent,
    RealtimeSubscribeStates,
)
from realtime_parts import DEADLINE_S, World, a_world

Json = dict[str, Any]


@pytest.fixture
async def world(dsn: str, tmp_path: Path) -> AsyncIterator[World]:
    made = await a_world(dsn, tmp_path)
    yield made
    await made.close()


class Heard:
    """What callbacks were given."""

    def __init__(self) -> None:
        self.all: asyncio.Queue[Any] = asyncio.Queue()

    def __call__(self, *given: Any) -> None:
        self.all.put_nowait(given[0] if len(given) == 1 else given)

    async def next(self, fits: Callable[[Any], bool] = lambda _: True) -> Any:
        async with asyncio.timeout(DEADLINE_S):
            while not fits(found := await self.all.get()):
                pass
        return found


@pytest.fixture
async def client(world: World) -> AsyncIterator[AsyncRealtimeClient]:
    made = AsyncRealtimeClient(f"{world.url}/realtime/v1", world.secret_key)
    await made.connect()
    yield made
    await made.close()


async def subscribed(channel: AsyncRealtimeChannel) -> Heard:
    states = Heard()
    await channel.subscribe(states)
    state, error = await states.next()
    assert (state, error) == (RealtimeSubscribeStates.SUBSCRIBED, None)
    return states


async def test_python_gets_changes_with_filters_and_our_broadcasts(world: World, client: AsyncRealtimeClient) -> None:
    rows, updates, changes = Heard(), Heard(), Heard()
    channel = client.channel(f"task-updates:{world.project}")
    channel.on_postgres_changes(
        RealtimePostgresChangesListenEvent.Insert, rows, table="tasks", filter=f"project_id=eq.{world.project}"
    )
    channel.on_broadcast("task-update", updates)
    channel.on_broadcast("change", changes)
    await subscribed(channel)
    job = await world.add_job()
    row = (await rows.next())["data"]
    assert (row["type"], row["table"], row["record"]["id"]) == ("INSERT", "tasks", str(job))
    assert (await updates.next())["payload"]["id"] == str(job)
    change = await changes.next()
    assert change["payload"]["table"] == "jobs"
    # Its model keeps no other word of `meta` than the id: epoch and seq are in the payload too.
    assert change["meta"]["id"] == f"{change['payload']['epoch']}:{change['payload']['seq']}"


async def test_python_gets_updates_and_deletes(world: World, client: AsyncRealtimeClient) -> None:
    rows = Heard()
    channel = client.channel(f"task-updates:{world.project}")
    channel.on_postgres_changes(RealtimePostgresChangesListenEvent.All, rows, table="shots")
    await subscribed(channel)
    shot = await world.add_shot("old")
    await world.write("update shots set name = 'new' where id = $1 returning 1", shot)
    await world.write("delete from shots where id = $1 returning 1", shot)
    got = [(await rows.next())["data"] for _ in range(3)]
    assert [each["type"] for each in got] == ["INSERT", "UPDATE", "DELETE"]
    assert got[2]["old_record"]["name"] == "new"


async def test_two_python_clients_talk_and_see_each_other(world: World, client: AsyncRealtimeClient) -> None:
    topic, heard, joins, leaves = f"room:{world.project}", Heard(), Heard(), Heard()
    one = client.channel(
        topic, {"config": {"presence": {"key": "ann", "enabled": True}, "broadcast": {}, "private": False}}
    )
    one.on_broadcast("cur", heard)
    one.on_presence_join(joins)
    one.on_presence_leave(leaves)
    await subscribed(one)
    other = AsyncRealtimeClient(f"{world.url}/realtime/v1", world.secret_key)
    await other.connect()
    try:
        two = other.channel(
            topic, {"config": {"presence": {"key": "bob", "enabled": True}, "broadcast": {}, "private": False}}
        )
        await subscribed(two)
        await one.track({"at": 1})
        await two.track({"at": 2})
        await joins.next(lambda given: given[0] == "bob")
        assert set(one.presence_state()) == {"ann", "bob"}
        await two.send_broadcast("cur", {"x": 1})
        assert (await heard.next())["payload"] == {"x": 1}
        await two.untrack()
        await leaves.next(lambda given: given[0] == "bob")
    finally:
        await other.close()


async def test_python_with_a_persons_token_joins_and_leaves(world: World) -> None:
    client = AsyncRealtimeClient(f"{world.url}/realtime/v1", world.publishable_key)
    await client.connect()
    try:
        await client.set_auth(await world.member("viewer"))
        heard = Heard()
        channel = client.channel(f"task-updates:{world.project}")
        channel.on_broadcast("change", heard)
        states = await subscribed(channel)
        shot = await world.add_shot()
        assert (await heard.next())["payload"]["id"] == str(shot)
        await channel.unsubscribe()
        assert (await states.next())[0] == RealtimeSubscribeStates.CLOSED
        assert world.system.realtime.hub.channels == 0
    finally:
        await client.close()


async def test_python_is_told_why_it_may_not_join(world: World) -> None:
    client = AsyncRealtimeClient(f"{world.url}/realtime/v1", world.publishable_key)
    await client.connect()
    try:
        states = Heard()
        channel = client.channel(f"task-updates:{world.project}")
        await channel.subscribe(states)
        state, error = await states.next()
        assert state == RealtimeSubscribeStates.CHANNEL_ERROR
        assert "Unauthorized" in str(error)
    finally:
        await client.close()
