"""Which HTTP server: uvicorn (uvloop, httptools) or granian, under the same webhooks (decision 002).

Only when it is asked for by name. granian is no dependency: it is installed into a folder of its own for the run.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.figure import Data, Figure, Options, Sheet, ms
from benchmarks.load.closed import repeat
from benchmarks.load.http import request
from benchmarks.load.run import measure
from benchmarks.numbers import Spread
from benchmarks.ours import Safelight, generation_id
from benchmarks.processes import ROOT, NotReady, weigh

RATES: Final = (50, 200, 400)
RUN_S: Final = 10.0
QUICK_S: Final = 3.0
POLL_S: Final = 5.0
POLLERS: Final = 16


def run(options: Options) -> Data:
    with tempfile.TemporaryDirectory(prefix="safelight-granian-") as folder:
        version = _install(Path(folder))
        commands: dict[str, list[str] | None] = {
            "uvicorn": None,
            "granian": [sys.executable, "-m", "benchmarks.granian_serve"],
        }
        paths = [folder, str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        env = {"PYTHONPATH": os.pathsep.join(paths)}
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
        for number in range(options.runs):
            for name, command in commands.items():
                options.say(f"servers: {name}, run {number + 1} of {options.runs}")
                runs[name].append(_once(options, Safelight.start(env=env, command=command)))
    return {"granian": version, "servers": {name: _median(each) for name, each in runs.items()}, "runs": runs}


def _install(folder: Path) -> str:
    """From the package registry, by the ordinary client. Raises NotReady."""
    uv = ROOT / ".tools" / "bin" / "uv"
    command = [str(uv), "pip", "install", "-q", "--python", sys.executable, "--target", str(folder), "granian"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotReady(f"granian cannot be installed: {done.stderr[-500:]}")
    return next(path.name for path in folder.glob("granian-*.dist-info")).split("-")[1].removesuffix(".dist")


def _once(options: Options, server: Safelight) -> dict[str, Any]:
    try:
        project = server.new_project()
        found: dict[str, Any] = {}
        for rate in (100, *RATES):
            seconds = 2.0 if rate not in RATES else QUICK_S if options.is_quick else RUN_S
            begin, count = len(project.jobs), round(rate * seconds)
            server.submit([project], count)
            server.await_accepted()
            jobs = project.jobs[begin:]
            webhooks = server.webhooks(jobs, server.arm(jobs))
            time.sleep(1)
            before = weigh(server.pids)
            ids = [generation_id(job) for job in jobs]
            outcome = measure(server.address, webhooks, ids, rate, server.watch(project))
            after = weigh(server.pids)
            cpu_s = (after.cpu_s - after.database_cpu_s) - (before.cpu_s - before.database_cpu_s)
            found[str(rate)] = {
                "ack": dataclasses.asdict(Spread.of(outcome.ack_ms)),
                "received": dataclasses.asdict(Spread.of(outcome.all_ms)),
                "cpu_ms": 1000 * cpu_s / count,
            }
        del found["100"]  # the warm-up
        ping = request(server.address, "GET", "/healthz")
        healthz = repeat(server.address, [ping], POLLERS, POLL_S)
        found["healthz_per_s"] = healthz.per_s
        found["pss_mb"] = weigh(server.pids).pss_mb
        if faults := server.faults():
            raise RuntimeError("after the run: " + "; ".join(faults))
        return found
    finally:
        server.stop()
        server.forget()


def _median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    middle = len(runs) // 2
    merged: dict[str, Any] = {name: sorted(run[name] for run in runs)[middle] for name in ("healthz_per_s", "pss_mb")}
    for rate in map(str, RATES):
        merged[rate] = {
            name: dataclasses.asdict(Spread.median([Spread(**run[rate][name]) for run in runs]))
            for name in ("ack", "received")
        } | {"cpu_ms": sorted(run[rate]["cpu_ms"] for run in runs)[middle]}
    return merged


def sheets(data: Data) -> list[Sheet]:
    rows = [
        [name, rate, ms(of[rate]["ack"]["p50"]), ms(of[rate]["ack"]["p99"]), ms(of[rate]["received"]["p50"]),
         ms(of[rate]["received"]["p99"]), f"{of[rate]['cpu_ms']:.2f}"]
        for name, of in data["servers"].items()
        for rate in map(str, RATES)
    ]  # fmt: skip
    notes = [
        f"{name}: {of['healthz_per_s']:,.0f} `/healthz` a second over {POLLERS} connections, {of['pss_mb']:.0f} MB PSS."
        for name, of in data["servers"].items()
    ]
    columns = ("server", "webhooks/s", "ack P50", "P99", "received P50", "P99", "our CPU ms each")
    return [Sheet(f"The same installation on uvicorn and on granian {data['granian']} (ms)", columns, rows, notes)]


FIGURE: Final = Figure("servers", "HTTP servers", run, sheets)
