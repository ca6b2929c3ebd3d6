"""Tables for people; whoever wants to parse asks for --json."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

DETAIL_MAX = 120
"""Characters of a detail in a table: a line stays a line."""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str = "") -> None:
    """Print it. Cells may carry Rich markup of ours; what users wrote has gone through `plain`."""
    console = Console(highlight=False)
    if not rows:
        console.print(empty)
        return
    printed = Table(box=None, show_header=any(heads), header_style="dim", pad_edge=False)
    for head in heads:
        printed.add_column(head, overflow="fold", no_wrap=head in ("job", "key", "begins", "age"))
    for row in rows:
        printed.add_row(*row)
    console.print(printed)


def plain(value: object) -> str:
    """Somebody's words or data as a short cell without markup."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
    text = " ".join(text.split())
    return escape(text if len(text) <= DETAIL_MAX else text[: DETAIL_MAX - 1] + "…")


def age(at: datetime | None) -> str:
    """`12 s`, `3 min`, `2 h`, `5 d`."""
    if at is None:
        return ""
    seconds = max(0, int((datetime.now(UTC) - at).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
