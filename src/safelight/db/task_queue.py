"""The task queue's tables (pgqueuer, in a schema of its own) and how a transaction puts tasks into them.

pgqueuer's own trigger notifies inside the enqueuing transaction, and a NOTIFY there serialises every commit of the
database (design.md, "The change log"). So that trigger is off, and whoever committed says so afterwards with
`notify`; a worker that missed it finds the task at its next look anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence import qb
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain.settings import DBSettings, Durability

from safelight.db.pool import Conn, Database

SCHEMA: Final = "pgqueuer"
SETTINGS: Final = DBSettings(db_schema=SCHEMA, durability=Durability.balanced)


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to do soon. `payload` is small: an id, never a document."""

    entrypoint: str
    payload: bytes
    priority: int = 0


def queries(driver: Any) -> Queries:
    """pgqueuer's queries over any of its drivers, bound to our schema."""
    return Queries(
        driver,
        qbe=qb.QueryBuilderEnvironment(SETTINGS),
        qbq=qb.QueryQueueBuilder(SETTINGS),
        qbs=qb.QuerySchedulerBuilder(SETTINGS),
    )


async def install(connection: Any) -> None:
    """Create or upgrade the queue's schema. The caller holds the migration lock."""
    queue = queries(AsyncpgDriver(connection))
    if await queue.schema_is_installed():
        await queue.upgrade()
    else:
        await queue.install()
    await connection.execute(f"alter table {SCHEMA}.pgqueuer disable trigger user")


_builder = qb.QueryQueueBuilder(SETTINGS)
_ENQUEUE: Final = _builder.build_enqueue_query("raise")


async def enqueue(conn: Conn, tasks: Sequence[Task]) -> None:
    """Put tasks into the queue inside the caller's transaction: they exist if and only if it commits."""
    if tasks:
        await conn.fetch(
            _ENQUEUE,
            [task.priority for task in tasks],
            [task.entrypoint for task in tasks],
            [task.payload for task in tasks],
            [timedelta(0) for _ in tasks],
            [None for _ in tasks],
            [None for _ in tasks],
        )


async def notify(db: Database) -> None:
    """Tell idle workers, in any process, that there are tasks. After the commit that enqueued them."""
    event = {
        "channel": SETTINGS.channel,
        "operation": "insert",
        "sent_at": datetime.now(UTC),
        "table": SETTINGS.queue_table,
        "type": "table_changed_event",
    }
    async with db.connection() as conn:
        await conn.execute("select pg_notify($1, $2)", SETTINGS.channel, msgspec.json.encode(event).decode())
