"""A job's progress in a terminal: what stage, how far, how long still. Never a bar that pretends (J10)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from safelight.sdk.resources import JobInfo

STAGES = {
    "queued": "waiting",
    "submitting": "sending",
    "submitted": "accepted",
    "running": "making",
    "storing": "storing",
    "unknown": "asking the provider",
}


@contextmanager
def bar(job: JobInfo, file: IO[str] | None = None) -> Generator[Callable[[JobInfo], None]]:
    """Gives the function to call with each news. Silent when the output is no terminal."""
    console = Console(file=file or sys.stderr)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("[bold]{task.fields[model]}"),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None, model=job.model, words="")

        def draw(info: JobInfo) -> None:
            _draw(progress, task, info)

        draw(job)
        yield draw


def words(job: JobInfo) -> str:
    """`third in line`, `40 %, about 12 s left`: what is known, nothing else."""
    known = job.progress
    said: list[str] = []
    if known.queue_position:
        said.append(f"{known.queue_position} ahead")
    if known.percent is not None:
        said.append(f"{known.percent:.0f} %")
    if known.eta_s is not None and known.eta_s >= 1:
        said.append(f"about {known.eta_s:.0f} s left")
    return ", ".join(said)


def _draw(progress: Progress, task: TaskID, job: JobInfo) -> None:
    percent = job.progress.percent
    progress.update(
        task,
        description=STAGES.get(job.stage, job.stage),
        total=None if percent is None else 100,
        completed=percent or 0,
        words=words(job),
    )
