"""Progress: the last word of the provider, kept for those who ask and pushed to those who listen (J10).

It is not part of the change log: a lost update is replaced by the next one, and a job may send many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from safelight.db.pool import Conn, Database, Row
from safelight.jobs.decide import Progress
from safelight.jobs.lifecycle import Stage

LOGS_KEPT: Final = 50
"""Lines of a provider's log shown with a job: the newest."""
LOG_LINE_MAX: Final = 500

Publish = Callable[[UUID, dict[str, Any]], None]
"""`publish(project_id, payload)`: push to whoever has the project open. Must not block."""


@dataclass(frozen=True, slots=True)
class ProgressBoard:
    db: Database
    publish: Publish

    async def report(
        self, conn: Conn, job: Row, said: Progress, eta_s: float | None, *, may_be_lost: bool = False
    ) -> None:
        """Keep and push one word of progress. `job` is a row with id and project_id.

        `may_be_lost`: the commit does not wait for the disk. Not where something else is in the same transaction.
        An end of the job that is under way is waited for: nothing is left behind by it.
        """
        logs = [line[:LOG_LINE_MAX] for line in said.logs[-LOGS_KEPT:]]
        await conn.execute(
            """
            insert into job_progress (job_id, percent, queue_position, message, logs, running_at)
            select job_id, $2, $3, $4, $5, case when $6 then now() end
            from job_work where job_id = $1 and (not $7 or (select lazily())) for key share
            on conflict (job_id) do update set
                percent = greatest(excluded.percent, case when $6 then job_progress.percent end),
                queue_position = excluded.queue_position,
                message = coalesce(excluded.message, job_progress.message),
                logs = case when cardinality(excluded.logs) > 0 then excluded.logs else job_progress.logs end,
                running_at = coalesce(job_progress.running_at, excluded.running_at),
                updated_at = now()
            """,
            job["id"],
            said.percent,
            said.queue_position,
            said.message and said.message[:LOG_LINE_MAX],
            logs,
            said.stage is Stage.RUNNING,
            may_be_lost,
        )
        self.push(job, said, eta_s)

    def push(self, job: Row, said: Progress, eta_s: float | None) -> None:
        """Only to listeners: for words that come too often to keep each."""
        self.publish(
            job["project_id"],
            {
                "job_id": str(job["id"]),
                "percent": said.percent,
                "queue_position": said.queue_position,
                "eta_s": eta_s,
                "message": said.message,
            },
        )


async def clear(conn: Conn, job_id: UUID) -> None:
    """A new attempt begins: the last one's percent is not its own."""
    await conn.execute("delete from job_progress where job_id = $1", job_id)
