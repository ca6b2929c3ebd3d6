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
    providers: int = 1
    """Providers that may make it (P6): 1 where the model has no other, or the user named this one."""
    attempt_until: datetime | None = None
    """When another provider is tried in place of the one that has the task; None: not before the deadline."""

    @property
    def may_move(self) -> bool:
        return self.providers > 1

    def has_tries_left(self, policy: JobPolicy) -> bool:
        """Every provider gets its turn, whatever the budget."""
        return self.tries < max(policy.tries_max, self.providers)


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
    moves_on: bool = False
    """To the model's next provider (P6)."""


@dataclass(frozen=True, slots=True)
class AskAgain:
    """The provider certainly did not take it: the same attempt again, after `wait_s`."""

    wait_s: float


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
TOO_SLOW = Failure("attempt_too_slow", "This provider took too long; another was asked.", transient=True)
REFUSED_WAIT_S = 2.0
"""After a refusal that does not say how long to wait. Grows while refusals go on."""
REFUSED_WAIT_MAX_S = 60.0
BUSY = "provider_busy"
"""The one refusal that is no trouble: the provider works and has much to do."""
NOT_SENT = "not_sent"
"""Nor is this one: our own worker was stopped before it asked."""
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
    if policy.unknown_then == "resubmit" and job.has_tries_left(policy):
        why = "answer lost; policy says resubmit"
        return Requeue(0.0, why, failure=LOST, attempt_state="abandoned", moves_on=job.may_move)
    return End(Stage.FAILED, LOST, attempt_state="abandoned")


def _when_at_provider(job: JobView, now: datetime, policy: JobPolicy) -> Step:
    grace = timedelta(seconds=policy.cancel_grace_s)
    too_slow_at = _too_slow_at(job, policy)
    end: Step
    if job.cancel_requested_at is not None:
        stop_asked_at, end = job.cancel_requested_at, End(Stage.CANCELED, attempt_state="abandoned")
    elif now >= job.deadline_at:
        stop_asked_at, end = job.deadline_at, End(Stage.EXPIRED, EXPIRED, attempt_state="abandoned")
    elif too_slow_at is not None and now >= too_slow_at:
        # It is stopped first, so that there are not two at work for one result.
        stop_asked_at, end = too_slow_at, Requeue(0.0, TOO_SLOW.code, TOO_SLOW, "abandoned", moves_on=True)
    else:
        return Look() if now >= job.look_at else Wait(min(job.look_at, too_slow_at or job.deadline_at, job.deadline_at))
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


def _too_slow_at(job: JobView, policy: JobPolicy) -> datetime | None:
    """When this attempt has had its time and another provider is there to be asked."""
    if not job.may_move or job.attempt_until is None or not job.has_tries_left(policy):
        return None
    # With less left than the stopping takes, the next would have no chance.
    in_time = job.attempt_until + timedelta(seconds=policy.cancel_grace_s) < job.deadline_at
    return job.attempt_until if in_time else None


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
            too_slow_at = _too_slow_at(job, policy)
            failure = STOPPED if too_slow_at is None or now < too_slow_at else TOO_SLOW
            return _moved_on(job, failure, now, policy, "canceled") or End(Stage.FAILED, STOPPED, "canceled")
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
    moved_on = _moved_on(job, FORGOTTEN, now, policy, "abandoned")
    return moved_on or End(Stage.FAILED, FORGOTTEN, attempt_state="abandoned")


def after_failure(job: JobView, failure: Failure, now: datetime, policy: JobPolicy) -> Requeue | End:
    """A failed attempt: one more, if that may help and there is time and budget; else the end.

    Where there is another provider it is asked, and at once: it knows nothing of this one's trouble.
    """
    delay_s = backoff_s(job.tries, policy.retry_delay_s)
    in_time = now + timedelta(seconds=delay_s) < job.deadline_at
    if job.cancel_requested_at is not None and may(job.stage, Stage.CANCELED):
        return End(Stage.CANCELED, attempt_state="failed")
    if failure.transient and (moved_on := _moved_on(job, failure, now, policy, "failed")) is not None:
        return moved_on
    if failure.transient and job.tries < policy.tries_max and in_time:
        return Requeue(delay_s, failure.code, failure=failure)
    return End(Stage.FAILED, failure)


def _moved_on(job: JobView, failure: Failure, now: datetime, policy: JobPolicy, attempt_state: str) -> Requeue | None:
    """To the next provider, where there is one and tries and time are left."""
    if not job.may_move or not job.has_tries_left(policy) or now >= job.deadline_at:
        return None
    if not may(job.stage, Stage.QUEUED):
        return None
    return Requeue(0.0, failure.code, failure, attempt_state, moves_on=True)


def after_account_problem(job: JobView, failure: Failure, now: datetime, policy: JobPolicy) -> Requeue | End:
    """Our account there has a problem and nothing was taken: another provider can still make it."""
    if job.cancel_requested_at is not None and may(job.stage, Stage.CANCELED):
        return End(Stage.CANCELED, attempt_state="failed")
    return _moved_on(job, failure, now, policy, "failed") or End(Stage.FAILED, failure)


@dataclass(frozen=True, slots=True)
class Refusals:
    """How often a job was turned away, this time included."""

    of_attempt: int
    of_providers: int
    """Attempts of which the last word was a refusal: one a provider and lap."""
    total: int


def after_refusal(
    job: JobView,
    failure: Failure,
    retry_after_s: float | None,
    refusals: Refusals,
    policy: JobPolicy,
    *,
    is_shut: bool = False,
) -> AskAgain | Requeue:
    """The provider certainly did not take it. It costs no try: nobody was paid.

    One that is only busy is given a little patience (it was the first choice); from one that is out of service the
    job goes on at once, and after a lap past all of them it waits as it would for one. `is_shut`: none of them may be
    asked now, so it is their breakers that say when.
    """
    wait_s = min(retry_after_s or backoff_s(refusals.total, REFUSED_WAIT_S, REFUSED_WAIT_MAX_S), REFUSED_WAIT_MAX_S)
    if is_shut:
        wait_s = 0.0
    if not job.may_move or failure.code == NOT_SENT:
        return AskAgain(wait_s)
    is_patient = refusals.of_attempt < policy.busy_refusals_max and wait_s <= policy.busy_patience_s
    if failure.code == BUSY and is_patient:
        return AskAgain(wait_s)
    is_first_lap = refusals.of_providers < job.providers
    return Requeue(0.0 if is_first_lap else wait_s, failure.code, failure, "refused", moves_on=True)


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
