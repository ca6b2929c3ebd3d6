"""Writing down what was decided about a job: another attempt, or its end."""

from __future__ import annotations

from typing import Final

import structlog

from safelight.db.pool import Row, Transaction
from safelight.jobs import attempts, decide, progress, settle, trace
from safelight.jobs.lifecycle import Stage
from safelight.jobs.parts import Parts

log: Final = structlog.get_logger("jobs")


def view(job: Row, parts: Parts) -> decide.JobView:
    """A claimed row as the decision sees it."""
    attempt = None
    if job["attempt_id"] is not None:
        attempt = decide.AttemptView(
            number=job["attempt"],
            state=job["attempt_state"],
            sent_at=job["sent_at"],
            accepted_at=job["accepted_at"],
            has_task=job["task_id"] is not None,
            has_outputs=job["outputs"] is not None,
        )
    return decide.JobView(
        stage=Stage(job["stage"]),
        tries=job["tries"],
        deadline_at=job["deadline_at"],
        cancel_requested_at=job["cancel_requested_at"],
        look_at=job["look_at"],
        looked_at=job["heard_at"],
        cancel_sent_at=job["cancel_sent_at"],
        attempt=attempt,
        capabilities=parts.providers[job["provider"]].capabilities,
    )


async def conclude(parts: Parts, job: Row, verdict: decide.Requeue | decide.End) -> None:
    """Write what was decided: a new attempt later, or the end. A no-op where the job has moved on meanwhile."""
    if isinstance(verdict, decide.Requeue):
        await parts.db.run(lambda tx: requeue(tx, job, verdict))
        parts.aftermath.freed(job["provider"])
    else:
        error = None
        if verdict.failure is not None and verdict.stage in (Stage.FAILED, Stage.EXPIRED):
            error = decide.public_error(verdict.failure, job["provider"])
        ended = await parts.db.run(
            lambda tx: settle.end(
                tx,
                job["id"],
                verdict.stage,
                attempt=job["attempt"],
                failure=verdict.failure,
                error=error,
                attempt_state=verdict.attempt_state,
                now=parts.now(),
            )
        )
        if ended is not None:
            code = verdict.failure.code if verdict.failure else None
            log.info("job.ended", job=str(job["id"]), stage=verdict.stage.value, code=code)
            parts.aftermath.ended(job["id"], job["provider"], verdict.stage.value)


async def requeue(tx: Transaction, job: Row, verdict: decide.Requeue) -> None:
    """Back to `queued` for the next attempt; the hold stays (C1)."""
    changed = await tx.conn.fetchval(
        "update jobs set stage = 'queued' where id = $1 and attempt = $2 and stage = $3 returning true",
        job["id"],
        job["attempt"],
        job["stage"],
    )
    if not changed:
        return
    await attempts.set_state(
        tx.conn,
        job["id"],
        job["attempt"],
        verdict.attempt_state,
        failure=verdict.failure,
        ended=verdict.attempt_state != "abandoned",
    )
    await progress.clear(tx.conn, job["id"])
    await tx.conn.execute(
        """
        update job_work set slot = false, blocked = null, looks = 0, heard_at = null, cancel_sent_at = null,
            look_at = now() + make_interval(secs => $2)
        where job_id = $1
        """,
        job["id"],
        verdict.delay_s,
    )
    await trace.write(tx.conn, [trace.Step(job["id"], job["attempt"], "requeued", detail={"why": verdict.why})])
    tx.touch(job["project_id"])
