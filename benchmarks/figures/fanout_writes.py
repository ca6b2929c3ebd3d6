"""From a write over HTTP to everybody who looks on: by sockets and by event streams, few and many."""

from __future__ import annotations

from typing import Any, Final

from benchmarks.figure import Data, Options, Sheet, ms
from benchmarks.figures.fanout_plans import write_plan
from benchmarks.figures.fanout_stacks import cores, on
from benchmarks.load.child import Child, LoadFailed
from benchmarks.load.crowd import Flow, Probe, crowd
from benchmarks.ours import Safelight
from benchmarks.processes import family, weigh

FEW: Final = 5
MANY: Final = 1_000
STREAMS: Final = 5_000
RATES: Final = (10.0, 100.0, 500.0)
WRITERS: Final = 8
"""HTTP connections that write in turn."""
BATCH: Final = 10


def run(options: Options) -> Data:
    run_s = 2.0 if options.is_quick else 10.0
    found: dict[str, Any] = {"latency": {}, "streams": {}}
    for kind, has_stream, size in (("sockets", False, FEW), ("sockets", False, MANY), ("streams", True, FEW)):
        options.say(f"fan-out: writes, {size:,} {kind}")
        found["latency"][f"{size:,} {kind}"] = _with_server(size, has_stream, lambda ask, _: _latency(ask, run_s))
    options.say(f"fan-out: {STREAMS:,} event streams")
    found["streams"] = _with_server(STREAMS, True, lambda ask, pids: _flow(ask, pids, run_s))
    return found


def _with_server(size: int, has_stream: bool, work: Any) -> dict[str, Any]:
    """`work(ask, pids)` with so many followers of a fresh project. The server has a core, its database the other."""
    server_cores, load_cores = cores()
    with on(server_cores):
        server = Safelight.start()
    try:
        for process in family(server.pids):
            if load_cores and process.name() == "postgres":
                process.cpu_affinity(list(load_cores))
        project = str(server.ask("POST", "/v1/projects", {"name": "Writes"})["id"])
        with Child(crowd, write_plan(server, project, has_stream=has_stream), load_cores) as child:

            def ask(method: str, *args: Any) -> Any:
                child.pipe.send((method, args))
                return child.expect("done", 240)

            try:
                took_s = ask("open", size, WRITERS)
                ask("settle", 1.0)
                done = {"connects_per_s": size / took_s, **work(ask, server.pids)}
                child.pipe.send(None)
            except LoadFailed as error:
                done = {"failed": str(error)[:200]}
    finally:
        server.stop()
        server.forget()
    return done


def _latency(ask: Any, run_s: float) -> dict[str, Any]:
    done: dict[str, Any] = {}
    for rate in RATES:
        ask("beat")
        probe: Probe = ask("probe", rate, run_s)
        done[str(rate)] = {
            "p50": probe.p50_ms, "p99": probe.p99_ms, "lost": probe.lost, "late": probe.late_ms,
            "answered_p50": probe.others_p50_ms, "answered_p99": probe.others_p99_ms,
        }  # fmt: skip
    return done


def _flow(ask: Any, pids: list[int], run_s: float) -> dict[str, Any]:
    done: dict[str, Any] = {}
    for name, in_flight in (("one", 1), ("burst", BATCH)):
        cpu_s = weigh(pids).cpu_s
        flow: Flow = ask("saturate", run_s, in_flight)
        done[name] = {"per_s": flow.per_s, "cpu_us": 1e6 * (weigh(pids).cpu_s - cpu_s) / max(1, flow.delivered)}
    return done


def sheets(data: Data, floor: dict[str, Any] | None) -> list[Sheet]:
    rows: list[list[str]] = []
    for who, of in data["latency"].items():
        for rate in map(str, RATES):
            got = of.get(rate)
            cells = (
                [ms(got[name]) for name in ("answered_p50", "answered_p99", "p50", "p99")] if got else ["failed"] * 4
            )
            rows.append([who, f"{float(rate):.0f}", *cells, str(got["lost"]) if got else ""])
    rows.append(["*aim, from the commit*: 5 sockets", "100", "", "", "≤ 3", "≤ 8", "0"])
    rows.append(["*aim, from the commit*: 1,000 sockets", "100", "", "", "", "≤ 25", "0"])
    streams = data["streams"]
    base = (floor or {}).get(str(STREAMS), {})
    cells = []
    for name in ("one", "burst"):
        got = streams.get(name)
        share = f" ({100 * got['per_s'] / base[name]['per_s']:.0f} %)" if got and base.get(name) else ""
        cells.append(f"{got['per_s']:,.0f}{share}" if got else "failed")
    return [
        Sheet(
            "A write over HTTP → answered, → received by all (ms from the intended time)",
            ("followers", "writes/s", "answered P50", "answered P99", "received P50", "received P99", "lost"),
            rows,
            ("Received counts from when the request was meant to be sent: the request, its transaction and the push. "
             "The server has one core; its database and the load share the other.",),
        ),
        Sheet(
            f"{STREAMS:,} event streams (SSE) of one project: delivered messages per second, and share of the C floor",
            ("server", "one write after the other", "ten at once", "connects per s"),
            [
                ["Safelight", *cells, f"{streams['connects_per_s']:,.0f}" if "connects_per_s" in streams else ""],
                ["*aim*", "", "≥ 40 %", ""],
            ],
        ),
    ]  # fmt: skip
