"""All breakers as this process knows them: a copy, refreshed by the sweep's own question (P6).

Nothing is asked or written for a provider that is well. What changes a breaker is written under its row's lock, so that
all nodes count together and only one of them gets the probe; and by the database's clock, because nodes' clocks differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import structlog

from safelight.db.group_commit import GroupCommit
from safelight.db.pool import AWAY, Conn, Database, Row, Transaction
from safelight.jobs import breaker
from safelight.jobs.breaker import WELL, Breaker, Event, Gate, Rule, State
from safelight.observe.metrics import Metrics
from safelight.providers.model import Route

log: Final = structlog.get_logger("jobs")

EVENTS_MAX: Final = 64
"""Written in one transaction: in an outage many fail at once."""
SAID_MAX: Final = 300
AGE_MAX_S: Final = 2.0
"""Where no sweep refreshes the copy (a process without a worker), it is read again when it is older than this."""
SEE_AGAIN_S: Final = 10.0
"""The longest that a waiting job does not look at the breakers, whatever they said."""
KEPT: Final = timedelta(days=1)
"""Of a breaker that nothing has moved for so long nothing is left to know: it is well, or nobody asks any more (its
provider or its model is gone). All rows are read every second, so they are not to gather."""
LEVEL: Final = {State.CLOSED: 0.0, State.HALF_OPEN: 1.0, State.OPEN: 2.0}
"""As the metric `safelight_breaker_state` says it."""


class Key(NamedTuple):
    """Whose breaker: a provider's as a whole, or that of one endpoint there."""

    provider: str
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """A breaker, and what its last failure said."""

    breaker: Breaker
    said: str | None


@dataclass(frozen=True, slots=True)
class _Heard:
    key: Key
    event: Event
    said: str | None


@dataclass(frozen=True, slots=True)
class _Moved:
    before: Breaker
    after: Known


