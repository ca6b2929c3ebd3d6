"""How far a prompt is, from what ComfyUI says while it runs: steps done of steps to do, and nothing invented (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from safelight.providers.base import Running
from safelight.providers.comfyui.workflow import steps_of, title_of
from safelight.providers.loose_json import as_list, as_object

TITLE_MAX: Final = 80
NODES_MAX: Final = 5_000


class Track:
    """One prompt's progress. Events may be missing, doubled or late: it never goes back."""

    __slots__ = ("_done", "_highest", "_message", "_now", "_planned", "_seen", "_titles", "is_over")

    def __init__(self, graph: Mapping[str, Any]) -> None:
        self._planned = dict(steps_of(graph))
        self._titles = {name: title_of(as_object(node))[:TITLE_MAX] for name, node in graph.items()}
        self._seen: dict[str, tuple[float, float]] = {}
        self._done: set[str] = set()
        self._now: str | None = None
        self._message: str | None = None
        self._highest: float | None = None
        self.is_over = False

    def take(self, kind: str, data: Mapping[str, Any]) -> None:
        """One event about this prompt."""
        match kind:
            case "execution_cached":
                self._done.update(str(node) for node in as_list(data.get("nodes"))[:NODES_MAX])
            case "executing":
                self._at(data.get("node"))
            case "progress":
                self._step(data.get("node"), data.get("value"), data.get("max"))
            case "execution_success" | "execution_error" | "execution_interrupted":
                self.is_over = True
            case "progress_state":
                for name, state in list(as_object(data.get("nodes")).items())[:NODES_MAX]:
                    self._state(name, as_object(state))
            case _:
                pass

    def running(self) -> Running:
        """`percent` is None where no node of the graph counts its steps."""
        return Running(self._percent(), self._message)

    def _at(self, node: object) -> None:
        if self._now is not None and self._now != node:
            self._done.add(self._now)
        self._now = node if isinstance(node, str) else None
        if self._now is not None:
            self._message = self._titles.get(self._now)

    def _state(self, name: str, state: Mapping[str, Any]) -> None:
        self._step(name, state.get("value"), state.get("max"))
        if state.get("state") == "finished":
            self._done.add(name)

    def _step(self, node: object, value: object, top: object) -> None:
        if not isinstance(node, str) or isinstance(value, bool) or isinstance(top, bool):
            return
        # One of one is how a node without steps says that it is done.
        if not isinstance(value, int | float) or not isinstance(top, int | float) or not 1 < top < 1e9:
            return
        if not 0 <= value <= top or (node not in self._seen and len(self._seen) >= NODES_MAX):
            return
        self._seen[node] = (max(float(value), self._seen.get(node, (0.0, 0.0))[0]), float(top))
        if node in self._titles:
            self._message = f"{self._titles[node]} {value:g}/{top:g}"

    def _percent(self) -> float | None:
        total = finished = 0.0
        for node in {*self._planned, *self._seen}:
            value, top = self._seen.get(node, (0.0, float(self._planned.get(node, 0))))
            total += top
            finished += top if node in self._done else min(value, top)
        if total == 0 or not (self._seen or self._done):
            return self._highest
        percent = round(100.0 * finished / total, 1)
        self._highest = percent if self._highest is None else max(percent, self._highest)
        return self._highest
