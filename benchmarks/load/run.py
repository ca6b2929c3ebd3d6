"""One measured run: a sender and a group of followers, each in a process of its own."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any, Final

import uvloop

from benchmarks.load.arrivals import Sent, arrive
from benchmarks.load.followers import EventStream, Follower, Seen, SocketIo
from benchmarks.load.http import Address

FOLLOWERS: Final = 5
DRAIN_S: Final = 30.0
"""How long after the last intended arrival answers and messages still count."""

_spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Watch:
    """What followers look at. `stream`: a ready-made SSE request, None for Socket.IO. `pattern` finds the ids."""

    address: Address
    pattern: bytes
    stream: bytes | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One entry a request, in milliseconds from the intended time; infinite where nothing came."""

    late_ms: list[float]
    """Of the load side itself: how much later than intended the bytes were written."""
    ack_ms: list[float]
    first_ms: list[float]
    """Until the first of the followers had it."""
    all_ms: list[float]
    """Until the last of them had it."""
    doubled: int
    statuses: dict[int, int]
    connections: int
    bodies: dict[int, bytes]


def measure(
    address: Address,
    requests: Sequence[bytes],
    ids: Sequence[bytes],
    rate: float,
    watch: Watch,
    drain_s: float = DRAIN_S,
) -> Outcome:
    """Send `requests` at `rate` a second while followers watch for `ids` (one of each request, in order)."""
    with _Child(_follow, watch, set(ids)) as followers, _Child(_send, address, requests, rate, drain_s) as sender:
        followers.expect("ready", 60)
        sender.pipe.send("go")
        sent: Sent = sender.expect("sent", len(requests) / rate + drain_s + 60)
        followers.pipe.send(drain_s)
        seen, doubled = followers.expect("seen", drain_s + 60)
    return Outcome(
        late_ms=[_ms(meant, at) for meant, at in zip(sent.meant_at, sent.sent_at, strict=True)],
        ack_ms=[_ms(meant, at) for meant, at in zip(sent.meant_at, sent.answered_at, strict=True)],
        first_ms=[_ms(meant, min(times, default=None)) for meant, times in _by_request(sent, ids, seen)],
        all_ms=[
            _ms(meant, max(times) if len(times) == FOLLOWERS else None) for meant, times in _by_request(sent, ids, seen)
        ],
        doubled=doubled,
        statuses={status: sent.statuses.count(status) for status in sorted(set(sent.statuses))},
        connections=sent.connections,
        bodies=sent.bodies,
    )


def _by_request(
    sent: Sent, ids: Sequence[bytes], seen: Sequence[dict[bytes, float]]
) -> list[tuple[float, list[float]]]:
    return [
        (meant, [of_client[each] for of_client in seen if each in of_client])
        for meant, each in zip(sent.meant_at, ids, strict=True)
    ]


def _ms(meant: float, at: float | None) -> float:
    return math.inf if at is None else (at - meant) * 1000


class _Child:
    """A function in a new process, with a pipe. The process ends with the block."""

    def __init__(self, work: Any, *args: Any) -> None:
        self.pipe, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=work, args=(theirs, *args), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> _Child:
        return self

    def expect(self, what: str, timeout_s: float) -> Any:
        if not self.pipe.poll(timeout_s):
            raise TimeoutError(f"the load side's process did not say {what!r} in {timeout_s:.0f} s")
        said, value = self.pipe.recv()
        if said == "failed":
            raise RuntimeError(value)
        assert said == what, said
        return value

    def __exit__(self, *_: object) -> None:
        self.pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(5)


def _send(pipe: Pipe, address: Address, requests: Sequence[bytes], rate: float, drain_s: float) -> None:
    async def send() -> Sent:
        await asyncio.to_thread(pipe.recv)
        return await arrive(address, requests, rate, drain_s)

    _report(pipe, "sent", send())


def _follow(pipe: Pipe, watch: Watch, expected: set[bytes]) -> None:
    async def follow() -> tuple[list[dict[bytes, float]], int]:
        seen = Seen(watch.pattern, expected, FOLLOWERS)
        followers: list[Follower] = [
            SocketIo(seen, number, watch.address)
            if watch.stream is None
            else EventStream(seen, number, watch.address, watch.stream)
            for number in range(FOLLOWERS)
        ]
        await asyncio.gather(*(follower.open() for follower in followers))
        pipe.send(("ready", None))
        stop = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(pipe.fileno(), lambda: stop.done() or stop.set_result(None))
        await stop
        asyncio.get_running_loop().remove_reader(pipe.fileno())
        drain_s: float = pipe.recv()
        if seen.left:
            try:
                async with asyncio.timeout(drain_s):
                    await seen.whole.wait()
            except TimeoutError:
                pass
        await asyncio.gather(*(follower.close() for follower in followers))
        return seen.at, seen.doubled

    _report(pipe, "seen", follow())


def _report(pipe: Pipe, name: str, work: Any) -> None:
    """Run and send what came of it."""
    try:
        pipe.send((name, uvloop.run(work)))
    except EOFError:
        return  # the one who measures has gone
    except BaseException as error:
        pipe.send(("failed", f"{type(error).__name__}: {error}"))
