"""What it costs to have it: time to ready, memory at rest, processor at rest."""

from __future__ import annotations

import statistics
import time
from typing import Any, Final

from benchmarks.figure import Data, Figure, Options, Sheet
from benchmarks.ours import Safelight
from benchmarks.peers.usual_stack import UsualStack
from benchmarks.processes import weigh

CALM_S: Final = 5.0
IDLE_S: Final = 30.0
QUICK_S: Final = 5.0


def run(options: Options) -> Data:
    found: dict[str, list[dict[str, Any]]] = {"ours": []}
    for number in range(options.runs):
        options.say(f"footprint: Safelight, run {number + 1} of {options.runs}")
        found["ours"].append(_ours(options))
    if options.has_peers:
        options.say("footprint: usual stack")
        stack = UsualStack.start()
        try:
            found["usual"] = [{"first_s": stack.ready_s, **_at_rest(options, stack)}]
        finally:
            stack.stop()
    return {
        name: {"runs": runs, **{key: statistics.median(run[key] for run in runs) for key in runs[0]}}
        for name, runs in found.items()
    }


def _ours(options: Options) -> dict[str, Any]:
    server = Safelight.start()
    first_s, home = server.ready_s, server.home
    try:
        server.stop()
        server = Safelight.start(home)
        return {"first_s": first_s, "later_s": server.ready_s, **_at_rest(options, server)}
    finally:
        server.stop()
        server.forget()


def _at_rest(options: Options, stack: Safelight | UsualStack) -> dict[str, Any]:
    time.sleep(CALM_S)
    before, began = weigh(stack.pids), time.monotonic()
    time.sleep(QUICK_S if options.is_quick else IDLE_S)
    after, took_s = weigh(stack.pids), time.monotonic() - began
    return {
        "processes": after.processes,
        "pss_mb": after.pss_mb,
        "idle_percent": 100 * (after.cpu_s - before.cpu_s) / took_s,
    }


NAMES: Final = {"ours": "Safelight", "usual": "usual stack"}


def sheets(data: Data) -> list[Sheet]:
    rows = [
        [NAMES[name], f"{of['first_s']:.1f}", f"{of['later_s']:.1f}" if "later_s" in of else "",
         f"{of['processes']:.0f}", f"{of['pss_mb']:.0f}", f"{of['idle_percent']:.2f}"]
        for name, of in data.items()
    ]  # fmt: skip
    rows.append(["*aim*", "≤ 4", "≤ 4", "", "≤ 250", "≤ 1"])
    columns = ("stack", "ready, first start, s", "ready, later, s", "processes", "PSS MB", "idle, % of a core")
    return [Sheet("At rest, whole process tree, PostgreSQL included", columns, rows)]


FIGURE: Final = Figure("footprint", "Footprint", run, sheets)
