"""Workers that wait for a job in this process: woken one by one, so that one job does not set a hundred asking (P3)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from safelight.jobs.errors import TooManyWait

WAITING_MAX: Final = 1_000
"""In one process: each is a connection and two tasks."""
WAITING_OF_PROJECT_MAX: Final = 200
"""Of the keys of one project; an installation's own keys share what there is."""


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

    def __init__(self, most: int = WAITING_MAX, most_of_project: int = WAITING_OF_PROJECT_MAX) -> None:
        self._most, self._most_of_project = most, most_of_project
        self._waiting: dict[Waiter, None] = {}
        self._of_project: Counter[UUID] = Counter()
        self.is_closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    @contextlib.contextmanager
    def waiting(self, waiter: Waiter) -> Generator[None]:
        """While it waits. Raises TooManyWait."""
        project = waiter.project
        if len(self._waiting) >= self._most or (
            project is not None and self._of_project[project] >= self._most_of_project
        ):
            raise TooManyWait
        self._waiting[waiter] = None
        if project is not None:
            self._of_project[project] += 1
        try:
            yield
        finally:
            del self._waiting[waiter]
            if project is not None:
                self._of_project[project] -= 1
                if not self._of_project[project]:
                    del self._of_project[project]

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
