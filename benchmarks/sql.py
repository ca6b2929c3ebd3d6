"""A statement from outside the measured programs: to prepare and to check, never while something is measured."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg


def fetch(dsn: str, query: str, *args: Any) -> list[asyncpg.Record]:
    async def ask() -> list[asyncpg.Record]:
        conn = await asyncpg.connect(dsn)
        try:
            return await conn.fetch(query, *args)
        finally:
            await conn.close()

    return asyncio.run(ask())


def value(dsn: str, query: str, *args: Any) -> Any:
    return fetch(dsn, query, *args)[0][0]
