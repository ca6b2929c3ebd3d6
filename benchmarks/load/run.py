"""One measured run: a sender and a group of followers, each in a process of its own."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Final

from benchmarks.load.arrivals import Sent, arrive
from benchmarks.load.child import Child, report
from benchmarks.load.followers import EventStream, Follower, Seen, SocketIo
from benchmarks.load.http import Address

FOLLOWERS: Final = 5
DRAIN_S: Final = 30.0
"""How long after the last intended arrival answers and messages still count."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What followers look at. `stream`: a ready-made SSE request, None for Socket.IO. `pattern` finds the ids."""

    address: Address
    pattern: bytes
    stream: bytes | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything with its time of `time.monotonic()`; `seen` has one entry a follower."""

    ids: Sequence[bytes]
    sent: Sent
    seen: Sequence[dict[bytes, float]]
    doubled: int
    """Ids that a follower was shown more than once."""

    @property
    def late_ms(self) -> list[float]:
        """The load side's own fault: how much later than intended a request was written."""
        return [_ms(meant, at) for meant, at in zip(self.sent.meant_at, self.sent.sent_at, strict=True)]

    @property
    def ack_ms(self) -> list[float]:
        """Intended time to the whole 2xx answer; infinite where none came."""
        return [_ms(meant, at) for meant, at in zip(self.sent.meant_at, self.sent.answered_at, strict=True)]

    @property
    def first_ms(self) -> list[float]:
        """Intended time until the first of the followers had it."""
        pairs = zip(self.sent.meant_at, self.ids, strict=True)
        return [_ms(meant, self.first_at(each)) for meant, each in pairs]

    @property
    def all_ms(self) -> list[float]:
        """Intended time until the last of the followers had it."""
        pairs = zip(self.sent.meant_at, self.ids, strict=True)
        return [_ms(meant, self.all_at(each)) for meant, each in pairs]

    def first_at(self, identity: bytes) -> float | None:
        return min((seen[identity] for seen in self.seen if identity in seen), default=None)

    def all_at(self, identity: bytes) -> float | None:
        times = [seen[identity] for seen in self.seen if identity in seen]
        return max(times) if len(times) == len(self.seen) else None

    @property
    def statuses(self) -> dict[int, int]:
        return {status: self.sent.statuses.count(status) for status in sorted(set(self.sent.statuses))}


def measure(
    address: Address,
    requests: Sequence[bytes],
    ids: Sequence[bytes],
    rate: float,
    watch: Watch,
    drain_s: float = DRAIN_S,
) -> Outcome:
    """Send `requests` at `rate` a second while followers watch for `ids` (one of each request, in order)."""
    with Child(_follow, watch, set(ids)) as followers, Child(_send, address, requests, rate, drain_s) as sender:
        followers.expect("ready", 60)
        sender.pipe.send("go")
        sent: Sent = sender.expect("sent", len(requests) / rate + drain_s + 60)
        followers.pipe.send(drain_s)
        seen, doubled = followers.expect("seen", drain_s + 60)
    return Outcome(ids, sent, seen, doubled)


def _ms(meant: float, at: float | None) -> float:
    return math.inf if at is None else (at - meant) * 1000


def _send(pipe: Pipe, address: Address, requests: Sequence[bytes], rate: float, drain_s: float) -> None:
    async def send() -> Sent:
        await asyncio.to_thread(pipe.recv)
        return await arrive(address, requests, rate, drain_s)

    report(pipe, "sent", send())


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
        drain_s: float = await asyncio.to_thread(pipe.recv)
        try:
            async with asyncio.timeout(drain_s):
                while seen.left:
                    await seen.whole.wait()
        except TimeoutError:
            pass
        await asyncio.gather(*(follower.close() for follower in followers))
        return seen.at, seen.doubled

    report(pipe, "seen", follow())
