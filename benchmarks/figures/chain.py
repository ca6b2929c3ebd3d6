"""The full chain: provider's webhook -> look at the provider -> fetch a 100 kB picture -> thumbnails -> settle -> push.

The provider is our fal emulator, a process of its own that speaks fal's wire, signs its webhooks and serves one picture
that it made before. Time counts from the moment the emulator begins to send the webhook until the generation is in
all five windows. (The usual stack does none of this; there is nothing to set beside it.)
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import statistics
import sys
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any, Final

from benchmarks import sql
from benchmarks.figure import Data, Figure, Options, Sheet, ms
from benchmarks.load.http import request
from benchmarks.load.run import Outcome, measure
from benchmarks.numbers import Spread, lost, percentile
from benchmarks.ours import Project, Safelight, generation_id
from benchmarks.processes import Program, data_dir, free_port, remove, weigh

RATES: Final = (5, 20)
"""Jobs a second."""
RUN_S: Final = 15.0
QUICK_S: Final = 4.0
LATENCY_S: Final = 0.5
"""How long the provider works on each."""
MODEL: Final = "fal-ai/flux/schnell"
INPUT: Final[dict[str, Any]] = {
    "prompt": "a red fox in a birch forest",
    "seed": 7,
    "image_size": {"width": 768, "height": 768},
    "output_format": "jpeg",
    "_emulator": {"latency_s": LATENCY_S},
}
"""Always the same picture (102 kB): the emulator makes it once, so its processor time is not in the way."""
STEPS: Final = ("webhook", "provider_done", "downloaded", "stored", "committed")


def run(options: Options) -> Data:
    seconds = QUICK_S if options.is_quick else RUN_S
    runs: dict[int, list[dict[str, Any]]] = {rate: [] for rate in RATES}
    peak = 0.0
    for number in range(options.runs):
        folder = data_dir()
        emulator, url = _emulator(folder)
        try:
            server = Safelight.start(env=_settings(url))
            try:
                project = server.new_project()
                _once(server, url, project, 20, 5.0)  # warm: keys fetched, picture made, imports done
                for rate in RATES:
                    options.say(f"full chain: {rate}/s, run {number + 1} of {options.runs}")
                    runs[rate].append(_once(server, url, project, round(rate * seconds), rate))
                    told = runs[rate][-1]["webhook_to_received"]
                    options.say(f"  {ms(told['p50'])}/{ms(told['p99'])} ms (P50/P99)")
                peak = max(peak, weigh(server.pids).pss_mb)
                if faults := server.faults():
                    raise RuntimeError("after the run: " + "; ".join(faults))
            finally:
                server.stop()
                server.forget()
        finally:
            emulator.stop()
            remove(folder)
    return {
        "seconds": seconds,
        "latency_s": LATENCY_S,
        "pss_mb_after": peak,
        "rates": {
            rate: {
                "runs": each,
                "webhook_to_received": dataclasses.asdict(
                    Spread.median([Spread(**one["webhook_to_received"]) for one in each])
                ),
                "submit_ack": dataclasses.asdict(Spread.median([Spread(**one["submit_ack"]) for one in each])),
                "steps_p50_ms": each[-1]["steps_p50_ms"],
                "cpu_ms_each": statistics.median(one["cpu_ms_each"] for one in each),
                "lost": sum(one["lost"] for one in each),
            }
            for rate, each in runs.items()
        },
    }


def _emulator(folder: Path) -> tuple[Program, str]:
    port = free_port()
    command = [str(Path(sys.executable).parent / "safelight"), "emulate", "--host", "127.0.0.1", "--port", str(port)]
    program = Program("emulators", command, folder / "emulate.log")
    try:
        program.wait_for_port(port)
    except BaseException:
        program.stop()
        raise
    return program, f"http://127.0.0.1:{port}"


def _settings(url: str) -> dict[str, str]:
    return {
        "SAFELIGHT_FAL_KEY": "bench:bench",
        "SAFELIGHT_FAL_QUEUE_URL": f"{url}/fal/queue",
        "SAFELIGHT_FAL_REST_URL": f"{url}/fal/rest",
        "SAFELIGHT_ALLOW_HOSTS": url.removeprefix("http://"),
        "SAFELIGHT_ALLOW_EMULATOR": "true",
        "SAFELIGHT_PROVIDER_CONCURRENCY": '{"fal": 500}',
    }


def _once(server: Safelight, emulator: str, project: Project, count: int, rate: float) -> dict[str, Any]:
    jobs = [str(uuid.uuid4()) for _ in range(count)]
    project.jobs += jobs
    requests = [
        request(
            server.address, "POST", f"/v1/projects/{project.id}/jobs",
            json.dumps({"id": job, "model": MODEL, "input": INPUT}).encode(), server.headers,
        )
        for job in jobs
    ]  # fmt: skip
    before = weigh(server.pids)
    outcome = measure(server.address, requests, [generation_id(job) for job in jobs], rate, server.watch(project))
    cpu_s = weigh(server.pids).cpu_s - before.cpu_s
    if set(outcome.statuses) != {202}:
        raise RuntimeError(f"submits were answered {outcome.statuses}: {outcome.sent.bodies}")
    took = _from_webhook(server, emulator, jobs, outcome)
    return {
        "webhook_to_received": dataclasses.asdict(Spread.of(took)),
        "submit_ack": dataclasses.asdict(Spread.of(outcome.ack_ms)),
        "steps_p50_ms": _steps(server, jobs),
        "lost": lost(took),
        "cpu_ms_each": 1000 * cpu_s / count,
    }


def _from_webhook(server: Safelight, emulator: str, jobs: list[str], outcome: Outcome) -> list[float]:
    """Milliseconds, by the emulator's own record of when it began to send."""
    with urllib.request.urlopen(f"{emulator}/_emulator/deliveries", timeout=30) as answer:
        deliveries = json.load(answer)
    began = {each["attempt"]: each["at"] for each in reversed(deliveries)}
    attempts = sql.fetch(server.dsn, "select id, job_id from attempts where job_id = any ($1::uuid[])", jobs)
    attempt_of = {str(row["job_id"]): str(row["id"]) for row in attempts}
    wall_s = time.time() - time.monotonic()
    took: list[float] = []
    for job in jobs:
        seen_at = outcome.all_at(generation_id(job))
        sent_at = began.get(attempt_of.get(job, ""))
        took.append(math.inf if seen_at is None or sent_at is None else (seen_at + wall_s - sent_at) * 1000)
    return took


