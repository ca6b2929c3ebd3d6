"""Commands that work on the database itself: the one that is configured, or this folder's embedded one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from safelight.db.pool import Database

T = TypeVar("T")

Data = Annotated[
    Path | None,
    typer.Option("--data", help="The installation's folder, if SAFELIGHT_DATABASE_URL is not set. Default: .safelight"),
]


@asynccontextmanager
async def opened(data: Path | None, *, may_create: bool = False) -> AsyncGenerator[str]:
    """The database's address; the embedded server is joined, or started and afterwards stopped.

    Raises EmbeddedError if there is none yet and `may_create` is false: a typo in --data makes no new database.
    """
    from safelight.db import embedded
    from safelight.server.settings import Settings

    given: dict[str, Any] = {} if data is None else {"data": data}
    settings = Settings(**given)
    if settings.database_url is not None:
        yield settings.database_url
        return
    folder = embedded.data_dir_of(settings.data)
    if not may_create and not embedded.exists(folder):
        raise embedded.EmbeddedError(
            f"there is no database in {folder}: name the installation's folder with --data, set "
            "SAFELIGHT_DATABASE_URL, or make one with `safelight db upgrade`"
        )
    server = await embedded.start(folder)
    try:
        yield server.dsn
    finally:
        await server.stop()


def on_database(data: Path | None, work: Callable[[Database], Awaitable[T]]) -> T:
    """Run `work` on the database, from start to end of a command. Raises what `opened` raises."""
    from safelight.db.pool import Database

    async def whole() -> T:
        async with opened(data) as dsn:
            db = await Database.connect(dsn, size_max=1)
            try:
                return await work(db)
            finally:
                await db.close()

    return asyncio.run(whole())
