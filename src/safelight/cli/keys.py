"""`safelight keys`: make, list and revoke API keys, straight in the database: whoever can reach it may."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from safelight.cli.database_option import Data, on_database
from safelight.cli.server_option import AsJson, print_json

if TYPE_CHECKING:
    from safelight.db.pool import Database

app = typer.Typer(no_args_is_help=True, help="API keys, on the machine that has the database.")

ForProject = Annotated[
    UUID | None, typer.Option("--project", help="The project's id. Without it: keys of the whole installation.")
]


class Kind(StrEnum):
    SECRET = "secret"  # noqa: S105 - a kind, not a secret
    PUBLISHABLE = "publishable"


@app.command()
def create(
    project: ForProject = None,
    kind: Annotated[
        Kind, typer.Option("--kind", help="secret (for servers) or publishable (opens the socket only).")
    ] = Kind.SECRET,
    name: Annotated[str, typer.Option("--name", help="To recognise it by.")] = "",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """A new key. It is printed this once and cannot be read again."""
    from safelight.access import keys

    made = on_database(
        data,
        lambda db: db.run(lambda tx: keys.create_key(tx, project_id=project, kind=kind.value, name=name, actor="cli")),
    )
    if as_json:
        print_json({"id": made.id, "kind": kind.value, "name": name, "key": made.plaintext})
        return
    typer.echo(made.plaintext)
    typer.echo(f"Keep it now: it is stored only as a hash. Its id: {made.id}", err=True)


@app.command("list")
def list_(project: ForProject = None, data: Data = None, as_json: AsJson = False) -> None:
    """The keys, newest first, without their secrets."""
    from safelight.access import keys
    from safelight.cli.table import age, plain, table

    async def work(db: Database) -> list[keys.Key]:
        async with db.connection() as conn:
            return await keys.list_keys(conn, project)

    found = on_database(data, work)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            str(key.id),
            f"{key.prefix}…",
            key.kind,
            plain(key.name),
            age(key.created_at),
            age(key.last_used_at) or "never",
            "[red]revoked[/]" if key.revoked_at else "",
        )
        for key in found
    ]
    table(("key", "begins", "kind", "name", "age", "last used", ""), rows, empty="No keys.")


@app.command()
def revoke(key: Annotated[UUID, typer.Argument(metavar="KEY", help="The key's id.")], data: Data = None) -> None:
    """End a key for good. Running servers notice within seconds."""
    from safelight.access import keys

    ended = on_database(data, lambda db: db.run(lambda tx: keys.revoke_key(tx, key, actor="cli")))
    typer.echo(f"{ended.prefix}… is revoked")
