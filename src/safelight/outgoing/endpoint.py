"""Endpoints: where a project wants to be told what becomes of its jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from safelight.access import audit
from safelight.db.pool import Conn, Row, Transaction
from safelight.library.page import instant
from safelight.outgoing import secret
from safelight.outgoing.errors import OutgoingError, invalid, not_found
from safelight.outgoing.event import ALL, EVENTS

ENDPOINTS_MAX: Final = 20
"""Of a project: each is one more delivery for every event."""
DESCRIPTION_MAX: Final = 500

Why = Literal["by_hand", "gone", "failing"]
WHY: Final[dict[str, str]] = {
    "by_hand": "It was disabled by hand.",
    "gone": "It answered 410 Gone, which means: never again.",
    "failing": "Every try failed for five days.",
}


@dataclass(frozen=True, slots=True)
class Changes:
    """Of an endpoint; None: as it is."""

    url: str | None = None
    description: str | None = None
    events: Sequence[str] | None = None
    enabled: bool | None = None


def checked_events(events: Sequence[str]) -> list[str]:
    """Each once. Raises OutgoingError `invalid_input`."""
    if not events:
        raise invalid("events", f"name at least one of {', '.join(EVENTS)}, or {ALL}", "missing")
    for name in events:
        if name not in (*EVENTS, ALL):
            raise invalid(
                "events", f"there is no event {name[:100]!r}; there are {', '.join(EVENTS)} and {ALL}", "enum"
            )
    return [ALL] if ALL in events else list(dict.fromkeys(events))


async def create(
    tx: Transaction, project_id: UUID, *, url: str, description: str, events: Sequence[str], actor: str
) -> tuple[Row, bytes]:
    """The endpoint and its salt. `url` was checked. Raises OutgoingError."""
    wanted = checked_events(events)
    # Two who create at once count one after the other.
    await tx.conn.execute("select from projects where id = $1 for no key update", project_id)
    count = await tx.conn.fetchval("select count(*) from webhook_endpoints where project_id = $1", project_id)
    if count >= ENDPOINTS_MAX:
        raise OutgoingError("conflict", f"A project has at most {ENDPOINTS_MAX} webhooks: delete one first.")
    row = await tx.conn.fetchrow(
        "insert into webhook_endpoints (project_id, url, description, events) values ($1, $2, $3, $4) returning *",
        project_id,
        url,
        description,
        wanted,
    )
    assert row is not None
    await audit.record(tx, actor, "webhook.create", project_id, {"webhook": row["id"], "events": wanted})
    return row, await secret.begin(tx, row["id"])


async def of_project(conn: Conn, project_id: UUID) -> list[Row]:
    """Newest first; they are few."""
    return await conn.fetch(
        "select * from webhook_endpoints where project_id = $1 order by created_at desc, id desc limit $2",
        project_id,
        10 * ENDPOINTS_MAX,
    )


async def get(conn: Conn, endpoint_id: UUID) -> Row:
    """The caller checks that its project is open to whoever asks. Raises OutgoingError `not_found`."""
    row = await conn.fetchrow("select * from webhook_endpoints where id = $1", endpoint_id)
    if row is None:
        raise not_found("webhook")
    return row


async def change(tx: Transaction, endpoint_id: UUID, changes: Changes, *, actor: str) -> Row:
    """Enabling forgets its failures; what was stopped stays so, and can be replayed. `url` was checked."""
    row = await _held(tx, endpoint_id)
    events = None if changes.events is None else checked_events(changes.events)
    if changes.enabled is False and row["disabled_at"] is None:
        await disable(tx, endpoint_id, "by_hand")
    changed = await tx.conn.fetchrow(
        """
        update webhook_endpoints set url = coalesce($2, url), description = coalesce($3, description),
            events = coalesce($4, events), updated_at = now(),
            disabled_at = case when $5 then null else disabled_at end,
            disabled_why = case when $5 then null else disabled_why end,
            failing_since = case when $5 then null else failing_since end,
            failures = case when $5 then 0 else failures end
        where id = $1 returning *
        """,
        endpoint_id,
        changes.url,
        changes.description,
        events,
        changes.enabled is True and row["disabled_at"] is not None,
    )
    assert changed is not None
    named = [name for name in ("url", "description", "events", "enabled") if getattr(changes, name) is not None]
    await audit.record(tx, actor, "webhook.change", row["project_id"], {"webhook": endpoint_id, "changed": named})
    return changed


async def delete(tx: Transaction, endpoint_id: UUID, *, actor: str) -> None:
    """Its log stays until it is old."""
    row = await _held(tx, endpoint_id)
    await tx.conn.execute("delete from webhook_endpoints where id = $1", endpoint_id)
    await _stop(tx, endpoint_id, "The webhook was deleted.")
    await audit.record(tx, actor, "webhook.delete", row["project_id"], {"webhook": endpoint_id})


async def rotate(tx: Transaction, endpoint_id: UUID, *, actor: str) -> tuple[Row, bytes, datetime]:
    """The new salt, and when the old one stops signing."""
    row = await _held(tx, endpoint_id)
    salt, expires_at = await secret.rotate(tx, endpoint_id)
    await audit.record(tx, actor, "webhook.rotate", row["project_id"], {"webhook": endpoint_id})
    return row, salt, expires_at


async def rotate_of_project(tx: Transaction, project_id: UUID, *, actor: str) -> tuple[bytes, datetime]:
    """Of the secret that signs what goes to jobs' own addresses."""
    await tx.conn.execute("select from projects where id = $1 for no key update", project_id)
    salt, expires_at = await secret.rotate(tx, project_id)
    await audit.record(tx, actor, "webhook.rotate", project_id, {"webhook": None})
    return salt, expires_at


async def disable(tx: Transaction, endpoint_id: UUID, why: Why) -> bool:
    """Nothing more is sent there. False where that was so already, or there is no such endpoint."""
    changed = await tx.conn.fetchval(
        """
        update webhook_endpoints set disabled_at = now(), disabled_why = $2, updated_at = now()
        where id = $1 and disabled_at is null returning true
        """,
        endpoint_id,
        why,
    )
    if changed:
        await _stop(tx, endpoint_id, WHY[why])
    return bool(changed)


async def _stop(tx: Transaction, endpoint_id: UUID, why: str) -> None:
    """Those whose try is being noted this moment are skipped (they wait for the endpoint's row, which we hold): their
    next turn finds nowhere to go, and stops them then."""
    await tx.conn.execute(
        """
        update webhook_deliveries set state = 'stopped', ended_at = now(), stopped_why = $2
        where id in (select id from webhook_deliveries where lane = $1::uuid::text and state = 'pending'
            for no key update skip locked)
        """,
        endpoint_id,
        why,
    )


async def _held(tx: Transaction, endpoint_id: UUID) -> Row:
    row = await tx.conn.fetchrow("select * from webhook_endpoints where id = $1 for update", endpoint_id)
    if row is None:
        raise not_found("webhook")
    return row


def present_endpoint(row: Row) -> dict[str, Any]:
    why = row["disabled_why"]
    return {
        "id": str(row["id"]),
        "project_id": str(row["project_id"]),
        "url": row["url"],
        "description": row["description"],
        "events": row["events"],
        "enabled": row["disabled_at"] is None,
        "disabled": None if why is None else {"at": instant(row["disabled_at"]), "code": why, "message": WHY[why]},
        "failing_since": instant(row["failing_since"]),
        "created_at": instant(row["created_at"]),
        "updated_at": instant(row["updated_at"]),
    }
