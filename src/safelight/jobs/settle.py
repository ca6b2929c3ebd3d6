"""The one transaction that ends a job (C1): results, charge and completion together, or failure and release.

Array statements, so that fifty results that land in the same moment cost one commit. Lock order, here as
everywhere: wallets → jobs → job_work → attempts → change-log heads.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from safelight.credits import ledger
from safelight.db import task_queue
from safelight.db.pool import Conn, Row, Transaction
from safelight.jobs import trace, work
from safelight.jobs.lifecycle import Stage, sources
from safelight.library import placing
from safelight.providers.base import Failure

_REFUSED: Final = "SL003"
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
    has_target: bool = True
    """Whether the results are to be placed somewhere, as far as is known."""


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
    """Complete these jobs. A result that comes too late, or again, changes nothing and says so.

    Raises SettlementRefused where a charge cannot be made; then nothing of this transaction may be committed.
    """
    conn = tx.conn
    locked = await conn.fetch(
        "select target from settle_lock($1, $2)", sorted({result.job_id for result in results}), _MAY_COMPLETE
    )
    if targets := [row["target"] for row in locked if row["target"]]:
        await placing.lock_targets(conn, targets)
    done = await _settle(conn, results, now, with_targets=True)
    placements = [
        placing.Placement(done[result.job_id]["project_id"], target, generation_id(result.job_id, index))
        for result in results
        if result.job_id in done and (target := done[result.job_id]["target"])
        for index in range(len(result.outputs) if "shot_id" in target else 1)
    ]
    if placements:
        await placing.place(tx, placements)
    await task_queue.enqueue(
        conn,
        [
            task_queue.Task("derive", generation_id(result.job_id, index).bytes, -10)
            for result in results
            if result.job_id in done
            for index, output in enumerate(result.outputs)
            if output.needs_large
        ],
    )
    tx.touch(*(row["project_id"] for row in done.values()))
    return _completed(results, done, now)


async def settle_at_once(
    tx: Transaction, results: Sequence[Result], now: datetime, inbox: Sequence[int] = ()
) -> list[Completed]:
    """As `settle_many` in a single statement, for results that need no large derivatives; notes the webhooks too.

    Jobs with a target are left as they are: they too are told not to be ours, and want `settle_many`.
    """
    done = await _settle(tx.conn, results, now, inbox=inbox)
    tx.touch(*(row["project_id"] for row in done.values()))
    return _completed(results, done, now)


async def _settle(
    conn: Conn, results: Sequence[Result], now: datetime, *, with_targets: bool = False, inbox: Sequence[int] = ()
) -> dict[UUID, Row]:
    try:
        rows = await conn.fetch(
            "select * from settle($1, $2, $3, $4, $5, $6)",
            [_told(result) for result in results],
            [step for result in results for step in result.steps],
            list(inbox),
            _MAY_COMPLETE,
            with_targets,
            now,
        )
    except asyncpg.PostgresError as error:
        said: Any = error  # asyncpg gives an error its fields as it makes it
        if said.sqlstate != _REFUSED:
            raise
        refused = msgspec.json.decode(said.detail, type=dict[str, str])
        raise ledger.SettlementRefused({UUID(job_id): reason for job_id, reason in refused.items()}) from None
    return {row["id"]: row for row in rows}


def _completed(results: Sequence[Result], done: Mapping[UUID, Row], now: datetime) -> list[Completed]:
    return [
        Completed(
            result.job_id,
            True,
            job["project_id"],
            job["provider"],
            job["endpoint"],
            max(0.0, (now - job["began_at"]).total_seconds()),
        )
        if (job := done.get(result.job_id))
        else Completed(result.job_id, False)
        for result in results
    ]


def _told(result: Result) -> dict[str, Any]:
    return {
        "job_id": result.job_id,
        "attempt": result.attempt,
        "cost": result.cost,
        "outputs": [
            {
                "id": generation_id(result.job_id, index),
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
            }
            for index, output in enumerate(result.outputs)
        ],
    }


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
    await work.finish(conn, [job_id])
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
    detail = None if failure is None else {"code": failure.code, "message": failure.message}
    await trace.write(conn, [trace.Step(job_id, job["attempt"], stage.value, detail=detail)])
    tx.touch(project_id)
    return job
