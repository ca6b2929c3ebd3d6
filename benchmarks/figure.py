"""What every figure is: it measures plain data, and shows it as a table beside what was aimed at."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console

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
class Figure:
    name: str
    title: str
    measure: Callable[[Options], Data]
    show: Callable[[Console, Data], None]


def ms(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "never"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"
