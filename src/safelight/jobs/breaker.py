"""A circuit breaker (P6): when to stop asking one that is down, and how to try it again. Pure.

Closed: everything is sent. Failures in a row open it; for a cool-down nothing is sent. Then it is half-open: one
attempt is let through, and what becomes of that closes it or opens it again, for twice as long.

A provider has one, which its answers to submits move, and each of its endpoints has one, which the ends of its tasks
move: who takes everything and then makes nothing of it is found out too, and a model that is broken there does not
keep the provider's others waiting.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from safelight.providers.base import Failure


class State(StrEnum):
    CLOSED = "closed"
    """It is asked as usual."""
    OPEN = "open"
    """It is not asked before `until`."""
    HALF_OPEN = "half_open"
    """One attempt is under way to see how it is; nobody else is sent before `until`."""


class Gate(StrEnum):
    """What a breaker says to somebody who wants to send."""

    GO = "go"
    PROBE = "probe"
    """Whoever gets the probe may send; the others wait."""
    SHUT = "shut"


@dataclass(frozen=True, slots=True)
class Rule:
    """When a breaker opens and for how long; all durations in seconds."""

    failures_max: int = 5
    """Failures in a row that open it. One alone is a network's hiccup."""
    window_s: float = 60.0
    """Failures further apart than this are not in a row."""
    cool_down_s: float = 5.0
    """The first; doubles each time the probe fails."""
    cool_down_max_s: float = 120.0
    probe_s: float = 90.0
    """How long a probe may take: longer than a submit (policy `submit_timeout_s`), then another may be sent."""


OF_TASKS: Final = Rule(failures_max=10, window_s=900.0, cool_down_s=10.0, probe_s=300.0)
"""For the ends of tasks. They come minutes after the submit; and as a task fails now and then where nothing is wrong,
it takes more of them than of submits."""
ITS_FAULT: Final = frozenset(
    {
        "provider_failed",
        "provider_timeout",
        "provider_busy",
        "provider_maintenance",
        "provider_unavailable",
        "provider_unreachable",
        "no_output",
        "task_lost",
        "attempt_too_slow",
    }
)
"""Failures of a task, where they are passing ones, that the provider must answer for. No user can make them at will: a
refused input, a wish to stop and a deadline that was too short say nothing of the provider."""

NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
TRIPS_MAX: Final = 30
"""Beyond it only the ceiling speaks."""


@dataclass(frozen=True, slots=True)
class Breaker:
    state: State = State.CLOSED
    failures: int = 0
    """In a row."""
    failed_at: datetime | None = None
    """The last time it failed."""
    trips: int = 0
    """Openings since it was last well."""
    changed_at: datetime = NEVER
    """When `state` became what it is."""
    until: datetime | None = None
    """Of the cool-down, or of the probe; None while closed."""

    @property
    def is_quiet(self) -> bool:
        """There is nothing to remember: a good answer changes nothing."""
        return self.state is State.CLOSED and self.failures == 0


@dataclass(frozen=True, slots=True)
class Answered:
    """The provider answered a submit, with yes or with a clear no; or it made it. `sent_at`: when it was asked."""

    sent_at: datetime


@dataclass(frozen=True, slots=True)
class Failed:
    """It did not: out of reach, out of service, or nobody knows; or the task failed by its fault."""

    sent_at: datetime


@dataclass(frozen=True, slots=True)
class Probing:
    """Somebody wants to try it."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The probe was not sent after all (its job was canceled, or had no place), or its end says nothing of the
    provider: the next may try. `sent_at`: of a task that may have been the probe; None: it was."""

    sent_at: datetime | None = None


Event = Answered | Failed | Probing | Dropped

WELL: Final = Breaker()


def gate(breaker: Breaker, now: datetime) -> Gate:
    """Whether to send now."""
    if breaker.state is State.CLOSED:
        return Gate.GO
    return Gate.PROBE if breaker.until is None or now >= breaker.until else Gate.SHUT


def strictest(gates: Iterable[Gate]) -> Gate:
    """Of several breakers in one way."""
    found = set(gates)
    return next(each for each in (Gate.SHUT, Gate.PROBE, Gate.GO) if each in found or each is Gate.GO)


def of_end(sent_at: datetime, failure: Failure | None) -> Event:
    """What the end of a task without a result says of who had it. `failure` None: it was stopped as was wished."""
    is_its_fault = failure is not None and failure.transient and failure.code in ITS_FAULT
    return Failed(sent_at) if is_its_fault else Dropped(sent_at)


def after(breaker: Breaker, event: Event, now: datetime, rule: Rule) -> Breaker:
    """The breaker as it is from now on.

    What was asked before the last change of state says nothing about the state of now: an outage leaves many
    requests behind that fail one by one for a minute.
    """
    match event:
        case Probing():
            if gate(breaker, now) is not Gate.PROBE:
                return breaker
            until = now + timedelta(seconds=rule.probe_s)
            return replace(breaker, state=State.HALF_OPEN, changed_at=now, until=until)
        case Dropped(sent_at=sent_at):
            was_probe = breaker.state is State.HALF_OPEN and (sent_at is None or sent_at >= breaker.changed_at)
            return replace(breaker, until=now) if was_probe else breaker
        case Answered(sent_at=sent_at):
            if sent_at < breaker.changed_at or breaker.state is State.OPEN:
                return breaker
            if breaker.state is State.HALF_OPEN:
                return Breaker(changed_at=now, failed_at=breaker.failed_at)
            return replace(breaker, failures=0, trips=0)
        case Failed(sent_at=sent_at):
            if sent_at < breaker.changed_at or breaker.state is State.OPEN:
                return breaker
            return _after_failure(breaker, now, rule)


def _after_failure(breaker: Breaker, now: datetime, rule: Rule) -> Breaker:
    is_in_a_row = breaker.failed_at is not None and now - breaker.failed_at <= timedelta(seconds=rule.window_s)
    failures = breaker.failures + 1 if is_in_a_row else 1
    failed = replace(breaker, failures=failures, failed_at=now)
    if breaker.state is State.CLOSED and failures < rule.failures_max:
        return failed
    cool_down_s = min(rule.cool_down_s * 2 ** min(breaker.trips, TRIPS_MAX), rule.cool_down_max_s)
    return replace(
        failed,
        state=State.OPEN,
        trips=breaker.trips + 1,
        changed_at=now,
        until=now + timedelta(seconds=cool_down_s),
    )
