"""Random providers, crashes, webhooks and cancels in virtual time: every job ends, soon, and is never bought blindly.

The world here is a model of the shell around `decide`: it keeps what the database keeps, applies each step as the
engine does, and may die at any point between. It has no I/O, so thousands of lives take seconds.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.jobs import decide
from safelight.jobs.decide import AttemptView, JobView, after_look, next_step
from safelight.jobs.lifecycle import TERMINAL, Stage, may
from safelight.jobs.policy import JobPolicy
from safelight.jobs.schedule import next_look
from safelight.providers.base import (
    Canceled,
    Capabilities,
    Failed,
    Failure,
    Missing,
    Observation,
    Output,
    Running,
    Succeeded,
    Unchanged,
    Waiting,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
STEPS_MAX = 20_000


def s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


@dataclass
class Task:
    """What the provider holds and bills."""

    ends_at: datetime
    end: Observation
    forgotten_at: datetime
    stopped_at: datetime | None = None

    def seen(self, now: datetime, random: Random) -> Observation:
        if now >= self.forgotten_at:
            return Missing()
        if self.stopped_at is not None and now >= self.stopped_at and self.stopped_at < self.ends_at:
            return Canceled()
        if now >= self.ends_at:
            return self.end
        return random.choice([Waiting(3), Running(10.0), Unchanged("pondering")])

    def may_be_alive(self, now: datetime) -> bool:
        ended_at = min(self.ends_at, self.stopped_at or self.ends_at)
        return now < min(ended_at, self.forgotten_at)


@dataclass
class Life:
    """One job, its machinery and its provider."""

    random: Random
    policy: JobPolicy
    able: Capabilities
    deadline_s: float
    crash_share: float
    now: datetime = START
    view: JobView = field(init=False)
    tasks: list[Task] = field(default_factory=list)
    events: list[tuple[datetime, int, str, int]] = field(default_factory=list)
    looks: int = 0
    sends: int = 0
    store_failures: int = 0
    trouble_left: int = 5
    providers: int = 1
    left_behind: int = 0
    """Tasks that had their time when another provider was asked."""

    def __post_init__(self) -> None:
        self.view = JobView(
            Stage.QUEUED, 0, START + s(self.deadline_s), None, START, None, attempt=None, capabilities=self.able,
            providers=self.providers,
        )  # fmt: skip
        if self.random.random() < 0.3:
            self.at(self.random.uniform(0, self.deadline_s * 1.2), "cancel")

    def at(self, in_s: float, what: str, number: int = 0) -> None:
        heapq.heappush(self.events, (self.now + s(in_s), len(self.events), what, number))

    # --- the machinery ------------------------------------------------------------------------------------------

    def run(self) -> None:
        for _ in range(STEPS_MAX):
            if self.view.stage in TERMINAL:
                return
            step = next_step(self.view, self.now, self.policy)
            if isinstance(step, decide.Wait):
                self.pass_time(step.until)
            elif self.random.random() < self.crash_share and self.trouble_left:
                self.trouble_left -= 1
                self.die_during(step)
                self.pass_time(self.now + s(self.policy.lease_s))
            else:
                self.do(step)
        raise AssertionError(f"goes round in circles: {self.view}")

    def pass_time(self, until: datetime) -> None:
        if self.events and self.events[0][0] <= until:
            at, _, what, number = heapq.heappop(self.events)
            self.now = max(self.now, at)
            self.happen(what, number)
        else:
            self.now = max(self.now, until)
        self.now += timedelta(milliseconds=1)

    def happen(self, what: str, number: int) -> None:
        if what == "cancel":
            self.cancel()
        elif self.view.attempt is not None and self.view.attempt.number == number:
            # A webhook: it names the task, and makes the job due.
            self.know_task()
            self.put(look_at=min(self.view.look_at, self.now))

    def cancel(self) -> None:
        """As `JobService.cancel`."""
        stage = self.view.stage
        if stage in TERMINAL or stage is Stage.STORING:
            return
        if stage in (Stage.QUEUED, Stage.UNKNOWN) or (
            stage in (Stage.SUBMITTED, Stage.RUNNING) and not self.able.cancel
        ):
            self.go(Stage.CANCELED)
            return
        self.put(cancel_requested_at=self.now, look_at=min(self.view.look_at, self.now))

    def put(self, **changes: Any) -> None:
        self.view = replace(self.view, **changes)

    def go(self, stage: Stage) -> None:
        assert may(self.view.stage, stage), (self.view.stage, stage)
        self.put(stage=stage)

    def know_task(self) -> None:
        assert self.view.attempt is not None
        self.put(attempt=replace(self.view.attempt, has_task=True))

    def do(self, step: decide.Step) -> None:
        match step:
            case decide.Send():
                self.send(dies=False)
            case decide.LoseAnswer():
                self.go(Stage.UNKNOWN)
                self.put(look_at=self.now + s(1))
            case decide.Adopt():
                self.go(Stage.SUBMITTED)
                assert self.view.attempt is not None
                self.put(look_at=self.now, attempt=replace(self.view.attempt, accepted_at=self.now))
            case decide.Find():
                if self.tasks and self.random.random() < 0.5 and self.is_billed():
                    self.know_task()
                self.put(look_at=self.now + s(10))
            case decide.AskCancel():
                task = self.task()
                if task is not None and self.random.random() < 0.7:
                    task.stopped_at = self.now + s(self.random.uniform(0, 60))
                if self.random.random() < 0.9:
                    self.put(cancel_sent_at=self.now)  # else the answer was lost: it is asked again
                self.look()
            case decide.Look():
                self.look()
            case decide.Store():
                self.store()
            case decide.Requeue() | decide.End():
                self.conclude(step)
            case decide.Wait():
                raise AssertionError

    def die_during(self, step: decide.Step) -> None:
        """The process is gone: before the step, or after the world has changed and before it was written down."""
        if isinstance(step, decide.Send):
            self.send(dies=True)
        elif isinstance(step, decide.Look) and self.random.random() < 0.5:
            task = self.task()
            if task is not None and isinstance(task.seen(self.now, self.random), Succeeded):
                # It had the files in hand.
                if self.view.stage is not Stage.STORING:
                    self.go(Stage.STORING)
                self.put(look_at=self.now)

    def send(self, *, dies: bool) -> None:
        assert self.view.cancel_requested_at is None
        assert self.now < self.view.deadline_at
        alive = [task for task in self.tasks if task.may_be_alive(self.now)]
        assert len(alive) <= self.left_behind or self.policy.unknown_then == "resubmit" or self.able.inline, (
            "bought blindly"
        )
        self.sends += 1
        number = 1 if self.view.attempt is None else self.view.attempt.number + 1
        self.go(Stage.SUBMITTING)
        self.put(
            tries=self.view.tries + 1,
            attempt=AttemptView(number, "sending", self.now, None, has_task=False, has_outputs=False),
            looked_at=None,
            cancel_sent_at=None,
            attempt_until=None,
        )
        self.looks = self.store_failures = 0
        answer = self.random.choice(["accepted"] * 6 + ["refused", "rejected", "lost", "lost but taken"])
        if dies:
            if self.random.random() < 0.5 and not self.able.inline:
                self.bill(number)
            return
        self.now += s(self.random.uniform(0, 5))
        if self.able.inline:
            self.now += s(self.random.uniform(0, 30))
            if answer in ("rejected", "lost"):
                self.conclude(decide.End(Stage.FAILED, Failure("invalid_input", "…")))
            else:
                self.go(Stage.STORING)
                self.settle()
            return
        match answer:
            case "accepted":
                self.bill(number)
                self.know_task()
                self.go(Stage.SUBMITTED)
                assert self.view.attempt is not None
                self.put(
                    attempt=replace(self.view.attempt, accepted_at=self.now),
                    attempt_until=self.now + s(self.random.choice([5.0, 60.0, 900.0])),
                    look_at=self.next_look(),
                )
            case "refused" if self.trouble_left:
                self.trouble_left -= 1
                self.sends -= 1  # the same attempt comes again
                self.go(Stage.QUEUED)
                self.put(
                    tries=self.view.tries - 1,
                    look_at=self.now + s(self.random.uniform(1, 60)),
                    attempt=None if number == 1 else replace(self.view.attempt, number=number - 1),
                )
            case "rejected":
                self.conclude(decide.End(Stage.FAILED, Failure("invalid_input", "…")))
            case _:
                if answer == "lost but taken":
                    self.bill(number)
                self.go(Stage.UNKNOWN)
                self.put(look_at=self.now + s(1))

    def bill(self, number: int) -> None:
        takes_s = self.random.choice([0.0, 1.0, 20.0, 200.0, 1e6])
        good = Succeeded([Output(url="https://a.example/b.png")])
        bad = Failed(Failure("provider_failed", "…", transient=self.random.random() < 0.6))
        end = self.random.choice([good, good, good, bad, Canceled()])
        forgets_s = self.random.choice([1e9, 1e9, 1e9, takes_s + 30.0, 0.5])
        self.tasks.append(Task(self.now + s(takes_s), end, self.now + s(forgets_s)))
        for _ in range(self.random.choice([0, 0, 1, 1, 2])):
            self.at(takes_s + self.random.choice([0.0, 0.1, 40.0]), "webhook", number)

    def is_billed(self) -> bool:
        return len(self.tasks) == self.sends

    def task(self) -> Task | None:
        return self.tasks[-1] if self.tasks else None

    def next_look(self) -> datetime:
        assert self.view.attempt is not None
        return next_look(
            accepted_at=self.view.attempt.accepted_at or self.now,
            now=self.now,
            looks=self.looks,
            expected_duration_s=15,
            has_webhook=self.able.webhooks,
            result_lifetime_s=self.able.result_lifetime_s,
        )

    def look(self) -> None:
        self.looks += 1
        task = self.task()
        assert task is not None
        assert self.view.attempt is not None
        assert self.view.attempt.has_task
        if self.random.random() < 0.1:
            self.put(look_at=self.now + s(self.random.uniform(2, 30)))  # it did not get through
            return
        verdict = after_look(self.view, task.seen(self.now, self.random), self.now, self.policy)
        match verdict:
            case decide.Keep():
                if self.view.stage is not Stage.STORING:
                    self.go(Stage.STORING)
                if self.random.random() < 0.2:
                    self.settle()  # files in hand
                else:
                    self.put(attempt=replace(self.view.attempt, has_outputs=True), look_at=self.now)
            case decide.Requeue() | decide.End():
                self.conclude(verdict)
            case decide.Progress() | decide.Wait():
                says_running = isinstance(verdict, decide.Progress) and verdict.stage is Stage.RUNNING
                if says_running and self.view.stage is Stage.SUBMITTED:
                    self.go(Stage.RUNNING)
                self.put(looked_at=self.now, look_at=self.next_look())

    def store(self) -> None:
        if self.random.random() < 0.3:
            self.not_stored()
        else:
            self.settle()

    def not_stored(self) -> None:
        """As `keeping._not_stored`."""
        self.store_failures += 1
        if self.store_failures >= self.policy.store_tries_max or self.random.random() < 0.3:
            self.conclude(decide.End(Stage.FAILED, Failure("result_expired", "…")))
        elif self.able.inline:
            self.conclude(decide.Requeue(1.0, "store_failed"))
        else:
            self.put(look_at=self.now + s(30))

    def settle(self) -> None:
        self.go(Stage.COMPLETED)

    def conclude(self, verdict: decide.Requeue | decide.End) -> None:
        if isinstance(verdict, decide.End):
            self.go(verdict.stage)
            return
        if verdict.moves_on:
            assert self.providers > 1
            # Given up knowingly: too slow, or forgotten by its provider; a failed one is not alive.
            self.left_behind += verdict.attempt_state in ("abandoned", "canceled")
        self.go(Stage.QUEUED)
        self.put(look_at=self.now + s(verdict.delay_s))


policies = st.builds(
    JobPolicy,
    tries_max=st.integers(1, 4),
    unknown_then=st.sampled_from(["fail", "fail", "resubmit"]),
    unknown_grace_s=st.sampled_from([5.0, 600.0]),
    cancel_grace_s=st.sampled_from([0.5, 30.0]),
    missing_grace_s=st.sampled_from([0.0, 60.0]),
)
abilities = st.builds(
    Capabilities,
    cancel=st.booleans(),
    webhooks=st.booleans(),
    lookup=st.booleans(),
    result_lifetime_s=st.sampled_from([4.0, 360.0, 3600.0]),
)


@settings(max_examples=400, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    policy=policies,
    able=abilities,
    deadline_s=st.sampled_from([1.0, 60.0, 3600.0]),
    crash_share=st.sampled_from([0.0, 0.1, 0.4]),
    providers=st.sampled_from([1, 1, 2, 3]),
)
def test_every_job_at_a_provider_ends_in_bounded_time(
    seed: int, policy: JobPolicy, able: Capabilities, deadline_s: float, crash_share: float, providers: int
):
    life = Life(Random(seed), policy, able, deadline_s, crash_share, providers=providers)
    life.run()
    # Stopping takes its grace, crashes their leases, a result that exists its tries at being stored.
    slack_s = policy.cancel_grace_s + 5 * policy.lease_s + policy.store_tries_max * 31 + 120
    assert life.now <= START + s(deadline_s + slack_s)
    assert life.sends <= max(policy.tries_max, providers)
    assert len(life.tasks) <= life.sends


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), policy=policies, deadline_s=st.sampled_from([1.0, 60.0, 3600.0]))
def test_every_job_of_this_machine_ends_in_bounded_time(seed: int, policy: JobPolicy, deadline_s: float):
    able = Capabilities(cancel=True, webhooks=False, inline=True)
    life = Life(Random(seed), policy, able, deadline_s, crash_share=0.4)
    life.run()
    assert life.now <= START + s(deadline_s + 5 * policy.lease_s + policy.store_tries_max * 31 + 120)


def test_a_good_day_is_one_attempt():
    """The model itself: without trouble it does what one expects."""

    class Calm(Random):
        def random(self) -> float:
            return 0.99

        def choice(self, seq: Any) -> Any:
            return seq[0]

        def uniform(self, a: float, b: float) -> float:
            return a

    life = Life(Calm(), JobPolicy(), Capabilities(cancel=True, webhooks=True), 3600, 0.0)
    life.run()
    assert life.view.stage is Stage.COMPLETED
    assert (life.sends, len(life.tasks)) == (1, 1)
