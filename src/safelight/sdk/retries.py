"""When to send a request again, and after how long. Chance comes in as an argument."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from safelight.sdk.call import Call, Repeat

TRIES_MAX: Final = 6
"""With the pauses below about half a minute in all: a restart of the server is shorter."""
PAUSE_FIRST_S: Final = 0.3
PAUSE_MAX_S: Final = 8.0
TRIES_PATIENT: Final = 100
"""For who follows a job or a log: a server may be away for some ten minutes before we say so."""
RETRY_AFTER_MAX_S: Final = 30.0
"""Told to wait longer than that, the caller should decide."""

_PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})
_NOT_ACTED_ON: Final = frozenset({429, 503})
"""The server says so itself (rate_limited, overloaded): nothing was done."""


@dataclass(slots=True)
class Retries:
    """The tries of one call."""

    call: Call[Any]
    tries_max: int = TRIES_MAX
    tries: int = 0

    def after_failure(self, *, is_unsent: bool, chance: float) -> float | None:
        """No answer came: seconds to wait before the next try, None to give up. `chance` is in [0, 1)."""
        self.tries += 1
        may = is_unsent or self.call.repeat is Repeat.ALWAYS
        return self._pause(chance) if may and self.tries < self.tries_max else None

    def after_answer(self, status: int, headers: Mapping[str, str], *, chance: float) -> float | None:
        """An answer came: seconds to wait before trying again, None to take it as it is."""
        self.tries += 1
        may = status in (_PASSING if self.call.repeat is Repeat.ALWAYS else _NOT_ACTED_ON)
        if not may or self.tries >= self.tries_max:
            return None
        told_s = _seconds(headers.get("retry-after", ""))
        if told_s is None:
            return self._pause(chance)
        return told_s + chance * PAUSE_FIRST_S if told_s <= RETRY_AFTER_MAX_S else None

    def _pause(self, chance: float) -> float:
        return pause_s(self.tries - 1, chance)


def pause_s(failures: int, chance: float) -> float:
    """Up to a bound that doubles with each failure in a row; by chance, so that the thousand clients of a
    restarted server do not all come back at once."""
    return (0.2 + 0.8 * chance) * min(PAUSE_MAX_S, PAUSE_FIRST_S * 2 ** min(failures, 16))


def _seconds(retry_after: str) -> float | None:
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        return None  # a date: rare, and clocks differ


def is_past(until: float | None, pause_s: float = 0.0) -> bool:
    """Whether that moment (time.monotonic) is over, or would be after a pause. None is never."""
    return until is not None and time.monotonic() + pause_s >= until
