"""One event to thousands of sockets: how many messages a second, how late, at what cost; peers in the same run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from benchmarks.facts import facts
from benchmarks.figure import Data, Figure, Options, Sheet, ms
from benchmarks.figures import fanout_writes
from benchmarks.figures.fanout_stacks import CONTENDERS, Contender, Stack, cores, on
from benchmarks.load.child import Child, LoadFailed
from benchmarks.load.crowd import Flow, Probe, crowd
from benchmarks.processes import Weight, weigh

SIZES: Final = (100, 1_000, 5_000)
SPEAKERS_FOR: Final = 200_000
"""Messages a second that there are enough publishers for, each with 70 events a second: our sockets take 100."""
P99_MAX_MS: Final = 200.0
BURST: Final = 10
LATENCY_RATES: Final = (1.0, 10.0)
STEP: Final = 1.2
STEPS_MAX: Final = 6
TIMEOUT_S: Final = 240.0

Ask = Callable[..., Any]


def run(options: Options) -> Data:
    about = {name: facts()[name] for name in ("at", "commit", "load_before")}
    found: dict[str, Any] = {"about": about, "is_quick": options.is_quick, "missing": {}, "sizes": list(SIZES)}
    for contender in CONTENDERS if options.has_peers else [each for each in CONTENDERS if each.name == "ours"]:
        if (why := contender.missing()) is not None:
            options.say(f"fan-out: without {contender.title}: {why}")
            found["missing"][contender.title] = why
            continue
        found[contender.name] = {}
        for size in SIZES:
            options.say(f"fan-out: {contender.title}, {size:,} sockets")
            found[contender.name][size] = _measure(contender, size, options)
    found["writes"] = fanout_writes.run(options)
    return found


def _measure(contender: Contender, size: int, options: Options) -> dict[str, Any]:
    server_cores, load_cores = cores()
    with on(server_cores):
        stack = contender.start()
    done: dict[str, Any] = {}
    try:
        with Child(crowd, stack.plan, load_cores) as child:

            def ask(method: str, *args: Any) -> Any:
                child.pipe.send((method, args))
                return child.expect("done", TIMEOUT_S)

            try:
                _take(done, size, stack, ask, options)
                child.pipe.send(None)
            except (LoadFailed, OSError) as error:  # a peer that does not bear it is a result, not an end
                done["failed"] = str(error)[:200]
                options.say(f"fan-out: {contender.title}, {size:,} sockets: {done['failed']}")
    finally:
        stack.stop()
    return done


def _take(done: dict[str, Any], size: int, stack: Stack, ask: Ask, options: Options) -> None:
    run_s, idle_s = (1.0, 3.0) if options.is_quick else (4.0, 15.0)

    def weight() -> Weight:
        return weigh([stack.program.pid])

    before = weight()
    took_s = ask("open", size, math.ceil(SPEAKERS_FOR / size / 70))
    done["connects_per_s"] = size / took_s
    ask("settle", 1.0)
    ask("beat")
    quiet = weight()
    done["kb_each"] = (quiet.pss_mb - before.pss_mb) * 1024 / size
    ask("idle", idle_s)
    done["idle_percent"] = 100 * (weight().cpu_s - quiet.cpu_s) / idle_s

    def costed(method: str, *args: Any) -> tuple[Any, float]:
        """And microseconds of the server's processor for each message."""
        ask("beat")
        cpu_s = weight().cpu_s
        got: Flow | Probe = ask(method, *args)
        return got, 1e6 * (weight().cpu_s - cpu_s) / max(1, got.delivered)

    for name, in_flight in (("one", 1), ("burst", BURST)):
        flow, cpu_us = costed("saturate", run_s, in_flight)
        done[name] = {"per_s": flow.per_s, "cpu_us": cpu_us}
    done["latency"] = {}
    for rate in LATENCY_RATES:
        probe: Probe = costed("probe", rate, max(run_s, 3 / rate))[0]
        done["latency"][rate] = {"p50": probe.p50_ms, "p99": probe.p99_ms, "late": probe.late_ms}
    done["sustained"] = _sustained(done["one"]["per_s"] / size, run_s, costed)


