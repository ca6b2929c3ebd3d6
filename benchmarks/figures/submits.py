"""How fast jobs are taken: 16 connections, each sends its next submit when the last is answered.

The whole system runs meanwhile: the worker sends each job on to its provider (a signed worker: no network).
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.figure import Data, Figure, Options, ms
from benchmarks.numbers import Spread
from benchmarks.ours import SUBMITTERS, Safelight

COUNT: Final = 4000
QUICK_COUNT: Final = 600
PROJECTS: Final = (1, 50)
WARM_UP: Final = 200


def run(options: Options) -> Data:
    count = QUICK_COUNT if options.is_quick else COUNT
    runs: dict[int, list[dict[str, Any]]] = {projects: [] for projects in PROJECTS}
    for number in range(options.runs):
        server = Safelight.start()
        try:
            for projects in PROJECTS:
                options.say(f"submits: {projects} project(s), run {number + 1} of {options.runs}")
                rooms = [server.new_project(f"Room {each}") for each in range(projects)]
                server.submit(rooms, WARM_UP)
                server.await_accepted()
                began = time.monotonic()
                done = server.submit(rooms, count)
                server.await_accepted()
                runs[projects].append(
                    {
                        "per_s": done.per_s,
                        "latency": dataclasses.asdict(Spread.of(done.latencies_ms)),
                        "through_per_s": count / (time.monotonic() - began),
                    }
                )
                options.say(f"  {done.per_s:.0f}/s taken, {runs[projects][-1]['through_per_s']:.0f}/s sent on")
        finally:
            server.stop()
            server.forget()
    return {
        "connections": SUBMITTERS,
        "count": count,
        "projects": {
            projects: {
                "runs": each,
                "per_s": statistics.median(run["per_s"] for run in each),
                "through_per_s": statistics.median(run["through_per_s"] for run in each),
                "latency": dataclasses.asdict(Spread.median([Spread(**run["latency"]) for run in each])),
            }
            for projects, each in runs.items()
        },
    }


def show(console: Console, data: Data) -> None:
    table = Table(title=f"Submits over HTTP, {data['connections']} connections (median of runs)")
    for column in ("projects", "taken per s", "sent on per s", "P50 ms", "P95 ms", "P99 ms", "aim"):
        table.add_column(column, justify="right")
    for projects, of in data["projects"].items():
        latency = of["latency"]
        table.add_row(
            str(projects), f"{of['per_s']:.0f}", f"{of['through_per_s']:.0f}",
            ms(latency["p50"]), ms(latency["p95"]), ms(latency["p99"]), "≥ 300/s",
        )  # fmt: skip
    console.print(table)


FIGURE: Final = Figure("submits", "Submits", run, show)
