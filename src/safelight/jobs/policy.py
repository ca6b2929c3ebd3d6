"""The numbers and choices by which jobs are run. Operators may change them; the reasons are the defaults' reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from safelight.jobs.breaker import OF_TASKS, Rule


@dataclass(frozen=True, slots=True)
class JobPolicy:
    """All durations in seconds."""

    lease_s: float = 30.0
    """How long a dead worker's job waits for the next. Renewed every third of it while work goes on."""
    submit_timeout_s: float = 60.0
    """Longer than any provider needs to accept; afterwards the answer counts as lost."""
    inspect_timeout_s: float = 20.0
    inline_timeout_s: float = 600.0
    store_timeout_s: float = 900.0
    unknown_grace_s: float = 600.0
    """How long a lost submit may still be resolved by a webhook or a look-up (P8)."""
    unknown_then: Literal["fail", "resubmit"] = "fail"
    """`resubmit` risks a second bill for a second chance: the operator's choice, not ours."""
    tries_max: int = 3
    """Attempts at one job before a transient failure is final."""
    busy_refusals_max: int = 3
    """How often a busy provider (429) is asked by one job before the model's next is."""
    busy_patience_s: float = 10.0
    """A busy provider that wants more time than this is not waited for where there is another."""
    attempt_patience: float = 10.0
    """Times its usual duration, after which another provider is asked, where there is one (P6)…"""
    attempt_patience_min_s: float = 300.0
    """…but no sooner than this: a queue at the provider is not yet trouble."""
    breaker: Rule = field(default_factory=Rule)
    task_breaker: Rule = OF_TASKS
    retry_delay_s: float = 2.0
    """Before the second attempt; doubles."""
    cancel_grace_s: float = 30.0
    """How long a provider may take to stop before the job is canceled without its word."""
    missing_grace_s: float = 60.0
    """A provider that does not know a task it has just accepted is given this long to find it."""
    store_tries_max: int = 8
    read_through_after_s: float = 5.0
    """A reader triggers a look at the provider if nothing was heard for this long (J5)."""
    read_through_wait_s: float = 2.5
    deadline_default_s: float = 3600.0
    deadline_max_s: float = 7 * 24 * 3600.0
    account_pause_s: float = 30.0
    """After a provider said our account has a problem, nothing is sent for this long."""
    project_concurrency: int = 50
    """Tasks of one project at providers at once, unless `project_limits` says otherwise."""
