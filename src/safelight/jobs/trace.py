"""The trace of a job (D1): each step of the chain with its time, written in the transaction that made it true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from safelight.db.pool import Conn, Row

STEPS_MAX: Final = 500
"""Of one job, shown to a reader. A job with more was retried for days; its newest steps say why."""


@dataclass(frozen=True, slots=True)
class Step:
    """`at` None: the moment of writing."""

    job_id: UUID
    attempt: int
    step: str
    at: datetime | None = None
    detail: dict[str, Any] | None = None


async def write(conn: Conn, steps: Sequence[Step]) -> None:
    if not steps:
        return
    await conn.execute(
        """
        insert into job_trace (job_id, attempt, step, at, detail)
        select job_id, attempt, step, coalesce(at, clock_timestamp()), detail
        from unnest($1::uuid[], $2::int[], $3::text[], $4::timestamptz[], $5::jsonb[])
            as t (job_id, attempt, step, at, detail)
        """,
        [step.job_id for step in steps],
        [step.attempt for step in steps],
        [step.step for step in steps],
        [step.at for step in steps],
        [step.detail for step in steps],
    )


async def write_known(conn: Conn, steps: Sequence[Step]) -> None:
    """As `write`, for steps told from outside a transaction: a job that is gone by now is left out."""
    present = await conn.fetch("select id from jobs where id = any ($1::uuid[])", [step.job_id for step in steps])
    known = {row["id"] for row in present}
    await write(conn, [step for step in steps if step.job_id in known])


async def read(conn: Conn, job_id: UUID) -> list[Row]:
    """Oldest first; at most STEPS_MAX, the newest."""
    rows = await conn.fetch(
        "select step, at, attempt, detail from job_trace where job_id = $1 order by at desc, id desc limit $2",
        job_id,
        STEPS_MAX,
    )
    return rows[::-1]
