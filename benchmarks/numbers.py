"""Percentiles and medians. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank: a value that was really measured. Infinite ones (nothing came) sort last."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds."""

    p50: float
    p95: float
    p99: float
    worst: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(*(percentile(values, share) for share in (0.50, 0.95, 0.99, 1.0)))

    @classmethod
    def median(cls, runs: Sequence[Spread]) -> Spread:
        """Of each percentile over the runs."""
        return cls(
            *(statistics.median_low([getattr(run, name) for run in runs]) for name in ("p50", "p95", "p99", "worst"))
        )


def lost(values: Sequence[float]) -> int:
    return sum(math.isinf(value) for value in values)
