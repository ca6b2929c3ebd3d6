"""A receiver, and a room around a fresh database, for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from outgoing_world import Receiver, Room, receiving

from safelight.db.pool import Database


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture
async def room(db: Database, receiver: Receiver) -> AsyncIterator[Room]:
    async with db.connection() as conn:
        project = await conn.fetchval("insert into projects (name) values ('p') returning id")
    made = Room(db, receiver, project)
    try:
        yield made
    finally:
        receiver.let_go.set()
        await made.stop()
