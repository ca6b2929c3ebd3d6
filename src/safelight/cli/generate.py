"""`safelight generate`: submit, show how it goes, save the files."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from safelight.cli.server_option import AsJson, Key, Project, Url, client, print_json

if TYPE_CHECKING:
    from safelight.sdk import Job, Safelight


def register(app: typer.Typer) -> None:
    app.command()(generate)


def generate(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="For example local/aurora.")] = None,
    params: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            metavar="NAME=VALUE",
            help="An input, e.g. -p prompt='a red fox'. NAME:=JSON for other types.",
        ),
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=100, help="How many results.")] = 1,
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to save into.")] = Path(),
    start: Annotated[
        str | None,
        typer.Option("--start", metavar="FILE|ID", help="A start image: a file, or an upload's or result's id."),
    ] = None,
    template: Annotated[
        str | None, typer.Option("--template", help="Instead of MODEL: a template; -p then fills its variables.")
    ] = None,
    provider: Annotated[str | None, typer.Option("--provider", help="This provider only.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A tag for the job; may be repeated.")] = None,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", min=0, help="Seconds to wait; then the job goes on without us.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Submit, print the job's id, and leave.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
    project: Project = None,
) -> None:
    """Make pictures or clips and save them.

    safelight generate local/aurora -p prompt="a red fox" -n 2 -o out
    """
    if (model is None) == (template is None):
        raise typer.BadParameter("name either a MODEL or a --template")
    from safelight.sdk.calls import new_id

    given = dict(parsed(each) for each in params or ())
    with client(url, key, project) as server:
        first_image = _start(server, start)
        # Ours to choose, so that whoever stops us while the answer is under way is told how to come back.
        identity = new_id()
        try:
            job = server.submit(
                model,
                None if template else given,
                id=identity,
                n=count,
                template=template,
                variables=given if template else None,
                start=first_image,
                provider=provider,
                tags=tag or (),
            )
            if not no_wait:
                job.wait(timeout_s, show=True)
        except KeyboardInterrupt:
            typer.echo(f"A job that was taken goes on. Look again: safelight jobs watch {identity}", err=True)
            raise typer.Exit(130) from None
        if no_wait:
            print_json(job.info) if as_json else typer.echo(str(job.id))
            return
        save(job, out, as_json=as_json)


def save(job: Job, out: Path, *, as_json: bool) -> None:
    """Download everything and say where it is."""
    files = job.download(out)
    if as_json:
        print_json({"job": job.info, "files": [str(path) for path in files]})
        return
    for path in files:
        typer.echo(str(path))
    charged = job.info.credits.charged
    typer.echo(f"{len(files)} saved, {charged} credits, job {job.id}", err=True)


def parsed(param: str) -> tuple[str, Any]:
    """`name=value` is a text, unless the value is plainly a number or a truth; `name:=value` is JSON."""
    import msgspec

    match = re.match(r"^([A-Za-z_][\w.-]*)(:?=)(.*)$", param, re.DOTALL)
    if match is None:
        raise typer.BadParameter(f"{param!r} is not NAME=VALUE")
    name, sign, value = match.groups()
    if sign == ":=":
        try:
            return name, msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise typer.BadParameter(f"{name} is not JSON: {error}") from error
    if "prompt" not in name and re.fullmatch(r"true|false|-?(0|[1-9]\d{0,14})(\.\d+)?", value):
        return name, msgspec.json.decode(value)
    return name, sys.stdin.read() if value == "-" else value


def _start(server: Safelight, start: str | None) -> UUID | None:
    if start is None:
        return None
    try:
        return UUID(start)
    except ValueError:
        path = Path(start)
    if not path.is_file():
        raise typer.BadParameter(f"--start {start} is neither a file nor an id")
    return server.upload(path).id
