"""`safelight credits`: what a project has, and adding to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from safelight.cli.server_option import AsJson, Key, Project, Url, client, print_json

if TYPE_CHECKING:
    from safelight.sdk import Wallet

app = typer.Typer(no_args_is_help=True, help="Look at credits and add some.")


@app.command()
def show(as_json: AsJson = False, url: Url = None, key: Key = None, project: Project = None) -> None:
    """What is there, what is held for running jobs, what is left."""
    with client(url, key, project) as server:
        _say(server.credits.get(), as_json)


@app.command()
def grant(
    amount: Annotated[int, typer.Argument(min=1, help="In the smallest unit of credits.")],
    note: Annotated[str, typer.Option("--note", help="Why, for the history.")] = "",
    once: Annotated[
        str | None, typer.Option("--once", metavar="ID", help="An id of your own: the same id again grants nothing.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
    project: Project = None,
) -> None:
    """Add credits to a project. Needs a secret key."""
    with client(url, key, project) as server:
        _say(server.credits.grant(amount, note=note, key=once), as_json)


def _say(wallet: Wallet, as_json: bool) -> None:
    if as_json:
        print_json(wallet)
    else:
        typer.echo(f"{wallet.available} available, {wallet.held} held, {wallet.balance} in all")
