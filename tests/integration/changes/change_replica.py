"""State + changes = refetch (style.md 17), for every table under the change log.

replica = Replica(db, project)
async with converges(replica):      # replica + new changes == fresh snapshot, and seqs have no hole
    await whatever()
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from safelight.changes import log
from safelight.changes.log import Change
from safelight.db.pool import Conn, Database

Tables = dict[str, dict[str, dict[str, Any]]]


async def tracked(conn: Conn) -> dict[str, str]:
    """Tables under the log, each with the column that names its project."""
    rows = await conn.fetch(
        "select distinct c.relname as name from pg_trigger t join pg_class c on c.oid = t.tgrelid"
        " where t.tgname = 'changes_insert' and not c.relispartition"
    )
    return {row["name"]: "id" if row["name"] == "projects" else "project_id" for row in rows}


class Replica:
    """What a client holds that started with nothing and applied every change."""

    def __init__(self, db: Database, project: UUID) -> None:
        self.db = db
        self.project = project
        self.cursor = 0
        self.tables: Tables = {}
        self.applied: list[Change] = []

    def apply(self, change: Change) -> None:
        assert change.seq == self.cursor + 1, f"a hole: {change.seq} after {self.cursor}"
        self.cursor = change.seq
        self.applied.append(change)
        rows = self.tables.setdefault(change.table, {})
        if change.op == "delete":
            assert change.row is None
            assert change.old is not None
            rows.pop(str(change.id), None)
        else:
            assert change.row is not None
            rows[str(change.id)] = change.row

    async def catch_up(self, limit: int = 1000) -> None:
        """Apply what is new, page by page."""
        while True:
            async with self.db.connection() as conn:
                page = await log.read(conn, self.project, self.cursor, limit)
            for change in page.changes:
                self.apply(change)
            if self.cursor == page.head:
                return

    async def check(self) -> None:
        """The replica is exactly what is in the tables at the seq it has reached."""
        while True:
            await self.catch_up()
            async with self.db.snapshot() as conn:
                head = (await log.heads(conn, [self.project]))[self.project].head
                if head != self.cursor:
                    continue  # somebody wrote in between
                for table, column in (await tracked(conn)).items():
                    rows = await conn.fetch(
                        f"select to_jsonb(t) as row from public.{table} t where t.{column} = $1", self.project
                    )
                    fresh = {row["row"]["id"]: row["row"] for row in rows}
                    assert self.tables.get(table, {}) == fresh, table
                return


@asynccontextmanager
async def converges(replica: Replica) -> AsyncIterator[list[Change]]:
    """Whatever happens inside, the replica and the changes it brought equal a fresh read. Yields those changes."""
    await replica.check()
    before = len(replica.applied)
    changes: list[Change] = []
    yield changes
    await replica.check()
    changes.extend(replica.applied[before:])
