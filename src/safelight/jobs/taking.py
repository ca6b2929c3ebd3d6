"""Taking submits: job, hold and queue task in one transaction (J1, C1), shared by those that come together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from safelight.credits import ledger
from safelight.db import task_queue
from safelight.db.group_commit import GroupCommit
from safelight.db.pool import Conn, Database, Row, Transaction
from safelight.jobs.errors import InvalidSubmission
from safelight.jobs.starts import start_key
from safelight.jobs.submission import Complete, Fingerprint, Submission
from safelight.library import placing
from safelight.library.errors import LibraryError
from safelight.providers.abridged import abridged

TAKEN_MAX: Final = 64
"""Submits in one transaction: their wallets stay locked until it commits."""
ALONE_BYTES: Final = 64 * 1024
"""A submit that is larger goes alone, so that a transaction's statement stays small."""
ORIGIN_LENGTH_MAX: Final = 100


class CameBefore(Exception):
    """The id or the key is taken already."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A submit that was checked and waits to become a job."""

    project_id: UUID
    job_id: UUID
    submission: Submission
    whole: Complete
    fingerprint: Fingerprint
    idempotency_key: str | None
    origin: str | None
    """The client instance that asked: one for all entries of a transaction, so others do not share it."""
    actor: str
    now: datetime


def group(db: Database) -> GroupCommit[Draft, tuple[Row, int]]:
    """What takes drafts: each becomes its job's row and the seq it can be seen at.

    Raises CameBefore, InvalidSubmission, InsufficientCredits or LedgerError; then nothing was written for it.
    """
    return GroupCommit(db, take, batch_max=TAKEN_MAX, alike=_company)


def _company(draft: Draft) -> tuple[str | None, UUID | None]:
    return draft.origin, draft.job_id if draft.fingerprint.size > ALONE_BYTES else None


async def take(tx: Transaction, drafts: Sequence[Draft]) -> list[tuple[Row, int]]:
    """Make all of these jobs, or raise."""
    conn = tx.conn
    await mark_origin(conn, drafts[0].origin)
    for draft in drafts:
        await _check_references(conn, draft.project_id, draft.submission)
    await _keep_keys(conn, [draft for draft in drafts if draft.idempotency_key is not None])
    rows = await conn.fetch(_INSERT, [_record(draft) for draft in drafts])
    jobs = {row["id"]: row for row in rows}
    if len(jobs) < len(drafts):
        raise CameBefore
    await task_queue.enqueue(
        conn, [task_queue.Task("advance", draft.job_id.bytes, draft.submission.priority) for draft in drafts]
    )
    # Last, because nobody can wait for a job that is not there yet, and many wait for the wallet.
    holds = [ledger.Hold(draft.project_id, draft.job_id, draft.whole.quoted) for draft in drafts]
    heads = await ledger.hold_new(conn, holds)
    tx.touch(*heads)
    return [(jobs[draft.job_id], heads[draft.project_id]) for draft in drafts]


async def mark_origin(conn: Conn, origin: str | None) -> None:
    """Say in the change log which client caused what follows in this transaction."""
    if origin:
        await conn.execute("select set_config('safelight.origin', $1, true)", origin[:ORIGIN_LENGTH_MAX])


_INSERT: Final = """
    with given as (
        select * from jsonb_to_recordset($1::jsonb) as t (id uuid, project_id uuid, model text, provider text,
            endpoint text, kind text, input jsonb, n int, target jsonb, template text, variables jsonb,
            start text, quoted bigint, priority int, tags text[], metadata jsonb, webhook_url text,
            deadline_at timestamptz, request_hash bytea, created_by text, created_at timestamptz, pinned boolean,
            whole jsonb)
    ), made as (
        insert into jobs (id, project_id, model, provider, endpoint, kind, input, n, target, template, variables, start,
            quoted, priority, tags, metadata, webhook_url, deadline_at, request_hash, created_by, created_at,
            pinned, left_out)
        select id, project_id, model, provider, endpoint, kind, input, n, target, template, variables, start,
            quoted, priority, tags, metadata, webhook_url, deadline_at, request_hash, created_by, created_at,
            pinned, case when whole is null then '{}' else array['input'] end
        from given
        on conflict (id) do nothing returning *
    ), kept as (
        insert into job_inputs (job_id, input) select g.id, g.whole from given g join made using (id)
        where g.whole is not null
    ), worked as (
        insert into job_work (job_id, project_id, provider, priority, look_at)
        select id, project_id, provider, priority, now() from made
    ), traced as (
        insert into job_trace (job_id, step) select id, 'submitted' from made
    )
    select * from made
"""


def _record(draft: Draft) -> dict[str, Any]:
    submission, whole = draft.submission, draft.whole
    shown = abridged(whole.input)
    return {
        "id": draft.job_id,
        "project_id": draft.project_id,
        "model": whole.model.id,
        "provider": whole.provider,
        "endpoint": whole.endpoint,
        "kind": whole.model.kind,
        "input": whole.input if shown is None else shown,
        "whole": None if shown is None else whole.input,
        "n": submission.n,
        "target": submission.target,
        "template": submission.template,
        "variables": submission.variables,
        "start": submission.start,
        "quoted": whole.quoted,
        "priority": submission.priority,
        "tags": submission.tags,
        "metadata": submission.metadata,
        "webhook_url": submission.webhook_url,
        "deadline_at": draft.now + whole.deadline,
        "request_hash": "\\x" + draft.fingerprint.digest.hex(),
        "created_by": draft.actor,
        "created_at": draft.now,
        "pinned": submission.provider is not None,
    }


async def _keep_keys(conn: Conn, drafts: Sequence[Draft]) -> None:
    if not drafts:
        return
    fresh = await conn.fetch(
        """
        insert into idempotency_keys (project_id, key, job_id, request_hash)
        select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::bytea[])
        on conflict do nothing returning true
        """,
        [draft.project_id for draft in drafts],
        [draft.idempotency_key for draft in drafts],
        [draft.job_id for draft in drafts],
        [draft.fingerprint.digest for draft in drafts],
    )
    if len(fresh) < len(drafts):
        raise CameBefore


async def _check_references(conn: Conn, project_id: UUID, submission: Submission) -> None:
    """A target or start image that is not there is said now, not after the provider was paid."""
    errors: list[dict[str, Any]] = []
    if submission.target is not None:
        try:
            await placing.check_target(conn, project_id, submission.target)
        except LibraryError as error:
            errors.append({"loc": ["body", "target"], "msg": error.detail, "type": error.code})
    if submission.start is not None and await start_key(conn, project_id, submission.start) is None:
        said = "There is no such upload or generation in this project"
        errors.append({"loc": ["body", "start"], "msg": said, "type": "not_found"})
    if errors:
        raise InvalidSubmission(errors)
