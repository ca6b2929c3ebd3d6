"""The same bare work by both: one webhook in, one committed result, one message in five windows.

Ours: verify the signature, store the webhook raw, settle (generation, double-entry capture, job, trace, change log),
push by SSE. Theirs: enqueue in Redis, one row by a Celery worker, push by Socket.IO.
"""

from __future__ import annotations

import dataclasses
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, Final

from benchmarks.figure import Data, Figure, Options, Sheet, ms
from benchmarks.load.run import Outcome, measure
from benchmarks.numbers import Spread, lost
from benchmarks.ours import Safelight, generation_id
from benchmarks.peers.usual_stack import UsualStack
from benchmarks.processes import weigh

RATES: Final = (10, 50, 200, 400, 800)
"""Webhooks a second."""
RUN_S: Final = 10.0
QUICK_S: Final = 3.0
WARM_UP: Final = (200, 100.0)
"""Webhooks and their rate before anything counts: connections, plan caches, imports."""
REST_S: Final = 1.0
WEIGH_EVERY_S: Final = 2.0

Run = dict[int, dict[str, Any]]


def run(options: Options) -> Data:
    stacks: dict[str, Callable[[Options], tuple[Run, dict[str, Any]]]] = {"ours": _ours}
    if options.has_peers:
        stacks["usual"] = _usual
    runs: dict[str, list[Run]] = {name: [] for name in stacks}
    weights: dict[str, list[dict[str, Any]]] = {name: [] for name in stacks}
    # In turn, each from a fresh start: what the machine does meanwhile hits both.
    for number in range(options.runs):
        for name, once in stacks.items():
            options.say(f"bare work: {name}, run {number + 1} of {options.runs}")
            latencies, about = once(options)
            runs[name].append(latencies)
            weights[name].append(about)
    return {
        "rates": list(RATES),
        "seconds": QUICK_S if options.is_quick else RUN_S,
        "stacks": {
            name: {"runs": runs[name], "median": _medians(runs[name]), "about": weights[name]} for name in stacks
        },
    }


def _ours(options: Options) -> tuple[Run, dict[str, Any]]:
    server = Safelight.start()
    try:
        project = server.new_project()

        def once(count: int, rate: float) -> tuple[Outcome, float]:
            begin = len(project.jobs)
            server.submit([project], count)
            server.await_accepted()
            jobs = project.jobs[begin:]
            requests = server.webhooks(jobs, server.arm(jobs))
            time.sleep(REST_S)
            before = weigh(server.pids)
            ids = [generation_id(job) for job in jobs]
            outcome = measure(server.address, requests, ids, rate, server.watch(project))
            return outcome, weigh(server.pids).cpu_s - before.cpu_s

        latencies, about = _measured(options, server, once)
        time.sleep(REST_S)
        faults = server.faults()
        if faults:
            raise RuntimeError("after the run: " + "; ".join(faults))
        about["verified"] = f"{len(project.jobs)} jobs completed, one result each, books balance, log without a hole"
        return latencies, about
    finally:
        server.stop()
        server.forget()


def _usual(options: Options) -> tuple[Run, dict[str, Any]]:
    stack = UsualStack.start()
    rows = stack.rows()
    try:

        def once(count: int, rate: float) -> tuple[Outcome, float]:
            nonlocal rows
            ids = [str(uuid.uuid4()) for _ in range(count)]
            before = weigh(stack.pids)
            outcome = measure(stack.address, stack.requests(ids), [each.encode() for each in ids], rate, stack.watch())
            cpu_s = weigh(stack.pids).cpu_s - before.cpu_s
            rows += count
            stack.settle(rows)
            time.sleep(REST_S)
            return outcome, cpu_s

        latencies, about = _measured(options, stack, once)
        about["verified"] = f"{stack.rows()} of {rows} rows"
        return latencies, about
    finally:
        stack.stop()


def _measured(
    options: Options, stack: Safelight | UsualStack, once: Callable[[int, float], tuple[Outcome, float]]
) -> tuple[Run, dict[str, Any]]:
    seconds = QUICK_S if options.is_quick else RUN_S
    once(*WARM_UP)
    at_rest = weigh(stack.pids)
    latencies: Run = {}
    with _scales(stack.pids) as heaviest:
        for rate in RATES:
            outcome, cpu_s = once(round(rate * seconds), rate)
            latencies[rate] = _told(outcome) | {"cpu_ms_each": 1000 * cpu_s / len(outcome.ids)}
            options.say(f"  {rate}/s: {_line(latencies[rate])}")
    return latencies, {
        "ready_s": stack.ready_s,
        "processes": at_rest.processes,
        "pss_mb_after_warm_up": at_rest.pss_mb,
        "pss_mb_peak": max(heaviest, default=at_rest.pss_mb),
    }


