"""What the parity matrix showed, cell by cell: the time from the commit to the screen, and whether anything flashed."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from studio_page import Studio

CONDITIONS = ("realtime up", "realtime dead", "webhook lost")

ROWS = {
    1: "New task → completes → new video in the shot's gallery",
    2: "Delete a generation → it leaves the gallery; undo → it is back, in its place",
    3: "Star / unstar → shown everywhere",
    4: "Associate to a shot → appears in that shot",
    5: "New shot with outputs → counts update, gallery shows them",
    6: "Background → foreground → up to date without refresh",
    7: "Ten tabs: all fresh, one socket or one poller",
    8: "Reorder in a shot → same order everywhere",
    9: "Three videos at once by webhook → three tiles",
    10: "Result lands on a canvas node",
    11: "Sleep and wake of the machine, token expired meanwhile",
    12: "Server restarted, server killed, database killed, while jobs run",
}
NO_PROVIDER = frozenset({2, 3, 4, 5, 8})
"""No provider has a part in these: there is no webhook that could be lost."""

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def faults_of(condition: str) -> dict[str, Any]:
    """What an emulated provider does under it."""
    return {"webhook": "lost"} if condition == "webhook lost" else {}


@dataclass(slots=True)
class Cell:
    """One row under one condition."""

    figures_ms: list[float] = field(default_factory=list)
    frames: int = 0
    faults: list[str] = field(default_factory=list)

    def took(self, seen_ms: float, *from_ms: float) -> None:
        """Seen at `seen_ms`; counted from the last of `from_ms`: the commit, and where there was one, the moment from
        which the window could know of it. All in ms since 1970, by the one clock of this machine."""
        self.figures_ms.append(max(0.0, seen_ms - max(from_ms)))


@dataclass(frozen=True, slots=True)
class Parity:
    """All cells of a run."""

    cells: dict[tuple[int, str], Cell] = field(default_factory=dict)

    def cell(self, row: int, condition: str) -> Cell:
        assert row in ROWS
        assert condition in CONDITIONS
        return self.cells.setdefault((row, condition), Cell())

    @contextmanager
    def watched(self, row: int, condition: str, *windows: Studio, also: Sequence[str] = ()) -> Iterator[Cell]:
        """The flash detector looks at every frame of these windows meanwhile, and must find nothing. What is seen in
        them may show further cells of the row, too: `also`."""
        cells = [self.cell(row, each) for each in (condition, *also)]
        for window in windows:
            window.watch()
        yield cells[0]
        for window in windows:
            watched = window.watched()
            for cell in cells:
                cell.frames += watched["frames"]
                cell.faults += watched["faults"]
            assert watched["faults"] == [], f"row {row}, {condition}"

    def write(self, page: Path) -> None:
        """Put the table where the last one is. What this run did not show has no figures."""
        text = page.read_text()
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        page.write_text(f"{before}{BEGIN}\n{self._table()}\n{END}{after}")

    def _table(self) -> str:
        lines = [
            f"Measured {datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} cores, for which on average "
            f"{os.getloadavg()[2]:.0f} processes queued in the quarter of an hour before the end.",
            "",
            "| Row | Condition | Results seen | Median | Longest | Frames watched | Flashes |",
            "|---|---|--:|--:|--:|--:|--:|",
        ]
        for row, name in ROWS.items():
            for condition in CONDITIONS:
                head = f"| {row}. {name} | {condition} |" if condition == CONDITIONS[0] else f"| | {condition} |"
                cell = self.cells.get((row, condition))
                if cell is None:
                    why = "no provider takes part" if row in NO_PROVIDER and condition == CONDITIONS[2] else "not run"
                    lines.append(f"{head} {why} | | | | |")
                    continue
                figures = cell.figures_ms
                middle, longest = (statistics.median(figures), max(figures)) if figures else (None, None)
                lines.append(
                    f"{head} {len(figures)} | {duration(middle)} | {duration(longest)} "
                    f"| {cell.frames:,} | {len(cell.faults)} |"
                )
        return "\n".join(lines)


def duration(ms: float | None) -> str:
    if ms is None:
        return "–"
    return f"{ms:.0f} ms" if ms < 1_000 else f"{ms / 1_000:.1f} s"
