"""When to look at a provider (P5), and how long a job still takes (J10). Pure.

Source of the rule: providers.md §7.4: early looks for what ends early, growing gaps, and always well inside the
time a finished result stays readable. With the model's history known, a look comes about when half of its jobs are
done; later gaps are a share of the time already spent, so the extra wait is never out of proportion. No gap, the
first included, is longer than the stall that a lost webhook may cause.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

HISTORY_KEPT = 50
"""Durations kept per model: enough for a P50 and a P90, few enough to follow a provider that got faster."""
GAP_SHARE = 0.25
"""A gap between looks, once the task should be done, is this share of the time already spent."""
GAP_MIN_S = 2.0
GAP_MAX_S = 30.0
"""The longest stall that a lost webhook may cause (requirements, success table)."""
GAP_MAX_WITHOUT_WEBHOOK_S = 15.0
FIRST_LOOK_MIN_S = 0.5
WEBHOOK_PATIENCE = 1.4
"""With a webhook expected, the first look waits a little past the P50: the webhook is cheaper."""
LIFETIME_SHARE = 0.25
"""No gap is longer than this share of the time the result stays readable."""


def quantile(durations_s: Sequence[float], q: float) -> float | None:
    """The q-quantile (nearest rank), None without history."""
    if not durations_s:
        return None
    ranked = sorted(durations_s)
    return ranked[max(0, math.ceil(q * len(ranked)) - 1)]


def expected_s(durations_s: Sequence[float], prior_s: float) -> float:
    """How long this model takes: its median once there are three jobs, else what the registry says."""
    median = quantile(durations_s, 0.5)
    return median if median is not None and len(durations_s) >= 3 else prior_s


def next_look(
    *,
    accepted_at: datetime,
    now: datetime,
    looks: int,
    expected_duration_s: float,
    has_webhook: bool,
    result_lifetime_s: float,
) -> datetime:
    """When to look next at a task that the provider accepted at `accepted_at` and that was looked at `looks` times.

    Until it is likely done the gaps are as long as they may be: a task may end early, and its webhook be lost.
    """
    ceiling_s = min(GAP_MAX_S if has_webhook else GAP_MAX_WITHOUT_WEBHOOK_S, result_lifetime_s * LIFETIME_SHARE)
    likely_done_s = expected_duration_s * (WEBHOOK_PATIENCE if has_webhook else 1.0)
    if looks == 0:
        return max(now, accepted_at + timedelta(seconds=min(max(likely_done_s, FIRST_LOOK_MIN_S), ceiling_s)))
    spent_s = (now - accepted_at).total_seconds()
    gap_s = max(spent_s * GAP_SHARE, likely_done_s - spent_s, GAP_MIN_S)
    return now + timedelta(seconds=min(gap_s, ceiling_s))


def backoff_s(tries: int, base_s: float, ceiling_s: float = 60.0) -> float:
    """Doubling delay before try number `tries` + 1. The caller adds jitter if many wait for the same thing."""
    # Beyond 2^30 only the ceiling speaks, and a float ends at 2^1024: a job may be looked at thousands of times.
    return min(base_s * 2 ** min(max(0, tries - 1), 30), ceiling_s)


def eta_s(durations_s: Sequence[float], prior_s: float | None, spent_s: float) -> float | None:
    """Seconds that a running job probably still needs; None when it has outlived what history can say.

    The remaining time is the median of those past durations that are longer than the time spent: a job that is
    late is compared with the late ones, so the estimate does not sit at zero.
    """
    if len(durations_s) < 3:
        return max(prior_s - spent_s, 0.0) or None if prior_s is not None else None
    longer = [duration for duration in durations_s if duration > spent_s]
    median = quantile(longer, 0.5)
    return None if median is None else median - spent_s
