"""`python -m benchmarks [names] [--quick] [--no-peers]`: measures, shows tables, writes `.bench/results.json`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks.facts import facts
from benchmarks.figure import Figure, Options
from benchmarks.figures import bare, chain, changes, fanout, footprint, inflight, servers, studio, submits
from benchmarks.load.child import LoadFailed
from benchmarks.peers.usual_stack import ensure_redis
from benchmarks.processes import ROOT, NotReady
from benchmarks.report import plain, print_sheet, write, write_page

FIGURES: Final[tuple[Figure, ...]] = (
    bare.FIGURE,
    chain.FIGURE,
    submits.FIGURE,
    changes.FIGURE,
    fanout.FIGURE,
    footprint.FIGURE,
    inflight.FIGURE,
)
ON_REQUEST: Final[tuple[Figure, ...]] = (servers.FIGURE, studio.FIGURE)
RESULTS: Final = ROOT / ".bench" / "results.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help=f"{', '.join(each.name for each in (*FIGURES, *ON_REQUEST))}; none: all but the last"
    )
    parser.add_argument("--quick", action="store_true", help="one short run each: to see that it works, not to quote")
    parser.add_argument("--no-peers", action="store_true", help="Safelight alone")
    parser.add_argument("--page", action="store_true", help="only put the JSON's figures into docs/performance.md")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the JSON file")
    given = parser.parse_args()
    by_name = {each.name: each for each in (*FIGURES, *ON_REQUEST)}
    if unknown := set(given.names) - set(by_name):
        parser.error(f"there is no figure {', '.join(sorted(unknown))}; there are {', '.join(by_name)}")
    chosen = [by_name[name] for name in given.names] or list(FIGURES)
    if given.page:
        write_page(json.loads(given.out.read_text()), list(by_name.values()))
        return 0
    console = Console()
    began = time.monotonic()
    results: dict[str, Any] = {"facts": facts(), "is_quick": given.quick, "figures": {}}
    options = Options(given.quick, not given.no_peers, lambda said: console.print(f"[dim]{said}[/]"))
    try:
        if options.has_peers:
            ensure_redis()
        for figure in chosen:
            console.rule(figure.title)
            data = plain(figure.measure(options))
            results["figures"][figure.name] = data
            write(given.out, results)
            for sheet in figure.sheets(data):
                print_sheet(console, sheet)
    except (NotReady, LoadFailed, RuntimeError) as error:
        console.print(f"[red]{type(error).__name__}:[/] {error}", markup=True)
        return 1
    console.print(f"{time.monotonic() - began:.0f} s; written to {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
