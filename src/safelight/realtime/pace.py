"""How fast somebody may do something: a bucket that refills. Pure."""

from __future__ import annotations

__all__ = ["Pace"]


class Pace:
    """`burst` at once, then `rate` a second."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = now

    def take(self, now: float, cost: float = 1.0) -> bool:
        """Take it if it is there."""
        self._refill(now)
        if self._left < cost:
            return False
        self._left -= cost
        return True

    def spend(self, now: float, cost: float = 1.0) -> float:
        """Take it in any case; returns how many seconds to pause to make up for it."""
        self._refill(now)
        self._left -= cost
        return max(0.0, -self._left / self._rate)

    def _refill(self, now: float) -> None:
        self._left = min(self._burst, self._left + max(now - self._at, 0.0) * self._rate)
        self._at = now
