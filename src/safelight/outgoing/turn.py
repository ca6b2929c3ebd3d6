"""Deliveries whose turn it is (`lanes`), claimed with a lease, and what became of each try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from safelight.db.pool import Conn, Database, Row, Transaction
from safelight.outgoing import endpoint, schedule, secret
from safelight.outgoing.event import TEST
from safelight.outgoing.lanes import Lanes
from safelight.outgoing.post import TOTAL_S, Posted

LEASE_S: Final = TOTAL_S + 45.0
"""A try and its note in a database that is busy. A sender that died is followed after this long."""
LOST: Final = "The sender was stopped in the middle of this try; whether it arrived is not known."

_LANES: Final = Lanes(
    "webhook_deliveries",
    id_column="id",
    waits="state = 'pending'",
    take="""
    , locked as materialized (
        select w.id, w.claim, w.claimed_at from webhook_deliveries w
        where w.id = any (array(select id from due)) and w.state = 'pending' and w.due_at <= now()
        for no key update skip locked
    ), lost as (
        insert into webhook_tries (delivery_id, at, error)
        select id, claimed_at, $8 from locked where claim is not null
    )
    update webhook_deliveries d set claim = gen_random_uuid(), claimed_at = clock_timestamp(), tries = d.tries + 1,
        due_at = now() + make_interval(secs => $7)
    from locked l where d.id = l.id and (select lazily())
    returning d.id, d.claim, d.project_id, d.job_id, d.event_id, d.endpoint_id, d.url, d.type, d.lane, d.tries
    """,
)


@dataclass(frozen=True, slots=True)
class Claimed:
    """One try to be made."""

    id: UUID
    claim: UUID
    project_id: UUID
    job_id: UUID | None
    event_id: UUID
    endpoint_id: UUID | None
    url: str | None
    type: str
    lane: str
    tries: int
    """This one counted."""

    @property
    def is_test(self) -> bool:
        return self.type == TEST


async def claim(
    conn: Conn, busy: Mapping[str, int], full: Sequence[UUID], *, per_lane: int, limit: int
) -> list[Claimed]:
    """Take up to `limit` that are due, no more than `per_lane` of a lane with those that are `busy` already.

    `full`: projects of which none is taken.
    """
    rows = await _LANES.claim(conn, busy, full, per_lane=per_lane, limit=limit, given=(LEASE_S, LOST))
    return [Claimed(**dict(row)) for row in rows]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a delivery is made of. `job` is its row as it was at the event, with the input that it always had."""

    url: str
    at: datetime
    job: dict[str, Any] | None
    generations: list[Row]
    salts: list[bytes]


async def contents(conn: Conn, claimed: Claimed) -> Contents | None:
    """None where there is nothing to send, or nowhere to send it any more."""
    row = await conn.fetchrow(
        """
        select e.at, e.job, j.input, coalesce($3, w.url) as url, w.disabled_at from webhook_events e
        left join jobs j on j.id = e.job_id left join webhook_endpoints w on w.id = $2
        where e.id = $1
        """,
        claimed.event_id,
        claimed.endpoint_id,
        claimed.url,
    )
    if row is None or row["url"] is None or (row["disabled_at"] is not None and not claimed.is_test):
        return None
    job: dict[str, Any] | None = None
    generations: list[Row] = []
    if not claimed.is_test:
        if row["input"] is None:
            return None  # the project is gone, and the job with it
        job = {**row["job"], "input": row["input"]}
        made = [UUID(each) for each in job["generations"]]
        if made:
            found = await conn.fetch("select * from generations where id = any ($1::uuid[])", made)
            by_id = {each["id"]: each for each in found}
            generations = [by_id[each] for each in made if each in by_id]
    salts = await secret.salts_of(conn, claimed.endpoint_id or claimed.project_id)
    return Contents(row["url"], row["at"], job, generations, salts)


async def stop(conn: Conn, claimed: Claimed) -> None:
    """There is nothing to send, or nowhere to: the webhook was disabled or deleted, or the job is gone."""
    await conn.execute(
        """
        update webhook_deliveries set state = 'stopped', ended_at = now(), claim = null, claimed_at = null,
            stopped_why = 'The webhook is disabled or deleted, or the job is gone.'
        where id = $1 and claim = $2 and state = 'pending'
        """,
        claimed.id,
        claimed.claim,
    )


async def note(
    db: Database, claimed: Claimed, posted: Posted, *, chance: float, now: datetime
) -> schedule.Disabling | None:
    """Write down what came of a try and when the next one is. Returns why the endpoint was disabled, if it was.

    Whose lease was lost writes nothing: another has taken over.
    """
    verdict = schedule.verdict(
        status=posted.status,
        tries=claimed.tries,
        is_test=claimed.is_test,
        chance=chance,
        retry_after_s=posted.retry_after_s,
    )
    async with db.connection() as conn:
        health = await conn.fetchrow(
            """
            with done as (
                update webhook_deliveries set claim = null, claimed_at = null,
                    -- Stopped meanwhile: it stays so, unless it arrived.
                    state = case when state = 'pending' or $3 = 'delivered' then $3 else state end,
                    ended_at = case when state = 'pending' and $3 = 'pending' then null else now() end,
                    due_at = case when $4::float8 is null then due_at else now() + make_interval(secs => $4) end
                where id = $1 and claim = $2 returning endpoint_id
            ), logged as (
                insert into webhook_tries (delivery_id, at, duration_ms, status, error, response)
                select $1, clock_timestamp() - make_interval(secs => $5::int / 1000.0), $5, $6, $7, $8 from done
            )
            update webhook_endpoints w
            set failing_since = case when $3 = 'delivered' then null else coalesce(w.failing_since, now()) end,
                failures = case when $3 = 'delivered' then 0 else w.failures + 1 end
            from done where w.id = done.endpoint_id and w.disabled_at is null
                and not $9 and ($3 <> 'delivered' or w.failures > 0)
            returning w.failing_since, w.failures
            """,
            claimed.id,
            claimed.claim,
            verdict.state,
            verdict.delay_s,
            posted.duration_ms,
            posted.status,
            posted.error,
            posted.response,
            claimed.is_test,
        )
    if health is None or claimed.endpoint_id is None:
        return None
    why = schedule.disabling(
        status=posted.status, failing_since=health["failing_since"], failures=health["failures"], now=now
    )
    return why if why is not None and await _disable(db, claimed.endpoint_id, why) else None


async def _disable(db: Database, endpoint_id: UUID, why: schedule.Disabling) -> bool:
    async def work(tx: Transaction) -> bool:
        return await endpoint.disable(tx, endpoint_id, why)

    return await db.run(work)


async def give_back(conn: Conn, claimed: list[Claimed]) -> None:
    """This sender ends: others need not wait for the leases. The claim stays, and says that a try was begun."""
    await conn.execute(
        """
        update webhook_deliveries d set due_at = now() from unnest($1::uuid[], $2::uuid[]) as c (id, claim)
        where d.id = c.id and d.claim = c.claim and d.state = 'pending'
        """,
        [each.id for each in claimed],
        [each.claim for each in claimed],
    )
