"""Options that say which server and project a command speaks to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from safelight.sdk import Safelight

Url = Annotated[
    str | None, typer.Option("--url", help="The server. Default: SAFELIGHT_URL, or the demo that runs here.")
]
Key = Annotated[str | None, typer.Option("--key", help="The API key. Default: SAFELIGHT_KEY, or the demo's.")]
Project = Annotated[
    str | None, typer.Option("--project", help="The project. Default: SAFELIGHT_PROJECT, or the demo's.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of words.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


def client(url: str | None, key: str | None, project: str | None) -> Safelight:
    """The connection that the options mean."""
    from safelight.sdk import Safelight

    return Safelight(url, key, project)


def print_json(value: object) -> None:
    """One JSON document on standard output, for programs."""
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode())
