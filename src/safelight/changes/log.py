"""Reading and keeping the change log (S1, S2). Writing it is the database's own business: 0002_changes.sql."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
import msgspec
import structlog

from safelight.db.pool import Conn, Database, Transaction

__all__ = [
    "Change",
    "Head",
    "MustRefetch",
    "NoLog",
    "Page",
    "ensure_partitions",
    "heads",
    "must_refetch",
    "read",
    "renew_epoch",
    "retention",
]

log = structlog.get_logger("changes")

READ_LIMIT_MAX: Final = 1000
"""The contract's largest page (api.md, Changes)."""
PAGE_BYTES_MAX: Final = 2 * 2**20
"""Of rows as stored (compressed): a page of giant inputs is cut here and goes on with the next read."""
LOCK_WAIT_MS: Final = 2000
"""Partitions come and go under an exclusive lock: rather not today than writers queueing behind us."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """One entry as the database wrote it; `row` and `old` are raw table rows."""

    project_id: UUID
    seq: int
    at: datetime
    table: str
    op: Literal["insert", "update", "delete"]
    id: UUID
    row: dict[str, Any] | None
    old: dict[str, Any] | None
    origin: str | None


class Head(msgspec.Struct, frozen=True, gc=False):
    """Where a project's log ends, and in which life of it."""

    epoch: UUID
    head: int


class Page(msgspec.Struct, frozen=True, gc=False):
    """Entries after the asked cursor, without a hole. `head` is of the same moment; more follow while it is greater."""

    epoch: UUID
    head: int
    changes: list[Change]


class ChangesError(Exception):
    """What can go wrong in this room."""


class NoLog(ChangesError):
    """There never was a change in this project: it does not exist."""


class MustRefetch(ChangesError):
    """The cursor cannot be continued: re-read the lists and go on from the seq they name (410 `must_refetch`)."""

    def __init__(self, epoch: UUID, head: int, oldest: int) -> None:
        super().__init__(f"re-read, then continue from the seq you read at (head {head}, oldest kept {oldest})")
        self.epoch = epoch
        self.head = head
        self.oldest = oldest


# One statement is one snapshot: head and entries belong together. `size` counts rows up to and including this one.
_READ = """
select h.epoch, h.head, c.seq, c.at, c.tbl, c.op, c.id, c.row, c.old, c.origin
  from project_heads h
  left join lateral (
        select *, sum(coalesce(pg_column_size(e.row), 0) + coalesce(pg_column_size(e.old), 0))
                  over (order by e.seq rows between unbounded preceding and 1 preceding) as size_before
          from (select * from changes where project_id = h.project_id and seq > $2 order by seq limit $3) e
       ) c on coalesce(c.size_before, 0) < $4
 where h.project_id = $1
 order by c.seq
"""


async def read(
    conn: Conn, project_id: UUID, after: int, limit: int, epoch: UUID | None = None, *, bytes_max: int = PAGE_BYTES_MAX
) -> Page:
    """Entries with seq > `after`, at most `limit` (and about `bytes_max`), beginning at exactly `after + 1`.

    Raises NoLog for an unknown project; MustRefetch where `epoch` is given and another, `after` lies beyond the
    head, or entries after it are no longer kept: never a partial answer.
    """
    rows = await conn.fetch(_READ, project_id, after, max(1, min(limit, READ_LIMIT_MAX)), bytes_max)
    if not rows:
        raise NoLog(str(project_id))
    now = Head(rows[0]["epoch"], rows[0]["head"])
    changes = [
        Change(project_id, r["seq"], r["at"], r["tbl"], r["op"], r["id"], r["row"], r["old"], r["origin"])
        for r in rows
        if r["seq"] is not None
    ]
    is_whole = all(change.seq == after + 1 + i for i, change in enumerate(changes))
    if (
        (epoch is not None and epoch != now.epoch)
        or after > now.head
        or not is_whole
        or (not changes and after < now.head)
    ):
        raise await must_refetch(conn, project_id, now)
    return Page(now.epoch, now.head, changes)


async def must_refetch(conn: Conn, project_id: UUID, now: Head) -> MustRefetch:
    """The refusal, with the oldest seq that is still kept (head + 1 where nothing is)."""
    oldest = await conn.fetchval("select min(seq) from changes where project_id = $1", project_id)
    return MustRefetch(now.epoch, now.head, now.head + 1 if oldest is None else oldest)


async def heads(conn: Conn, projects: Iterable[UUID]) -> dict[UUID, Head]:
    """The heads of these projects in one query; an unknown project is left out."""
    rows = await conn.fetch(
        "select project_id, epoch, head from project_heads where project_id = any ($1)", list(projects)
    )
    return {row["project_id"]: Head(row["epoch"], row["head"]) for row in rows}


async def renew_epoch(conn: Conn, project_id: UUID, seen: Head) -> bool:
    """Begin another life of the log if it now ends before a head that was seen: the database was put back.

    Without it a cursor from the lost future would look valid again as soon as the head has passed it.
    """
    renewed = await conn.fetchval(
        "update project_heads set epoch = gen_random_uuid()"
        " where project_id = $1 and epoch = $2 and head < $3 returning true",
        project_id,
        seen.epoch,
        seen.head,
    )
    return renewed is True


async def ensure_partitions(db: Database, days_ahead: int = 7) -> list[str]:
    """Make the daily partitions that are missing; returns their names. Called from maintenance, hourly or so.

    Nothing is lost where it was not called: the default partition takes the entries, and they move later.
    """

    async def work(tx: Transaction) -> list[str]:
        await _be_brief(tx)
        return [
            row["name"]
            for row in await tx.conn.fetch("select name from ensure_change_partitions($1) as name", days_ahead)
        ]

    return await _unless_locked(db, work, "changes.partitions_postponed")


async def retention(db: Database, keep: timedelta, now: datetime | None = None) -> list[str]:
    """Drop the partitions that lie wholly before `now - keep` (UTC days); returns their names.

    `at` never decreases with seq, so what goes is a prefix of every project's log. Heads of projects that are gone
    go with their last entries.
    """
    day = ((now or datetime.now(UTC)) - keep).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

    async def work(tx: Transaction) -> list[str]:
        await _be_brief(tx)
        names: list[str] = [
            row["name"]
            for row in await tx.conn.fetch(
                "select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid"
                " where i.inhparent = 'public.changes'::regclass and c.relname ~ '^changes_[0-9]{8}$' order by 1"
            )
            if datetime.strptime(row["name"], "changes_%Y%m%d").replace(tzinfo=UTC) < day
        ]
        for name in names:
            await tx.conn.execute(f'drop table public."{name}"')
        await tx.conn.execute("delete from changes where at < $1", day)
        await tx.conn.execute(
            "delete from project_heads h"
            " where at < $1 and not exists (select from projects p where p.id = h.project_id)",
            day,
        )
        return names

    return await _unless_locked(db, work, "changes.retention_postponed")


async def _be_brief(tx: Transaction) -> None:
    await tx.conn.execute(f"set local lock_timeout = {LOCK_WAIT_MS}")


async def _unless_locked(db: Database, work: Any, event: str) -> list[str]:
    try:
        return await db.run(work)
    except asyncpg.LockNotAvailableError:
        log.warning(event, lock_wait_ms=LOCK_WAIT_MS)
        return []
