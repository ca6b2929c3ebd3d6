"""The bus between processes, over NOTIFY and over NATS: the same promises, and nothing is lost when it is cut (S4)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from realtime_bus_kinds import NAMESPACE, Kind, a_kind
from realtime_world import World, until

from safelight.realtime import feed as feed_module
from safelight.realtime.bus_base import MESSAGES_MAX, Bus
from safelight.realtime.bus_nats import NatsBus

PATIENCE_S = 60


@pytest.fixture(params=["pg", "nats"])
async def kind(request: pytest.FixtureRequest, dsn: str, tmp_path: Path) -> AsyncIterator[Kind]:
    kind = a_kind(request.param, dsn, tmp_path)
    try:
        yield kind
    finally:
        await kind.close()


@pytest.fixture
async def buses(kind: Kind) -> AsyncIterator[tuple[Bus, Bus]]:
    both = kind.make(), kind.make()
    for bus in both:
        await bus.start()
    await true(lambda: all(bus.is_connected for bus in both))
    try:
        yield both
    finally:
        for bus in both:
            await bus.stop()


async def true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


class Heard(list[Any]):
    """What a hint listener heard."""

    @property
    def projects(self) -> set[UUID]:
        return {project for each in self if each is not None for project in each}


# -- two ends of a bus


async def test_topics_reach_the_other_process_once_and_equal_messages_are_gathered(buses: tuple[Bus, Bus]) -> None:
    here, there = buses
    local: list[str] = []
    remote: list[str] = []
    here.on("work", local.append)
    there.on("work", remote.append)
    there.on("other", lambda payload: pytest.fail("not for this topic"))
    for _ in range(50):
        here.publish("work", "submit fal")
    here.publish("work", "last, with ü and\na line")
    await true(lambda: remote[-1:] == ["last, with ü and\na line"])
    assert remote == ["submit fal", "last, with ü and\na line"]
    assert local.count("last, with ü and\na line") == 1


async def test_hints_name_their_projects_and_too_many_become_all(buses: tuple[Bus, Bus]) -> None:
    here, there = buses
    heard, echo = Heard(), Heard()
    there.on_hint(heard.append)
    here.on_hint(echo.append)
    few = frozenset(uuid.uuid4() for _ in range(200))
    here.hint(few)
    await true(lambda: heard.projects == few)
    assert None not in heard
    here.hint(frozenset(uuid.uuid4() for _ in range(5000)))
    await true(lambda: None in heard)
    assert heard.projects == few
    assert echo == []  # whoever spoke knows already


async def test_nonsense_on_the_bus_and_a_failing_listener_hurt_nobody(kind: Kind, buses: tuple[Bus, Bus]) -> None:
    here, there = buses
    heard = Heard()

    def fail(_: Any) -> None:
        raise RuntimeError("a listener's bug")

    here.on_hint(fail)
    here.on_hint(heard.append)
    count = await kind.nonsense()
    await true(lambda: here.stats.dropped == count)
    project = uuid.uuid4()
    there.hint(frozenset({project}))
    await true(lambda: heard == [frozenset({project})])


async def test_too_much_for_the_bus_is_dropped_and_counted(buses: tuple[Bus, Bus]) -> None:
    here, there = buses
    got: list[str] = []
    there.on("work", got.append)
    here.publish("work", "x" * 8000)
    assert here.stats.dropped == 1
    for number in range(MESSAGES_MAX + 5):  # in one turn of the loop: nothing leaves meanwhile
        here.publish("work", str(number))
    assert here.stats.dropped == 6
    await true(lambda: len(got) == MESSAGES_MAX)
    assert got == [str(number) for number in range(MESSAGES_MAX)]


async def test_an_idle_bus_is_silent(buses: tuple[Bus, Bus]) -> None:
    here, there = buses
    heard: list[str] = []
    there.on("work", heard.append)
    before = here.stats.sent, there.stats.sent, here.stats.received
    here.publish("work", "a word")  # whatever would have been said by itself came before it
    await true(lambda: heard == ["a word"] and here.stats.sent > before[0])
    assert (here.stats.sent, there.stats.sent, here.stats.received) == (before[0] + 1, before[1], before[2])


async def test_a_cut_bus_comes_back_and_says_that_anything_may_have_changed(kind: Kind, buses: tuple[Bus, Bus]) -> None:
    here, there = buses
    heard = Heard()
    topics: list[str] = []
    here.on_hint(heard.append)
    here.on("work", topics.append)
    await kind.cut()
    await true(lambda: not here.is_connected or here.stats.connects > 1)
    await kind.mend()
    await true(lambda: None in heard and "" in topics)
    await true(lambda: here.is_connected and there.is_connected and there.stats.connects > 1)
    project = uuid.uuid4()
    there.hint(frozenset({project}))
    await true(lambda: project in heard.projects)


async def test_what_is_said_while_the_bus_is_away_is_said_when_it_is_back(kind: Kind) -> None:
    await kind.cut()
    here, there = kind.make(), kind.make()
    heard = Heard()
    got: list[str] = []
    there.on_hint(heard.append)
    there.on("work", got.append)
    project = uuid.uuid4()
    try:
        await kind.mend()
        await there.start()
        await true(lambda: there.is_connected)
        here.hint(frozenset({project}))
        here.publish("work", "early")
        await here.start()
        await true(lambda: project in heard.projects and got == ["early"])
    finally:
        await here.stop()
        await there.stop()


async def test_installations_on_one_nats_server_do_not_hear_each_other(dsn: str, tmp_path: Path) -> None:
    kind = a_kind("nats", dsn, tmp_path)
    foreign = NatsBus(kind.settings["nats_url"], "another")
    ours, other = kind.make(), kind.make()
    heard, overheard = Heard(), Heard()
    ours.on_hint(heard.append)
    foreign.on_hint(overheard.append)
    project = uuid.uuid4()
    try:
        for bus in (ours, other, foreign):
            await bus.start()
        await true(lambda: all(bus.is_connected for bus in (ours, other, foreign)))
        other.hint(frozenset({project}))
        await true(lambda: project in heard.projects)
        foreign.hint(frozenset({uuid.uuid4()}))
        await foreign.stop()
        assert overheard == []
        assert heard.projects == {project}
    finally:
        for bus in (ours, other, foreign):
            await bus.stop()
        await kind.close()


async def test_a_namespace_cannot_reach_beyond_itself() -> None:
    for name in ("", "a.b", ">", "*", f"{NAMESPACE} "):
        with pytest.raises(ValueError, match="letters and digits"):
            NatsBus("nats://127.0.0.1:1", name)


# -- two processes


async def test_a_write_in_one_process_reaches_a_socket_of_another_by_the_bus_alone(
    build: Callable[..., Any], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "SWEEP_S", 3600)  # so that only the bus can tell
    here: World = await build(**kind.settings)
    there: World = await build(here, **kind.settings)
    async with there.socket(there.secret_key) as wire:
        _, system = await wire.join(there.topic)
        await until(lambda: _swept(there), "the first sweep: the next is an hour away")
        for number in range(5):
            await here.add_shot(f"shot {number}")
            seq = (await wire.event("change"))["payload"]["seq"]
            assert seq == system["seq"] + number + 1


async def test_nothing_is_lost_when_the_bus_is_cut_in_the_middle(build: Callable[..., Any], kind: Kind) -> None:
    here: World = await build(**kind.settings)
    there: World = await build(here, **kind.settings)
    async with here.socket(here.secret_key) as near, there.socket(there.secret_key) as far:
        _, system = await near.join(here.topic)
        _, other = await far.join(there.topic)
        first = system["seq"] + 1
        assert other["seq"] == system["seq"]
        count = 0
        for round in range(3):
            for _ in range(10):
                await (here if count % 2 else there).add_shot(f"shot {count}")
                count += 1
            if round == 0:
                await kind.cut()
            if round == 1:
                await kind.mend()
        for wire in (near, far):
            seqs = [(await wire.event("change"))["payload"]["seq"] for _ in range(count)]
            assert seqs == list(range(first, first + count))
        # and what is only on the bus comes through again
        room = "realtime:a room"
        near_ref, _ = await near.join(room)
        far_ref, _ = await far.join(room)
        said = asyncio.create_task(_repeat(near, room, near_ref))
        try:
            assert (await far.event("cursor"))["payload"]["x"] == 1
        finally:
            said.cancel()
            await asyncio.gather(said, return_exceptions=True)
        assert far_ref


async def _swept(world: World) -> bool:
    return world.system.feed.stats.sweeps > 0


async def _repeat(wire: Any, topic: str, join_ref: str) -> None:
    """Until cancelled: while the bus is away a broadcast is lost, as it may be."""
    while True:
        await wire.send(topic, "broadcast", {"type": "broadcast", "event": "cursor", "payload": {"x": 1}}, join_ref)
        await asyncio.sleep(0.1)
