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
        assert lost_result or policy.unknown_then == "resubmit"


@given(view=views.filter(lambda view: view.stage not in TERMINAL | {Stage.QUEUED}), seen=observations, policy=policies)
def test_every_observation_has_a_meaning_that_the_lifecycle_allows(view: JobView, seen: Any, policy: JobPolicy):
    decided = after_look(view, seen, NOW, policy)
    assert is_allowed(view, decided), decided
    if isinstance(decided, Requeue):
        assert view.tries < policy.tries_max
        assert NOW + timedelta(seconds=decided.delay_s) < view.deadline_at
    if isinstance(seen, Succeeded):
        assert decided == decide.Keep(seen)
