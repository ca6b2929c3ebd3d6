"""Reading jobs: one, a page, the counts; and how a job looks to the world (api.md, Jobs)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from safelight.db.pool import Conn, Row
from safelight.jobs.lifecycle import Stage
from safelight.jobs.schedule import eta_s
from safelight.library.page import instant

PAGE_MAX: Final = 200


async def head(conn: Conn, project_id: UUID) -> int:
    """The seq this snapshot holds (S3). Read first in a snapshot."""
    return await conn.fetchval("select head from project_heads where project_id = $1", project_id) or 0


_COLUMNS: Final = """
    j.*, p.percent, p.queue_position, p.message, p.logs, p.running_at, a.accepted_at
"""
_FROM: Final = """
    from jobs j left join job_progress p on p.job_id = j.id
    left join attempts a on a.job_id = j.id and a.number = j.attempt
"""


async def job(conn: Conn, job_id: UUID) -> Row | None:
    """The job with its progress, and of a large input what is shown of it."""
    return await conn.fetchrow(f"select {_COLUMNS} {_FROM} where j.id = $1", job_id)


async def whole_input(conn: Conn, job: Row) -> dict[str, Any]:
    """What was asked for, however large (0011_inputs.sql). `job` is its row."""
    if not job["left_out"]:
        return job["input"]
    return await conn.fetchval("select input from job_inputs where job_id = $1", job["id"])


async def whole_job(conn: Conn, job_id: UUID) -> Row | None:
    """As `job`, with all of its input."""
    row = await job(conn, job_id)
    if row is None or not row["left_out"]:
        return row
    return {**row, "input": await whole_input(conn, row), "left_out": []}


@dataclass(frozen=True, slots=True)
class JobFilter:
    statuses: Sequence[str] = ()
    stages: Sequence[str] = ()
    tag: str | None = None


async def page(
    conn: Conn, project_id: UUID, wanted: JobFilter, *, limit: int, before: tuple[datetime, UUID] | None
) -> list[Row]:
    """Newest first; `before` is the last one's (created_at, id). One more than `limit`, to know whether it goes on."""
    created_at, identity = before or (None, None)
    return await conn.fetch(
        f"""
        select {_COLUMNS} {_FROM}
        where j.project_id = $1
          and (cardinality($2::text[]) = 0 or j.status = any ($2))
          and (cardinality($3::text[]) = 0 or j.stage = any ($3))
          and ($4::text is null or j.tags @> array[$4])
          and ($5::timestamptz is null or (j.created_at, j.id) < ($5, $6::uuid))
        order by j.created_at desc, j.id desc limit $7
        """,
        project_id,
        list(wanted.statuses),
        list(wanted.stages),
        wanted.tag,
        created_at,
        identity,
        limit + 1,
    )


async def counts(conn: Conn, project_id: UUID) -> dict[str, int]:
    rows = await conn.fetch(
        "select status, count(*) as jobs from jobs where project_id = $1 group by status", project_id
    )
    found = {row["status"]: row["jobs"] for row in rows}
    return {status: found.get(status, 0) for status in ("pending", "processing", "completed", "failed", "canceled")}


def present_job(
    row: Mapping[str, Any],
    *,
    durations: Sequence[float] = (),
    prior_s: float | None = None,
    now: datetime | None = None,
) -> dict[str, Any]:
    """A job as the API shows it. Works for a table's row and for one joined with its progress. Pure."""
    stage = Stage(row["stage"])
    left_out = row.get("left_out")  # entries of the log may be older than the column
    return {
        "id": str(row["id"]),
        "project_id": str(row["project_id"]),
        "status": row["status"],
        "stage": stage.value,
        "model": row["model"],
        "provider": row["provider"],
        "kind": row["kind"],
        "attempt": row["attempt"],
        "input": row["input"],
        "n": row["n"],
        "target": row["target"],
        "template": row["template"],
        "variables": row["variables"],
        "start": row["start"],
        "priority": row["priority"],
        "progress": _progress(row, stage, durations, prior_s, now),
        "credits": {"quoted": row["quoted"], "charged": row["charged"]},
        "error": row["error"],
        "generations": [str(each) for each in row["generations"]],
        "created_at": instant(row["created_at"]),
        "submitted_at": instant(row["submitted_at"]),
        "completed_at": instant(row["completed_at"]),
        "deadline_at": instant(row["deadline_at"]),
        "cancel_requested_at": instant(row["cancel_requested_at"]),
        "tags": row["tags"],
        "metadata": row["metadata"],
        **({"left_out": left_out} if left_out else {}),
    }


_NO_PROGRESS: Final[Mapping[str, Any]] = {"percent": None, "queue_position": None, "eta_s": None, "message": None}


def _progress(
    row: Mapping[str, Any], stage: Stage, durations: Sequence[float], prior_s: float | None, now: datetime | None
) -> dict[str, Any]:
    if "percent" not in row.keys():  # noqa: SIM118 -- an asyncpg Record: `in` looks at its values
        return dict(_NO_PROGRESS)
    waiting_s = None
    if now is not None and stage in (Stage.SUBMITTED, Stage.RUNNING, Stage.SUBMITTING):
        began_at = row["accepted_at"] or row["submitted_at"]
        spent_s = (now - began_at).total_seconds() if began_at else 0.0
        waiting_s = eta_s(durations, prior_s, max(spent_s, 0.0))
    return {
        "percent": row["percent"],
        "queue_position": row["queue_position"],
        "eta_s": None if waiting_s is None else round(waiting_s, 1),
        "message": row["message"],
    }
