"""Attempts: one row per request to a provider, made before the provider is called (P8)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from safelight.db.pool import Conn, Row
from safelight.providers.base import Failure, Output, StoredFile, Succeeded, TaskRef

TOKEN_BYTES = 24
"""Of the secret in the webhook's path: 192 bits."""


@dataclass(frozen=True, slots=True)
class NewAttempt:
    id: UUID
    number: int
    token: str


def hash_token(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def token_fits(token: str, token_hash: bytes) -> bool:
    return hmac.compare_digest(hash_token(token), token_hash)


async def begin(conn: Conn, job: Row, attempt_id: UUID) -> NewAttempt | None:
    """Make the next attempt of a queued job and move it to `submitting`; None if the job has moved on.

    A refused attempt is taken again: the provider never had that one. The caller gives up the transaction on None.
    """
    token = secrets.token_urlsafe(TOKEN_BYTES)
    if job["attempt_state"] == "refused":
        begun = NewAttempt(job["attempt_id"], job["attempt"], token)
        await conn.execute(
            "update attempts set state = 'sending', token_hash = $2, sent_at = now() where id = $1",
            begun.id,
            hash_token(token),
        )
    else:
        begun = NewAttempt(attempt_id, job["attempt"] + 1, token)
        await conn.execute(
            """
            insert into attempts (id, job_id, project_id, number, provider, endpoint, token_hash)
            values ($1, $2, $3, $4, $5, $6, $7)
            """,
            begun.id,
            job["id"],
            job["project_id"],
            begun.number,
            job["provider"],
            job["endpoint"],
            hash_token(token),
        )
    moved = await conn.fetchval(
        """
        with moved as (
            update jobs set stage = 'submitting', attempt = $2, tries = tries + 1,
                submitted_at = coalesce(submitted_at, now())
            where id = $1 and stage = 'queued' and cancel_requested_at is null returning id
        )
        insert into job_trace (job_id, attempt, step) select id, $2, 'sending' from moved returning true
        """,
        job["id"],
        begun.number,
    )
    return begun if moved else None


async def take_answer(
    conn: Conn, job_id: UUID, number: int, ref: TaskRef, *, look_at: datetime, may_let_go: bool
) -> tuple[bool, bool]:
    """The provider accepted: note it, schedule the first look, and let go of the lease unless a hint came meanwhile.

    Returns whether the job was still waiting for this answer, and whether the lease was let go.
    """
    row = await conn.fetchrow(
        """
        with noted as (
            update attempts set task_id = coalesce(task_id, $3), handle = coalesce(nullif($4::jsonb, '{}'), handle),
                accepted_at = coalesce(accepted_at, now()),
                state = case when state in ('sending', 'unknown') then 'accepted' else state end
            where job_id = $1 and number = $2
        ), traced as (
            insert into job_trace (job_id, attempt, step, detail)
            values ($1, $2, 'accepted', jsonb_build_object('task', $3::text))
        ), moved as (
            update jobs set stage = 'submitted'
            where id = $1 and attempt = $2 and stage in ('submitting', 'unknown') returning id
        ), scheduled as (
            update job_work w set look_at = case when poked then now() else $5 end,
                lease_by = case when poked or not $6 then lease_by end,
                lease_until = case when poked or not $6 then lease_until end
            from moved where w.job_id = moved.id
            returning w.lease_by is null as let_go
        )
        select exists (select from moved) as moved, coalesce((select let_go from scheduled), false) as let_go
        """,
        job_id,
        number,
        ref.task_id,
        ref.handle,
        look_at,
        may_let_go,
    )
    assert row is not None
    return row["moved"], row["let_go"]


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


async def record_late_cost(conn: Conn, attempt_id: UUID, state: str, cost: Any) -> None:
    """An attempt that the job no longer waits for has ended after all: what it cost is known (providers.md §7.3)."""
    await conn.execute(
        """
        update attempts set state = $2, cost = coalesce($3::jsonb, cost), ended_at = now()
        where id = $1 and state in ('abandoned', 'unknown', 'sending', 'accepted')
        """,
        attempt_id,
        state,
        cost,
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
