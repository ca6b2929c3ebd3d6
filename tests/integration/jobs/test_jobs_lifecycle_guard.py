"""The database knows the same lifecycle as the code, and refuses every other step (J3)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from safelight.db.pool import Database
from safelight.jobs.lifecycle import STATUS, TERMINAL, TRANSITIONS, Stage

AN_ID = uuid4()


def columns(stage: Stage) -> dict[str, Any]:
    """What a job in this stage must carry besides."""
    return {
        "charged": 1 if stage is Stage.COMPLETED else None,
        "generations": [AN_ID] if stage is Stage.COMPLETED else [],
        "error": {} if stage in (Stage.FAILED, Stage.EXPIRED) else None,
        "completed": stage in TERMINAL,
    }


UPDATE = """
    update jobs set stage = $2, charged = $3, generations = $4, error = $5,
        completed_at = case when $6 then now() end
    where id = $1
"""


@pytest.fixture
async def project(db: Database) -> Any:
    async with db.connection() as conn:
        return await conn.fetchval("insert into projects (name) values ('p') returning id")


async def new_job(conn: Any, project: Any) -> Any:
    return await conn.fetchval(
        "insert into jobs (id, project_id, model, provider, endpoint, kind, input, quoted, deadline_at, request_hash)"
        " values ($1, $2, 'm', 'p', 'e', 'image', '{}', 0, now() + '1 hour', '') returning id",
        uuid4(), project,
    )  # fmt: skip


async def test_the_databases_table_is_the_codes_table(db: Database):
    async with db.connection() as conn:
        rows = await conn.fetch("select from_stage, to_stage from job_transitions")
    ours = {(source.value, target.value) for source, targets in TRANSITIONS.items() for target in targets}
    assert {(row["from_stage"], row["to_stage"]) for row in rows} == ours


@pytest.mark.parametrize("source", list(Stage))
async def test_the_database_allows_exactly_the_steps_of_the_table(db: Database, project: Any, source: Stage):
    async with db.connection() as conn:
        for target in Stage:
            if target is source:
                continue
            job = await new_job(conn, project)
            # The guard is asleep only while the job is put where the step begins.
            await conn.execute("alter table jobs disable trigger guard_job_stage")
            await conn.execute(UPDATE, job, source.value, *columns(source).values())
            await conn.execute("alter table jobs enable trigger guard_job_stage")
            step = conn.execute(UPDATE, job, target.value, *columns(target).values())
            if target in TRANSITIONS[source]:
                await step
            else:
                with pytest.raises(asyncpg.PostgresError) as caught:
                    await step
                assert caught.value.sqlstate == "SL001", (source, target)
            expected = target if target in TRANSITIONS[source] else source
            row = await conn.fetchrow("select stage, status from jobs where id = $1", job)
            assert row is not None
            assert (row["stage"], row["status"]) == (expected.value, STATUS[expected].value)


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.QUEUED])
async def test_a_job_begins_queued_and_no_other_way(db: Database, project: Any, stage: Stage):
    async with db.connection() as conn:
        with pytest.raises(asyncpg.PostgresError) as caught:
            await conn.execute(
                "insert into jobs (id, project_id, stage, model, provider, endpoint, kind, input, quoted, deadline_at,"
                " request_hash) values ($1, $2, $3, 'm', 'p', 'e', 'image', '{}', 0, now() + '1 hour', '')",
                uuid4(), project, stage.value,
            )  # fmt: skip
    assert caught.value.sqlstate == "SL001"


@pytest.mark.parametrize("stage", list(Stage))
async def test_results_charges_and_errors_belong_to_their_stages(db: Database, project: Any, stage: Stage):
    """No completed job without result or charge, no failed one without a reason, no end without its time."""
    async with db.connection() as conn:
        job = await new_job(conn, project)
        await conn.execute("alter table jobs disable trigger guard_job_stage")
        right = columns(stage)
        wrong = {
            "charged": None if right["charged"] else 1,
            "error": {} if right["error"] is None else None,
            "completed": not right["completed"],
        } | ({"generations": []} if stage is Stage.COMPLETED else {})
        for name, value in wrong.items():
            with pytest.raises(asyncpg.CheckViolationError):
                await conn.execute(UPDATE, job, stage.value, *(right | {name: value}).values())
        await conn.execute(UPDATE, job, stage.value, *right.values())
