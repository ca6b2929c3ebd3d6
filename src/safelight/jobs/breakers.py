"""The breakers of all providers as this process knows them: a copy, refreshed by the sweep's own question (P6).

Nothing is asked or written for a provider that is well. What changes a breaker is written under its row's lock, so that
all nodes count together and only one of them gets the probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from safelight.db.group_commit import GroupCommit
from safelight.db.pool import AWAY, Conn, Database, Row, Transaction
from safelight.jobs import breaker
from safelight.jobs.breaker import WELL, Breaker, Event, Gate, Rule, State
from safelight.observe.metrics import Metrics

log: Final = structlog.get_logger("jobs")

EVENTS_MAX: Final = 64
"""Written in one transaction: in an outage many fail at once."""
SAID_MAX: Final = 300
AGE_MAX_S: Final = 2.0
"""Where no sweep refreshes the copy (a process without a worker), it is read again when it is older than this."""
SEE_AGAIN_S: Final = 10.0
"""The longest that a waiting job does not look at the breakers, whatever they said."""
LEVEL: Final = {State.CLOSED: 0.0, State.HALF_OPEN: 1.0, State.OPEN: 2.0}
"""As the metric `safelight_breaker_state` says it."""


@dataclass(frozen=True, slots=True)
class Known:
    """A provider's breaker, and what its last failure said."""

    breaker: Breaker
    said: str | None


@dataclass(frozen=True, slots=True)
class _Heard:
    provider: str
    event: Event
    said: str | None


