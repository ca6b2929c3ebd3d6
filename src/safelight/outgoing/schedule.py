"""When a delivery is tried again, and when an endpoint is given up. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

DELAYS_S: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""After the first try, the second, …: the schedule that Standard Webhooks advises, three days and a bit in all."""
TRIES_MAX: Final = len(DELAYS_S) + 1
RETRY_AFTER_MAX_S: Final = 86_400.0
"""A receiver that asks for more is tried all the same: after a day it may have been mended."""
FAILING_FOR: Final = timedelta(days=5)
FAILURES_MIN: Final = 15
"""More than one delivery's whole schedule: a server that slept through a single event is not given up at the next."""
GONE: Final = 410

State = Literal["pending", "delivered", "failed"]
Disabling = Literal["gone", "failing"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a delivery after a try. `delay_s`: until the next, where it is still pending."""

    state: State
    delay_s: float | None = None


def verdict(
    *, status: int | None, tries: int, is_test: bool, chance: float, retry_after_s: float | None = None
) -> Verdict:
    """`tries` counts this one; `chance` is drawn from [0, 1); `retry_after_s` is what the receiver asked for.

    A delay is the schedule's, times one half to one and a half: receivers that were down do not get everything at the
    same moment, and three days stay about three days.
    """
    if status is not None and 200 <= status < 300:
        return Verdict("delivered")
    if is_test or status == GONE or tries >= TRIES_MAX:
        return Verdict("failed")
    delay_s = DELAYS_S[tries - 1] * (0.5 + chance)
    if retry_after_s is not None:
        delay_s = max(delay_s, min(retry_after_s, RETRY_AFTER_MAX_S))
    return Verdict("pending", delay_s)


def disabling(*, status: int | None, failing_since: datetime | None, failures: int, now: datetime) -> Disabling | None:
    """Whether an endpoint is given up, after so many failures in a row. `status`: of the last try."""
    if status == GONE:
        return "gone"
    if failing_since is not None and now - failing_since >= FAILING_FOR and failures >= FAILURES_MIN:
        return "failing"
    return None
