"""Builders for the ledger's tests: a project, a granted wallet, a job row in any stage."""

from __future__ import annotations

from uuid import UUID, uuid4

from safelight.credits import ledger
from safelight.db.pool import Conn


async def new_project(conn: Conn, credits: int = 0) -> UUID:
    project = await conn.fetchval("insert into projects (name) values ('p') returning id")
    if credits:
        await ledger.grant(conn, project, credits, key="start", note="", actor="test")
    return project


async def new_job(conn: Conn, project: UUID, quoted: int, *, job: UUID | None = None, round: int = 1) -> UUID:
    job = job or uuid4()
    await conn.execute(
        "insert into jobs (id, project_id, model, provider, endpoint, kind, input, quoted, round, deadline_at,"
        " request_hash) values ($1, $2, 'm', 'p', 'e', 'image', '{}', $3, $4, now() + '1 hour', '')",
        job, project, quoted, round,
    )  # fmt: skip
    return job


async def complete(conn: Conn, job: UUID, charged: int) -> None:
    await conn.execute("update jobs set stage = 'submitting' where id = $1", job)
    await conn.execute(
        "update jobs set stage = 'completed', charged = $2, completed_at = now(),"
        " generations = array[gen_random_uuid()] where id = $1",
        job,
        charged,
    )


async def end(conn: Conn, job: UUID, stage: str) -> None:
    await conn.execute(
        "update jobs set stage = $2, completed_at = now(), error = case when $2 <> 'canceled' then '{}'::jsonb end"
        " where id = $1",
        job,
        stage,
    )
