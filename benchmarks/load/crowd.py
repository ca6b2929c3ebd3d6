"""Thousands of sockets in one process: it opens them, has events published, and notes when each one got each event.

It reads what has come into one buffer and counts a byte that stands once in every event and nowhere else, so it costs
a few microseconds a message, the same for every server. It speaks no protocol: what to send, and what to wait for
before sending it, comes ready-made.
"""

from __future__ import annotations

import gc
import math
import os
import resource
import select
import socket
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any, Final

from benchmarks.load.http import Address

MARK: Final = 0x5E
"""`^`: in each event once, in no envelope, no header, no uuid."""
BUFFER_BYTES: Final = 256 * 1024
BEAT_S: Final = 25.0
"""As Supabase's clients do."""
AT_ONCE: Final = 100
"""Sockets that are being opened at the same time: less than any server's backlog."""
OPEN_S: Final = 120.0
POLL_MAX: Final = 1024
SETTLE_S: Final = 0.2
"""After a run, for what publishers hear: the next run is to begin with nothing on its way."""
DRAIN_S: Final = 10.0
HOPELESS_S: Final = 2.0
"""A probe that is so far behind ends: it will not be within 200 ms any more."""


def frame(text: str | bytes) -> bytes:
    """A client's text message. Masked with zeros, as the protocol allows: masking is the client's cost, not ours."""
    data = text.encode() if isinstance(text, str) else text
    size = len(data)
    if size < 126:
        return bytes((0x81, 0x80 | size)) + bytes(4) + data
    return bytes((0x81, 0x80 | 126)) + size.to_bytes(2) + bytes(4) + data


