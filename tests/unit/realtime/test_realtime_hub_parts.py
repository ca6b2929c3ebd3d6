"""The parts around a socket: its queue, presence, the relay between processes, what an entry becomes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from safelight.changes.log import Change
from safelight.changes.present import Presenters
from safelight.realtime import outlet as queue
from safelight.realtime.filters import binding
from safelight.realtime.lane import LaneKey, Touched, render
from safelight.realtime.outlet import Batch, Outlet, Pen, Wire
from safelight.realtime.phoenix import Vsn
from safelight.realtime.presence import METAS_MAX, Board
from safelight.realtime.presence_relay import PresenceRelay
from safelight.realtime.relay import BroadcastRelay
from safelight.realtime.room import rest_s
from safelight.realtime.tail import Entry
from safelight.realtime.transport import framed

P = UUID("0f9d6a3e-0000-4000-8000-000000000001")
EPOCH = UUID("0f9d6a3e-0000-4000-8000-0000000000ee")


class Socket:
    """Takes what is sent, when it may."""

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []
        self.may = asyncio.Event()

    async def send(self, data: Any) -> None:
        await self.may.wait()
        self.sent.append(data)


class Transport:
    """A socket that was taken over, with a mark like a real one's."""

    def __init__(self) -> None:
        self.is_writable = True
        self.writes: list[bytes] = []

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)

    def write(self, frames: bytes) -> None:
        self.writes.append(frames)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"an outlet only writes: {name}")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def test_what_is_queued_is_sent_in_order_and_what_does_not_fit_is_refused_whole() -> None:
    socket = Socket()
    outlet = Outlet(Pen(), send_text=socket.send, send_bytes=socket.send)
    large = Batch([Wire(b"x" * queue.BYTES_MAX), Wire(b"end")])
    assert outlet.offer(Batch([Wire(b"one")]))
    assert outlet.offer(large)
    assert not outlet.offer(Batch([Wire(b"late")]))
    outlet.put(Wire(b"reply"))
    writer = asyncio.create_task(outlet.run())
    waiting = asyncio.create_task(outlet.roomy())
    await asyncio.sleep(0)
    assert not waiting.done()
    socket.may.set()
    await waiting
    await until(lambda: len(socket.sent) == 4)
    assert [len(each) for each in socket.sent] == [3, queue.BYTES_MAX, 3, 5]
    outlet.finish()
    await writer
    assert not outlet.offer(Batch([Wire(b"after")]))


async def test_a_reader_that_takes_nothing_while_it_asks_is_given_up() -> None:
    socket = Socket()
    outlet = Outlet(Pen(), send_text=socket.send, send_bytes=socket.send)
    for _ in range(10 * queue.FRAMES_MAX):
        outlet.put(Wire(b"reply"))
    assert outlet.is_overrun
    await asyncio.wait_for(outlet.run(), 30)


async def test_all_that_one_turn_has_for_a_socket_leaves_in_one_write_in_order() -> None:
    pen, one, two = Pen(), Transport(), Transport()
    outlets = [Outlet(pen, one), Outlet(pen, two)]
    batches = [Batch([Wire(b"one"), Wire(b"\x00two", is_text=False)]), Batch([Wire(b"three")])]
    for batch in batches:
        for outlet in outlets:
            assert outlet.offer(batch)
    outlets[1].put(Wire(b"reply"))
    assert one.writes == two.writes == []
    await until(lambda: bool(one.writes and two.writes))
    assert one.writes == [b"\x81\x03one\x82\x04\x00two\x81\x05three"]
    assert two.writes == [one.written + b"\x81\x05reply"]
    assert all(outlet.queued_bytes == 0 and outlet.is_empty for outlet in outlets)


async def test_more_sockets_than_one_turn_writes_to_all_get_theirs() -> None:
    pen, transports = Pen(), [Transport() for _ in range(2 * queue.SOCKETS_AT_ONCE + 1)]
    for transport in transports:
        assert Outlet(pen, transport).offer(Batch([Wire(b"x")]))
    await until(lambda: all(transport.writes == [b"\x81\x01x"] for transport in transports))


async def test_a_large_turn_is_written_as_it_comes_and_is_no_reason_to_call_a_reader_slow() -> None:
    transport = Transport()
    outlet = Outlet(Pen(), transport)
    for _ in range(100):
        assert outlet.offer(Batch([Wire(b"x" * 20_000)]))
        assert outlet.queued_bytes < queue.PIECE_BYTES
    await until(lambda: outlet.is_empty)
    assert len(transport.written) == 100 * 20_004
    assert max(map(len, transport.writes)) < 2 * queue.PIECE_BYTES