class Breakers:
    """Ask `gate` before sending; tell `note` what became of it.

    `rule` is for what submits say of a provider, `of_tasks` for what the ends of tasks say of an endpoint.
    """

    def __init__(
        self, db: Database, rule: Rule, now: Callable[[], datetime], of_tasks: Rule = breaker.OF_TASKS
    ) -> None:
        self._db = db
        self._rule = rule
        self._of_tasks = of_tasks
        self._now = now
        self._known: dict[Key, Known] = {}
        self._written_at: dict[Key, datetime] = {}
        self._read_at: datetime | None = None
        self._writing = GroupCommit(db, self._write, batch_max=EVENTS_MAX)

    # --- reading

    def gate(self, route: Route) -> Gate:
        now = self._now()
        return breaker.strictest(breaker.gate(self.at(key).breaker, now) for key in _keys(route))

    def of(self, provider: str) -> Known:
        """The provider's own."""
        return self.at(Key(provider))

    def at(self, key: Key) -> Known:
        return self._known.get(key, _WELL)

    def state(self, route: Route) -> State:
        """The worse of the two on this way."""
        return max((self.at(key).breaker.state for key in _keys(route)), key=lambda state: LEVEL[state])

    def endpoints(self, provider: str) -> Mapping[str, Known]:
        """Those of its endpoints that failed of late."""
        return {key.endpoint: known for key, known in self._known.items() if key.provider == provider and key.endpoint}

    def is_quiet(self, key: Key) -> bool:
        """A good answer is no news."""
        return self.at(key).breaker.is_quiet

    def until(self, routes: Iterable[Route]) -> datetime:
        """When to see again whether one of these may be asked: a probe may end long before its time."""
        now = self._now()
        soonest = min(max(self.at(key).breaker.until or now for key in _keys(route)) for route in routes)
        return min(soonest, now + timedelta(seconds=SEE_AGAIN_S))

    def show(self, metrics: Metrics, providers: Iterable[str]) -> None:
        """As the metrics `safelight_breaker_state` and, of the endpoints, `safelight_breaker_endpoints_open`.

        One series a provider: an endpoint's name is the operator's, and there may be a thousand.
        """
        names = sorted(providers)
        metrics.before_scrape(self.refresh)
        metrics.read_at_scrape(
            "gauge",
            "breaker_state",
            "Circuit breaker of a provider: 0 closed, 1 half-open, 2 open (P6)",
            lambda: {name: LEVEL[self.of(name).breaker.state] for name in names},
            label="provider",
        )
        metrics.read_at_scrape(
            "gauge",
            "breaker_endpoints_open",
            "Endpoints of a provider whose own breaker is open or half-open (P6)",
            lambda: {name: float(self._count_open(name)) for name in names},
            label="provider",
        )

    def _count_open(self, provider: str) -> int:
        return sum(known.breaker.state is not State.CLOSED for known in self.endpoints(provider).values())

    def learn(self, rows: Sequence[Mapping[str, Any]], asked_at: datetime) -> None:
        """`rows`: the whole table as JSON, for whoever asks the database something anyway; by our clock, `asked_at`."""
        read = {Key(row["provider"], row["endpoint"]): _from_json(row) for row in rows}
        # What we wrote ourselves while that question was under way is newer than its answer.
        self._written_at = {key: at for key, at in self._written_at.items() if at >= asked_at}
        self._known = read | {key: self._known[key] for key in self._written_at}
        self._read_at = self._now()

    async def refresh(self) -> None:
        """Read again if the copy is old. Never raises for a database that is away: the copy stays."""
        asked_at = self._now()
        if self._read_at is not None and (asked_at - self._read_at).total_seconds() < AGE_MAX_S:
            return
        try:
            async with self._db.connection() as conn:
                query = "select coalesce(jsonb_agg(to_jsonb(b)), '[]') from provider_breakers b"
                self.learn(await conn.fetchval(query), asked_at)
        except AWAY as error:
            log.warning("breakers.unread", error=repr(error))

    # --- writing

    async def note(self, key: Key, event: Event, said: str | None = None) -> None:
        """Write what was seen. A database that is away loses it: the next outcome says the same."""
        if self._is_no_news(key, event):
            return
        try:
            await self._tell(_Heard(key, event, said))
        except AWAY as error:
            log.warning("breakers.unwritten", provider=key.provider, endpoint=key.endpoint, error=repr(error))

    def _is_no_news(self, key: Key, event: Event) -> bool:
        match event:
            case breaker.Answered():
                return self.is_quiet(key)
            case breaker.Dropped():
                return self.at(key).breaker.state is not State.HALF_OPEN
            case _:
                return False

    async def claim_probe(self, route: Route) -> tuple[Key, ...] | None:
        """The probes that are now ours: one, or two where provider and endpoint want one. None: somebody else tries."""
        claimed: list[Key] = []
        for key in _keys(route):
            if breaker.gate(self.at(key).breaker, self._now()) is Gate.GO:
                continue
            moved = await self._tell(_Heard(key, breaker.Probing(), None))
            if moved.after.breaker is moved.before:
                for each in claimed:
                    await self.note(each, breaker.Dropped())
                return None
            claimed.append(key)
        return tuple(claimed)

    async def _tell(self, heard: _Heard) -> _Moved:
        """Known here only when it is committed: a transaction may be given up, or done again."""
        moved = await self._writing(heard)
        key, state, was = heard.key, moved.after.breaker.state, moved.before.state
        self._known[key] = moved.after
        self._written_at[key] = self._now()
        if state is not was:
            about = {"provider": key.provider, "endpoint": key.endpoint or None, "said": moved.after.said}
            log.warning("breaker.changed", state=state.value, was=was.value, **about)
        return moved

    async def _write(self, tx: Transaction, heard: Sequence[_Heard]) -> list[_Moved]:
        conn = tx.conn
        rows = await _lock(conn, sorted({each.key for each in heard}))
        # Read once the rows are ours: whoever had them before us moved them earlier.
        now: datetime = await conn.fetchval("select clock_timestamp()")
        begun = {Key(row["provider"], row["endpoint"]): _from_row(row) for row in rows}
        current = dict(begun)
        moves: list[_Moved] = []
        for each in heard:
            before = current[each.key]
            after = breaker.after(before.breaker, each.event, now, self._of_tasks if each.key.endpoint else self._rule)
            said = each.said if isinstance(each.event, breaker.Failed) and after is not before.breaker else before.said
            current[each.key] = Known(after, said)
            moves.append(_Moved(before.breaker, current[each.key]))
        changed = {key: known for key, known in current.items() if known != begun[key]}
        if changed:
            await _save(conn, changed)
        sooner: dict[str, datetime] = {}
        for key, known in changed.items():
            until = known.breaker.until or now
            if _is_sooner(until, begun[key].breaker.until):
                sooner[key.provider] = min(until, sooner.get(key.provider, until))
        if sooner:
            await _wake(conn, sooner)
        return moves


def _keys(route: Route) -> tuple[Key, Key]:
    return Key(route.provider), Key(route.provider, route.endpoint)


async def _lock(conn: Conn, keys: Sequence[Key]) -> list[Row]:
    """In the order of the keys, as everybody does."""
    providers, endpoints = [key.provider for key in keys], [key.endpoint for key in keys]
    await conn.execute(
        """
        insert into provider_breakers (provider, endpoint)
        select * from unnest($1::text[], $2::text[]) on conflict do nothing
        """,
        providers,
        endpoints,
    )
    return await conn.fetch(
        """
        select b.* from provider_breakers b
        join unnest($1::text[], $2::text[]) as g (provider, endpoint) using (provider, endpoint)
        order by b.provider, b.endpoint for update of b
        """,
        providers,
        endpoints,
    )


async def _save(conn: Conn, known: Mapping[Key, Known]) -> None:
    await conn.executemany(
        """
        update provider_breakers set state = $3, failures = $4, failed_at = $5, trips = $6, changed_at = $7,
            until = $8, said = $9
        where provider = $1 and endpoint = $2
        """,
        [
            (
                key.provider,
                key.endpoint,
                b.state.value,
                b.failures,
                b.failed_at,
                b.trips,
                b.changed_at,
                b.until,
                (said or "")[:SAID_MAX] or None,
            )
            for key, (b, said) in ((key, (each.breaker, each.said)) for key, each in known.items())
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


async def forget_old(conn: Conn) -> None:
    """Drop what nothing has moved for so long (O3)."""
    await conn.execute(
        "delete from provider_breakers where greatest(changed_at, failed_at, until) < now() - $1::interval", KEPT
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
