"""What a task does when nothing goes wrong, as a function of the time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

STEPS = 28  # what flux/dev does, and what its log lines count


class Phase(Enum):
    """Where a task stands. Its end is not a matter of time alone: the media must be made."""

    QUEUED = "queued"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Stretch:
    """One phase from `begins_at` to `ends_at` (unix seconds)."""

    phase: Phase
    begins_at: float
    ends_at: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """Stretches one after the other; the last one runs until the task ends."""

    stretches: tuple[Stretch, ...]
    queue_length: int

    @property
    def accepted_at(self) -> float:
        return self.stretches[0].begins_at

    @property
    def starts_at(self) -> float:
        """When it first leaves the queue."""
        return self.stretches[0].ends_at

    @property
    def planned_end_at(self) -> float:
        return self.stretches[-1].ends_at

    def at(self, now: float) -> Stretch:
        for stretch in self.stretches:
            if now < stretch.ends_at:
                return stretch
        return self.stretches[-1]

    def queue_position(self, now: float) -> int:
        """0-based; counts down while queued, and starts anew when requeued."""
        stretch = self.at(now)
        return max(0, round(self.queue_length * (1 - _share(stretch, now))))

    def steps_done(self, now: float) -> int:
        """0…STEPS of the present run; 0 while queued."""
        stretch = self.at(now)
        return int(STEPS * _share(stretch, now)) if stretch.phase is Phase.RUNNING else 0

    def step_time(self, step: int, ended_at: float | None) -> float:
        """When the last run did step number `step` (1…STEPS)."""
        last = self.stretches[-1]
        end = min(last.ends_at, ended_at) if ended_at is not None else last.ends_at
        return last.begins_at + (end - last.begins_at) * step / STEPS


def _share(stretch: Stretch, now: float) -> float:
    length = stretch.ends_at - stretch.begins_at
    return 1.0 if length <= 0 else min(1.0, max(0.0, (now - stretch.begins_at) / length))


def plan(
    accepted_at: float, latency_s: float, queue_s: float, *, queue_length: int, requeued: bool = False
) -> Timeline:
    """Queue, then run, `latency_s` in all. Requeued: a third of the run, back into the queue, and a whole run."""
    queue_s = min(queue_s, latency_s)
    start = accepted_at + queue_s
    end = accepted_at + latency_s
    queue = Stretch(Phase.QUEUED, accepted_at, start)
    if not requeued:
        return Timeline((queue, Stretch(Phase.RUNNING, start, end)), queue_length)
    broken = start + (end - start) / 3
    again = broken + (end - start) / 3
    return Timeline(
        (
            queue,
            Stretch(Phase.RUNNING, start, broken),
            Stretch(Phase.QUEUED, broken, again),
            Stretch(Phase.RUNNING, again, end),
        ),
        queue_length,
    )
