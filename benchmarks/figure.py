"""What every figure is: it measures plain data, and shows it as tables beside what was aimed at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    is_quick: bool = False
    """Seconds instead of minutes, one run instead of three: to see that it works, not to be quoted."""
    has_peers: bool = True
    say: Callable[[str], None] = print

    @property
    def runs(self) -> int:
        return 1 if self.is_quick else 3


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table, for the terminal and for the page alike."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    title: str
    measure: Callable[[Options], Data]
    sheets: Callable[[Data], list[Sheet]]
    """From the data as it is in the JSON file: names are strings, what never came is None."""


def ms(value: float | None) -> str:
    """Milliseconds; None: it never came."""
    if value is None:
        return "never"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"
