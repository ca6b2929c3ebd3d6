"""How fast the change log is read: whole logs in pages of 1000, and polls of clients that are up to date."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
import urllib.request
from typing import Any, Final

from benchmarks.figure import Data, Figure, Options, Sheet, ms
from benchmarks.load.closed import repeat
from benchmarks.load.http import request
from benchmarks.numbers import Spread
from benchmarks.ours import Project, Safelight

JOBS: Final = 2500
QUICK_JOBS: Final = 400
PAGE: Final = 1000
READERS: Final = 4
POLLERS: Final = 16
RUN_S: Final = 8.0
QUICK_S: Final = 2.0


def run(options: Options) -> Data:
    server = Safelight.start()
    try:
        project = server.new_project()
        options.say("changes: writing a log to read")
        server.submit([project], QUICK_JOBS if options.is_quick else JOBS)
        server.await_accepted()
        time.sleep(1)
        head, starts, size = _walk(server, project)
        seconds = QUICK_S if options.is_quick else RUN_S
        pages = [_poll(server, project, after, PAGE) for after in starts]
        fresh = [_poll(server, project, head, PAGE)]
        reads: list[dict[str, Any]] = []
        polls: list[dict[str, Any]] = []
        for _ in range(options.runs):
            read = repeat(server.address, pages, READERS, seconds)
            poll = repeat(server.address, fresh, POLLERS, seconds)
            reads.append(
                {
                    "changes_per_s": read.per_s * head / len(pages),
                    "mb_per_s": read.bytes / read.took_s / 1e6,
                    "latency": dataclasses.asdict(Spread.of(read.latencies_ms)),
                    "statuses": read.statuses,
                }
            )
            polls.append(
                {
                    "per_s": poll.per_s,
                    "latency": dataclasses.asdict(Spread.of(poll.latencies_ms)),
                    "statuses": poll.statuses,
                }
            )
            options.say(f"  {reads[-1]['changes_per_s']:.0f} changes/s, {poll.per_s:.0f} polls/s")
    finally:
        server.stop()
        server.forget()
    return {
        "entries": head,
        "bytes_per_entry": round(size / head),
        "page": PAGE,
        "readers": READERS,
        "pollers": POLLERS,
        "changes_per_s": statistics.median(each["changes_per_s"] for each in reads),
        "polls_per_s": statistics.median(each["per_s"] for each in polls),
        "page_latency": dataclasses.asdict(Spread.median([Spread(**each["latency"]) for each in reads])),
        "poll_latency": dataclasses.asdict(Spread.median([Spread(**each["latency"]) for each in polls])),
        "reads": reads,
        "polls": polls,
    }


def _walk(server: Safelight, project: Project) -> tuple[int, list[int], int]:
    """Read the whole log once: its head, the cursor of each page, its size in bytes. Checks that it has no hole."""
    after, starts, size = 0, [], 0
    while True:
        asked = urllib.request.Request(
            f"{server.address.url}/v1/projects/{project.id}/changes?after={after}&limit={PAGE}", headers=server.headers
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:
            body = answer.read()
        seqs = [change["seq"] for change in json.loads(body)["changes"]]
        if not seqs:
            return after, starts, size
        if seqs != list(range(after + 1, after + 1 + len(seqs))):
            raise RuntimeError(f"the log has a hole after {after}")
        starts.append(after)
        size += len(body)
        after = seqs[-1]


def _poll(server: Safelight, project: Project, after: int, limit: int) -> bytes:
    path = f"/v1/projects/{project.id}/changes?after={after}&limit={limit}"
    return request(server.address, "GET", path, None, server.headers)


def sheets(data: Data) -> list[Sheet]:
    rows = [
        [name, f"{rate:,.0f}", ms(latency["p50"]), ms(latency["p99"])]
        for name, rate, latency in (
            (f"changes read in pages of {data['page']}, {data['readers']} readers", data["changes_per_s"],
             data["page_latency"]),
            (f"polls that are up to date, {data['pollers']} clients", data["polls_per_s"], data["poll_latency"]),
        )
    ]  # fmt: skip
    title = f"Reading a log of {data['entries']:,} entries, {data['bytes_per_entry']} bytes each"
    return [Sheet(title, ("what", "per s", "P50 ms", "P99 ms"), rows)]


FIGURE: Final = Figure("changes", "Reading changes", run, sheets)
