"""Attempts: one row per request to a provider, made before the provider is called (P8)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import uuid_utils.compat as uuid7s

from safelight.db.pool import Conn, Row
from safelight.providers.base import Failure, Output, StoredFile, Succeeded, TaskRef

TOKEN_BYTES = 24
"""Of the secret in the webhook's path: 192 bits."""


@dataclass(frozen=True, slots=True)
class NewAttempt:
    id: UUID
    number: int
    token: str
    sent_at: datetime
    """By the database's clock, as everything it is compared with."""


def hash_token(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def token_fits(token: str, token_hash: bytes) -> bool:
    return hmac.compare_digest(hash_token(token), token_hash)


async def begin(conn: Conn, jobs: Sequence[Row]) -> list[NewAttempt | None]:
    """Make the next attempt of queued jobs and move them to `submitting`; None for a job that has moved on.

    Sent to the provider that the given row names. A refused attempt is taken again, unless the job goes to another
    provider now: this one never had it. The caller gives up the transaction on any None.
    """
    begun = [_next_attempt(job) for job in jobs]
    moved = await conn.fetch(
        """
        with given as (
            select * from unnest($1::uuid[], $2::uuid[], $3::int[], $4::bytea[], $5::text[], $6::text[])
                as g (job_id, id, number, token_hash, provider, endpoint)
        ), again as (
            update attempts a set state = 'sending', token_hash = g.token_hash, sent_at = now()
            from given g where a.id = g.id
        ), moved as (
            update jobs j set stage = 'submitting', attempt = g.number, tries = tries + 1,
                provider = g.provider, endpoint = g.endpoint, submitted_at = coalesce(submitted_at, now())
            from given g where j.id = g.job_id and stage = 'queued' and cancel_requested_at is null
            returning j.id, j.project_id, j.provider, j.endpoint
        ), made as (
            insert into attempts (id, job_id, project_id, number, provider, endpoint, token_hash)
            select g.id, m.id, m.project_id, g.number, m.provider, m.endpoint, g.token_hash
            from moved m join given g on g.job_id = m.id
            where not exists (select from attempts a where a.id = g.id)
        ), traced as (
            insert into job_trace (job_id, attempt, step, detail)
            select g.job_id, g.number, 'sending', jsonb_build_object('provider', g.provider)
            from moved m join given g on g.job_id = m.id
        )
        select id, now() as at from moved
        """,
        [job["id"] for job in jobs],
        [each.id for each in begun],
        [each.number for each in begun],
        [hash_token(each.token) for each in begun],
        [job["provider"] for job in jobs],
        [job["endpoint"] for job in jobs],
    )
    sent_at = {row["id"]: row["at"] for row in moved}
    return [
        NewAttempt(each.id, each.number, each.token, sent_at[job["id"]]) if job["id"] in sent_at else None
        for job, each in zip(jobs, begun, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Named:
    id: UUID
    number: int
    token: str


def _next_attempt(job: Row) -> _Named:
    token = secrets.token_urlsafe(TOKEN_BYTES)
    is_there = (job["attempt_provider"], job["attempt_endpoint"]) == (job["provider"], job["endpoint"])
    if job["attempt_state"] == "refused" and is_there:
        return _Named(job["attempt_id"], job["attempt"], token)
    return _Named(uuid7s.uuid7(), job["attempt"] + 1, token)


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider accepted an attempt. `look_at` is the first look; `may_let_go`: nothing more is to be done now."""

    job_id: UUID
    number: int
    ref: TaskRef
    look_at: datetime
    may_let_go: bool


@dataclass(frozen=True, slots=True)
class Noted:
    """Whether the job was still waiting for this answer, and whether its lease was let go."""

    moved: bool
    let_go: bool
    project_id: UUID | None


async def take_answers(conn: Conn, answers: Sequence[Answer]) -> list[Noted]:
    """Note them, schedule the first looks, and let go of the leases unless a hint came meanwhile.

    Lock order: jobs → job_work → attempts (of parts that nothing reads, PostgreSQL runs the last first).
    """
    rows = await conn.fetch(
        """
        with given as (
            select * from unnest($1::uuid[], $2::int[], $3::text[], $4::jsonb[], $5::timestamptz[], $6::boolean[])
                as g (job_id, number, task_id, handle, look_at, may_let_go)
        ), noted as (
            update attempts a set task_id = coalesce(a.task_id, g.task_id),
                handle = coalesce(nullif(g.handle, '{}'), a.handle), accepted_at = coalesce(accepted_at, now()),
                state = case when state in ('sending', 'unknown') then 'accepted' else state end
            from given g where a.job_id = g.job_id and a.number = g.number
        ), traced as (
            insert into job_trace (job_id, attempt, step, detail)
            select job_id, number, 'accepted', jsonb_build_object('task', task_id) from given
        ), moved as (
            update jobs j set stage = 'submitted' from given g
            where j.id = g.job_id and j.attempt = g.number and j.stage in ('submitting', 'unknown')
            returning j.id, j.project_id
        ), scheduled as (
            update job_work w set look_at = case when poked then now() else g.look_at end,
                lease_by = case when poked or not g.may_let_go then lease_by end,
                lease_until = case when poked or not g.may_let_go then lease_until end
            from moved m join given g on g.job_id = m.id where w.job_id = m.id
            returning w.job_id, w.lease_by is null as let_go
        )
        select m.id, m.project_id, coalesce(s.let_go, false) as let_go
        from moved m left join scheduled s on s.job_id = m.id
        """,
        [each.job_id for each in answers],
        [each.number for each in answers],
        [each.ref.task_id for each in answers],
        [each.ref.handle for each in answers],
        [each.look_at for each in answers],
        [each.may_let_go for each in answers],
    )
    by_job = {row["id"]: Noted(True, row["let_go"], row["project_id"]) for row in rows}
    return [by_job.get(each.job_id, _NOT_MOVED) for each in answers]


_NOT_MOVED = Noted(False, False, None)


async def accepted(conn: Conn, job_id: UUID, number: int, ref: TaskRef) -> None:
    """Note the task's id, whatever became of the job meanwhile: its cost and result must stay findable."""
    await conn.execute(
        """
        update attempts set task_id = coalesce(task_id, $3), handle = coalesce(nullif($4::jsonb, '{}'), handle),
            accepted_at = coalesce(accepted_at, now()),
            state = case when state in ('sending', 'unknown') then 'accepted' else state end
        where job_id = $1 and number = $2
        """,
        job_id,
        number,
        ref.task_id,
        ref.handle,
    )


async def set_state(
    conn: Conn, job_id: UUID, number: int, state: str, *, failure: Failure | None = None, ended: bool = False
) -> None:
    await conn.execute(
        """
        update attempts set state = $3, failure = coalesce($4::jsonb, failure),
            ended_at = case when $5 then now() else ended_at end
        where job_id = $1 and number = $2 and state not in ('succeeded', 'failed', 'canceled')
        """,
        job_id,
        number,
        state,
        None if failure is None else msgspec.to_builtins(failure),
        ended,
    )


async def keep_outputs(conn: Conn, job_id: UUID, number: int, outputs: list[dict[str, Any]], cost: Any) -> None:
    await conn.execute(
        "update attempts set outputs = $3, cost = coalesce($4::jsonb, cost) where job_id = $1 and number = $2",
        job_id,
        number,
        outputs,
        cost,
    )


async def record_late_end(
    conn: Conn, attempt_id: UUID, state: str, cost: Any, outputs: list[dict[str, Any]] | None
) -> None:
    """An attempt that the job no longer waits for has ended after all: what it cost is known (providers.md §7.3).

    What it made is noted as `late`: it belongs to no generation, and nobody is charged for it.
    """
    await conn.execute(
        """
        with ended as (
            update attempts set state = $2, cost = coalesce($3::jsonb, cost), outputs = coalesce($4::jsonb, outputs),
                late = $2 = 'succeeded', ended_at = now()
            where id = $1 and state in ('abandoned', 'unknown', 'sending', 'accepted')
            returning job_id, number, provider, late, cost
        )
        insert into job_trace (job_id, attempt, step, detail)
        select job_id, number, 'late_result', jsonb_build_object('provider', provider, 'cost', cost)
        from ended where late
        """,
        attempt_id,
        state,
        cost,
        outputs,
    )


async def of_job(conn: Conn, job_id: UUID) -> list[Row]:
    """Every attempt, oldest first."""
    return await conn.fetch(
        """
        select number, provider, endpoint, state, task_id, sent_at, accepted_at, ended_at, stop_asked_at, late, failure,
            cost
        from attempts where job_id = $1 order by number
        """,
        job_id,
    )


async def of_webhooks(conn: Conn, attempt_ids: list[UUID]) -> dict[UUID, Row]:
    """What the webhook endpoint must know of these attempts."""
    rows = await conn.fetch(
        "select id, job_id, provider, token_hash from attempts where id = any ($1::uuid[])", attempt_ids
    )
    return {row["id"]: row for row in rows}


def task_ref(job: Row) -> TaskRef | None:
    """The current attempt's task, None while the provider has not named it."""
    if job["task_id"] is None:
        return None
    return TaskRef(job["task_id"], job["endpoint"], job["handle"] or {})


def outputs_to_json(outcome: Succeeded) -> list[dict[str, Any]]:
    """Outputs that can be fetched again later. Raises ValueError for bytes in hand: those must be stored now."""
    kept: list[dict[str, Any]] = []
    for output in outcome.outputs:
        if output.data is not None or output.path is not None:
            raise ValueError("bytes in hand are not kept in the database")
        stored = None if output.stored is None else msgspec.to_builtins(output.stored)
        kept.append({"url": output.url, "mime": output.mime, "meta": output.meta, "stored": stored})
    return kept


def outputs_from_json(kept: list[dict[str, Any]]) -> list[Output]:
    return [
        Output(
            url=each["url"],
            mime=each["mime"],
            meta=each["meta"],
            stored=None if each["stored"] is None else StoredFile(**each["stored"]),
        )
        for each in kept
    ]


def has_bytes_in_hand(outcome: Succeeded) -> bool:
    return any(output.data is not None or output.path is not None for output in outcome.outputs)


def spent_s(accepted_at: datetime | None, ended_at: datetime) -> float | None:
    return None if accepted_at is None else max(0.0, (ended_at - accepted_at).total_seconds())
