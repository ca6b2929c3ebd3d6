"""ComfyUI's `/ws`: what is said to whoever submitted, as it happens, and never again (providers.md §5.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from uuid import uuid4

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from safelight.emulators.comfyui_graph import Asked
from safelight.emulators.engine import Engine
from safelight.emulators.task import JSON, Broken, Stopped, Succeeded, Task
from safelight.emulators.timeline import STEPS, Phase

TICK_S = 0.03
SOCKETS_MAX = 1_000
PREVIEW = (1).to_bytes(4, "big") + (1).to_bytes(4, "big") + b"\xff\xd8\xff\xd9"
"""A binary frame: the smallest thing that calls itself a JPEG."""


class Sockets:
    """One per client id; a new one takes the place of the old."""

    def __init__(self, engine: Engine, tasks: Callable[[str], list[Task]], remaining: Callable[[], int]) -> None:
        self._engine = engine
        self._tasks = tasks
        self._remaining = remaining
        self._open: dict[str, WebSocket] = {}
        self.opened = 0

    async def endpoint(self, socket: WebSocket) -> None:
        client = socket.query_params.get("clientId") or uuid4().hex
        if len(self._open) >= SOCKETS_MAX:
            await socket.close(1013)
            return
        await socket.accept()
        self.opened += 1
        if (old := self._open.get(client)) is not None and old.client_state is WebSocketState.CONNECTED:
            await old.close()
        self._open[client] = socket
        speaking = asyncio.create_task(self._speak(socket, client))
        try:
            while True:
                await socket.receive()  # feature flags, or nothing
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
            if self._open.get(client) is socket:
                del self._open[client]

    async def drop_all(self) -> None:
        """As when the network does: for tests."""
        for socket in list(self._open.values()):
            await socket.close(1012)

    async def _speak(self, socket: WebSocket, client: str) -> None:
        await self._say(socket, self._status(client))
        told: dict[str, int] = {}
        remaining = -1
        while True:
            if remaining != self._remaining():
                remaining = self._remaining()
                await self._say(socket, self._status(None))
            for task in self._tasks(client):
                events = list(self._events(task))
                # What was missed is not told again: only what is new since the last tick.
                first = told.setdefault(task.id, 0)
                told[task.id] = len(events)
                if task.faults.webhook == "lost":
                    continue
                for event in events[first:]:
                    for _ in range(2 if task.faults.webhook == "double" else 1):
                        await self._say(socket, event)
                if first != len(events) and task.outcome is None:
                    await socket.send_bytes(PREVIEW)
            await asyncio.sleep(TICK_S)

    async def _say(self, socket: WebSocket, event: JSON) -> None:
        await socket.send_text(msgspec.json.encode(event).decode())

    def _status(self, sid: str | None) -> JSON:
        data: JSON = {"status": {"exec_info": {"queue_remaining": self._remaining()}}}
        return {"type": "status", "data": data if sid is None else {**data, "sid": sid}}

    def _events(self, task: Task) -> Iterator[JSON]:
        """Everything that is to be said of a task by now."""
        now = self._engine.clock()
        asked: Asked = task.order.extra["asked_for"]
        if task.outcome is None and task.timeline.at(now).phase is Phase.QUEUED:
            return
        if isinstance(task.outcome, Stopped) and not task.order.extra.get("began"):
            return
        task.order.extra["began"] = True
        yield _event("execution_start", task, timestamp=_ms(task.timeline.starts_at))
        yield _event("execution_cached", task, nodes=[])
        if asked.sampler is not None:
            yield _event("executing", task, node=asked.sampler, display_node=asked.sampler)
            share = task.timeline.steps_done(now) / STEPS if task.outcome is None else 1.0
            done = asked.steps if isinstance(task.outcome, Succeeded) else int(asked.steps * share)
            for step in range(1, done + 1):
                yield _event("progress", task, value=step, max=asked.steps, node=asked.sampler)
        match task.outcome:
            case None:
                return
            case Succeeded():
                yield _event("executing", task, node=asked.saves, display_node=asked.saves)
                yield _event("execution_success", task, timestamp=_ms(now))
            case Stopped():
                yield _event("execution_interrupted", task, node_id=asked.sampler, node_type="KSampler", executed=[])
            case Broken():
                yield _event("execution_error", task, node_id=asked.sampler, node_type="KSampler", executed=[])
        yield _event("executing", task, node=None)


def _event(kind: str, task: Task, **data: object) -> JSON:
    return {"type": kind, "data": {**data, "prompt_id": task.id}}


def _ms(at: float) -> int:
    return int(1000 * at)
