"""What a job needs next: a function of what is known and the time (design.md rule 1). Pure.

`next_step` is asked by whoever holds the job's lease, again after each step, until it says `Wait`. Because it
looks only at what the database says, a worker that died leaves nothing behind but a state to go on from.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from safelight.jobs.lifecycle import Stage, may
from safelight.jobs.policy import JobPolicy
from safelight.jobs.schedule import backoff_s
from safelight.providers.base import (
    Canceled,
    Capabilities,
    Failed,
    Failure,
    Lost,
    Missing,
    Observation,
    Running,
    Succeeded,
    Unchanged,
    Waiting,
)


@dataclass(frozen=True, slots=True)
class AttemptView:
    number: int
    state: str
    sent_at: datetime
    accepted_at: datetime | None
    has_task: bool
    has_outputs: bool


@dataclass(frozen=True, slots=True)
class JobView:
    stage: Stage
    tries: int
    deadline_at: datetime
    cancel_requested_at: datetime | None
    look_at: datetime
    looked_at: datetime | None
    attempt: AttemptView | None
    capabilities: Capabilities
    cancel_sent_at: datetime | None = None
    """When the provider last answered our wish to stop."""


# --- steps ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Create the attempt and ask the provider."""


@dataclass(frozen=True, slots=True)
class Look:
    """Ask the provider how the task is."""


@dataclass(frozen=True, slots=True)
class Find:
    """The submit's answer was lost: search for the task at the provider."""


@dataclass(frozen=True, slots=True)
class AskCancel:
    """Ask the provider to stop, then look."""


