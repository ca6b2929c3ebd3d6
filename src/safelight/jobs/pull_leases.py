"""Leases on pull workers' tasks: who gets which, and the proof of holding one (P3)."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from safelight.db.pool import Conn, Row, Transaction
from safelight.jobs import trace, work
from safelight.jobs.errors import JobConflict

CANDIDATES: Final = 16
"""Looked at by one claim: as many workers may ask in the same moment without asking again."""
PATIENCE: Final = timedelta(minutes=2)
"""A job of another model than the loaded one is passed over for so long at most; loading takes about as long."""
CLAIMS_TRACED: Final = 50
"""Of one attempt: a worker that claims and gives back in a circle must not fill the trace."""
OPEN: Final = ("submitting", "unknown", "submitted", "running")
"""Stages in which a job still wants its attempt's result."""
ENDED_LEASE: Final = "This lease has ended, or never was: the job is another worker's now, or has ended."


@dataclass(frozen=True, slots=True)
class Wish:
    """What a worker asks for. `project` None: of any project. `claim_id` names the asking: again is the same."""

    project: UUID | None
    models: Sequence[str]
    loaded: str | None
    worker: str
    lease_s: float
    claim_id: str


@dataclass(frozen=True, slots=True)
class Lease:
    """A task in a worker's hands. `token` proves it."""

    token: str
    attempt_id: UUID
    job_id: UUID
    project_id: UUID
    number: int
    model: str
    until: datetime


async def held(conn: Conn, job_id: UUID, token: str) -> Row:
    """The task that this token holds, locked, with what is known of its job. Raises JobConflict."""
    row = await conn.fetchrow(
        """
        select t.*, j.stage, j.kind, j.n, j.cancel_requested_at, j.deadline_at, j.provider
        from pull_tasks t join jobs j on j.id = t.job_id
        where t.job_id = $1 and t.lease_hash = $2 and t.state = 'leased' and t.leased_until > now()
          and j.attempt = t.number and j.stage = any ($3::text[])
        for no key update of t
        """,
        job_id,
        hash_of(token),
        list(OPEN),
    )
    if row is None:
        raise JobConflict(ENDED_LEASE)
    return row


@dataclass(frozen=True, slots=True)
class Again:
    """Others took what was there, or it was not wanted any more: look once more."""


async def claim(tx: Transaction, wish: Wish) -> Lease | Again | None:
    conn = tx.conn
    claim_hash = hash_of(wish.claim_id)
    # The same claim, asked again while the first asking is under way, waits for what that one gets.
    await conn.execute("select pg_advisory_xact_lock(23043, hashtext($1))", wish.claim_id)
    known = await conn.fetchrow("select * from pull_tasks where claim_hash = $1", claim_hash)
    if known is not None:
        is_live = known["state"] == "leased" and known["leased_until"] > await conn.fetchval("select now()")
        return _lease(known, wish) if is_live else None
    candidates = await conn.fetch(
        "select * from pull_candidates($1, $2, $3, $4, $5) as c (attempt_id)",
        wish.project,
        list(wish.models),
        wish.loaded,
        PATIENCE,
        CANDIDATES,
    )
    if not candidates:
        return None
    task = await conn.fetchrow(
        """
        select * from pull_tasks where attempt_id = any ($1::uuid[]) and state = 'waiting'
        order by array_position($1, attempt_id) limit 1 for no key update skip locked
        """,
        [row["attempt_id"] for row in candidates],
    )
    if task is None:
        return Again()
    is_wanted = await conn.fetchval(
        """
        select true from jobs where id = $1 and attempt = $2 and stage = any ($3::text[])
          and cancel_requested_at is null and deadline_at > now()
        """,
        task["job_id"],
        task["number"],
        list(OPEN),
    )
    if not is_wanted:
        await conn.execute(
            "update pull_tasks set state = 'canceled', ended_at = now() where attempt_id = $1", task["attempt_id"]
        )
        await work.look_now(conn, [task["job_id"]])
        return Again()
    token = token_of(wish.claim_id, task["attempt_id"])
    leased = await conn.fetchrow(
        """
        update pull_tasks set state = 'leased', worker = $2, lease_hash = $3, claim_hash = $4, lease_s = $5,
            claims = claims + 1, leased_until = now() + make_interval(secs => $5)
        where attempt_id = $1 returning *
        """,
        task["attempt_id"],
        wish.worker,
        hash_of(token),
        claim_hash,
        wish.lease_s,
    )
    assert leased is not None
    if wish.project is None:
        await conn.execute(
            """
            insert into pull_turns (project_id, turn_at) values ($1, clock_timestamp())
            on conflict (project_id) do update set turn_at = excluded.turn_at
            """,
            task["project_id"],
        )
    # Before its attempt: whoever offered it notes that at this very moment, and locks them in this order too.
    await work.look_now(conn, [task["job_id"]])
    # From here on it is being made: what is learnt of durations, and shown as the time left, begins now.
    await conn.execute(
        """
        update attempts set task_id = coalesce(task_id, id::text), sent_at = now(), accepted_at = now(),
            state = case when state in ('sending', 'unknown') then 'accepted' else state end
        where id = $1
        """,
        task["attempt_id"],
    )
    if leased["claims"] <= CLAIMS_TRACED:
        await trace.write(conn, [trace.Step(task["job_id"], task["number"], "claimed", detail={"worker": wish.worker})])
    return _lease(leased, wish)


def _lease(row: Row, wish: Wish) -> Lease:
    return Lease(
        token_of(wish.claim_id, row["attempt_id"]),
        row["attempt_id"],
        row["job_id"],
        row["project_id"],
        row["number"],
        row["model"],
        row["leased_until"],
    )


def hash_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def token_of(claim_id: str, attempt_id: UUID) -> str:
    """From the claim's own id, which only its worker knows: so an answer that was lost can be given again."""
    return urlsafe_b64encode(hashlib.sha256(f"lease {claim_id} {attempt_id}".encode()).digest()).decode().rstrip("=")