async def test_a_full_transport_keeps_the_order_and_is_offered_no_more_than_it_may_hold() -> None:
    transport = Transport()
    outlet = Outlet(Pen(), transport)
    transport.is_writable = False
    offered = 0
    while outlet.offer(Batch([Wire(b"%06d" % offered * 1000)])):
        offered += 1
    assert queue.BYTES_MAX <= outlet.queued_bytes < queue.BYTES_MAX + 6_000
    outlet.put(Wire(b"reply"))
    waiting = asyncio.create_task(outlet.roomy())
    await asyncio.sleep(0)
    assert transport.writes == []
    assert not waiting.done()
    transport.is_writable = True
    outlet.put(Wire(b"four"))  # must not overtake the rest
    outlet.flush()  # as the transport does when it has drained
    await waiting
    assert outlet.queued_bytes == 0
    assert transport.written == b"".join(
        framed(each, is_text=True)
        for each in [*(b"%06d" % number * 1000 for number in range(offered)), b"reply", b"four"]
    )


async def test_what_is_told_to_finish_still_goes_out_and_nothing_after_it() -> None:
    transport = Transport()
    outlet = Outlet(Pen(), transport)
    outlet.put(Wire(b"last"))
    outlet.finish()
    outlet.put(Wire(b"late"))
    assert not outlet.offer(Batch([Wire(b"late")]))
    await until(lambda: transport.written == b"\x81\x04last")
    assert outlet.is_empty


@given(st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536, 70_000]), st.booleans())
def test_a_frame_of_ours_is_what_a_websocket_library_reads(size: int, is_text: bool) -> None:
    reader = StreamReader()
    reader.feed_data(framed(b"a" * size, is_text=is_text))
    parsing = Frame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as done:
        next(parsing)
    frame = done.value.value
    assert (frame.data, frame.fin) == (b"a" * size, True)
    assert frame.opcode is (Opcode.TEXT if is_text else Opcode.BINARY)


# -- presence


def applied(state: dict[str, Any], diff: dict[str, Any]) -> dict[str, Any]:
    """As Supabase's client does it: joins by ref, then leaves by ref."""
    whole = {key: {meta["phx_ref"]: meta for meta in held["metas"]} for key, held in state.items()}
    for key, held in diff["joins"].items():
        whole.setdefault(key, {}).update({meta["phx_ref"]: meta for meta in held["metas"]})
    for key, held in diff["leaves"].items():
        for meta in held["metas"]:
            whole.get(key, {}).pop(meta["phx_ref"], None)
    return {key: {"metas": list(metas.values())} for key, metas in whole.items() if metas}


def by_ref(state: dict[str, Any]) -> dict[str, Any]:
    return {key: sorted(meta["phx_ref"] for meta in held["metas"]) for key, held in state.items()}


@given(
    st.lists(
        st.tuples(st.sampled_from(["track", "untrack", "look"]), st.integers(0, 4), st.sampled_from(["ann", "bob"])),
        max_size=40,
    )
)
def test_a_state_and_the_diffs_after_it_are_the_state(steps: list[tuple[str, int, str]]) -> None:
    board = Board()
    seen: dict[str, Any] = {}
    for step, holder, key in steps:
        match step:
            case "track":
                board.track(holder, key, {"at": holder})
            case "untrack":
                board.untrack(holder)
            case _:
                diff = board.take_diff()
                seen = applied(seen, json.loads(diff)) if diff else seen
                assert by_ref(seen) == by_ref(json.loads(board.state()))


def test_a_topic_shows_so_many_and_no_more() -> None:
    board = Board()
    assert all(board.track(number, str(number), {}) for number in range(METAS_MAX))
    assert not board.track("one more", "x", {})
    assert board.track(5, "5", {"again": True})


# -- relay


