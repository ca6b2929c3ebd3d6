"""Open loop: requests arrive at a constant rate whatever the answers do, as webhooks of a provider would.

Latency counts from the moment a request was *meant* to be sent, so a stalled server is charged for all the requests
that wait behind the stall (no coordinated omission). A request that finds no free connection gets a new one, up to
a bound; beyond it, it waits here with its clock running.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.load.http import Address, Answer, Connection, connect
from benchmarks.load.ticks import Alarm

WARM_CONNECTIONS: Final = 16
CONNECTIONS_MAX: Final = 256
"""Of one sender. A provider's own dispatcher is not wider."""


@dataclass(slots=True)
class Sent:
    """One entry a request, in order; times of `time.monotonic()`, None where nothing came."""

    meant_at: list[float]
    sent_at: list[float | None]
    answered_at: list[float | None]
    statuses: list[int]
    connections: int = 0
    bodies: dict[int, bytes] = field(default_factory=dict)
    """First answers that were not 2xx, by status: for the person who looks."""


class _Run:
    def __init__(self, address: Address, requests: Sequence[bytes], rate: float, drain_s: float) -> None:
        self.address, self.requests, self.rate, self.drain_s = address, requests, rate, drain_s
        count = len(requests)
        self.sent = Sent([0.0] * count, [None] * count, [None] * count, [0] * count)
        self.free: list[Connection] = []
        self.opening = 0
        self.backlog: deque[int] = deque()
        self.next = 0
        self.unanswered = count
        self.finished = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> Sent:
        await asyncio.gather(*(self._open() for _ in range(WARM_CONNECTIONS)))
        begin = time.monotonic() + 0.25
        self.sent.meant_at = [begin + index / self.rate for index in range(len(self.requests))]
        self.alarm = Alarm(self._tick)
        gc.collect()
        gc.disable()
        self.alarm.set(begin)
        ends_s = len(self.requests) / self.rate + 0.25 + self.drain_s
        try:
            async with asyncio.timeout(ends_s):
                await self.finished.wait()
        except TimeoutError:
            pass
        self.alarm.close()
        gc.enable()
        for task in self.tasks:
            task.cancel()
        return self.sent

    def _tick(self) -> None:
        now, due = time.monotonic(), self.sent.meant_at
        while self.next < len(due) and due[self.next] <= now:
            self._send(self.next)
            self.next += 1
        if self.next < len(due):
            self.alarm.set(due[self.next])

    def _send(self, index: int) -> None:
        while self.free:
            connection = self.free.pop()
            if connection.is_open:
                self._on(connection, index)
                return
        self.backlog.append(index)
        self._more()

    def _more(self) -> None:
        if self.opening < len(self.backlog) and self.sent.connections + self.opening < CONNECTIONS_MAX:
            task = asyncio.get_running_loop().create_task(self._open())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _open(self) -> None:
        self.opening += 1
        try:
            connection = await connect(self.address)
        except OSError:
            return
        finally:
            self.opening -= 1
        self.sent.connections += 1
        self._give_back(connection)

    def _give_back(self, connection: Connection) -> None:
        if self.backlog:
            self._on(connection, self.backlog.popleft())
        else:
            self.free.append(connection)

    def _on(self, connection: Connection, index: int) -> None:
        self.sent.sent_at[index] = time.monotonic()
        connection.send(self.requests[index], lambda answer: self._answered(connection, index, answer))

    def _answered(self, connection: Connection, index: int, answer: Answer) -> None:
        self.sent.statuses[index] = answer.status
        if 200 <= answer.status < 300:
            self.sent.answered_at[index] = answer.at
        elif len(self.sent.bodies) < 8:
            self.sent.bodies.setdefault(answer.status, answer.body)
        self.unanswered -= 1
        if self.unanswered == 0:
            self.finished.set()
        if connection.is_open:
            self._give_back(connection)
        else:
            self.sent.connections -= 1
            self._more()


async def arrive(address: Address, requests: Sequence[bytes], rate: float, drain_s: float) -> Sent:
    """Send all requests at `rate` a second; returns when all are answered, or `drain_s` after the last was due."""
    return await _Run(address, requests, rate, drain_s).run()
