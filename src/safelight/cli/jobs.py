"""`safelight jobs`: list, show, watch, cancel, retry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safelight.cli.server_option import AsJson, JobId, Key, Project, Url, client, print_json

if TYPE_CHECKING:
    from safelight.sdk import JobInfo

app = typer.Typer(no_args_is_help=True, help="Look at jobs, cancel and retry them.")


@app.command("list")
def list_(
    status: Annotated[
        list[str] | None,
        typer.Option("--status", help="pending, processing, completed, failed or canceled; may be repeated."),
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only jobs with this tag.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200)] = 20,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
    project: Project = None,
) -> None:
    """The newest jobs."""
    with client(url, key, project) as server:
        page = server.jobs.list(status=status or (), tag=tag, limit=limit)
    if as_json:
        print_json(page)
        return
    from safelight.cli.table import age, plain, table

    rows = [
        (str(job.id), _colored(job), plain(job.model), _what(job), age(job.created_at), _credits(job))
        for job in page.items
    ]
    table(("job", "status", "model", "", "age", "credits"), rows, empty="No jobs yet.")


@app.command()
def show(job: JobId, as_json: AsJson = False, url: Url = None, key: Key = None, project: Project = None) -> None:
    """One job as it is now; the server asks the provider if it has not heard from it."""
    with client(url, key, project) as server:
        info = server.jobs.get(job).info
    if as_json:
        print_json(info)
        return
    from safelight.cli.table import age, plain, table

    rows = [
        ("job", str(info.id)),
        ("status", f"{_colored(info)} ({info.stage})"),
        ("model", plain(f"{info.model} by {info.provider}, attempt {info.attempt}")),
        *((f"  {plain(name)}", plain(value)) for name, value in info.input.items()),
        ("progress", _what(info)),
        ("credits", _credits(info)),
        ("created", age(info.created_at)),
        *((("error", plain(f"{info.error.code}: {info.error.message}")),) if info.error else ()),
        *(("result", str(each)) for each in info.generations),
    ]
    table(("", ""), rows)


@app.command()
def watch(
    job: JobId,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Save the results here when they are there.")] = None,
    timeout_s: Annotated[float | None, typer.Option("--timeout", min=0, help="Seconds to wait.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
    project: Project = None,
) -> None:
    """Follow a job to its end."""
    from safelight.cli.generate import save

    with client(url, key, project) as server:
        found = server.jobs.get(job)
        try:
            found.wait(timeout_s, show=True)
        except KeyboardInterrupt:
            typer.echo("The job goes on.", err=True)
            raise typer.Exit(130) from None
        if out is not None:
            save(found, out, as_json=as_json)
        elif as_json:
            print_json(found.info)
        else:
            typer.echo(f"{found.id} {found.status}")


@app.command()
def cancel(job: JobId, as_json: AsJson = False, url: Url = None, key: Key = None, project: Project = None) -> None:
    """End a job. What the provider has made by then is kept."""
    with client(url, key, project) as server:
        info = server.jobs.cancel(job).info
    print_json(info) if as_json else typer.echo(f"{info.id} {info.status}")


@app.command()
def retry(job: JobId, as_json: AsJson = False, url: Url = None, key: Key = None, project: Project = None) -> None:
    """Another attempt of a job that ended without a result."""
    with client(url, key, project) as server:
        info = server.jobs.retry(job).info
    print_json(info) if as_json else typer.echo(f"{info.id} {info.status}")


_COLORS = {"completed": "green", "failed": "red", "canceled": "yellow", "processing": "cyan"}


def _colored(job: JobInfo) -> str:
    color = _COLORS.get(job.status)
    return f"[{color}]{job.status}[/]" if color else job.status


def _what(job: JobInfo) -> str:
    from safelight.sdk.show import words

    if job.error:
        return job.error.code
    return words(job) or ("" if job.is_over else job.stage)


def _credits(job: JobInfo) -> str:
    return (
        f"{job.credits.quoted} held"
        if job.credits.charged is None and not job.is_over
        else str(job.credits.charged or 0)
    )
