"""Numbered, forward-only migrations, applied under an advisory lock (O3).

Each file `migrations/NNNN_name.sql` runs once, in its own transaction, and its checksum is kept: a file that
changed after it was applied is refused, because two installations would no longer have the same schema.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any

import asyncpg

from safelight.db import task_queue

LOCK_KEY = 0x5AFE11  # any constant that no other tool uses
_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")


class MigrationError(Exception):
    """The database and this version's migrations do not fit together; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def available() -> list[Migration]:
    """The shipped migrations in order. Raises MigrationError on a gap or a double number."""
    found: list[Migration] = []
    for entry in resources.files("safelight.db").joinpath("migrations").iterdir():
        match = _NAME.match(entry.name)
        if match:
            found.append(Migration(int(match[1]), entry.name, entry.read_text("utf-8")))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"migrations are not numbered 1..n: {[migration.name for migration in found]}")
    return found


async def _connect(dsn: str) -> Any:
    return await asyncpg.connect(dsn, server_settings={"application_name": "safelight-migrate"})  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


async def upgrade(dsn: str) -> list[str]:
    """Apply what is missing; returns the names applied. Two processes may call it at once.

    Raises MigrationError if the database is newer than this program or a migration was edited.
    """
    conn = await _connect(dsn)
    try:
        await conn.execute("select pg_advisory_lock($1)", LOCK_KEY)
        await conn.execute(
            "create table if not exists schema_migrations ("
            " number int primary key, name text not null, checksum text not null,"
            " applied_at timestamptz not null default now())"
        )
        done = {row["number"]: row["checksum"] for row in await conn.fetch("select * from schema_migrations")}
        applied: list[str] = []
        shipped = available()
        if done and max(done) > len(shipped):
            raise MigrationError(
                f"the database is at migration {max(done)}, this version knows {len(shipped)}:"
                " install the newer Safelight"
            )
        for migration in shipped:
            checksum = done.get(migration.number)
            if checksum == migration.checksum:
                continue
            if checksum is not None:
                raise MigrationError(f"{migration.name} was edited after it was applied: restore the original file")
            async with conn.transaction():
                await conn.execute(migration.sql)
                await conn.execute(
                    "insert into schema_migrations (number, name, checksum) values ($1, $2, $3)",
                    migration.number,
                    migration.name,
                    migration.checksum,
                )
            applied.append(migration.name)
        await task_queue.install(conn)
        return applied
    finally:
        await conn.close()  # also drops the advisory lock


async def pending(dsn: str) -> list[str]:
    """Names of migrations that the database does not have yet."""
    conn = await _connect(dsn)
    try:
        if not await conn.fetchval("select to_regclass('schema_migrations')"):
            return [migration.name for migration in available()]
        done = {row["number"] for row in await conn.fetch("select number from schema_migrations")}
        return [migration.name for migration in available() if migration.number not in done]
    finally:
        await conn.close()
