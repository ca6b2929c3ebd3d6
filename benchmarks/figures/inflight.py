"""What waiting costs: a thousand jobs at a provider that takes an hour, on one process, until all end in one burst.

Two providers. `fal` (its emulator) sends a webhook at the end, which may get lost, so each job is looked at every 30 s
(P5): that is the price of a bounded stall. `signed`, a worker of one's own, cannot be asked: there the wait is bare.

Weighed are the whole process tree and, of Safelight's one process, tasks of its event loop (from /metrics), its sockets
and its database connections: none of them may grow with the jobs.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import psutil

from benchmarks import sql
from benchmarks.figure import Data, Figure, Options, Sheet
from benchmarks.hour import LATENCY_S
from benchmarks.load.closed import exhaust
from benchmarks.load.http import request
from benchmarks.ours import MODEL, MODELS, SUBMITTERS, Project, Safelight
from benchmarks.processes import Program, data_dir, free_port, remove, weigh

LEVELS: Final = (0, 100, 1000)
"""Jobs in flight, one after the other in the same process."""
CALM_S: Final = 5.0
IDLE_S: Final = 30.0
"""One round of looks: all jobs are looked at once in it. So it is no shorter when it is to be quick."""
SAMPLE_S: Final = 1.0
"""Between looks at sockets, tasks and connections during the wait."""
ENDED_S: Final = 600.0
HOUR: Final = "bench/hour"
HOUR_MODEL: Final = f"""
[[model]]
id = "{HOUR}"
name = "Hour"
kind = "image"
description = "What takes an hour."
eta_s = {LATENCY_S}
routes = [{{ provider = "fal", endpoint = "fal-ai/flux/schnell" }}]
price = {{ unit = "picture", amount = 500 }}

[[model.fields]]
name = "prompt"
type = "text"
label = "Prompt"
required = true

[[model.fields]]
name = "seed"
type = "int"
label = "Seed"

[[model.fields]]
name = "image_size"
type = "select"
label = "Shape"
options = ["square"]
default = "square"
custom_size = true
min = 64
max = 2048
"""
INPUT: Final[dict[str, Any]] = {
    "prompt": "a red fox in a birch forest",
    "seed": 7,
    "image_size": {"width": 256, "height": 256},
}
"""Always the same small picture, which the emulator makes once: the burst weighs Safelight."""


@dataclass(frozen=True, slots=True)
class Level:
    """With so many jobs in flight, over a wait in which nothing else happens."""

    jobs: int
    pss_mb: float
    """Of the whole tree, PostgreSQL included."""
    rss_mb: float
    """Of Safelight's own process."""
    cpu_percent: float
    """Of one core, whole tree, while waiting."""
    database_percent: float
    """Of it, PostgreSQL's."""
    looks_per_s: float
    """Questions to the provider."""
    tasks: float
    """Of the event loop, the median: what there is while nothing is done."""
    tasks_max: float
    """The most: a look that is under way is a task."""
    sockets: int
    """The most; looks under way have one each."""
    connections: int
    """To the database, the most."""


def run(options: Options) -> Data:
    return {
        "latency_s": LATENCY_S,
        "idle_s": IDLE_S,
        "providers": {"fal": _fal(options), "signed": _signed(options)},
    }


def _fal(options: Options) -> Data:
    folder = data_dir()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "benchmarks.hour", "--port", str(port)]
    emulator = Program("emulators", command, folder / "emulate.log")
    try:
        emulator.wait_for_port(port)
        with_hour = {
            "SAFELIGHT_FAL_KEY": "bench:bench",
            "SAFELIGHT_FAL_QUEUE_URL": f"{url}/fal/queue",
            "SAFELIGHT_FAL_REST_URL": f"{url}/fal/rest",
            "SAFELIGHT_ALLOW_HOSTS": url.removeprefix("http://"),
            "SAFELIGHT_PROVIDER_CONCURRENCY": '{"fal": 10000}',
        }

        def burst(_server: Safelight, _project: Project) -> None:
            asked = urllib.request.Request(f"{url}/finish", b"", method="POST")
            with urllib.request.urlopen(asked, timeout=60) as answer:
                if (finished := json.load(answer)["finished"]) != LEVELS[-1]:
                    raise RuntimeError(f"the provider had {finished} jobs, not {LEVELS[-1]}")

        return _measure(options, "fal", HOUR, INPUT, with_hour, burst)
    finally:
        emulator.stop()
        remove(folder)


def _signed(options: Options) -> Data:
    def burst(server: Safelight, project: Project) -> None:
        done = exhaust(server.address, server.webhooks(project.jobs, server.arm(project.jobs)), SUBMITTERS)
        if set(done.statuses) != {200}:
            raise RuntimeError(f"webhooks were answered {done.statuses}: {done.refusal!r}")

    concurrency = {"SAFELIGHT_PROVIDER_CONCURRENCY": '{"signed": 10000}'}
    return _measure(options, "signed", MODEL, {"prompt": "a red fox"}, concurrency, burst)


