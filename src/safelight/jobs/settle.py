"""The one transaction that ends a job (C1): results, charge and completion together, or failure and release.

Array statements, so that fifty results that land in the same moment cost one commit. Lock order, here as
everywhere: wallets -> jobs -> change-log heads.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from safelight.credits import ledger
from safelight.db import task_queue
from safelight.db.pool import Conn, Row, Transaction
from safelight.jobs import trace, work
from safelight.jobs.lifecycle import Stage, sources
from safelight.library import placing
from safelight.providers.base import Failure

_MAY_COMPLETE = [stage.value for stage in sources(Stage.COMPLETED)]


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """One result that is in our storage, ready to become a generation."""

    kind: str
    mime: str
    bytes: int
    files: dict[str, Any]
    """Storage keys: {original, poster, thumbs: {"256": …}}."""
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    sha256: bytes | None = None
    thumbhash: str | None = None
    meta: dict[str, Any] = field(default_factory=dict[str, Any])
    needs_large: bool = False
    """Larger derivatives come later, as an ordinary change (M2)."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished attempt and what it made."""

    job_id: UUID
    attempt: int
    outputs: Sequence[StoredOutput]
    cost: Any = None
    steps: Sequence[trace.Step] = ()


@dataclass(frozen=True, slots=True)
class Completed:
    """What became of a result. `is_ours` is false where the job had ended, or another attempt is its current one."""

    job_id: UUID
    is_ours: bool
    project_id: UUID | None = None
    provider: str | None = None
    endpoint: str | None = None
    spent_s: float | None = None


def generation_id(job_id: UUID, output_index: int) -> UUID:
    """The tile's id, known before the result: uuid5 of the job's id and the output's index (api.md, Library)."""
    return uuid.uuid5(job_id, str(output_index))


async def settle_many(tx: Transaction, results: Sequence[Result], now: datetime) -> list[Completed]:
    """Complete these jobs. A result that comes too late, or again, changes nothing and says so."""
    conn = tx.conn
    by_job = {result.job_id: result for result in results}
    job_ids = sorted(by_job)
    await ledger.lock_wallets_of_jobs(conn, job_ids)
    rows = await conn.fetch(
        """
        select j.*, a.accepted_at, a.sent_at from jobs j join attempts a on a.job_id = j.id and a.number = j.attempt
        where j.id = any ($1::uuid[]) and j.stage = any ($2::text[])
        order by j.id for no key update of j
        """,
        job_ids,
        _MAY_COMPLETE,
    )
    jobs = {row["id"]: row for row in rows if by_job[row["id"]].attempt == row["attempt"]}
    if jobs:
        targets = [job["target"] for job in jobs.values() if job["target"]]
        if targets:
            await placing.lock_targets(conn, targets)
        await _complete(tx, list(jobs.values()), by_job, now)
    return [
        _completed(jobs[result.job_id], now) if result.job_id in jobs else Completed(result.job_id, False)
        for result in results
    ]


def _completed(job: Row, now: datetime) -> Completed:
    began_at = job["accepted_at"] or job["sent_at"]
    spent_s = max(0.0, (now - began_at).total_seconds())
    return Completed(job["id"], True, job["project_id"], job["provider"], job["endpoint"], spent_s)


def charge(job: Row, made: int) -> int:
    """What is charged for `made` outputs of the `n` that were quoted: never more than the quote."""
    return job["quoted"] * min(made, job["n"]) // job["n"]


async def _complete(tx: Transaction, jobs: Sequence[Row], by_job: dict[UUID, Result], now: datetime) -> None:
    conn = tx.conn
    charges = {job["id"]: charge(job, len(by_job[job["id"]].outputs)) for job in jobs}
    await ledger.capture_many(
        conn, [ledger.Capture(job["project_id"], job["id"], job["round"], charges[job["id"]]) for job in jobs]
    )
    made = [
        (job, index, generation_id(job["id"], index), output)
        for job in jobs
        for index, output in enumerate(by_job[job["id"]].outputs)
    ]
    await _insert_generations(conn, made, now)
    placements = [
        placing.Placement(job["project_id"], job["target"], identity)
        for job, index, identity, _ in made
        if job["target"] and (index == 0 or "shot_id" in job["target"])
    ]
    if placements:
        await placing.place(tx, placements)
    steps = [step for job in jobs for step in by_job[job["id"]].steps]
    await conn.execute(
        _COMPLETE,
        [job["id"] for job in jobs],
        [by_job[job["id"]].attempt for job in jobs],
        [charges[job["id"]] for job in jobs],
        [by_job[job["id"]].cost for job in jobs],
        now,
        [step.job_id for step in steps],
        [step.attempt for step in steps],
        [step.step for step in steps],
        [step.at for step in steps],
        [step.detail for step in steps],
    )
    await task_queue.enqueue(
        conn, [task_queue.Task("derive", identity.bytes, -10) for _, _, identity, output in made if output.needs_large]
    )
    tx.touch(*(job["project_id"] for job in jobs))


