"""`safelight db`: bring the database to this version, or say how far it is."""

from __future__ import annotations

import asyncio

import typer

from safelight.cli.database_option import Data

app = typer.Typer(no_args_is_help=True, help="The database's schema.")


@app.command()
def upgrade(data: Data = None) -> None:
    """Apply the migrations that are missing. Safe while Safelight runs, and when two do it at once (O3)."""
    from safelight.cli.database_option import opened
    from safelight.db import migrate

    async def work() -> list[str]:
        async with opened(data, may_create=True) as dsn:
            return await migrate.upgrade(dsn)

    applied = asyncio.run(work())
    for name in applied:
        typer.echo(name)
    typer.echo(f"{len(applied)} applied" if applied else "Up to date.", err=True)


@app.command()
def status(data: Data = None) -> None:
    """Which migrations are missing. Exit code 1 if any is."""
    from safelight.cli.database_option import opened
    from safelight.db import migrate

    async def work() -> list[str]:
        async with opened(data) as dsn:
            return await migrate.pending(dsn)

    missing = asyncio.run(work())
    for name in missing:
        typer.echo(name)
    typer.echo(f"{len(missing)} missing: run `safelight db upgrade`." if missing else "Up to date.", err=True)
    raise typer.Exit(1 if missing else 0)