def _sustained(capacity: float, run_s: float, costed: Callable[..., tuple[Probe, float]]) -> dict[str, float] | None:
    """The highest rate of single events, in steps of a fifth, with a P99 of at most 200 ms; None: there is none."""
    best: dict[str, float] | None = None
    rate, is_rising = 0.9 * capacity, True
    for step in range(STEPS_MAX):
        probe, cpu_us = costed("probe", rate, run_s)
        if not probe.lost and probe.p99_ms <= P99_MAX_MS:
            best = {
                "rate": rate, "per_s": probe.per_s, "p50": probe.p50_ms, "p99": probe.p99_ms, "cpu_us": cpu_us,
                "late": probe.late_ms,
            }  # fmt: skip
            if not is_rising:
                return best
            rate *= STEP
        elif best is not None:
            return best
        else:
            is_rising = False
            rate /= STEP if step else STEP * STEP
    return best


# -- tables


def sheets(data: Data) -> list[Sheet]:
    present = [each for each in CONTENDERS if each.name in data]
    about = data["about"]
    absent = [
        f"Measured {about['at'][:10]} at commit `{about['commit']}`, load average before the run {about['load_before']}"
        + (": seconds each (`--quick`), not to be quoted." if data["is_quick"] else ".")
    ]
    absent += [f"Without {title}: {why}." for title, why in data["missing"].items()]
    return [
        _throughput(data, present, absent),
        _latency(data, present),
        _cost(data, present),
        *fanout_writes.sheets(data["writes"], data.get("floor")),
    ]


def _throughput(data: Data, present: list[Contender], notes: list[str]) -> Sheet:
    rows: list[list[str]] = []
    for size in data["sizes"]:
        floor = data.get("floor", {}).get(str(size), {})
        for each in present:
            of = data[each.name][str(size)]
            cells = [_per_s(of, floor, name) for name in ("one", "sustained", "burst")]
            sustained, one = of.get("sustained") or {}, of.get("one") or {}
            rows.append(
                [each.title, f"{size:,}", *cells, ms(sustained["p99"]) if sustained else "", _number(one.get("cpu_us"))]
            )
        if size == data["sizes"][-1]:
            rows.append(["*aim*", f"{size:,}", "≥ 75 %", "", "≥ 100 %", "≤ 200", ""])
    return Sheet(
        "One event to all: delivered messages per second, and share of the C floor",
        ("server", "sockets", "one after the other", "paced, P99 ≤ 200 ms", "bursts of ten", "P99 ms, paced",
         "CPU µs each"),
        rows,
        ("One after the other: the next event is published when all have the last. Paced: single events at a steady "
         "rate, the highest (in steps of a fifth) that all got with a P99 of 200 ms. One run each.", *notes),
    )  # fmt: skip


def _per_s(of: dict[str, Any], floor: dict[str, Any], name: str) -> str:
    if not (found := of.get(name)):
        return "failed" if "failed" in of else "never"
    share = f" ({100 * found['per_s'] / floor[name]['per_s']:.0f} %)" if floor.get(name) else ""
    return f"{found['per_s']:,.0f}{share}"


def _latency(data: Data, present: list[Contender]) -> Sheet:
    rows: list[list[str]] = []
    for size in data["sizes"]:
        for each in present:
            latency = data[each.name][str(size)].get("latency", {})
            cells = [
                ms(latency[str(rate)][name]) if str(rate) in latency else "failed"
                for rate in LATENCY_RATES
                for name in ("p50", "p99")
            ]
            rows.append([each.title, f"{size:,}", *cells])
    columns = ("server", "sockets", "1/s P50", "1/s P99", "10/s P50", "10/s P99")
    return Sheet("One event to all: published → received, ms over all sockets", columns, rows)


def _cost(data: Data, present: list[Contender]) -> Sheet:
    size = data["sizes"][-1]
    rows = [
        [each.title, _number(of.get("connects_per_s"), 0), _number(of.get("kb_each")), _number(of.get("idle_percent"))]
        for each in present
        for of in [data[each.name][str(size)]]
    ]
    rows.append(["*aim*", "", "≤ 20", "≤ 3"])
    return Sheet(
        f"What {size:,} sockets cost",
        ("server", "connects per s", "kB a socket", "idle, % of a core"),
        rows,
        ("PSS of the server's whole process tree; what the kernel holds for a connection is not in it. Safelight's "
         "connects include the check of the key and the join of a channel, its idle time PostgreSQL and the clients' "
         "beats every 25 s; the peers' clients never speak.",),
    )  # fmt: skip


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


FIGURE: Final = Figure("fanout", "Fan-out", run, sheets)
