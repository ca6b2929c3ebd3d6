"""What this installation learnt about how long each model takes (J10, P5).

Kept apart from the settling transaction: a lost sample harms nobody, a shared row locked by every settle would.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from safelight.db.pool import Database
from safelight.jobs.schedule import HISTORY_KEPT, expected_s

REREAD_S: Final = 15.0
"""Other workers learn too; their samples are seen after this long."""
MODELS_MAX: Final = 10_000


class Durations:
    """Past durations per (provider, endpoint), cached; samples are gathered and written by `flush`."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[tuple[str, str], list[float]] = {}
        self._new: dict[tuple[str, str], list[float]] = {}
        self._read_at = float("-inf")

    def of(self, provider: str, endpoint: str) -> Sequence[float]:
        return self._known.get((provider, endpoint), ())

    def expected_s(self, provider: str, endpoint: str, prior_s: float) -> float:
        return expected_s(self.of(provider, endpoint), prior_s)

    def learn(self, provider: str, endpoint: str, duration_s: float) -> None:
        key = (provider, endpoint)
        self._known[key] = [*self._known.get(key, ()), duration_s][-HISTORY_KEPT:]
        self._new.setdefault(key, []).append(duration_s)

    async def flush(self) -> None:
        """Write new samples, and re-read what others wrote. Called every second by the worker, and at its end."""
        if self._new:
            fresh, self._new = self._new, {}
            async with self._db.connection() as conn:
                for (provider, endpoint), durations in sorted(fresh.items()):
                    await conn.execute(
                        """
                        insert into model_durations as m (provider, endpoint, durations_s) values ($1, $2, $3)
                        on conflict (provider, endpoint) do update set updated_at = now(), durations_s =
                            (m.durations_s || excluded.durations_s)[
                                greatest(1, cardinality(m.durations_s || excluded.durations_s) - $4 + 1):]
                        """,
                        provider,
                        endpoint,
                        durations[-HISTORY_KEPT:],
                        HISTORY_KEPT,
                    )
        if time.monotonic() - self._read_at > REREAD_S:
            await self.reread()

    async def reread(self) -> None:
        self._read_at = time.monotonic()
        async with self._db.connection() as conn:
            rows = await conn.fetch(
                "select provider, endpoint, durations_s from model_durations order by updated_at desc limit $1",
                MODELS_MAX,
            )
        self._known = {(row["provider"], row["endpoint"]): list(row["durations_s"]) for row in rows}
