"""What must hold whatever happened (C1, J4, P8, S1)."""

from __future__ import annotations

from typing import Any

from jobs_world import World, until

from safelight.credits import audit
from safelight.jobs import settle


async def books_balance(world: World, *, unanswered: bool = False) -> None:
    """Every promise at once: the ledger adds up, the log has no hole and leads to the tables' rows, every job has
    ended and left nothing behind, results and charges belong to completed jobs, no attempt was bought twice.

    `unanswered`: webhooks may still be on their way.
    """

    async def is_quiet() -> bool:
        return unanswered or not await world.value("select count(*) from inbox where processed_at is null")

    await until(is_quiet, "the inbox to be empty")
    async with world.db.snapshot() as conn:
        assert await audit.audit(conn) == []
        jobs = await conn.fetch("select * from jobs order by id")
        assert [job["id"] for job in jobs if job["completed_at"] is None] == [], "jobs without an end"
        assert await conn.fetch("select * from job_work") == []
        assert await conn.fetch("select * from job_progress") == []

        made = await conn.fetch("select * from generations order by job_id, output_index")
        for job in jobs:
            own = [row["id"] for row in made if row["job_id"] == job["id"]]
            assert own == list(job["generations"])
            assert own == [settle.generation_id(job["id"], index) for index in range(len(own))]
            assert bool(own) is (job["stage"] == "completed")
            captured = await conn.fetchval(
                "select coalesce(sum(amount), 0) from ledger_transfers where job_id = $1 and reason = 'capture'",
                job["id"],
            )
            assert captured == (job["charged"] or 0)
            assert job["charged"] is None or job["charged"] == job["quoted"] * min(len(own), job["n"]) // job["n"]

        numbers = await conn.fetch("select job_id, array_agg(number order by number) as n from attempts group by 1")
        assert all(row["n"] == list(range(1, len(row["n"]) + 1)) for row in numbers)
        await _log_leads_to_the_rows(conn)
    for row in made:
        await world.store.head(row["files"]["original"])
    assert {attempt: n for attempt, n in (await world.accepted()).items() if n > 1} == {}, "bought twice"


async def _log_leads_to_the_rows(conn: Any) -> None:
    for project in await conn.fetch("select project_id, head from project_heads"):
        changes = await conn.fetch(
            "select seq, tbl, op, id, row from changes where project_id = $1 order by seq", project["project_id"]
        )
        assert [change["seq"] for change in changes] == list(range(1, project["head"] + 1))
        held: dict[tuple[str, str], Any] = {}
        for change in changes:
            if change["op"] == "delete":
                del held[change["tbl"], str(change["id"])]
            else:
                held[change["tbl"], str(change["id"])] = change["row"]
        for table in ("jobs", "generations", "shot_generations"):
            rows = await conn.fetch(
                f"select to_jsonb(t) as row from {table} t where project_id = $1", project["project_id"]
            )
            fresh = {row["row"]["id"]: row["row"] for row in rows}
            assert {key[1]: row for key, row in held.items() if key[0] == table} == fresh, table
