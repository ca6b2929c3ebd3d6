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


async def begin(conn: Conn, job: Row, attempt_id: UUID) -> NewAttempt:
    """Make the next attempt of a queued job, or take a refused one again: the provider never had that one."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    if job["attempt_state"] == "refused":
        await conn.execute(
            "update attempts set state = 'sending', token_hash = $2, sent_at = now() where id = $1",
            job["attempt_id"],
            hash_token(token),
        )
        return NewAttempt(job["attempt_id"], job["attempt"], token)
    number = job["attempt"] + 1
    await conn.execute(
        """
        insert into attempts (id, job_id, project_id, number, provider, endpoint, token_hash)
        values ($1, $2, $3, $4, $5, $6, $7)
        """,
        attempt_id,
        job["id"],
        job["project_id"],
        number,
        job["provider"],
        job["endpoint"],
        hash_token(token),
    )
    return NewAttempt(attempt_id, number, token)


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