class Breakers:
    """Ask `gate` before sending; tell `note` what became of it."""

    def __init__(self, db: Database, rule: Rule, now: Callable[[], datetime]) -> None:
        self._db = db
        self._rule = rule
        self._now = now
        self._known: dict[str, Known] = {}
        self._read_at: datetime | None = None
        self._writing = GroupCommit(db, self._write, batch_max=EVENTS_MAX)

    # --- reading

    def gate(self, provider: str) -> Gate:
        return breaker.gate(self.of(provider).breaker, self._now())

    def of(self, provider: str) -> Known:
        return self._known.get(provider, _WELL)

    def is_quiet(self, provider: str) -> bool:
        """A good answer of this provider is no news."""
        return self.of(provider).breaker.is_quiet

    def until(self, providers: Iterable[str]) -> datetime:
        """When to see again whether one of these may be asked: a probe may end long before its time."""
        now = self._now()
        soonest = min(self.of(provider).breaker.until or now for provider in providers)
        return min(soonest, now + timedelta(seconds=SEE_AGAIN_S))

    def show(self, metrics: Metrics, providers: Iterable[str]) -> None:
        """As the metric `safelight_breaker_state`."""
        names = sorted(providers)
        said = "Circuit breaker of a provider: 0 closed, 1 half-open, 2 open (P6)"
        metrics.before_scrape(self.refresh)
        metrics.read_at_scrape(
            "gauge",
            "breaker_state",
            said,
            lambda: {name: LEVEL[self.of(name).breaker.state] for name in names},
            label="provider",
        )

    def learn(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """`rows`: the whole table as JSON, for whoever asks the database something anyway."""
        read = {row["provider"]: _from_json(row) for row in rows}
        # What we wrote ourselves while that question was under way is newer than its answer.
        newer = {
            name: known
            for name, known in self._known.items()
            if name not in read or known.breaker.changed_at > read[name].breaker.changed_at
        }
        self._known = read | newer
        self._read_at = self._now()

    async def refresh(self) -> None:
        """Read again if the copy is old. Never raises for a database that is away: the copy stays."""
        if self._read_at is not None and (self._now() - self._read_at).total_seconds() < AGE_MAX_S:
            return
        try:
            async with self._db.connection() as conn:
                query = "select coalesce(jsonb_agg(to_jsonb(b)), '[]') from provider_breakers b"
                self.learn(await conn.fetchval(query))
        except AWAY as error:
            log.warning("breakers.unread", error=repr(error))

    # --- writing

    async def note(self, provider: str, event: Event, said: str | None = None) -> None:
        """Write what was seen. A database that is away loses it: the next outcome says the same."""
        if isinstance(event, breaker.Answered) and self.is_quiet(provider):
            return
        try:
            await self._writing(_Heard(provider, event, said))
        except AWAY as error:
            log.warning("breakers.unwritten", provider=provider, error=repr(error))

    async def claim_probe(self, provider: str) -> bool:
        """Whether we are the one who tries it."""
        before, after = await self._writing(_Heard(provider, breaker.Probing(), None))
        return after is not before and after.state is State.HALF_OPEN

    async def _write(self, tx: Transaction, heard: Sequence[_Heard]) -> list[tuple[Breaker, Breaker]]:
        conn, now = tx.conn, self._now()
        providers = sorted({each.provider for each in heard})
        rows = await _lock(conn, providers)
        begun = {row["provider"]: _from_row(row) for row in rows}
        current = dict(begun)
        moves: list[tuple[Breaker, Breaker]] = []
        for each in heard:
            before = current[each.provider]
            after = breaker.after(before.breaker, each.event, now, self._rule)
            moves.append((before.breaker, after))
            said = each.said if isinstance(each.event, breaker.Failed) and after is not before.breaker else before.said
            current[each.provider] = Known(after, said)
        changed = {name: known for name, known in current.items() if known != begun[name]}
        if changed:
            await _save(conn, changed)
        for name, known in changed.items():
            state, was = known.breaker.state, begun[name].breaker.state
            if state is not was:
                log.warning("breaker.changed", provider=name, state=state.value, was=was.value, said=known.said)
        if sooner := {
            name: known.breaker.until or now
            for name, known in changed.items()
            if _is_sooner(known.breaker.until or now, begun[name].breaker.until)
        }:
            await _wake(conn, sooner)
        # Also before the commit is known to stand: what is written is read again within a second.
        self._known |= current
        return moves


async def _lock(conn: Conn, providers: Sequence[str]) -> list[Row]:
    await conn.execute(
        "insert into provider_breakers (provider) select unnest($1::text[]) on conflict do nothing", list(providers)
    )
    return await conn.fetch(
        "select * from provider_breakers where provider = any ($1::text[]) order by provider for update",
        list(providers),
    )


async def _save(conn: Conn, known: Mapping[str, Known]) -> None:
    await conn.executemany(
        """
        update provider_breakers set state = $2, failures = $3, failed_at = $4, trips = $5, changed_at = $6,
            until = $7, said = $8
        where provider = $1
        """,
        [
            (
                name,
                b.state.value,
                b.failures,
                b.failed_at,
                b.trips,
                b.changed_at,
                b.until,
                (said or "")[:SAID_MAX] or None,
            )
            for name, (b, said) in ((name, (each.breaker, each.said)) for name, each in known.items())
        ],
    )


def _is_sooner(until: datetime, was: datetime | None) -> bool:
    """A probe that ended, well or not, or was not sent, ends the wait for it."""
    return was is not None and until < was


async def _wake(conn: Conn, due: Mapping[str, datetime]) -> None:
    """Who waits for these providers may ask again sooner than was thought: when they answer, at once."""
    await conn.execute(
        """
        update job_work w set look_at = least(w.look_at, g.due_at),
            poked = w.poked or (g.due_at <= now() and coalesce(w.lease_until >= now(), false))
        from unnest($1::text[], $2::timestamptz[]) as g (provider, due_at)
        where w.provider = g.provider and w.blocked = 'breaker'
        """,
        list(due),
        list(due.values()),
    )


_WELL: Final = Known(WELL, None)


def _from_row(row: Mapping[str, Any]) -> Known:
    return Known(
        Breaker(
            state=State(row["state"]),
            failures=row["failures"],
            failed_at=row["failed_at"],
            trips=row["trips"],
            changed_at=row["changed_at"],
            until=row["until"],
        ),
        row["said"],
    )


def _from_json(row: Mapping[str, Any]) -> Known:
    times = ("failed_at", "changed_at", "until")
    return _from_row({**row, **{name: _moment(row[name]) for name in times}})


def _moment(said: str | None) -> datetime | None:
    return None if said is None else datetime.fromisoformat(said)
