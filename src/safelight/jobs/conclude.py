"""Writing down what was decided about a job: another attempt, or its end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from safelight.db.pool import Row, Transaction
from safelight.jobs import attempts, decide, outcomes, progress, routing, settle, trace
from safelight.jobs.lifecycle import Stage
from safelight.jobs.parts import Parts
from safelight.providers.model import Route

log: Final = structlog.get_logger("jobs")


def routes_of(job: Row, parts: Parts) -> Sequence[Route]:
    """Who may make it, the provider it is at first (P6)."""
    return routing.usable(
        parts.models.get(job["model"]),
        job["provider"],
        job["endpoint"],
        is_pinned=job["pinned"],
        is_ready=lambda name: name in parts.providers and parts.providers[name].disabled is None,
    )


def view(job: Row, parts: Parts) -> decide.JobView:
    """A claimed row as the decision sees it."""
    routes = routes_of(job, parts)
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
        providers=len(routes),
        attempt_until=_attempt_until(job, routes[0], parts) if len(routes) > 1 else None,
    )


def _attempt_until(job: Row, route: Route, parts: Parts) -> datetime | None:
    """When the provider that has the task has had its time."""
    accepted_at = job["accepted_at"]
    if accepted_at is None:
        return None
    if route.timeout_s is not None:
        return accepted_at + timedelta(seconds=route.timeout_s)
    policy, model = parts.policy, parts.models.get(job["model"])
    prior_s = model.eta_s if model is not None else policy.attempt_patience_min_s / policy.attempt_patience
    usual_s = parts.durations.expected_s(job["provider"], job["endpoint"], prior_s)
    return accepted_at + timedelta(seconds=max(usual_s * policy.attempt_patience, policy.attempt_patience_min_s))


async def conclude(parts: Parts, job: Row, verdict: decide.Requeue | decide.End) -> None:
    """Write what was decided: a new attempt later, or the end. A no-op where the job has moved on meanwhile."""
    await outcomes.ended(parts, job, verdict.failure)
    if isinstance(verdict, decide.Requeue):
        await parts.db.run(lambda tx: requeue(tx, job, verdict, next_route(job, parts) if verdict.moves_on else None))
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


def next_route(job: Row, parts: Parts) -> Route | None:
    """To whom it goes on; None: there is nobody else."""
    return next(iter(routes_of(job, parts)[1:]), None)


async def requeue(
    tx: Transaction, job: Row, verdict: decide.Requeue, to: Route | None = None, *, costs_a_try: bool = True
) -> None:
    """Back to `queued` for the next attempt, perhaps by another provider; the hold stays (C1)."""
    changed = await tx.conn.fetchval(
        """
        update jobs set stage = 'queued', provider = coalesce($4, provider), endpoint = coalesce($5, endpoint),
            tries = case when $6 then tries else greatest(tries - 1, 0) end
        where id = $1 and attempt = $2 and stage = $3 returning true
        """,
        job["id"],
        job["attempt"],
        job["stage"],
        to.provider if to else None,
        to.endpoint if to else None,
        costs_a_try,
    )
    if not changed:
        return
    await progress.clear(tx.conn, job["id"])
    await tx.conn.execute(
        """
        update job_work set slot = false, blocked = null, looks = 0, heard_at = null, cancel_sent_at = null,
            look_at = now() + make_interval(secs => $2), provider = coalesce($3, provider)
        where job_id = $1
        """,
        job["id"],
        verdict.delay_s,
        to.provider if to else None,
    )
    await attempts.set_state(
        tx.conn,
        job["id"],
        job["attempt"],
        verdict.attempt_state,
        failure=verdict.failure,
        ended=verdict.attempt_state != "abandoned",
    )
    step, detail = "requeued", {"why": verdict.why}
    if to is not None:
        step, detail = "moved_on", {**detail, "from": job["provider"], "to": to.provider}
    await trace.write(tx.conn, [trace.Step(job["id"], job["attempt"], step, detail=detail)])
    tx.touch(job["project_id"])
