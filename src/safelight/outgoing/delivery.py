"""The delivery log: what was told to whom, each try, and sending it once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from safelight.db.pool import Conn, Database, Row, Transaction
from safelight.library.page import instant
from safelight.outgoing.errors import OutgoingError, not_found
from safelight.outgoing.event import TEST

STATES: Final = ("pending", "delivered", "failed", "stopped")
KEPT: Final = timedelta(days=30)
"""Ten times as long as a delivery is tried."""
SWEPT_AT_ONCE: Final = 1_000
TRIES_SHOWN: Final = 20
"""The latest; more only where somebody replays again and again."""

_READ: Final = """
    select d.*, coalesce(d.url, w.url) as sent_to, t.tries as log
    from {source} d left join webhook_endpoints w on w.id = d.endpoint_id,
        lateral (select coalesce(jsonb_agg(to_jsonb(n) - 'id' - 'delivery_id' order by n.id), '[]') as tries
            from (select * from webhook_tries where delivery_id = d.id order by id desc limit {tries}) n) t
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of the deliveries; None: all. Either a project's or an endpoint's."""

    project_id: UUID
    endpoint_id: UUID | None = None
    state: str | None = None
    job_id: UUID | None = None


async def page(conn: Conn, wanted: Wanted, *, limit: int, before: tuple[datetime, UUID] | None) -> Sequence[Row]:
    """Newest first, with their tries; one more than `limit`, to know whether it goes on."""
    args: list[Any] = [wanted.project_id]
    where = ["project_id = $1"]
    for column, value in (("endpoint_id", wanted.endpoint_id), ("state", wanted.state), ("job_id", wanted.job_id)):
        if value is not None:
            args.append(value)
            where.append(f"{column} = ${len(args)}")
    if before is not None:
        args += before
        where.append(f"(created_at, id) < (${len(args) - 1}, ${len(args)})")
    of_page = (
        f"(select * from webhook_deliveries where {' and '.join(where)} "  # noqa: S608 -- only names of ours
        f"order by created_at desc, id desc limit {int(limit) + 1})"
    )
    query = _READ.format(source=of_page, tries=TRIES_SHOWN)
    return await conn.fetch(f"{query} order by d.created_at desc, d.id desc", *args)


async def get(conn: Conn, delivery_id: UUID) -> Row:
    """The caller checks that its project is open to whoever asks. Raises OutgoingError `not_found`."""
    query = _READ.format(source="webhook_deliveries", tries=TRIES_SHOWN)
    row = await conn.fetchrow(f"{query} where d.id = $1", delivery_id)
    if row is None:
        raise not_found("delivery")
    return row


async def test(tx: Transaction, endpoint: Row) -> UUID:
    """A delivery that says nothing but hello; also to an endpoint that is disabled, and tried once only."""
    found: UUID = await tx.conn.fetchval(
        """
        with event as (insert into webhook_events (project_id, type) values ($1, $2) returning id)
        insert into webhook_deliveries (event_id, project_id, type, endpoint_id, lane)
        select id, $1, $2, $3, $3::uuid::text from event returning id
        """,
        endpoint["project_id"],
        TEST,
        endpoint["id"],
    )
    return found


async def replay(tx: Transaction, delivery_id: UUID) -> None:
    """Send it again, under the same id, with a schedule from the beginning. Raises OutgoingError.

    One that waits for its next try is tried now; one that is under way is left to it.
    """
    row = await tx.conn.fetchrow(
        """
        select d.*, w.id is not null as has_endpoint, w.disabled_at
        from webhook_deliveries d left join webhook_endpoints w on w.id = d.endpoint_id
        where d.id = $1 for no key update of d
        """,
        delivery_id,
    )
    if row is None:
        raise not_found("delivery")
    if row["endpoint_id"] is not None and not row["has_endpoint"]:
        raise OutgoingError("conflict", "The webhook was deleted; there is nowhere to send this to.")
    if row["disabled_at"] is not None and row["type"] != TEST:
        raise OutgoingError("conflict", "The webhook is disabled: enable it first.")
    if row["state"] == "pending" and row["claim"] is not None:
        return
    await tx.conn.execute(
        """
        update webhook_deliveries set state = 'pending', tries = 0, due_at = now(), claim = null, claimed_at = null,
            ended_at = null, stopped_why = null
        where id = $1
        """,
        delivery_id,
    )


async def sweep(db: Database) -> int:
    """Forget what is old; returns how many events that were. In small portions, so that nobody waits long."""
    swept = 0
    while True:
        async with db.connection() as conn:
            gone = await conn.fetch(
                """
                delete from webhook_events where id in (
                    select id from webhook_events where at < now() - $1::interval order by at limit $2)
                returning true
                """,
                KEPT,
                SWEPT_AT_ONCE,
            )
        swept += len(gone)
        if len(gone) < SWEPT_AT_ONCE:
            return swept


def present_delivery(row: Row) -> dict[str, Any]:
    """`id` is the `webhook-id` that the receiver saw."""
    tries = [_present_try(each) for each in row["log"]]
    is_under_way = row["state"] == "pending" and row["claim"] is not None
    return {
        "id": str(row["id"]),
        "project_id": str(row["project_id"]),
        "webhook_id": str(row["endpoint_id"]) if row["endpoint_id"] else None,
        "url": row["sent_to"],
        "job_id": str(row["job_id"]) if row["job_id"] else None,
        "type": row["type"],
        "state": row["state"],
        "said": _said(row, tries, is_under_way),
        "next_try_at": instant(row["due_at"]) if row["state"] == "pending" and not is_under_way else None,
        "created_at": instant(row["created_at"]),
        "ended_at": instant(row["ended_at"]),
        "tries": tries,
    }


def _present_try(log: dict[str, Any]) -> dict[str, Any]:
    return {
        "at": instant(log["at"]),
        "duration_ms": log["duration_ms"],
        "status": log["status"],
        "error": log["error"],
        "response": log["response"],
    }


def _said(row: Row, tries: Sequence[dict[str, Any]], is_under_way: bool) -> str:
    """Where it stands, in a sentence."""
    last = tries[-1]["error"] if tries else None
    match row["state"]:
        case "delivered":
            return "Delivered."
        case "stopped":
            return f"Stopped. {row['stopped_why'] or ''}".rstrip()
        case "failed":
            return f"Given up after {len(tries)} tries. {last or ''}".rstrip()
        case _ if is_under_way:
            return "A try is under way."
        case _:
            return f"Waits for its next try. {last}" if last else "Waits for its first try."