class Bus:
    """Two ends of a wire."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[str], None]] = []
        self.said: list[str] = []

    def on(self, topic: str, listener: Callable[[str], None]) -> None:
        self.listeners.append(listener)

    def publish(self, topic: str, payload: str = "") -> None:
        self.said.append(payload)
        for listener in self.listeners:
            listener(payload)


@pytest.mark.parametrize("size", [0, 10, 6_000, 250_000])
def test_a_broadcast_of_any_size_arrives_whole_in_the_other_process_and_not_in_its_own(size: int) -> None:
    bus, here, there = Bus(), [], []
    one = BroadcastRelay(bus, "one", lambda *said: here.append(said))
    BroadcastRelay(bus, "two", lambda *said: there.append(said))
    one.tell(P, "room:ä", "cur", b"\xff" * size, False)
    assert there == [(P, "room:ä", "cur", b"\xff" * size, False)]
    assert here == []
    assert all(len(f"broadcast {each}".encode()) < 7_900 for each in bus.said)


@given(
    st.text(max_size=80) | st.builds(lambda *parts: " ".join(map(str, parts)), *[st.text("ab01 9-", max_size=5)] * 5)
)
def test_what_strangers_say_on_the_bus_is_passed_over(payload: str) -> None:
    bus, there = Bus(), []
    BroadcastRelay(bus, "two", lambda *said: there.append(said))
    bus.publish("broadcast", payload)
    assert there == []


# -- lanes


def entry(table: str = "jobs", op: str = "insert", seq: int = 7, **row: Any) -> Entry:
    whole = {"id": str(P), "project_id": str(P), **row}
    change = Change(
        P, seq, datetime(2026, 1, 2, tzinfo=UTC), table, op, P,  # type: ignore[arg-type]
        None if op == "delete" else whole, whole if op == "delete" else None, None,
    )  # fmt: skip
    return Entry(change, Presenters().encode(change), 0.0)


def key(vsn: Vsn = Vsn.V2, has_feed: bool = True, events: frozenset[str] | None = None, *asked: Any) -> LaneKey:
    return LaneKey(vsn, "realtime:t", has_feed, events, frozenset(binding(each) for each in asked))


def test_an_entry_is_told_as_change_as_task_and_as_row_each_once() -> None:
    wires = [json.loads(wire.data) for wire in render(key(Vsn.V2, True, None, {"table": "tasks"}), EPOCH, [entry()])]
    assert [(frame[3], frame[4].get("event")) for frame in wires] == [
        ("broadcast", "change"), ("broadcast", "task-update"), ("postgres_changes", None),
    ]  # fmt: skip
    assert all(frame[0] is None and frame[1] is None for frame in wires)
    assert wires[0][4]["payload"]["seq"] == 7
    assert len(json.dumps(wires[0][4]["meta"]).encode()) <= 255


def test_a_channel_beside_the_main_one_gets_only_what_it_asked_for() -> None:
    assert render(key(Vsn.V2, False), EPOCH, [entry()]) == []
    assert len(render(key(Vsn.V2, False, None, {"table": "jobs"}), EPOCH, [entry()])) == 1


def test_two_bindings_that_match_make_one_message_with_both_ids() -> None:
    asked = [{"event": "*", "table": "jobs"}, {"event": "INSERT", "table": "jobs", "filter": f"project_id=eq.{P}"}]
    (wire,) = render(key(Vsn.V1, False, None, *asked), EPOCH, [entry()])
    payload = json.loads(wire.data)["payload"]
    assert sorted(payload["ids"]) == sorted(binding(each).id for each in asked)


def test_columns_that_are_internal_are_not_shown() -> None:
    (wire,) = render(
        key(Vsn.V2, False, None, {"table": "jobs"}), EPOCH, [entry(op="delete", webhook_url="https://secret", n=1)]
    )
    assert b"secret" not in wire.data
    assert json.loads(wire.data)[4]["data"]["old_record"]["n"] == 1


def test_generations_are_gathered_by_shot() -> None:
    touched = Touched()
    for odd in ({"a": 1}, "x", None):  # written by hand: passed over, not a fault
        Touched().add(entry("generations", shots=odd).change)
    touched.add(entry("generations", shots=[{"shot_id": "s1"}, {"shot_id": "s2"}]).change)
    touched.add(entry("shot_generations", op="delete", shot_id="s1", generation_id="g2").change)
    touched.add(entry("shots").change)
    assert [json.loads(body) for body in touched.bodies(P)] == [
        {"projectId": str(P), "shotId": "s1", "generationIds": [str(P), "g2"]},
        {"projectId": str(P), "shotId": "s2", "generationIds": [str(P)]},
    ]


class Elsewhere:
    """The topics of one process, as its relay sees them."""

    def __init__(self) -> None:
        self.own: list[Any] = []
        self.others: dict[Any, Any] = {}

    def show(self, project: UUID, name: str, holder: tuple[str, int], key: str, meta: Any) -> None:
        self.others[holder] = (key, meta)

    def shown(self, project: UUID | None, name: str) -> list[Any]:
        return [each for each in self.own if project in (None, each[0])]

    def opened(self) -> list[tuple[UUID, str]]:
        return [(P, "room")]

    def forget(self, node: str) -> None:
        self.others = {holder: held for holder, held in self.others.items() if holder[0] != node}


def test_a_process_that_falls_silent_takes_those_it_showed_with_it() -> None:
    bus, here, there, now = Bus(), Elsewhere(), Elsewhere(), [0.0]
    one = PresenceRelay(bus, "one", here, lambda: now[0])
    two = PresenceRelay(bus, "two", there, lambda: now[0])
    here.own = [(P, "room", 1, "ann", {"at": 1})]
    two.ask(P, "room")
    assert there.others == {("one", 1): ("ann", {"at": 1})}
    for now[0] in (11.0, 22.0, 33.0, 44.0):
        one.beat()
        two.beat()
        assert there.others
    now[0] = 80.0
    two.beat()
    assert there.others == {}
    bus.publish("presence", "")  # the bus was away: everybody says again what they have
    assert there.others == {("one", 1): ("ann", {"at": 1})}
    bus.publish("presence", "nonsense")


def test_a_large_room_rests_after_it_has_told_of_changes_and_a_small_one_never() -> None:
    assert rest_s(1) == rest_s(80) == 0
    assert 0 < rest_s(100) < rest_s(1_000) < rest_s(10_000) == rest_s(1_000_000)
