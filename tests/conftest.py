"""What every test may ask for: a real PostgreSQL, and in it a fresh database with today's schema.

`SAFELIGHT_TEST_DATABASE_URL` names another server to use (a role that may create databases); otherwise one
embedded server is started for the whole run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from safelight.db import embedded, migrate
from safelight.db.pool import Database


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def with_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a server where databases may be made and dropped."""
    if url := os.environ.get("SAFELIGHT_TEST_DATABASE_URL"):
        yield url
        return
    folder = Path(tempfile.mkdtemp(prefix="safelight-test-"))
    folder.chmod(0o755)  # as root, the server's own account must reach it
    server = embedded.start_sync(folder / "pg", embedded.Settings(is_durable=False, connections_max=100))
    try:
        yield server.dsn
    finally:
        server.stop_sync()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def template(postgres: str) -> AsyncIterator[str]:
    """The name of a database with every migration applied, to copy from."""
    name = f"safelight_template_{uuid.uuid4().hex[:12]}"
    await _admin(postgres, f"create database {name}")
    try:
        await migrate.upgrade(with_database(postgres, name))
        yield name
    finally:
        await _admin(postgres, f"drop database {name} with (force)")


@pytest.fixture
async def dsn(postgres: str, template: str) -> AsyncIterator[str]:
    """A fresh database with the whole schema, dropped afterwards."""
    name = f"safelight_test_{uuid.uuid4().hex[:12]}"
    await _admin(postgres, f"create database {name} template {template} strategy file_copy")
    try:
        yield with_database(postgres, name)
    finally:
        await _admin(postgres, f"drop database {name} with (force)")


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Database]:
    """The fresh database behind the product's own pool."""
    database = await Database.connect(dsn)
    try:
        yield database
    finally:
        await database.close()


async def _admin(server: str, statement: str) -> None:
    conn = await asyncpg.connect(server)
    try:
        await conn.execute(statement)
    finally:
        await conn.close()
