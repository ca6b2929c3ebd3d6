"""Workers that wait for a job in this process: woken one by one, so that one job does not set a hundred asking (P3)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from dataclasses import dataclass, field
from uuid import UUID


@dataclass(slots=True, eq=False)
class Waiter:
    """One waiting claim. `project` None: any."""

    project: UUID | None
    models: frozenset[str]
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    is_gone: bool = False
    """Whoever asked has hung up: it must be given nothing."""

    def wants(self, project: UUID, model: str) -> bool:
        return model in self.models and self.project in (None, project)

    def leave(self) -> None:
        self.is_gone = True
        self.woken.set()


class Waiters:
    """In the order of their coming. A hint wakes the first that wants it; who gets something wakes the next."""

    def __init__(self) -> None:
        self._waiting: dict[Waiter, None] = {}
        self.is_closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    @contextlib.contextmanager
    def waiting(self, waiter: Waiter) -> Generator[None]:
        self._waiting[waiter] = None
        try:
            yield
        finally:
            del self._waiting[waiter]

    def wake(self, project: UUID, model: str) -> None:
        """There is something of this model: one that is not awake yet looks."""
        for waiter in self._waiting:
            if not waiter.woken.is_set() and waiter.wants(project, model):
                waiter.woken.set()
                return

    def wake_all(self) -> None:
        for waiter in self._waiting:
            waiter.woken.set()

    def close(self) -> None:
        """Nobody waits any longer: this process ends."""
        self.is_closed = True
        self.wake_all()
