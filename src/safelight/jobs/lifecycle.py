"""The life of a job, as a table (J3). Pure: no clock, no I/O. The database refuses any other transition."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Stage(StrEnum):
    """Where a job is, as the machinery sees it."""

    QUEUED = "queued"
    """Ours; no provider has been asked."""
    SUBMITTING = "submitting"
    """A provider is being asked, or works inline: the attempt exists."""
    UNKNOWN = "unknown"
    """The answer to our submit was lost; the provider may be working and billing (P8)."""
    SUBMITTED = "submitted"
    """The provider has it and gave it an id."""
    RUNNING = "running"
    """The provider says it is working on it."""
    STORING = "storing"
    """The provider is done; its files are being copied."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"
    """The deadline passed first."""


class Status(StrEnum):
    """Where a job is, as the world sees it."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


_S = Stage

TRANSITIONS: Final[Mapping[Stage, frozenset[Stage]]] = {
    _S.QUEUED: frozenset({_S.SUBMITTING, _S.FAILED, _S.CANCELED, _S.EXPIRED}),
    # Back to queued: the provider refused for now. Straight to an end: an early webhook, or an inline result.
    _S.SUBMITTING: frozenset(
        {
            _S.QUEUED,
            _S.SUBMITTED,
            _S.RUNNING,
            _S.STORING,
            _S.UNKNOWN,
            _S.COMPLETED,
            _S.FAILED,
            _S.CANCELED,
            _S.EXPIRED,
        }
    ),
    _S.UNKNOWN: frozenset(
        {_S.QUEUED, _S.SUBMITTED, _S.RUNNING, _S.STORING, _S.COMPLETED, _S.FAILED, _S.CANCELED, _S.EXPIRED}
    ),
    # Back to queued: the attempt failed in a way that a new attempt may cure.
    _S.SUBMITTED: frozenset({_S.QUEUED, _S.RUNNING, _S.STORING, _S.COMPLETED, _S.FAILED, _S.CANCELED, _S.EXPIRED}),
    _S.RUNNING: frozenset({_S.QUEUED, _S.STORING, _S.COMPLETED, _S.FAILED, _S.CANCELED, _S.EXPIRED}),
    # A result that exists is not thrown away for a deadline or a late cancel.
    _S.STORING: frozenset({_S.QUEUED, _S.COMPLETED, _S.FAILED}),
    _S.COMPLETED: frozenset(),
    # The user's retry (J6).
    _S.FAILED: frozenset({_S.QUEUED}),
    _S.CANCELED: frozenset({_S.QUEUED}),
    _S.EXPIRED: frozenset({_S.QUEUED}),
}

TERMINAL: Final = frozenset({Stage.COMPLETED, Stage.FAILED, Stage.CANCELED, Stage.EXPIRED})
AT_PROVIDER: Final = frozenset({Stage.SUBMITTED, Stage.RUNNING})
"""The provider has a task whose id we know."""

STATUS: Final[Mapping[Stage, Status]] = {
    _S.QUEUED: Status.PENDING,
    _S.SUBMITTING: Status.PROCESSING,
    _S.UNKNOWN: Status.PROCESSING,
    _S.SUBMITTED: Status.PROCESSING,
    _S.RUNNING: Status.PROCESSING,
    _S.STORING: Status.PROCESSING,
    _S.COMPLETED: Status.COMPLETED,
    _S.FAILED: Status.FAILED,
    _S.CANCELED: Status.CANCELED,
    _S.EXPIRED: Status.FAILED,
}


def sources(target: Stage) -> frozenset[Stage]:
    """Every stage from which `target` may be reached in one step."""
    return frozenset(stage for stage, targets in TRANSITIONS.items() if target in targets)


def may(source: Stage, target: Stage) -> bool:
    return target in TRANSITIONS[source]