def upgrade(address: Address, path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: {address.host}:{address.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


@dataclass(frozen=True, slots=True)
class Way:
    """How a client gets in: what it sends first, then (wait for this, send that), in order."""

    request: bytes
    steps: Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Plan:
    address: Address
    listen: Way
    speak: Way
    event: bytes
    """A publisher's frame that makes the server send one event to every listener."""
    beat: bytes = b""
    """What a client sends now and then to stay; empty where it need not."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of one run. Latencies from the moment the event was meant to be sent."""

    sent: int
    delivered: int
    lost: int
    took_s: float
    p50_ms: float
    p99_ms: float
    late_ms: float
    """Ours: how much later than meant the 99th of a hundred events was written."""
    others_p50_ms: float
    others_p99_ms: float
    """The same for what publishers hear: answers to their requests. The k-th answer is taken for the k-th event's."""

    @property
    def per_s(self) -> float:
        return self.delivered / self.took_s if self.took_s else 0.0


@dataclass(frozen=True, slots=True)
class Flow:
    """`saturate`: messages of one run, and how long it took."""

    delivered: int
    took_s: float

    @property
    def per_s(self) -> float:
        return self.delivered / self.took_s if self.took_s else 0.0


@dataclass(slots=True)
class _Opening:
    socket: socket.socket
    way: Way
    step: int = 0
    seen: bytes = b""


@dataclass(slots=True)
class Crowd:
    """`open` listeners and publishers, then `probe` and `saturate` as often as wanted; `close`."""

    plan: Plan
    _poll: select.epoll = field(default_factory=select.epoll)
    _listeners: dict[int, socket.socket] = field(default_factory=dict)
    _speakers: dict[int, socket.socket] = field(default_factory=dict)
    _buffer: bytearray = field(default_factory=lambda: bytearray(BUFFER_BYTES))
    _spoken: int = 0

    def open(self, listeners: int, speakers: int = 0) -> float:
        """Seconds until all are in and may hear. Raises ConnectionError."""
        began = time.monotonic()
        self._admit(self.plan.listen, listeners, self._listeners)
        took_s = time.monotonic() - began
        self._admit(self.plan.speak, speakers, self._speakers)
        return took_s

    def close(self) -> None:
        for each in (*self._listeners.values(), *self._speakers.values()):
            each.close()
        self._listeners.clear()
        self._speakers.clear()

    # -- getting in

    def _admit(self, way: Way, count: int, into: dict[int, socket.socket]) -> None:
        opening: dict[int, _Opening] = {}
        left, ends_at = count, time.monotonic() + OPEN_S
        while left or opening:
            while left and len(opening) < AT_ONCE:
                each = self._begin(way)
                left -= 1
                if way.steps:
                    opening[each.socket.fileno()] = each
                else:
                    into[each.socket.fileno()] = each.socket
            for fd, _ in self._poll.poll(1.0, POLL_MAX):
                if fd not in opening:
                    self._read(fd)
                elif self._step(opening[fd]):
                    into[fd] = opening.pop(fd).socket
            if time.monotonic() > ends_at:
                stuck = next(iter(opening.values())).seen[-300:] if opening else b""
                raise ConnectionError(f"{left + len(opening)} of {count} sockets did not get in: {stuck!r}")

    def _begin(self, way: Way) -> _Opening:
        made = socket.create_connection((self.plan.address.host, self.plan.address.port), timeout=30)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if way.request:
            made.sendall(way.request)
        made.setblocking(False)
        self._poll.register(made.fileno(), select.EPOLLIN)
        return _Opening(made, way)

    def _step(self, each: _Opening) -> bool:
        data = each.socket.recv(65536)
        if not data:
            raise ConnectionError(f"refused: {each.seen[-500:]!r}")
        each.seen += data
        while each.step < len(each.way.steps):
            wanted, answer = each.way.steps[each.step]
            if wanted not in each.seen:
                return False
            each.seen = each.seen.partition(wanted)[2]
            if answer:
                each.socket.sendall(answer)
            each.step += 1
        return True

    # -- hearing

    def _read(self, fd: int) -> int:
        """How many events came."""
        each = self._listeners.get(fd) or self._speakers.get(fd)
        if each is None:
            return 0
        try:
            size = each.recv_into(self._buffer)
        except BlockingIOError:
            return 0
        if not size:
            raise ConnectionError("a socket was closed by the server")
        return self._buffer.count(MARK, 0, size)

    def _say(self) -> None:
        speakers = list(self._speakers.values())
        speakers[self._spoken % len(speakers)].sendall(self.plan.event)
        self._spoken += 1

    def saturate(self, seconds: float, in_flight: int = 1) -> Flow:
        """So many events are on their way at any time: the next are sent when all listeners have the last."""
        count, done, others, sent = len(self._listeners), 0, 0, 0
        began = at = time.monotonic()
        until = began + seconds
        ends_at = until + DRAIN_S
        while at < until or done < sent * count:
            if at < until and done >= sent * count:
                for _ in range(in_flight):
                    self._say()
                sent += in_flight
            for fd, _ in self._poll.poll(0.2, POLL_MAX):
                heard = self._read(fd)
                if fd in self._listeners:
                    done += heard
                else:
                    others += heard
            at = time.monotonic()
            if at > ends_at:
                raise ConnectionError(f"{sent * count - done} of {sent * count} messages never came")
        return Flow(done + others + self.settle(SETTLE_S), at - began)

    def probe(self, rate: float, seconds: float, burst: int = 1, drain_s: float = DRAIN_S) -> Probe:
        """`rate` events a second, in bursts of so many, for so long, whatever the server does (open loop)."""
        events = max(burst, round(rate * seconds / burst) * burst)
        listeners, count = self._listeners, len(self._listeners)
        meant = [0.0] * events
        late = array("d")
        heard_by = dict.fromkeys(listeners, 0)
        latencies, answers = array("d"), array("d")
        total, others, sent = events * count, 0, 0
        gc.disable()
        began = time.monotonic() + 0.01
        for number in range(events):
            meant[number] = began + number // burst * (burst / rate)
        ends_at = meant[-1] + drain_s
        poll, read, note, clock = self._poll.poll, self._read, latencies.append, time.monotonic
        at = clock()
        while len(latencies) < total and at < ends_at:
            while sent < events and meant[sent] <= at:
                self._say()
                late.append(at - meant[sent])
                sent += 1
            wait_s = max(0.0, min(meant[sent] - at, 0.2)) if sent < events else 0.2
            for fd, _ in poll(wait_s, POLL_MAX):
                heard = read(fd)
                if not heard:
                    continue
                at = clock()
                if fd not in listeners:
                    for number in range(others, min(others + heard, events)):
                        answers.append(at - meant[number])
                    others += heard
                    continue
                first = heard_by[fd]
                heard_by[fd] = first + heard
                for number in range(first, min(first + heard, events)):
                    note(at - meant[number])
                if sent < events and meant[sent] <= at:
                    break  # an event is due: it goes out on time, the rest is read after it
            at = clock()
            if latencies and latencies[-1] > HOPELESS_S:
                break
        gc.enable()
        others += self.settle(SETTLE_S)
        lost = total - len(latencies)
        ordered = sorted(latencies)
        return Probe(
            sent,
            len(latencies) + others,
            lost,
            at - began,
            1000 * _quantile(ordered, 0.50, lost),
            1000 * _quantile(ordered, 0.99, lost),
            1000 * _quantile(sorted(late), 0.99, 0),
            1000 * _quantile(sorted(answers), 0.50, 0),
            1000 * _quantile(sorted(answers), 0.99, 0),
        )

    def beat(self) -> None:
        """Every client says that it is there, and hears the answer."""
        if not self.plan.beat:
            return
        sockets = dict(self._listeners)
        if self.plan.speak == self.plan.listen:
            sockets |= self._speakers
        waiting: set[int] = set()
        ends_at = time.monotonic() + DRAIN_S
        left = list(sockets)
        while left or waiting:
            while left and len(waiting) < AT_ONCE:
                fd = left.pop()
                sockets[fd].sendall(self.plan.beat)
                waiting.add(fd)
            for fd, _ in self._poll.poll(1.0, POLL_MAX):
                self._read(fd)
                waiting.discard(fd)
            if time.monotonic() > ends_at:
                raise ConnectionError(f"{len(waiting) + len(left)} beats were not answered")

    def idle(self, seconds: float) -> None:
        """Quiet clients: each only beats, every `BEAT_S`, in turn."""
        sockets = list(self._listeners.values()) if self.plan.beat else []
        began, beaten = time.monotonic(), 0
        while (passed_s := time.monotonic() - began) < seconds:
            due = int(passed_s / BEAT_S * len(sockets))
            for each in sockets[beaten % max(1, len(sockets)) :][: due - beaten]:
                each.sendall(self.plan.beat)
                beaten += 1
            self.settle(0.05)

    def settle(self, seconds: float) -> int:
        """Read what still comes; how many events those were."""
        heard, until = 0, time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            for fd, _ in self._poll.poll(left_s, POLL_MAX):
                heard += self._read(fd)
        return heard


def _quantile(ordered: Sequence[float], share: float, lost: int) -> float:
    """Nearest rank; what is lost came after everything else."""
    rank = math.ceil(share * (len(ordered) + lost)) - 1
    return ordered[rank] if 0 <= rank < len(ordered) else math.inf


def crowd(pipe: Pipe, plan: Plan, cores: frozenset[int]) -> None:
    """Work of a Child: (method, args) in, ("done", result) out, until None."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if cores:
        os.sched_setaffinity(0, cores)
    whole = Crowd(plan)
    try:
        while (asked := pipe.recv()) is not None:
            method, args = asked
            result: Any = getattr(whole, method)(*args)
            pipe.send(("done", result))
    except EOFError:
        return  # whoever measures has gone
    except Exception as error:
        pipe.send(("failed", f"{type(error).__name__}: {error}"))
    finally:
        whole.close()
