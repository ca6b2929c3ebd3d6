"""How fast jobs are taken: 16 connections, each sends its next submit when the last is answered.

The whole system runs meanwhile: the worker sends each job on to its provider (a signed worker: no network).
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import Any, Final

from benchmarks.figure import Data, Figure, Options, Sheet, ms
from benchmarks.numbers import Spread
from benchmarks.ours import SUBMITTERS, Safelight
from benchmarks.processes import weigh

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
                before, began = weigh(server.pids), time.monotonic()
                done = server.submit(rooms, count)
                server.await_accepted()
                runs[projects].append(
                    {
                        "per_s": done.per_s,
                        "latency": dataclasses.asdict(Spread.of(done.latencies_ms)),
                        "through_per_s": count / (time.monotonic() - began),
                        "cpu_ms_each": 1000 * (weigh(server.pids).cpu_s - before.cpu_s) / count,
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
                "cpu_ms_each": statistics.median(run["cpu_ms_each"] for run in each),
                "latency": dataclasses.asdict(Spread.median([Spread(**run["latency"]) for run in each])),
            }
            for projects, each in runs.items()
        },
    }


def sheets(data: Data) -> list[Sheet]:
    rows = [
        [projects, f"{of['per_s']:.0f}", f"{of['through_per_s']:.0f}", ms(of["latency"]["p50"]),
         ms(of["latency"]["p95"]), ms(of["latency"]["p99"]), f"{of['cpu_ms_each']:.1f}"]
        for projects, of in data["projects"].items()
    ]  # fmt: skip
    rows.append(["*aim*", "≥ 300", "", "", "", "", ""])
    columns = ("projects", "taken per s", "through to the provider per s", "P50 ms", "P95 ms", "P99 ms", "CPU ms each")
    return [Sheet(f"Submits over HTTP, {data['connections']} connections", columns, rows)]


FIGURE: Final = Figure("submits", "Submits", run, sheets)