@contextmanager
def _scales(pids: Iterable[int]) -> Generator[list[float]]:
    """PSS every other second while the block runs."""
    seen: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(WEIGH_EVERY_S):
            seen.append(weigh(pids).pss_mb)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def _told(outcome: Outcome) -> dict[str, Any]:
    return {
        "ack": dataclasses.asdict(Spread.of(outcome.ack_ms)),
        "received": dataclasses.asdict(Spread.of(outcome.all_ms)),
        "received_by_first": dataclasses.asdict(Spread.of(outcome.first_ms)),
        "load_late": dataclasses.asdict(Spread.of(outcome.late_ms)),
        "not_answered": lost(outcome.ack_ms),
        "not_received": lost(outcome.all_ms),
        "doubled": outcome.doubled,
        "statuses": outcome.statuses,
        "connections": outcome.sent.connections,
    }


def _line(told: dict[str, Any]) -> str:
    ack, received = told["ack"], told["received"]
    return (
        f"ack {ms(ack['p50'])}/{ms(ack['p99'])} ms, received {ms(received['p50'])}/{ms(received['p99'])} ms (P50/P99)"
        + (f", {told['not_received']} never received" if told["not_received"] else "")
    )


_SPREADS: Final = ("ack", "received", "received_by_first", "load_late")


def _medians(runs: list[Run]) -> Run:
    return {
        rate: {
            **{
                name: dataclasses.asdict(Spread.median([Spread(**run[rate][name]) for run in runs]))
                for name in _SPREADS
            },
            "not_received": sorted(run[rate]["not_received"] for run in runs)[len(runs) // 2],
            "worst_run_p99": max(run[rate]["received"]["p99"] for run in runs),
        }
        for rate in RATES
    }


AIMS: Final = {
    "10": ("≤ 5", "≤ 10"), "50": ("≤ 5", "≤ 10"), "200": ("≤ 5", "≤ 10"), "400": ("", ""), "800": ("", "≤ 100"),
}  # fmt: skip
NAMES: Final = {"ours": "Safelight", "usual": "usual stack"}


def sheets(data: Data) -> list[Sheet]:
    stacks = data["stacks"]
    found = [_latencies(data), _costs(stacks)]
    return [_ratios(data), *found] if "usual" in stacks else found


def _ratios(data: Data) -> Sheet:
    """How many times as long the usual stack takes."""
    ours, usual = (data["stacks"][name]["median"] for name in ("ours", "usual"))

    def ratio(rate: str, name: str, percentile: str) -> str:
        mine, theirs = ours[rate][name][percentile], usual[rate][name][percentile]
        if mine is None:
            return "ours never came"
        return "theirs never came" if theirs is None else f"{theirs / mine:.2f}"

    rows = [
        [str(rate), *(ratio(str(rate), name, each) for name in ("ack", "received") for each in ("p50", "p99"))]
        for rate in data["rates"]
    ]
    columns = ("webhooks/s", "ack P50", "ack P99", "received P50", "received P99")
    return Sheet("Usual stack's time over Safelight's, same webhooks (above 1: Safelight is faster)", columns, rows)


def _latencies(data: Data) -> Sheet:
    rows: list[list[str]] = []
    for rate in map(str, data["rates"]):
        for name, stack in data["stacks"].items():
            of = stack["median"][rate]
            rows.append(
                [rate, NAMES[name], ms(of["ack"]["p50"]), ms(of["ack"]["p95"]), ms(of["ack"]["p99"]),
                 ms(of["received"]["p50"]), ms(of["received"]["p95"]), ms(of["received"]["p99"]),
                 ms(of["worst_run_p99"]), str(of["not_received"]), ms(of["load_late"]["p99"])]
            )  # fmt: skip
        if any(AIMS[rate]):
            rows.append([rate, "*aim*", "", "", AIMS[rate][0], "", "", AIMS[rate][1], "", "0", ""])
    return Sheet(
        "Webhook → acknowledged, and → in all of 5 windows (ms from the intended time)",
        ("webhooks/s", "stack", "ack P50", "P95", "P99", "received P50", "P95", "P99", "P99 of the worst run", "lost",
         "load side late P99"),
        rows,
    )  # fmt: skip


def _costs(stacks: Data) -> Sheet:
    rows: list[list[str]] = []
    notes: list[str] = []
    for name, stack in stacks.items():
        about = stack["about"][-1]
        each = {rate: statistics.median(run[rate]["cpu_ms_each"] for run in stack["runs"]) for rate in stack["median"]}
        rows.append(
            [NAMES[name], *(f"{each[str(rate)]:.1f}" for rate in RATES), str(about["processes"]),
             f"{about['pss_mb_after_warm_up']:.0f}", f"{about['pss_mb_peak']:.0f}"]
        )  # fmt: skip
        notes.append(f"{NAMES[name]}, checked after the last run: {about['verified']}.")
    columns = (
        "stack", *(f"CPU ms each at {rate}/s" for rate in RATES), "processes", "PSS MB after warm-up", "PSS MB at most",
    )  # fmt: skip
    return Sheet("What that costs, whole process tree, database included", columns, rows, notes)


FIGURE: Final = Figure("bare", "Bare work", run, sheets)
