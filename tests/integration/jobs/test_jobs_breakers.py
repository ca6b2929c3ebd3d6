"""The breakers as nodes share them (P6): by one clock, without what was never committed, and not kept for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from jobs_world import until

from safelight.db.pool import Database
from safelight.jobs.breaker import Answered, Dropped, Failed, Gate, Rule, State
from safelight.jobs.breakers import Breakers, Key, forget_old
from safelight.providers.model import Route

FAL = Route(provider="fal", endpoint="fal-ai/fox")
RULE = Rule(failures_max=2, cool_down_s=0.2, cool_down_max_s=0.2, probe_s=0.4)
LONG = Rule(failures_max=2, cool_down_s=600.0, cool_down_max_s=600.0)
PROVIDER, ENDPOINT = Key("fal"), Key("fal", "fal-ai/fox")


class Clock:
    """A node's own."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        self.ahead = timedelta(seconds=ahead_s)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


async def asked(db: Database) -> datetime:
    """When an attempt was sent, as its row says."""
    async with db.connection() as conn:
        return await conn.fetchval("select clock_timestamp()")


async def fail(breakers: Breakers, db: Database, key: Key = PROVIDER, times: int = 2) -> None:
    for _ in range(times):
        await breakers.note(key, Failed(await asked(db)), "out of service")


async def in_table(db: Database) -> list[tuple[str, str, str, int]]:
    async with db.connection() as conn:
        rows = await conn.fetch("select * from provider_breakers order by provider, endpoint")
    return [(row["provider"], row["endpoint"], row["state"], row["failures"]) for row in rows]


async def script(db: Database, sql: str) -> None:
    async with db.connection() as conn:
        await conn.execute(sql)


async def test_what_was_not_committed_is_not_known(db: Database):
    breakers = Breakers(db, RULE, Clock())
    await fail(breakers, db, times=1)
    await script(
        db,
        """
        create function no_more() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
        create constraint trigger no_more after update on provider_breakers
            deferrable initially deferred for each row execute function no_more();
        """,
    )
    with pytest.raises(asyncpg.RaiseError):
        await fail(breakers, db, times=1)
    assert await in_table(db) == [("fal", "", "closed", 1)]
    assert breakers.gate(FAL) is Gate.GO, "it opened only in a transaction that was given up"
    assert breakers.of("fal").breaker.failures == 1
    await script(db, "drop trigger no_more on provider_breakers")
    await fail(breakers, db, times=1)
    assert breakers.of("fal").breaker.state is State.OPEN


async def test_a_transaction_that_is_done_again_counts_once(db: Database):
    breakers = Breakers(db, RULE, Clock())
    await script(
        db,
        """
        create sequence tries;
        create function once_more() returns trigger language plpgsql as $$ begin
            if nextval('tries') <= 2 then raise 'again' using errcode = 'serialization_failure'; end if;
            return null;
        end $$;
        create constraint trigger once_more after update on provider_breakers
            deferrable initially deferred for each row execute function once_more();
        """,
    )
    await fail(breakers, db, times=1)
    assert await in_table(db) == [("fal", "", "closed", 1)]
    assert breakers.of("fal").breaker.failures == 1


async def test_nodes_whose_clocks_differ_agree_on_what_came_after_what(db: Database):
    ahead, ours = Breakers(db, RULE, Clock(ahead_s=900.0)), Breakers(db, RULE, Clock())
    await fail(ahead, db)
    await ours.refresh()
    assert ours.of("fal").breaker.state is State.OPEN

    async def may_probe() -> bool:
        return ours.gate(FAL) is Gate.PROBE

    await until(may_probe, "the cool-down, by the database's clock")
    assert await ours.claim_probe(FAL) == (PROVIDER,)
    await ours.note(PROVIDER, Answered(await asked(db)))
    assert await in_table(db) == [("fal", "", "closed", 0)]


async def test_a_probe_whose_worker_died_is_somebody_elses_after_its_time(db: Database):
    rule = Rule(failures_max=2, cool_down_s=0.1, cool_down_max_s=0.1, probe_s=1.0)
    dead, ours = Breakers(db, rule, Clock()), Breakers(db, rule, Clock())
    await fail(dead, db)

    async def claimed() -> bool:
        return dead.gate(FAL) is Gate.PROBE and await dead.claim_probe(FAL) is not None

    await until(claimed, "the cool-down")
    await ours.refresh()
    assert ours.of("fal").breaker.state is State.HALF_OPEN

    async def taken_over() -> bool:
        return ours.gate(FAL) is Gate.PROBE and await ours.claim_probe(FAL) == (PROVIDER,)

    await until(taken_over, "the probe's time")
    await ours.note(PROVIDER, Answered(await asked(db)))
    assert ours.gate(FAL) is Gate.GO


async def test_where_provider_and_endpoint_want_a_probe_it_is_one_attempt_that_gets_both_or_none(db: Database):
    rule = Rule(failures_max=2, cool_down_s=0.2, cool_down_max_s=0.2, probe_s=600.0)
    first, second = Breakers(db, rule, Clock(), rule), Breakers(db, rule, Clock(), rule)
    for key in (PROVIDER, ENDPOINT):
        await fail(first, db, key)
    await second.refresh()

    async def may_probe() -> bool:
        return first.gate(FAL) is second.gate(FAL) is Gate.PROBE

    await until(may_probe)
    assert await first.claim_probe(FAL) == (PROVIDER, ENDPOINT)
    assert await second.claim_probe(FAL) is None
    for key in (PROVIDER, ENDPOINT):
        await first.note(key, Dropped())
    assert first.gate(FAL) is Gate.PROBE, "given back"


async def test_an_endpoint_that_is_shut_leaves_the_providers_others_open(db: Database):
    breakers = Breakers(db, LONG, Clock(), LONG)
    await fail(breakers, db, ENDPOINT)
    assert breakers.gate(FAL) is Gate.SHUT
    assert breakers.state(FAL) is State.OPEN
    assert breakers.gate(Route(provider="fal", endpoint="fal-ai/owl")) is Gate.GO
    assert breakers.of("fal").breaker.state is State.CLOSED
    assert {name: known.said for name, known in breakers.endpoints("fal").items()} == {"fal-ai/fox": "out of service"}


async def test_breakers_that_nothing_moves_any_more_are_forgotten_here_and_there(db: Database):
    clock = Clock()
    breakers = Breakers(db, LONG, clock, LONG)
    await fail(breakers, db, Key("gone"))
    await fail(breakers, db, Key("gone", "gone/fox"))
    await fail(breakers, db)
    # Two days later.
    await script(
        db,
        """
        update provider_breakers set failed_at = failed_at - interval '2 days', until = until - interval '2 days',
            changed_at = changed_at - interval '2 days' where provider = 'gone'
        """,
    )
    async with db.connection() as conn:
        await forget_old(conn)
    assert await in_table(db) == [("fal", "", "open", 2)]
    clock.ahead = timedelta(seconds=60)
    await breakers.refresh()
    assert breakers.of("gone").breaker.state is State.CLOSED
    assert breakers.endpoints("gone") == {}
    assert breakers.of("fal").breaker.state is State.OPEN
