"""How a log entry looks to a client: raw rows in the shape of the API's resources, with the keys they touch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog

from safelight.changes.keys import Key, keys_for
from safelight.changes.log import Change

__all__ = ["Presented", "Presenter", "Presenters"]

log = structlog.get_logger("changes")

Presenter = Callable[[dict[str, Any]], dict[str, Any]]
"""Raw row of one table → the resource as the API shows it. Pure (a signer and a clock may be bound to it)."""


class Presented(msgspec.Struct, frozen=True, gc=False):
    """The contract's Change (api.md, Changes)."""

    seq: int
    at: Any
    table: str
    op: str
    id: Any
    row: dict[str, Any] | None
    old: dict[str, Any] | None
    keys: list[Key]
    origin: str | None


class Presenters:
    """One presenter a table, given by the composition root. A table without one shows its raw row."""

    def __init__(self, by_table: Mapping[str, Presenter] | None = None) -> None:
        self._by_table = dict(by_table or {})
        self._encoder = msgspec.json.Encoder()
        self.failures = 0
        """Rows that a presenter could not show since the start; their changes went out with keys and no row."""

    def present(self, change: Change) -> Presented:
        """`row`, and a delete's `old`, as resources; an update's `old` is the few raw columns that were kept."""
        old = change.old
        return Presented(
            change.seq,
            change.at,
            change.table,
            change.op,
            change.id,
            self._show(change, change.row),
            self._show(change, old) if change.op == "delete" else old,
            keys_for(change.table, change.op, str(change.project_id), change.row, old),
            change.origin,
        )

    def encode(self, change: Change) -> bytes:
        """The change as JSON; done once per entry and shared by all who get it."""
        return self._encoder.encode(self.present(change))

    def _show(self, change: Change, row: dict[str, Any] | None) -> dict[str, Any] | None:
        presenter = self._by_table.get(change.table)
        if row is None or presenter is None:
            return row
        try:
            return presenter(row)
        except Exception:
            # One odd row must not stop everybody's feed: without a row, a client re-reads by the keys.
            self.failures += 1
            log.exception("changes.presenter_failed", table=change.table, id=str(change.id), seq=change.seq)
            return None
