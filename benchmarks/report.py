"""The tables: in the terminal by Rich, on the page as Markdown."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.figure import Figure, Sheet
from benchmarks.processes import ROOT

PAGE: Final = ROOT / "docs" / "performance.md"
BEGIN: Final = "<!-- {}: written by `python -m benchmarks --page`, not by hand -->"
END: Final = "<!-- end of {} -->"
"""Each figure has a place of its own on the page, so that one can be measured without the others."""


def print_sheet(console: Console, sheet: Sheet) -> None:
    table = Table(title=sheet.title, title_justify="left")
    for number, column in enumerate(sheet.columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in sheet.rows:
        table.add_row(*row)
    console.print(table)
    for note in sheet.notes:
        console.print(f"[dim]{note}[/]")


def write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


def plain(value: Any) -> Any:
    """As JSON has it: names are strings, and there is no infinity: None says that it never came."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


def write_page(results: dict[str, Any], figures: list[Figure], page: Path = PAGE) -> None:
    """Put the tables of these results between their figures' marks; other figures keep what they have.

    Raises ValueError where the page has no place for a figure.
    """
    text = _placed(page.read_text(), "machine", _machine(results["facts"]))
    for figure in figures:
        if figure.name in results["figures"]:
            sheets = figure.sheets(results["figures"][figure.name])
            text = _placed(text, figure.name, "\n\n".join([_when(results), *(_markdown(sheet) for sheet in sheets)]))
    page.write_text(text)


def _placed(text: str, name: str, said: str) -> str:
    before, begin, rest = text.partition(BEGIN.format(name))
    _, end, after = rest.partition(END.format(name))
    if not (begin and end):
        raise ValueError(f"{PAGE.name} has no place for {name}: write {BEGIN.format(name)} and {END.format(name)}")
    return before + begin + "\n\n" + said + "\n\n" + end + after


def _machine(facts: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if version)
    return (
        f"{facts['cores']} cores of {facts['cpu']}, {facts['memory_gb']} GB, Linux {facts['kernel']}; a 4 kB write and "
        f"fsync takes {facts['fsync_ms']} ms. Python {facts['python']}, "
        f"redis-server {facts['redis-server'].removeprefix('v=')}, {packages}."
    )


def _when(results: dict[str, Any]) -> str:
    facts = results["facts"]
    runs = "one short run each (`--quick`)" if results["is_quick"] else "medians of three runs"
    state = "" if facts["is_clean"] else " and changes not yet committed"
    return (
        f"*{facts['at'][:10]}, commit `{facts['commit']}`{state}, {runs}, load average before {facts['load_before']}.*"
    )


def _markdown(sheet: Sheet) -> str:
    lines = [f"### {sheet.title}", ""]
    lines.append("| " + " | ".join(sheet.columns) + " |")
    lines.append("|" + "---|" + "---:|" * (len(sheet.columns) - 1))
    lines += ["| " + " | ".join(row) + " |" for row in sheet.rows]
    for note in sheet.notes:
        lines += ["", note]
    return "\n".join(lines)
