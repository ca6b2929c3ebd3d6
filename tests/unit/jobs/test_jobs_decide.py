"""What a job needs next, decided by what is known (design.md rule 1): by example, and for every possible view."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.jobs import decide
from safelight.jobs.decide import AttemptView, End, JobView, Requeue, Wait, after_look, next_step, public_error
from safelight.jobs.lifecycle import TERMINAL, Stage, may
from safelight.jobs.policy import JobPolicy
from safelight.providers.base import (
    Canceled,
    Capabilities,
    Failed,
    Failure,
    Missing,
    Output,
    Running,
    Succeeded,
    Unchanged,
    Waiting,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
POLICY = JobPolicy()
HOSTED = Capabilities(cancel=True, webhooks=True)
UNSTOPPABLE = Capabilities(cancel=False, webhooks=True)
INLINE = Capabilities(cancel=True, webhooks=False, inline=True)
PASSING, LASTING = Failure("provider_failed", "…", transient=True), Failure("content_policy", "…")


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def attempt(**given: Any) -> AttemptView:
    base = AttemptView(1, "accepted", ago(10), ago(9), has_task=True, has_outputs=False)
    return replace(base, **given)


def job(stage: Stage, **given: Any) -> JobView:
    base = JobView(
        stage=stage,
        tries=1,
        deadline_at=NOW + timedelta(hours=1),
        cancel_requested_at=None,
        look_at=NOW,
        looked_at=None,
        attempt=None if stage is Stage.QUEUED else attempt(),
        capabilities=HOSTED,
    )
    return replace(base, **given)


def step(view: JobView, policy: JobPolicy = POLICY) -> decide.Step:
    return next_step(view, NOW, policy)


# --- by example -----------------------------------------------------------------------------------------------


def test_a_queued_job_is_sent_when_its_time_has_come():
    assert step(job(Stage.QUEUED)) == decide.Send()
    later = NOW + timedelta(seconds=5)
    assert step(job(Stage.QUEUED, look_at=later)) == Wait(later)
    assert step(job(Stage.QUEUED, cancel_requested_at=ago(1))) == End(Stage.CANCELED, attempt_state="canceled")
    assert step(job(Stage.QUEUED, deadline_at=NOW)) == End(Stage.EXPIRED, decide.EXPIRED, attempt_state="abandoned")


def test_a_dead_senders_job_is_unknown_and_never_sent_again():
    assert step(job(Stage.SUBMITTING, attempt=attempt(has_task=False))) == decide.LoseAnswer()
    assert step(job(Stage.SUBMITTING)) == decide.Adopt()


def test_work_of_this_machine_is_begun_again_but_not_for_ever():
    dead = job(Stage.SUBMITTING, capabilities=INLINE, attempt=attempt(has_task=False))
    assert step(dead) == Requeue(0.0, "worker_lost")
    assert step(replace(dead, tries=decide.INLINE_TRIES_MAX)) == End(Stage.FAILED, decide.WORKER_LOST)


def test_a_lost_answer_waits_for_a_word_and_then_ends_as_the_operator_chose():
    lost = job(Stage.UNKNOWN, attempt=attempt(has_task=False, sent_at=ago(10)), look_at=ago(1))
    assert isinstance(step(lost), Wait)
    assert step(replace(lost, capabilities=Capabilities(cancel=False, webhooks=False, lookup=True))) == decide.Find()
    assert step(replace(lost, attempt=attempt())) == decide.Adopt()
    assert step(replace(lost, cancel_requested_at=ago(1))) == End(Stage.CANCELED, attempt_state="abandoned")
    old = replace(lost, attempt=attempt(has_task=False, sent_at=ago(POLICY.unknown_grace_s)))
    assert step(old) == End(Stage.FAILED, decide.LOST, attempt_state="abandoned")
    findable = replace(old, capabilities=Capabilities(cancel=False, webhooks=False, lookup=True))
    assert step(findable) == decide.Find(), "we may have been away for longer than the grace"
    assert step(replace(findable, look_at=NOW + timedelta(seconds=10))) == step(old)
    again = step(old, JobPolicy(unknown_then="resubmit"))
    assert isinstance(again, Requeue)
    assert again.attempt_state == "abandoned"
    assert step(replace(old, tries=3), JobPolicy(unknown_then="resubmit")) == step(old)


@pytest.mark.parametrize("stage", [Stage.SUBMITTED, Stage.RUNNING])
def test_a_job_at_its_provider_is_looked_at_when_it_is_due(stage: Stage):
    assert step(job(stage)) == decide.Look()
    later = NOW + timedelta(seconds=5)
    assert step(job(stage, look_at=later)) == Wait(later)
    assert step(job(stage, look_at=later, deadline_at=NOW + timedelta(seconds=2))) == Wait(NOW + timedelta(seconds=2))


@pytest.mark.parametrize("stage", [Stage.SUBMITTED, Stage.RUNNING])
def test_a_cancel_is_asked_for_looked_after_and_at_last_taken_as_done(stage: Stage):
    asked = job(stage, cancel_requested_at=ago(1))
    assert step(asked) == decide.AskCancel()
    assert step(replace(asked, cancel_sent_at=NOW)) == decide.Look()
    assert step(replace(asked, looked_at=NOW)) == decide.AskCancel(), "a look that was under way is no cancel"
    assert step(replace(asked, cancel_sent_at=ago(5))) == decide.AskCancel(), "that was for an earlier wish"
    assert step(replace(asked, capabilities=UNSTOPPABLE)) == decide.Look()
    given_up = End(Stage.CANCELED, attempt_state="abandoned")
    assert step(replace(asked, capabilities=UNSTOPPABLE, looked_at=NOW)) == given_up
    assert step(replace(asked, cancel_requested_at=ago(POLICY.cancel_grace_s))) == given_up


def test_a_deadline_is_a_cancel_that_ends_as_expired():
    late = job(Stage.RUNNING, deadline_at=ago(1))
    assert step(late) == decide.AskCancel()
    expired = End(Stage.EXPIRED, decide.EXPIRED, attempt_state="abandoned")
    assert step(replace(late, deadline_at=ago(POLICY.cancel_grace_s))) == expired


def test_what_was_made_is_stored_whatever_the_deadline():
    ready = job(Stage.STORING, attempt=attempt(has_outputs=True), deadline_at=ago(100), cancel_requested_at=ago(99))
    assert step(ready) == decide.Store()


def test_files_that_were_in_a_dead_workers_hands_are_asked_for_again_and_not_bought_again():
    gone = job(Stage.STORING, attempt=attempt())
    assert step(gone) == decide.Look()
    assert step(replace(gone, deadline_at=NOW)) == End(Stage.FAILED, decide.RESULT_LOST, attempt_state="abandoned")
    assert step(replace(gone, capabilities=INLINE)) == Requeue(0.0, "result_lost")


def test_a_passing_failure_is_tried_again_with_growing_delays_until_the_budget_is_spent():
    running = job(Stage.RUNNING)
    assert after_look(running, Failed(PASSING), NOW, POLICY) == Requeue(2.0, "provider_failed", PASSING)
    assert after_look(replace(running, tries=2), Failed(PASSING), NOW, POLICY) == Requeue(4.0, PASSING.code, PASSING)
    assert after_look(replace(running, tries=3), Failed(PASSING), NOW, POLICY) == End(Stage.FAILED, PASSING)
    soon = replace(running, deadline_at=NOW + timedelta(seconds=1))
    assert after_look(soon, Failed(PASSING), NOW, POLICY) == End(Stage.FAILED, PASSING)


def test_a_lasting_failure_is_the_end():
    assert after_look(job(Stage.RUNNING), Failed(LASTING), NOW, POLICY) == End(Stage.FAILED, LASTING)


def test_a_task_that_the_provider_has_just_taken_may_be_unknown_there_for_a_while():
    fresh = job(Stage.SUBMITTED)
    assert isinstance(after_look(fresh, Missing(), NOW, POLICY), Wait)
    old = replace(fresh, attempt=attempt(accepted_at=ago(POLICY.missing_grace_s)))
    assert after_look(old, Missing(), NOW, POLICY) == End(Stage.FAILED, decide.FORGOTTEN, attempt_state="abandoned")


def test_a_stop_is_what_was_asked_for_or_a_failure():
    running = job(Stage.RUNNING)
    asked = replace(running, cancel_requested_at=ago(1))
    assert after_look(asked, Canceled(), NOW, POLICY) == End(Stage.CANCELED, attempt_state="canceled")
    late = after_look(replace(running, deadline_at=NOW), Canceled(), NOW, POLICY)
    assert late == End(Stage.EXPIRED, decide.EXPIRED, attempt_state="canceled")
    unasked = after_look(running, Canceled(), NOW, POLICY)
    assert unasked == End(Stage.FAILED, decide.STOPPED, attempt_state="canceled")


def test_words_we_do_not_know_change_nothing():
    assert after_look(job(Stage.RUNNING), Unchanged("pondering"), NOW, POLICY) == Wait(NOW)


def test_an_error_tells_people_whether_a_retry_is_worth_it():
    assert public_error(PASSING, "fal")["retryable"] is True
    assert public_error(LASTING, "fal")["retryable"] is False
    assert public_error(Failure("provider_balance", "…"), "fal")["retryable"] is True
    shown = public_error(Failure("content_policy", "No.", status=422, body={"a": 1}), "fal")
    assert shown["provider"] == {"name": "fal", "status": 422, "body": {"a": 1}}
    json.dumps(shown)


# --- several providers (P6) -----------------------------------------------------------------------------------


def two(stage: Stage, **given: Any) -> JobView:
    return job(stage, **({"providers": 2} | given))


def test_a_passing_failure_goes_to_the_next_provider_at_once():
    moved = after_look(two(Stage.RUNNING), Failed(PASSING), NOW, POLICY)
    assert moved == Requeue(0.0, PASSING.code, PASSING, "failed", moves_on=True)
    assert after_look(two(Stage.RUNNING, tries=3), Failed(PASSING), NOW, POLICY) == End(Stage.FAILED, PASSING)
    four = two(Stage.RUNNING, tries=3, providers=4)
    assert isinstance(after_look(four, Failed(PASSING), NOW, POLICY), Requeue), "each has its turn"


def test_a_lasting_failure_is_the_end_whoever_else_there_is():
    assert after_look(two(Stage.RUNNING), Failed(LASTING), NOW, POLICY) == End(Stage.FAILED, LASTING)


def test_a_task_that_was_lost_or_stopped_there_is_made_elsewhere():
    old = two(Stage.SUBMITTED, attempt=attempt(accepted_at=ago(POLICY.missing_grace_s)))
    assert after_look(old, Missing(), NOW, POLICY) == Requeue(
        0.0, "task_lost", decide.FORGOTTEN, "abandoned", moves_on=True
    )
    stopped = after_look(two(Stage.RUNNING), Canceled(), NOW, POLICY)
    assert stopped == Requeue(0.0, decide.STOPPED.code, decide.STOPPED, "canceled", moves_on=True)


def test_an_attempt_that_had_its_time_is_stopped_and_then_made_elsewhere():
    slow = two(Stage.RUNNING, attempt_until=ago(1))
    moved_on = Requeue(0.0, decide.TOO_SLOW.code, decide.TOO_SLOW, "abandoned", moves_on=True)
    assert step(slow) == decide.AskCancel()
    assert step(replace(slow, cancel_sent_at=NOW)) == decide.Look(), "its last word may be a result"
    assert step(replace(slow, attempt_until=ago(POLICY.cancel_grace_s))) == moved_on
    assert step(replace(slow, capabilities=UNSTOPPABLE, looked_at=NOW)) == moved_on
    assert step(replace(slow, providers=1)) == decide.Look()
    assert step(replace(slow, tries=3)) == decide.Look(), "nobody is left to ask"
    assert step(replace(slow, deadline_at=NOW + timedelta(seconds=5))) == decide.Look(), "no time is left for another"
    canceled = after_look(slow, Canceled(), NOW, POLICY)
    assert canceled == Requeue(0.0, decide.TOO_SLOW.code, decide.TOO_SLOW, "canceled", moves_on=True)
    soon = NOW + timedelta(seconds=3)
    assert step(replace(slow, attempt_until=soon, look_at=NOW + timedelta(seconds=9))) == Wait(soon)


def test_a_lost_answer_never_goes_to_another_provider_by_itself():
    old = two(Stage.UNKNOWN, attempt=attempt(has_task=False, sent_at=ago(POLICY.unknown_grace_s)))
    assert step(old) == End(Stage.FAILED, decide.LOST, attempt_state="abandoned")
    chosen = step(old, JobPolicy(unknown_then="resubmit"))
    assert isinstance(chosen, Requeue)
    assert chosen.moves_on
    fresh = replace(old, attempt=attempt(has_task=False, sent_at=ago(5)))
    assert isinstance(step(fresh, JobPolicy(unknown_then="resubmit")), Wait)


def test_an_empty_account_is_no_end_where_another_provider_can_make_it():
    broke = Failure("provider_balance", "…")
    view = two(Stage.SUBMITTING)
    assert decide.after_account_problem(view, broke, NOW, POLICY) == Requeue(
        0.0, broke.code, broke, "failed", moves_on=True
    )
    alone = replace(view, providers=1)
    assert decide.after_account_problem(alone, broke, NOW, POLICY) == End(Stage.FAILED, broke)


DOWN, BUSY = Failure("provider_unavailable", "…", transient=True), Failure(decide.BUSY, "…", transient=True)


def refused(view: JobView, why: Failure, counts: tuple[int, int, int], retry_after_s: float | None = None) -> Any:
    return decide.after_refusal(view, why, retry_after_s, decide.Refusals(*counts), POLICY)


def test_a_provider_that_refuses_is_asked_again_where_there_is_no_other():
    alone = job(Stage.SUBMITTING)
    assert refused(alone, DOWN, (1, 1, 1)) == decide.AskAgain(2.0)
    assert refused(alone, DOWN, (3, 1, 3)) == decide.AskAgain(8.0)
    assert refused(alone, BUSY, (1, 1, 1), 7.0) == decide.AskAgain(7.0)
    assert refused(alone, BUSY, (1, 1, 1), 1e6) == decide.AskAgain(decide.REFUSED_WAIT_MAX_S)


def test_one_that_is_out_of_service_is_left_at_once_and_after_a_lap_with_patience():
    view = two(Stage.SUBMITTING)
    assert refused(view, DOWN, (1, 1, 1)) == Requeue(0.0, DOWN.code, DOWN, "refused", moves_on=True)
    assert refused(view, DOWN, (1, 2, 2)) == Requeue(4.0, DOWN.code, DOWN, "refused", moves_on=True)


def test_where_nobody_may_be_asked_the_breakers_say_when():
    counts = decide.Refusals(1, 2, 9)
    alone = decide.after_refusal(job(Stage.SUBMITTING), DOWN, 30.0, counts, POLICY, is_shut=True)
    assert alone == decide.AskAgain(0.0)
    moved = decide.after_refusal(two(Stage.SUBMITTING), DOWN, 30.0, counts, POLICY, is_shut=True)
    assert moved == Requeue(0.0, DOWN.code, DOWN, "refused", moves_on=True)


def test_one_that_is_only_busy_is_given_a_little_patience():
    view = two(Stage.SUBMITTING)
    assert refused(view, BUSY, (1, 1, 1), 3.0) == decide.AskAgain(3.0)
    assert isinstance(refused(view, BUSY, (1, 1, 1), POLICY.busy_patience_s + 1), Requeue)
    assert isinstance(refused(view, BUSY, (POLICY.busy_refusals_max, 1, 3), 0.1), Requeue)


def test_what_was_never_sent_goes_to_the_same_provider_again():
    view = two(Stage.SUBMITTING)
    assert refused(view, Failure(decide.NOT_SENT, "…", transient=True), (1, 1, 1), 0.1) == decide.AskAgain(0.1)


# --- for every view -------------------------------------------------------------------------------------------

moments = st.one_of(
    st.floats(-2000, 2000).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    st.sampled_from([NOW, NOW - timedelta(seconds=POLICY.cancel_grace_s), NOW - timedelta(seconds=600)]),
)
capabilities = st.builds(
    Capabilities, cancel=st.booleans(), webhooks=st.booleans(), inline=st.booleans(), lookup=st.booleans()
)
attempts = st.builds(
    AttemptView,
    number=st.integers(1, 20),
    state=st.sampled_from(["sending", "refused", "unknown", "accepted", "failed", "canceled", "abandoned"]),
    sent_at=moments,
    accepted_at=st.none() | moments,
    has_task=st.booleans(),
    has_outputs=st.booleans(),
)
views = st.builds(
    JobView,
    stage=st.sampled_from(Stage),
    tries=st.integers(0, 20),
    deadline_at=moments,
    cancel_requested_at=st.none() | moments,
    look_at=moments,
    looked_at=st.none() | moments,
    cancel_sent_at=st.none() | moments,
    attempt=st.none() | attempts,
    capabilities=capabilities,
    providers=st.integers(1, 4),
    attempt_until=st.none() | moments,
)
failures = st.builds(Failure, st.sampled_from(["provider_failed", "content_policy"]), st.just("…"), st.booleans())
observations = st.one_of(
    st.builds(Waiting, st.none() | st.integers(0, 99)),
    st.builds(Running, st.none() | st.floats(0, 100)),
    st.just(Succeeded([Output(url="https://a.example/b.png")])),
    st.builds(Failed, failures),
    st.just(Canceled()),
    st.just(Missing()),
    st.just(Unchanged("pondering")),
)
policies = st.builds(JobPolicy, unknown_then=st.sampled_from(["fail", "resubmit"]), tries_max=st.integers(1, 5))


def is_allowed(view: JobView, decided: decide.Step | decide.Verdict) -> bool:
    match decided:
        case End(stage=stage):
            return may(view.stage, stage) and (decided.failure is not None) is (stage is not Stage.CANCELED)
        case Requeue():
            return may(view.stage, Stage.QUEUED)
        case decide.LoseAnswer():
            return may(view.stage, Stage.UNKNOWN)
        case decide.Adopt():
            return may(view.stage, Stage.SUBMITTED) and view.attempt is not None and view.attempt.has_task
        case decide.Send():
            return may(view.stage, Stage.SUBMITTING)
        case decide.Store():
            return view.attempt is not None and view.attempt.has_outputs
        case decide.Keep():
            return view.stage is Stage.STORING or may(view.stage, Stage.STORING)
        case _:
            return True


@given(view=views, policy=policies)
def test_every_view_has_a_step_that_the_lifecycle_allows(view: JobView, policy: JobPolicy):
    decided = next_step(view, NOW, policy)
    assert is_allowed(view, decided), decided
    if view.stage in TERMINAL:
        assert isinstance(decided, Wait)


@given(view=views, policy=policies)
def test_whoever_waits_waits_for_something_to_come(view: JobView, policy: JobPolicy):
    decided = next_step(view, NOW, policy)
    if isinstance(decided, Wait):
        assert decided.until > NOW
        if view.stage not in TERMINAL and not (view.attempt and view.attempt.has_outputs):
            asked_at = view.cancel_requested_at or NOW  # another machine's clock may be a little ahead
            assert decided.until <= max(view.deadline_at, NOW, asked_at) + timedelta(seconds=policy.cancel_grace_s)


@given(view=views, policy=policies)
def test_nothing_is_sent_after_a_cancel_or_the_deadline_or_while_an_attempt_may_live(view: JobView, policy: JobPolicy):
    decided = next_step(view, NOW, policy)
    if isinstance(decided, decide.Send):
        assert view.stage is Stage.QUEUED
        assert view.cancel_requested_at is None
        assert view.deadline_at > NOW
    if isinstance(decided, Requeue) and not view.capabilities.inline:
        lost_result = view.stage is Stage.STORING and not (view.attempt and view.attempt.has_task)
        # Only a task that had its time and was asked to stop is left behind for another provider.
        had_its_time = decided.failure is decide.TOO_SLOW and view.attempt_until is not None
        was_asked = had_its_time and (
            view.attempt_until + timedelta(seconds=policy.cancel_grace_s) <= NOW
            or (not view.capabilities.cancel and view.looked_at is not None and view.looked_at >= view.attempt_until)
        )
        assert lost_result or was_asked or (view.stage is Stage.UNKNOWN and policy.unknown_then == "resubmit")
    if isinstance(decided, Requeue) and decided.moves_on:
        assert view.providers > 1


@given(view=views.filter(lambda view: view.stage not in TERMINAL | {Stage.QUEUED}), seen=observations, policy=policies)
def test_every_observation_has_a_meaning_that_the_lifecycle_allows(view: JobView, seen: Any, policy: JobPolicy):
    decided = after_look(view, seen, NOW, policy)
    assert is_allowed(view, decided), decided
    if isinstance(decided, Requeue):
        assert view.tries < max(policy.tries_max, view.providers)
        assert decided.moves_on is (view.providers > 1)
        assert NOW + timedelta(seconds=decided.delay_s) < view.deadline_at
    if isinstance(seen, Succeeded):
        assert decided == decide.Keep(seen)