def _steps(server: Safelight, jobs: list[str]) -> dict[str, float]:
    """Median milliseconds of each stage since the one before, from the jobs' own traces (D1)."""
    rows = sql.fetch(
        server.dsn,
        "select job_id, step, min(at) as at from job_trace where job_id = any ($1::uuid[]) group by job_id, step",
        jobs,
    )
    at: dict[str, dict[str, float]] = {}
    for row in rows:
        at.setdefault(str(row["job_id"]), {})[row["step"]] = row["at"].timestamp()
    spent: dict[str, float] = {}
    for before, step in itertools.pairwise(STEPS):
        pairs = [1000 * (each[step] - each[before]) for each in at.values() if before in each and step in each]
        if pairs:
            spent[f"{before} → {step}"] = round(percentile(pairs, 0.5), 2)
    return spent


def sheets(data: Data) -> list[Sheet]:
    rows: list[list[str]] = []
    notes: list[str] = []
    for rate, of in data["rates"].items():
        took = of["webhook_to_received"]
        rows.append(
            [rate, ms(took["p50"]), ms(took["p95"]), ms(took["p99"]), ms(of["submit_ack"]["p99"]),
             f"{of['cpu_ms_each']:.0f}", str(of["lost"])]
        )  # fmt: skip
        steps = ", ".join(f"{name} {ms(spent)}" for name, spent in of["steps_p50_ms"].items())
        notes.append(f"{rate}/s, where the time goes (P50 ms, from the jobs' traces): {steps}.")
    rows.append(["*aim at 20*", "≤ 60", "", "≤ 150", "", "", "0"])
    columns = ("jobs/s", "P50", "P95", "P99", "submit P99", "CPU ms each", "lost")
    title = "fal's webhook sent → looked, picture fetched, derived, stored, paid, in all of 5 windows (ms)"
    return [Sheet(title, columns, rows, notes)]


FIGURE: Final = Figure("chain", "Full chain", run, sheets)