def _measure(
    options: Options,
    name: str,
    model: str,
    given: dict[str, Any],
    env: dict[str, str],
    burst: Callable[[Safelight, Project], None],
) -> Data:
    home = data_dir()
    own = home / "hour.toml"
    own.write_text(MODELS + HOUR_MODEL)
    server = Safelight.start(home, {"SAFELIGHT_MODELS": str(own), **env})
    try:
        project = server.new_project()
        levels: list[Level] = []
        for jobs in LEVELS:
            _submit(server, project, model, given, jobs - len(project.jobs))
            levels.append(_wait(server, name, jobs))
            told = levels[-1]
            options.say(
                f"{name}: {jobs} in flight: {told.pss_mb:.0f} MB PSS, {told.cpu_percent:.1f} % of a core, "
                f"{told.looks_per_s:.1f} looks/s, {told.tasks:.0f} tasks (at most {told.tasks_max:.0f}), "
                f"{told.sockets} sockets, {told.connections} database connections"
            )
        before, began = weigh(server.pids), time.monotonic()
        burst(server, project)
        took_s = _until_all_ended(server) - began
        after = weigh(server.pids)
        options.say(f"{name}: all {len(project.jobs)} ended in {took_s:.1f} s")
        if faults := server.faults():
            raise RuntimeError("after the run: " + "; ".join(faults))
        return {
            "levels": [asdict(level) for level in levels],
            "burst_s": took_s,
            "burst_cpu_ms_each": 1000 * (after.cpu_s - before.cpu_s) / len(project.jobs),
            "burst_pss_mb": after.pss_mb,
        }
    finally:
        server.stop()
        server.forget()


def _submit(server: Safelight, project: Project, model: str, given: dict[str, Any], count: int) -> None:
    """Send so many more, and wait until the provider has them."""
    if count <= 0:
        return
    bodies: Sequence[dict[str, Any]] = [
        {"id": str(uuid.uuid4()), "model": model, "input": given, "deadline_s": 4 * LATENCY_S} for _ in range(count)
    ]
    path = f"/v1/projects/{project.id}/jobs"
    requests = [request(server.address, "POST", path, json.dumps(body).encode(), server.headers) for body in bodies]
    done = exhaust(server.address, requests, SUBMITTERS)
    if done.statuses != {202: count}:
        raise RuntimeError(f"submits were answered {done.statuses}: {done.refusal!r}")
    project.jobs += [body["id"] for body in bodies]
    server.await_accepted()


def _wait(server: Safelight, provider: str, jobs: int) -> Level:
    # Pools shrink, queues flush, and of a crowd each job has had its first look.
    time.sleep(CALM_S if jobs == 0 else CALM_S + IDLE_S)
    before, looks, began = weigh(server.pids), _looks(server, provider), time.monotonic()
    process = psutil.Process(server.program.pid)
    tasks: list[float] = []
    sockets, connections = [0], [0]
    while time.monotonic() - began < IDLE_S:
        time.sleep(SAMPLE_S)
        tasks.append(_metric(server, "safelight_asyncio_tasks"))
        connections.append(sql.value(server.dsn, _CONNECTIONS))
        sockets.append(len(process.net_connections(kind="all")))
    after, took_s = weigh(server.pids), time.monotonic() - began
    return Level(
        jobs=jobs,
        pss_mb=after.pss_mb,
        rss_mb=process.memory_info().rss / 2**20,
        cpu_percent=100 * (after.cpu_s - before.cpu_s) / took_s,
        database_percent=100 * (after.database_cpu_s - before.database_cpu_s) / took_s,
        looks_per_s=(_looks(server, provider) - looks) / took_s,
        tasks=statistics.median(tasks),
        tasks_max=max(tasks),
        sockets=max(sockets),
        connections=max(connections),
    )


_CONNECTIONS: Final = "select count(*) from pg_stat_activity where application_name = 'safelight'"


def _until_all_ended(server: Safelight) -> float:
    """When the last job had ended."""
    ends_at = time.monotonic() + ENDED_S
    query = "select count(*) from jobs where completed_at is null"
    while left := sql.value(server.dsn, query):
        server.program.check()
        if time.monotonic() > ends_at:
            raise RuntimeError(f"{left} jobs did not end in {ENDED_S:.0f} s")
        time.sleep(0.1)
    return time.monotonic()


def _looks(server: Safelight, provider: str) -> float:
    return _metric(server, f'safelight_provider_requests_total{{op="inspect",outcome="ok",provider="{provider}"}}')


def _metric(server: Safelight, name: str) -> float:
    """0 for a series that is not there yet."""
    with urllib.request.urlopen(f"{server.address.url}/metrics", timeout=30) as answer:
        found = re.search(rf"^{re.escape(name)} (\S+)$", answer.read().decode(), re.MULTILINE)
    return 0.0 if found is None else float(found.group(1))


def sheets(data: Data) -> list[Sheet]:
    rows: list[list[str]] = []
    notes: list[str] = []
    for provider, of in data["providers"].items():
        rows += [
            [provider, f"{level['jobs']:,}", f"{level['pss_mb']:.0f}", f"{level['rss_mb']:.0f}",
             f"{level['cpu_percent']:.1f}", f"{level['database_percent']:.1f}", f"{level['looks_per_s']:.1f}",
             f"{level['tasks']:.0f}", f"{level['tasks_max']:.0f}", f"{level['sockets']}", f"{level['connections']}"]
            for level in of["levels"]
        ]  # fmt: skip
        notes.append(
            f"{provider}: all {of['levels'][-1]['jobs']:,} ended by webhook at once: {of['burst_s']:.1f} s until the "
            f"last had its result and was paid for, {of['burst_cpu_ms_each']:.0f} ms of processor each, "
            f"{of['burst_pss_mb']:.0f} MB PSS afterwards."
        )
    columns = (
        "provider", "jobs in flight", "PSS MB, all", "RSS MB, its process", "CPU, % of a core", "of it PostgreSQL",
        "looks per s", "tasks", "tasks at most", "sockets at most", "database connections",
    )  # fmt: skip
    title = f"Jobs in flight on one process, at a provider that takes {data['latency_s'] / 60:.0f} minutes"
    return [Sheet(title, columns, rows, notes)]


FIGURE: Final = Figure("inflight", "In flight", run, sheets)