_COMPLETE: Final = """
    with done as (
        select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::jsonb[]) as t (id, attempt, charged, cost)
    ), ended as (
        update jobs j set stage = 'completed', charged = done.charged, completed_at = $5,
            generations = (select array_agg(g.id order by g.output_index) from generations g where g.job_id = j.id)
        from done where j.id = done.id
    ), answered as (
        update attempts a set state = 'succeeded', ended_at = $5, cost = coalesce(done.cost, a.cost)
        from done where a.job_id = done.id and a.number = done.attempt
    ), worked as (
        delete from job_work w using done where w.job_id = done.id
    ), progressed as (
        delete from job_progress p using done where p.job_id = done.id
    )
    insert into job_trace (job_id, attempt, step, at, detail)
    select job_id, attempt, step, coalesce(at, clock_timestamp()), detail
    from unnest($6::uuid[], $7::int[], $8::text[], $9::timestamptz[], $10::jsonb[])
        as t (job_id, attempt, step, at, detail)
    union all select id, attempt, 'committed', clock_timestamp(), null from done
"""


async def _insert_generations(conn: Conn, made: Sequence[tuple[Row, int, UUID, StoredOutput]], now: datetime) -> None:
    records = [
        {
            "id": identity,
            "project_id": job["project_id"],
            "job_id": job["id"],
            "output_index": index,
            "kind": output.kind,
            "mime": output.mime,
            "width": output.width,
            "height": output.height,
            "duration_s": output.duration_s,
            "bytes": output.bytes,
            "sha256": None if output.sha256 is None else "\\x" + output.sha256.hex(),
            "thumbhash": output.thumbhash,
            "files": output.files,
            "meta": output.meta,
            "prompt": prompt_of(job["input"]),
            "model": job["model"],
            "created_at": now,
        }
        for job, index, identity, output in made
    ]
    await conn.execute(
        """
        insert into generations (id, project_id, job_id, output_index, kind, mime, width, height, duration_s, bytes,
            sha256, thumbhash, files, meta, prompt, model, created_at)
        select id, project_id, job_id, output_index, kind, mime, width, height, duration_s, bytes,
            sha256, thumbhash, files, meta, prompt, model, created_at
        from jsonb_to_recordset($1::jsonb) as t (id uuid, project_id uuid, job_id uuid, output_index int, kind text,
            mime text, width int, height int, duration_s real, bytes bigint, sha256 bytea, thumbhash text, files jsonb,
            meta jsonb, prompt text, model text, created_at timestamptz)
        """,
        records,
    )


def prompt_of(job_input: dict[str, Any]) -> str | None:
    """What a person would search for: the prompt, where the model has one."""
    prompt = job_input.get("prompt")
    return prompt[:5000] if isinstance(prompt, str) else None


async def end(
    tx: Transaction,
    job_id: UUID,
    stage: Stage,
    *,
    attempt: int | None,
    failure: Failure | None = None,
    error: dict[str, Any] | None = None,
    attempt_state: str = "failed",
    now: datetime,
) -> Row | None:
    """End a job without a result: its hold goes back in the same transaction (C1).

    None where the job has moved on (another stage or attempt): then nothing was changed.
    """
    conn = tx.conn
    project_id = await conn.fetchval("select project_id from jobs where id = $1", job_id)
    if project_id is None:
        return None
    await ledger.lock_wallets(conn, [project_id])
    job = await conn.fetchrow(
        """
        update jobs set stage = $2, error = $3::jsonb, completed_at = $4
        where id = $1 and stage = any ($5::text[]) and ($6::int is null or attempt = $6)
        returning *
        """,
        job_id,
        stage.value,
        error,
        now,
        [source.value for source in sources(stage)],
        attempt,
    )
    if job is None:
        return None
    await ledger.release_many(conn, [ledger.Release(project_id, job_id, job["round"])])
    await conn.execute(
        """
        update attempts set state = $3, failure = $4::jsonb,
            ended_at = case when $3 = 'abandoned' then null else $5::timestamptz end
        where job_id = $1 and number = $2 and state not in ('succeeded', 'failed', 'canceled')
        """,
        job_id,
        job["attempt"],
        attempt_state,
        None if failure is None else msgspec.to_builtins(failure),
        now,
    )
    await work.finish(conn, [job_id])
    detail = None if failure is None else {"code": failure.code, "message": failure.message}
    await trace.write(conn, [trace.Step(job_id, job["attempt"], stage.value, detail=detail)])
    tx.touch(project_id)
    return job
