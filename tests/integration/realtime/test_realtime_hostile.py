"""Bad input at a real socket: refused with the protocol's own reason, counted, and nobody else's trouble (issue 3)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any
from uuid import uuid4

import pytest
from realtime_world import Wire, World, until
from websockets.exceptions import ConnectionClosed

from safelight.realtime import service, session
from safelight.server import run


async def refusals(world: World) -> dict[str, float]:
    """What `/metrics` says of refusals."""
    async with world.http() as http:
        lines = (await http.get("/metrics")).text.splitlines()
    found = [line for line in lines if line.startswith("safelight_realtime_refused_total{")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in found}


async def still_hears(world: World, wire: Wire) -> None:
    shot = await world.add_shot()
    assert (await wire.event("change"))["payload"]["id"] == str(shot)


async def test_whatever_one_socket_sends_the_others_hear_everything(world: World) -> None:
    topic = f"realtime:cursors:{world.project}"
    viewer = await world.member("viewer")
    wrong: dict[str, Any] = {"event": "*", "schema": "public", "table": "jobs"}
    async with world.socket(world.secret_key) as good:
        await good.join(world.topic)
        async with world.socket() as bad:
            unknown = {**wrong, "filter": "request_hash=eq.1"}
            reason = await bad.refused(world.topic, viewer, postgres_changes=[unknown])
            assert reason == "InvalidPostgresChanges: there is no column request_hash in jobs"
            endless = {**wrong, "filter": r"model=match.(a)\1"}
            reason = await bad.refused(world.topic, viewer, postgres_changes=[endless])
            assert reason.startswith("InvalidPostgresChanges: match takes no such pattern")
            assert (await bad.refused("realtime:", viewer)).startswith("TopicNameRequired")
            assert (await bad.refused(f"realtime:task-updates:{uuid4()}", viewer)).startswith("Unauthorized")
            await still_hears(world, good)

            ref, _ = await bad.join(topic, viewer, broadcast={"ack": True})
            sent = await bad.send(topic, "broadcast", {"event": "cur", "payload": {}}, ref)
            assert (await bad.reply(sent))["response"]["error"].startswith("Unauthorized")
            for event in ("presence", "access_token", "nonsense", "phx_close"):
                await bad.send(topic, event, {"event": "wrong", "payload": [1], "access_token": 5}, ref)
            await bad.send("realtime:never-joined", "broadcast", {"event": "x", "payload": {}})
            await still_hears(world, good)
            found = await refusals(world)
            assert found["joins"] == 4
            assert found["broadcasts"] == 1
        for frame in (
            "[",
            "[1,2]",
            '["1","1","other","phx_join",{}]',
            b"\x04\x00\x00\x00\x00\x00\x00",
            b"",
            "[" * 50_000,
        ):
            async with world.socket(world.secret_key) as bad:
                await bad.ws.send(frame)
                assert await bad.closed() == 1007
        await still_hears(world, good)
        assert (await refusals(world))["malformed"] == 6


async def test_a_flood_of_joins_is_refused_as_clients_know_it_and_the_socket_goes_on(world: World) -> None:
    async with world.socket(world.secret_key) as wire:
        for number in range(int(session.JOINS_BURST) + 30):
            topic = f"realtime:r{number}:{world.project}"
            await wire.ws.send(json.dumps([str(number), str(number), topic, "phx_join", {"config": {}}]))
        statuses: list[str] = []
        reasons: set[str] = set()
        while len(statuses) < session.JOINS_BURST + 30:
            frame = await wire.next()
            if frame[3] == "phx_reply":
                statuses.append(frame[4]["status"])
                reasons.add(frame[4]["response"].get("reason", "").partition(":")[0])
        assert statuses.count("ok") == session.CHANNELS_MAX
        assert reasons <= {"", "ClientJoinRateLimitReached", "ChannelRateLimitReached"}
        assert world.system.realtime.hub.channels == session.CHANNELS_MAX
        sent = await wire.send("phoenix", "heartbeat", {})
        assert (await wire.reply(sent))["status"] == "ok"


async def test_a_refused_connection_waits_for_its_answer_but_not_so_many_that_waiting_were_the_attack(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REFUSE_S", 3600.0)
    realtime = world.system.realtime
    waiting = [asyncio.create_task(world.refusal("pk_wrong")) for _ in range(3)]

    async def are_held() -> bool:
        return realtime._refusing == 3

    await until(are_held, "three to be held")
    assert not any(task.done() for task in waiting)
    monkeypatch.setattr(service, "REFUSING_MAX", 3)
    assert (await world.refusal("pk_wrong"))[0] == 401  # at once
    assert (await refusals(world))["connections"] == 4
    world.stop.set()  # and nobody has to wait for those who wait
    assert [status for status, _ in await asyncio.gather(*waiting)] == [401] * 3


async def test_a_join_refused_again_and_again_is_answered_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "REFUSAL_DELAY_S", 3600.0)
    async with world.socket(world.secret_key) as wire:
        for _ in range(session.REFUSALS_FREE):
            await wire.refused(f"realtime:task-updates:{uuid4()}")
        late = await wire.send(f"realtime:task-updates:{uuid4()}", "phx_join", {"config": {}})
        ref, _ = await wire.join(world.topic)  # what is in order is not held up by it
        await wire.is_quiet(world.topic, ref)
        assert late not in [frame[1] for frame in wire.seen if frame[3] == "phx_reply"]


async def test_sockets_are_closed_spread_over_time_when_the_server_stops(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SOCKETS_SPREAD_S", 1.0)
    world: World = await build()
    async with contextlib.AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(world.socket(world.secret_key)) for _ in range(20)]
        for wire in wires:
            await wire.join(world.topic)
        turns: list[float] = []
        loop = asyncio.get_running_loop()

        async def ended(wire: Wire) -> int:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await wire.next()
            turns.append(loop.time())
            assert wire.ws.close_code is not None
            return wire.ws.close_code

        closing = [asyncio.create_task(ended(wire)) for wire in wires]
        world.stop.set()
        assert set(await asyncio.gather(*closing)) == {1012}
        # Twenty sockets in as many rounds: not all in one breath, whatever the machine is busy with.
        assert len({round(turn, 2) for turn in turns}) > 5
