"""Closed loop: a few clients that each send their next request when the last is answered. For throughput."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

from benchmarks.load.child import Child, report
from benchmarks.load.http import Address, Answer, connect


@dataclass(frozen=True, slots=True)
class Answered:
    took_s: float
    latencies_ms: list[float]
    statuses: dict[int, int]
    bytes: int
    refusal: bytes | None
    """The first answer that was not 2xx."""

    @property
    def per_s(self) -> float:
        return sum(count for status, count in self.statuses.items() if 200 <= status < 300) / self.took_s


def exhaust(address: Address, requests: Sequence[bytes], connections: int, timeout_s: float = 600.0) -> Answered:
    """Send them all, each once, from `connections` clients."""
    with Child(_work, address, requests, connections, None) as child:
        return child.expect("answered", timeout_s)


def repeat(address: Address, requests: Sequence[bytes], connections: int, for_s: float) -> Answered:
    """Send them round and round for so long."""
    with Child(_work, address, requests, connections, for_s) as child:
        return child.expect("answered", for_s + 60)


def _work(pipe: Pipe, address: Address, requests: Sequence[bytes], connections: int, for_s: float | None) -> None:
    report(pipe, "answered", _all(address, requests, connections, for_s))


async def _all(address: Address, requests: Sequence[bytes], connections: int, for_s: float | None) -> Answered:
    clients = [await connect(address) for _ in range(connections)]
    latencies: list[float] = []
    statuses: dict[int, int] = {}
    refusals: list[bytes] = []
    size = 0
    began = time.monotonic()
    todo = iter(requests) if for_s is None else _round(requests, began + for_s)

    def note(answer: Answer, asked_at: float) -> None:
        nonlocal size
        latencies.append((answer.at - asked_at) * 1000)
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        size += len(answer.body)
        if not 200 <= answer.status < 300 and not refusals:
            refusals.append(answer.body)

    await asyncio.gather(*(_client(client.ask, todo, note) for client in clients))
    took_s = time.monotonic() - began
    for client in clients:
        client.close()
    return Answered(took_s, latencies, statuses, size, refusals[0] if refusals else None)


async def _client(
    ask: Callable[[bytes], Awaitable[Answer]], todo: Iterator[bytes], note: Callable[[Answer, float], None]
) -> None:
    for request in todo:
        asked_at = time.monotonic()
        answer = await ask(request)
        note(answer, asked_at)
        if answer.status == 0:
            return  # the connection is gone; the count of answers says so


def _round(requests: Sequence[bytes], until: float) -> Iterator[bytes]:
    while True:
        for request in requests:
            if time.monotonic() >= until:
                return
            yield request
