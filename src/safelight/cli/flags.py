"""`safelight flags`: the kill switch and its companions (S8), straight in the database, whatever else is down."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.cli.database_option import Data, on_database
from safelight.cli.server_option import AsJson, print_json

if TYPE_CHECKING:
    from safelight.db.pool import Database

app = typer.Typer(no_args_is_help=True, help="Switch realtime off and on, and force polling, in every client.")

Name = Annotated[str, typer.Argument(help="REALTIME_ENABLED, LEGACY_LISTENERS_ENABLED or DEADMODE_FORCE_POLLING_MS.")]


@app.command("list")
def list_(data: Data = None, as_json: AsJson = False) -> None:
    """What is in force, and what was set. A server's own environment goes before the database."""
    from safelight.cli.table import table
    from safelight.realtime import flags

    async def work(db: Database) -> tuple[flags.Flags, dict[str, Any]]:
        async with db.connection() as conn:
            rows = await conn.fetch("select name, value from flags where name = any ($1)", list(flags.FLAGS))
            return await flags.read_flags(conn, flags.from_environment(os.environ)), {
                r["name"]: r["value"] for r in rows
            }

    in_force, stored = on_database(data, work)
    found = {name: getattr(in_force, field) for name, field in flags.FLAGS.items()}
    if as_json:
        print_json({name: {"value": value, "stored": stored.get(name)} for name, value in found.items()})
        return
    rows = [(name, _word(value), _word(stored[name]) if name in stored else "") for name, value in found.items()]
    table(("flag", "in force", "set in the database"), rows, empty="No flags.")


@app.command("set")
def set_(
    name: Name,
    value: Annotated[str, typer.Argument(help="true or false; milliseconds for DEADMODE_FORCE_POLLING_MS.")],
    data: Data = None,
) -> None:
    """Set a flag. Every server and every open page has it within ten seconds."""
    from safelight.realtime import flags

    try:
        wanted = flags.parsed(name.upper(), value)
    except flags.BadFlag as error:
        raise typer.BadParameter(str(error)) from None
    on_database(data, lambda db: flags.store_flag(db, name.upper(), wanted, "cli"))
    typer.echo(f"{name.upper()} is {_word(wanted)}")


@app.command()
def reset(name: Name, data: Data = None) -> None:
    """Put a flag back to its default."""
    from safelight.realtime import flags

    if name.upper() not in flags.FLAGS:
        raise typer.BadParameter(f"There is no flag {name}; there are {', '.join(flags.FLAGS)}.")
    on_database(data, lambda db: flags.store_flag(db, name.upper(), None, "cli"))
    typer.echo(f"{name.upper()} is back to its default")


def _word(value: Any) -> str:
    return "" if value is None else str(value).lower()
