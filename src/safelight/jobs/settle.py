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
from safelight.db.pool import Row, Transaction
from safelight.jobs import trace, work
from safelight.jobs.lifecycle import Stage, sources
from safelight.library import placing
from safelight.providers.base import Failure

PROMPT_LENGTH_MAX: Final = 5000
_MAY_COMPLETE: Final = [stage.value for stage in sources(Stage.COMPLETED)]


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
    rows = await conn.fetch("select * from settle_lock($1, $2)", job_ids, _MAY_COMPLETE)
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
    spent_s = max(0.0, (now - job["began_at"]).total_seconds())
    return Completed(job["id"], True, job["project_id"], job["provider"], job["endpoint"], spent_s)


def charge(job: Row, made: int) -> int:
    """What is charged for `made` outputs of the `n` that were quoted: never more than the quote."""
    return job["quoted"] * min(made, job["n"]) // job["n"]


async def _complete(tx: Transaction, jobs: Sequence[Row], by_job: dict[UUID, Result], now: datetime) -> None:
    conn = tx.conn
    made = [
        (job, index, generation_id(job["id"], index), output)
        for job in jobs
        for index, output in enumerate(by_job[job["id"]].outputs)
    ]
    steps = [step for job in jobs for step in by_job[job["id"]].steps]
    refused = await conn.fetch(
        "select * from settle_complete($1, $2, $3, $4)",
        [_done(job, by_job[job["id"]]) for job in jobs],
        [_generation(job, index, identity, output) for job, index, identity, output in made],
        steps,
        now,
    )
    if refused:
        raise ledger.SettlementRefused({row["job_id"]: row["reason"] for row in refused})
    placements = [
        placing.Placement(job["project_id"], job["target"], identity)
        for job, index, identity, _ in made
        if job["target"] and (index == 0 or "shot_id" in job["target"])
    ]
    if placements:
        await placing.place(tx, placements)
    await task_queue.enqueue(
        conn, [task_queue.Task("derive", identity.bytes, -10) for _, _, identity, output in made if output.needs_large]
    )
    tx.touch(*(job["project_id"] for job in jobs))


def _done(job: Row, result: Result) -> dict[str, Any]:
    return {
        "id": job["id"],
        "project_id": job["project_id"],
        "attempt": result.attempt,
        "round": job["round"],
        "charged": charge(job, len(result.outputs)),
        "cost": result.cost,
    }


def _generation(job: Row, index: int, identity: UUID, output: StoredOutput) -> dict[str, Any]:
    return {
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
        "prompt": shown_prompt(job["prompt"]),
        "model": job["model"],
    }


def shown_prompt(prompt: Any) -> str | None:
    """What a person would search for: the prompt, where the model has one that is a text."""
    return prompt[:PROMPT_LENGTH_MAX] if isinstance(prompt, str) else None


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
