"""How often a job talks to the database: a budget, so that nobody spends more by accident."""

from __future__ import annotations

from typing import Any

from jobs_promises import books_balance
from jobs_world import Build, World, submission, until


class Counted:
    """A connection that counts its statements."""

    def __init__(self, conn: Any, seen: list[str]) -> None:
        self._conn, self._seen = conn, seen

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._conn, name)
        if name not in ("execute", "executemany", "fetch", "fetchrow", "fetchval"):
            return found

        async def call(query: str, *args: Any) -> Any:
            self._seen.append(" ".join(query.split()))
            return await found(query, *args)

        return call

    def transaction(self, **options: Any) -> Any:
        outer = self._conn.transaction(**options)
        seen = self._seen

        class Begun:
            async def __aenter__(self) -> Any:
                seen.append("begin")
                return await outer.__aenter__()

            async def __aexit__(self, *error: Any) -> Any:
                seen.append("commit")
                return await outer.__aexit__(*error)

        return Begun()


class CountedPool:
    def __init__(self, pool: Any, seen: list[str]) -> None:
        self._pool, self._seen = pool, seen

    def acquire(self) -> Any:
        outer = self._pool.acquire()
        seen = self._seen

        class Acquired:
            def __await__(self) -> Any:
                return outer.__await__()  # the queue's own: it counts for itself

            async def __aenter__(self) -> Any:
                return Counted(await outer.__aenter__(), seen)

            async def __aexit__(self, *error: Any) -> Any:
                return await outer.__aexit__(*error)

        return Acquired()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


def of_jobs(seen: list[str]) -> list[str]:
    """Without the sweep's one question a second."""
    return [each for each in seen if "has_webhooks" not in each]


def told(seen: list[str]) -> str:
    return f"{len(seen)} round trips:\n" + "\n".join(f"  {each[:110]}" for each in seen)


async def test_a_submit_takes_few_round_trips(build: Build):
    world = await build(workers=0)
    await world.submitted("fal")  # statements are prepared once per connection
    seen: list[str] = []
    world.service.db.pool = CountedPool(world.service.db.pool, seen)
    await world.submitted(submission("fal"))
    assert len(seen) <= 6, told(seen)


async def test_a_completed_fal_job_takes_few_round_trips(build: Build):
    world = await build(workers=0, learnt_s=5.0)
    node = await world.node()
    node.db.pool = CountedPool(node.db.pool, seen := [])
    node.start()
    warm = await world.submit("fal")
    await world.reaches(warm, "completed")
    await large_is_there(world, 1)
    seen.clear()
    job_id = await world.submit("fal")
    await world.reaches(job_id, "completed")
    await large_is_there(world, 2)
    found = of_jobs(seen)
    assert len(found) <= 14, told(found)
    await books_balance(world)


async def large_is_there(world: World, count: int) -> None:
    async def made() -> bool:
        found = await world.value("select count(*) from generations where files -> 'thumbs' ? '1024'")
        return found >= count

    await until(made)


WHOLE = ("ledger_holds", "ledger_transfers", "job_work", "inbox", "attempts", "generations", "idempotency_keys")


async def test_nothing_in_the_life_of_a_job_reads_a_table_whole(build: Build):
    """Plans are made once, while tables are small (db/pool.py): each step must go by an index from the first day on."""
    world = await build()
    read = (
        "select coalesce(sum(seq_tup_read), 0)::int as rows, coalesce(sum(idx_scan), 0)::int as looks"
        " from pg_stat_user_tables where relname = any ($1)"
    )
    jobs = [await world.submit("fal") for _ in range(8)]
    for job_id in jobs:
        await world.reaches(job_id, "completed")

    async def is_told() -> bool:
        return (await world.rows(read, list(WHOLE)))[0]["looks"] >= 8 * len(jobs)

    await until(is_told, "the statistics of what was done")
    rows = await world.rows("select relname, seq_tup_read from pg_stat_user_tables where seq_tup_read > 0")
    read_whole = {row["relname"]: row["seq_tup_read"] for row in rows if row["relname"] in WHOLE}
    assert read_whole == {}
