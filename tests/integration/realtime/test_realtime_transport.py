"""Sockets that outlive their request (decision 008): nothing is kept for a quiet one, and none of it shows outside."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest
from realtime_world import World, until
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from safelight.realtime import session
from safelight.server import run

CLIENT_TASKS = 1
"""The keepalive of the client library that the test itself uses, per socket."""


async def test_a_quiet_socket_holds_no_task(world: World) -> None:
    async with world.socket(world.secret_key) as first:
        await first.join(world.topic)  # now the room is there, with its own task
        before = await settled()
        async with world.socket(world.secret_key) as one, world.socket(world.secret_key) as two:
            for wire in (one, two):
                await wire.join(world.topic)
            await until(lambda: same(before), "the requests to be over")
            await world.add_shot()
            for wire in (one, two):
                await wire.event("change")


async def test_who_says_too_much_is_read_more_slowly_and_every_word_is_answered_in_order(world: World) -> None:
    count = int(session.FRAMES_BURST) + 60
    async with world.socket(world.secret_key) as wire:
        refs = [await wire.send("phoenix", "heartbeat", {}) for _ in range(count)]
        answered: list[str] = []
        while len(answered) < count:
            frame = await wire.next()
            answered.append(frame[1])
        assert answered == refs


async def test_text_that_is_no_utf8_ends_the_socket_with_the_code_for_it(world: World) -> None:
    async with world.socket(world.secret_key) as wire:
        await wire.join(world.topic)
        await wire.ws.send(b"\xff\xfe", text=True)
        assert await wire.closed() == 1007
    await until(lambda: is_empty(world), "the socket to be let go")


async def test_a_message_in_fragments_is_one_message(world: World) -> None:
    async with world.socket(world.secret_key) as wire:
        await wire.ws.send(["[null,", '"7","phoenix",', '"heartbeat",{}]'])
        assert (await wire.reply("7"))["status"] == "ok"


def masked(payload: bytes, *, opcode: int = 1, is_last: bool = True, mask: bytes = b"\x81\x85\x01\xfe") -> bytes:
    """A client's frame; this mask makes parts of a frame look like the beginning of one."""
    size = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2)
    hidden = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes(((0x80 if is_last else 0) | opcode,)) + size + mask + hidden


def beat(ref: str, padding: int = 0) -> bytes:
    return f'[null,"{ref}","phoenix","heartbeat",{{{" " * padding}}}]'.encode()


async def test_however_the_network_cuts_and_joins_frames_every_message_comes_once_and_in_order(world: World) -> None:
    """Short messages go past the parser (transport.py): only ever between two others."""
    chance = random.Random(7)
    async with world.socket(world.secret_key) as wire:
        sent: list[str] = []
        for number in range(200):
            ref = f"r{number}"
            text = beat(ref, padding=chance.choice([0, 0, 0, 300]))
            if chance.random() < 0.2:  # in fragments, a ping between them
                cut = chance.randrange(1, len(text))
                stream = masked(text[:cut], is_last=False) + masked(b"here?", opcode=9) + masked(text[cut:], opcode=0)
            else:
                stream = masked(text, mask=chance.randbytes(4))
            sent.append(ref)
            while stream:
                size = chance.choice([1, 2, 6, len(stream)])
                wire.ws.transport.write(stream[:size])
                stream = stream[size:]
                if chance.random() < 0.3:
                    await asyncio.sleep(0)
        assert [(await wire.next())[1] for _ in sent] == sent


async def test_a_short_message_inside_a_fragmented_one_is_a_fault_of_the_client(world: World) -> None:
    async with world.socket(world.secret_key) as wire:
        wire.ws.transport.write(masked(beat("1")[:5], is_last=False))
        wire.ws.transport.write(masked(beat("2")))
        assert await wire.closed() == 1002
    await until(lambda: is_empty(world), "the socket to be let go")


async def test_a_short_message_goes_past_the_parser(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an upgrade of the library has moved what tells us that nothing is half read."""
    async with world.socket(world.secret_key) as wire:
        (connection,) = world.system.realtime._connections
        raw: Any = connection._raw
        await wire.reply(await wire.send("phoenix", "heartbeat", {}))
        monkeypatch.setattr(raw.conn, "receive_data", lambda data: pytest.fail("it was parsed"))
        assert (await wire.reply(await wire.send("phoenix", "heartbeat", {})))["status"] == "ok"
        monkeypatch.undo()


async def test_a_client_that_vanishes_is_forgotten_with_all_it_had_joined(world: World) -> None:
    async with world.socket(world.secret_key) as stays:
        await stays.join(world.topic)
        async with world.socket(world.secret_key) as goes:
            await goes.join(world.topic)
            await goes.join("realtime:a room", presence={"key": "ann"})
            assert world.system.realtime.hub.channels == 3
            goes.ws.transport.abort()
        await until(lambda: has_channels(world, 1), "the rest to be left")
        async with world.http() as http:
            scraped = (await http.get("/metrics")).text
        assert 'safelight_feed_followers{transport="socket"} 1.0' in scraped
        await world.add_shot()
        await stays.event("change")


async def test_bytes_never_reach_whoever_has_the_descriptor_next(world: World) -> None:
    async with world.socket(world.secret_key) as wire:
        await wire.join(world.topic)
        (connection,) = world.system.realtime._connections
        raw: Any = connection._raw
        raw.abort()
        await until(lambda: is_empty(world), "the socket to be let go")
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                pair = [stack.enter_context(each) for each in socket.socketpair()]
                numbers = [each.fileno() for each in pair]
                if raw._fd in numbers:
                    break
            else:
                pytest.fail("the number did not come back")
            other = pair[1 - numbers.index(raw._fd)]
            other.setblocking(False)
            raw.write(b"late")
            with pytest.raises(BlockingIOError):
                other.recv(10)


async def test_a_server_that_does_not_let_go_of_its_sockets_serves_the_same(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SocketProtocol", WebSocketsSansIOProtocol)
    world: World = await build()
    async with world.socket(world.secret_key) as one, world.socket(world.secret_key) as two:
        for wire in (one, two):
            await wire.join(world.topic)
        for number in range(20):
            await world.add_shot(f"shot {number}")
        for wire in (one, two):
            seqs = [(await wire.event("change"))["payload"]["seq"] for _ in range(20)]
            assert seqs == list(range(seqs[0], seqs[0] + 20))
        (connection, *_) = world.system.realtime._connections
        assert connection._raw is None
        await two.ws.close()
        await until(lambda: has_channels(world, 1), "the other's end")
        await one.ws.send("nonsense")
        assert await one.closed() == 1007
    await until(lambda: is_empty(world), "both to be let go")


async def settled() -> int:
    """Tasks of this process, once requests and joins are over."""
    while True:
        before = len(asyncio.all_tasks())
        await asyncio.sleep(0.2)
        if len(asyncio.all_tasks()) == before:
            return before


async def same(count: int) -> bool:
    return len(asyncio.all_tasks()) <= count + 2 * CLIENT_TASKS


async def is_empty(world: World) -> bool:
    return not world.system.realtime._connections and world.system.realtime.hub.channels == 0


async def has_channels(world: World, count: int) -> bool:
    return world.system.realtime.hub.channels == count