@dataclass(frozen=True, slots=True)
class Store:
    """Copy what the provider made, then settle."""


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """Whoever was sending died in between: nobody knows whether the provider accepted (P8)."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """A webhook or a search named the task whose submit answer was lost: go on as if it had been answered."""


@dataclass(frozen=True, slots=True)
class Requeue:
    """Back to `queued`, for a new attempt after `delay_s`."""

    delay_s: float
    why: str
    failure: Failure | None = None
    attempt_state: str = "failed"


@dataclass(frozen=True, slots=True)
class End:
    """The job's end, other than success."""

    stage: Stage
    failure: Failure | None = None
    attempt_state: str = "failed"
    """`abandoned`: it may still be alive at the provider, and what it costs is to be known."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Still going on; `stage` is what the job should show."""

    stage: Stage
    queue_position: int | None = None
    percent: float | None = None
    message: str | None = None
    logs: tuple[str, ...] = field(default=())
    look_at: datetime | None = None
    """When the provider says a look is worth it again."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Outputs to store."""

    observation: Succeeded


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until`."""

    until: datetime


Step = Send | Adopt | Look | Find | AskCancel | Store | LoseAnswer | Requeue | End | Wait
Verdict = Progress | Keep | Requeue | End | Wait

EXPIRED = Failure("deadline_exceeded", "The deadline passed before the result was there.", transient=True)
LOST = Failure(
    "submit_unknown",
    "The provider's answer to our request was lost and it never reported back. It may have made (and billed) a result; "
    "retry to ask again.",
    transient=True,
)
FORGOTTEN = Failure("task_lost", "The provider no longer knows this task. Retry to ask again.", transient=True)
STOPPED = Failure("canceled_by_provider", "The provider stopped the task without being asked.", transient=True)
RESULT_LOST = Failure("result_lost", "The result was there and then no more. Retry to ask again.", transient=True)
WORKER_LOST = Failure("worker_lost", "The worker making this died too often. Retry to ask again.", transient=True)
INLINE_TRIES_MAX = 12
"""Workers that may die under one inline job before the job itself is suspected."""


def next_step(job: JobView, now: datetime, policy: JobPolicy) -> Step:
    """The one thing to do now. Total: every stage has an answer."""
    match job.stage:
        case Stage.QUEUED:
            return _when_queued(job, now)
        case Stage.SUBMITTING:
            # We hold the lease, so nobody is sending any more.
            if not job.capabilities.inline:
                return Adopt() if job.attempt is not None and job.attempt.has_task else LoseAnswer()
            if job.tries >= INLINE_TRIES_MAX:
                return End(Stage.FAILED, WORKER_LOST)
            return Requeue(0.0, "worker_lost")
        case Stage.UNKNOWN:
            return _when_unknown(job, now, policy)
        case Stage.SUBMITTED | Stage.RUNNING:
            return _when_at_provider(job, now, policy)
        case Stage.STORING:
            return _when_storing(job, now)
        case Stage.COMPLETED | Stage.FAILED | Stage.CANCELED | Stage.EXPIRED:
            return Wait(datetime.max.replace(tzinfo=now.tzinfo))


def _when_storing(job: JobView, now: datetime) -> Step:
    if job.attempt is not None and job.attempt.has_outputs:
        return Store() if now >= job.look_at else Wait(job.look_at)
    # The files were in a dead worker's hands. Made here, they are made again; else the provider still has them.
    if job.attempt is None or not job.attempt.has_task or job.capabilities.inline:
        return Requeue(0.0, "result_lost")
    if now >= job.deadline_at:
        return End(Stage.FAILED, RESULT_LOST, attempt_state="abandoned")
    return Look() if now >= job.look_at else Wait(min(job.look_at, job.deadline_at))


def _when_queued(job: JobView, now: datetime) -> Step:
    if job.cancel_requested_at is not None:
        return End(Stage.CANCELED, attempt_state="canceled")
    if now >= job.deadline_at:
        return End(Stage.EXPIRED, EXPIRED, attempt_state="abandoned")
    return Send() if now >= job.look_at else Wait(min(job.look_at, job.deadline_at))


def _when_unknown(job: JobView, now: datetime, policy: JobPolicy) -> Step:
    if job.attempt is not None and job.attempt.has_task:
        return Adopt()
    if job.cancel_requested_at is not None:
        return End(Stage.CANCELED, attempt_state="abandoned")
    sent_at = job.attempt.sent_at if job.attempt else now
    grace_ends_at = sent_at + timedelta(seconds=policy.unknown_grace_s)
    if now < min(grace_ends_at, job.deadline_at):
        if job.capabilities.lookup and now >= job.look_at:
            return Find()
        return Wait(min(max(job.look_at, now + timedelta(seconds=1)), grace_ends_at, job.deadline_at))
    if job.capabilities.lookup and now >= job.look_at:
        # We may have been away for longer than the grace: what is there is found before it is given up.
        return Find()
    if now >= job.deadline_at:
        return End(Stage.EXPIRED, EXPIRED, attempt_state="abandoned")
    if policy.unknown_then == "resubmit" and job.tries < policy.tries_max:
        return Requeue(0.0, "answer lost; policy says resubmit", failure=LOST, attempt_state="abandoned")
    return End(Stage.FAILED, LOST, attempt_state="abandoned")


def _when_at_provider(job: JobView, now: datetime, policy: JobPolicy) -> Step:
    grace = timedelta(seconds=policy.cancel_grace_s)
    if job.cancel_requested_at is not None:
        stop_asked_at, end = job.cancel_requested_at, End(Stage.CANCELED, attempt_state="abandoned")
    elif now >= job.deadline_at:
        stop_asked_at, end = job.deadline_at, End(Stage.EXPIRED, EXPIRED, attempt_state="abandoned")
    else:
        return Look() if now >= job.look_at else Wait(min(job.look_at, job.deadline_at))
    if now >= stop_asked_at + grace:
        return end
    if now < job.look_at:
        return Wait(min(job.look_at, stop_asked_at + grace))
    # One last look either way: a result that is there is worth more than a cancel or a deadline.
    if job.capabilities.cancel:
        # Remembered as such: a look that was under way when the wish came has told the provider nothing.
        has_asked = job.cancel_sent_at is not None and job.cancel_sent_at >= stop_asked_at
        return Look() if has_asked else AskCancel()
    return end if job.looked_at is not None and job.looked_at >= stop_asked_at else Look()


def after_look(job: JobView, seen: Observation, now: datetime, policy: JobPolicy) -> Verdict:
    """What an observation means for the job."""
    match seen:
        case Succeeded():
            return Keep(seen)
        case Waiting(queue_position=position, look_at=look_at):
            return Progress(Stage.SUBMITTED, queue_position=position, look_at=look_at)
        case Running(percent=percent, message=message, logs=logs, look_at=look_at):
            return Progress(Stage.RUNNING, percent=percent, message=message, logs=tuple(logs), look_at=look_at)
        case Failed(failure=failure):
            return after_failure(job, failure, now, policy)
        case Canceled():
            if job.cancel_requested_at is not None and may(job.stage, Stage.CANCELED):
                return End(Stage.CANCELED, attempt_state="canceled")
            if now >= job.deadline_at and may(job.stage, Stage.EXPIRED):
                return End(Stage.EXPIRED, EXPIRED, attempt_state="canceled")
            return End(Stage.FAILED, STOPPED, attempt_state="canceled")
        case Lost(failure=failure):
            verdict = after_failure(job, failure, now, policy)
            if isinstance(verdict, Requeue):
                # Its lease was the wait.
                return replace(verdict, delay_s=0.0, attempt_state="abandoned")
            return replace(verdict, attempt_state="abandoned")
        case Missing():
            return _when_missing(job, now, policy)
        case Unchanged():
            return Wait(now)


def _when_missing(job: JobView, now: datetime, policy: JobPolicy) -> Verdict:
    if job.cancel_requested_at is not None and may(job.stage, Stage.CANCELED):
        return End(Stage.CANCELED, attempt_state="canceled")
    accepted_at = job.attempt.accepted_at if job.attempt else None
    if accepted_at is not None and now < accepted_at + timedelta(seconds=policy.missing_grace_s):
        return Wait(now)
    return End(Stage.FAILED, FORGOTTEN, attempt_state="abandoned")


def after_failure(job: JobView, failure: Failure, now: datetime, policy: JobPolicy) -> Requeue | End:
    """A failed attempt: one more, if that may help and there is time and budget; else the end."""
    delay_s = backoff_s(job.tries, policy.retry_delay_s)
    in_time = now + timedelta(seconds=delay_s) < job.deadline_at
    if job.cancel_requested_at is not None and may(job.stage, Stage.CANCELED):
        return End(Stage.CANCELED, attempt_state="failed")
    if failure.transient and job.tries < policy.tries_max and in_time:
        return Requeue(delay_s, failure.code, failure=failure)
    return End(Stage.FAILED, failure)


def public_error(failure: Failure, provider: str) -> dict[str, Any]:
    """A failure as the API shows it (J7)."""
    return {
        "code": failure.code,
        "message": failure.message,
        "retryable": failure.transient or failure.code in RETRY_MAY_HELP,
        "provider": {"name": provider, "status": failure.status, "body": failure.body},
    }


RETRY_MAY_HELP = frozenset(
    {
        # once the operator has looked at the account
        "provider_key",
        "provider_balance",
        "provider_limit",
        "provider_misconfigured",
        "provider_disabled",
        # another attempt makes other files, and our side may be well by then
        "no_output",
        "result_expired",
        "result_truncated",
        "result_unreachable",
        "storage_unavailable",
        "store_timeout",
        "store_failed",
        "settle_failed",
        "overloaded",
        "submit_unknown",
    }
)
"""Not tried again by ourselves, but a person's retry is worth it."""
