"""`safelight trace`: each stage of a job's chain with its time, and in words where it stands (D1)."""

from __future__ import annotations

import typer

from safelight.cli.server_option import AsJson, JobId, Key, Project, Url, client, print_json


def register(app: typer.Typer) -> None:
    app.command()(trace)


def trace(job: JobId, as_json: AsJson = False, url: Url = None, key: Key = None, project: Project = None) -> None:
    """How far a job's chain came, stage by stage."""
    with client(url, key, project) as server:
        found = server.jobs.trace(job)
    if as_json:
        print_json(found)
        return
    from safelight.cli.table import plain, table

    began = found.steps[0].at if found.steps else None
    rows = [
        (
            f"{(step.at - began).total_seconds():+.3f} s" if began else "",
            plain(step.step),
            str(step.attempt) if step.attempt else "",
            plain(step.detail),
        )
        for step in found.steps
    ]
    table(("after", "step", "attempt", ""), rows, empty="Nothing is known of it.")
    if found.said:
        typer.echo(found.said)
