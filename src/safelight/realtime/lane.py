"""What a change of the log looks like to subscribers, made once for all who asked for the same (design.md, Realtime).

Pure. A lane is everything that decides the bytes: protocol version, topic, wanted events, bindings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import UUID

import msgspec

from safelight.changes.log import Change
from safelight.realtime.filters import Binding
from safelight.realtime.outlet import Wire
from safelight.realtime.phoenix import Vsn, broadcast_json, envelope
from safelight.realtime.tables import SCHEMA, TABLES
from safelight.realtime.tail import Entry

__all__ = ["LaneKey", "Touched", "render"]

_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


@dataclass(frozen=True, slots=True)
class LaneKey:
    vsn: Vsn
    topic: str
    """Whole, as on the wire."""
    has_feed: bool
    events: frozenset[str] | None
    bindings: frozenset[Binding]

    def wants(self, event: str) -> bool:
        return self.has_feed and (self.events is None or event in self.events)


def render(key: LaneKey, epoch: UUID, entries: Iterable[Entry], *, is_replay: bool = False) -> list[Wire]:
    """The frames of these entries for everybody in the lane."""
    wires: list[Wire] = []
    for entry in entries:
        change = entry.change
        meta = _meta(epoch, entry.seq, is_replay=is_replay)
        if key.wants("change"):
            body = b'{"epoch":"%s",%s' % (str(epoch).encode(), entry.data[1:])
            wires.append(_broadcast(key, "change", body, meta))
        row: Any = None
        if change.table == "jobs" and change.op != "delete" and key.wants("task-update"):
            row = shown_row(entry)
            wires.append(_broadcast(key, "task-update", _encode(row), meta))
        if key.bindings:
            wires += _postgres(key, entry, row)
    return wires


def broadcast(key_vsn: Vsn, topic: str, event: str, body: bytes, meta: bytes | None = None) -> Wire:
    """A broadcast of ours as one text frame."""
    return Wire(envelope(key_vsn, topic, "broadcast", broadcast_json(event, body, meta)))


def _broadcast(key: LaneKey, event: str, body: bytes, meta: bytes) -> Wire:
    return broadcast(key.vsn, key.topic, event, body, meta)


def _meta(epoch: UUID, seq: int, *, is_replay: bool) -> bytes:
    replayed = b',"replayed":true' if is_replay else b""
    return b'{"id":"%s:%d","seq":%d,"epoch":"%s"%s}' % (
        str(epoch).encode(), seq, seq, str(epoch).encode(), replayed,
    )  # fmt: skip


# -- postgres_changes


def _postgres(key: LaneKey, entry: Entry, row: Mapping[str, Any] | None) -> list[Wire]:
    change = entry.change
    tested = change.old if change.op == "delete" else change.row
    matched: dict[tuple[str, tuple[str, ...] | None], list[int]] = {}
    for binding in key.bindings:
        if binding.matches(change.table, change.op, tested):
            matched.setdefault((binding.tables[change.table], binding.select), []).append(binding.id)
    wires: list[Wire] = []
    for (name, select), ids in matched.items():
        data = change_data(entry, name, select, row)
        payload = b'{"ids":%s,"data":%s}' % (_encode(ids), _encode(data))
        wires.append(Wire(envelope(key.vsn, key.topic, "postgres_changes", payload)))
    return wires


def change_data(
    entry: Entry, name: str, select: Sequence[str] | None, row: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The `data` of a `postgres_changes` message; `name` is the table as the client calls it."""
    change = entry.change
    columns = TABLES[change.table]
    if select is not None:
        columns = {column: columns[column] for column in select}
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "table": name,
        "commit_timestamp": change.at,
        "type": change.op.upper(),
        "columns": [{"name": column, "type": kind} for column, kind in columns.items()],
        "errors": None,
    }
    if change.op != "delete":
        shown = row if row is not None else shown_row(entry)
        data["record"] = _record(change.row or {}, shown, columns, is_whole=select is None)
    if change.op == "delete":
        data["old_record"] = _record(change.old or {}, None, columns, is_whole=False)
    elif change.op == "update":
        kept = {"id": str(change.id), **(change.old or {})}
        data["old_record"] = {column: value for column, value in kept.items() if column in columns}
    return data


def _record(
    raw: Mapping[str, Any], shown: Mapping[str, Any] | None, columns: Mapping[str, str], *, is_whole: bool
) -> dict[str, Any]:
    """The row's public columns; with those, where the whole row is wanted, what the API adds (`urls`, `credits`)."""
    record = {column: raw[column] for column in columns if column in raw}
    if is_whole and shown is not None:
        record |= {field: value for field, value in shown.items() if field not in record}
    return record


def shown_row(entry: Entry) -> dict[str, Any]:
    """The row as the API shows it, from the entry's JSON; at least its id where a presenter failed."""
    presented = cast(dict[str, Any], msgspec.json.decode(entry.data))
    row = presented.get("row")
    if not isinstance(row, dict):
        return {"id": str(entry.change.id), "project_id": str(entry.change.project_id)}
    return cast(dict[str, Any], row)


# -- GENERATIONS_UPDATED


class Touched:
    """Generations that changed, by shot (None: in no shot), gathered into few messages."""

    __slots__ = ("by_shot", "size")

    SIZE_MAX: Final = 5_000
    """Ids in one message; more is many pages of a gallery, and the changes themselves are in the log."""

    def __init__(self) -> None:
        self.by_shot: dict[str | None, dict[str, None]] = {}
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self.by_shot)

    def add(self, change: Change) -> None:
        """Note what a change touches."""
        row = change.row or change.old or {}
        if change.table == "generations":
            listed: Any = row.get("shots")
            shots = [_shot_of(each) for each in cast(list[Any], listed)] if isinstance(listed, list) else []
            for shot in shots or [None]:
                self._note(shot, str(change.id))
        elif change.table == "shot_generations":
            self._note(row.get("shot_id"), str(row.get("generation_id")))

    def _note(self, shot: str | None, generation: str) -> None:
        if self.size < self.SIZE_MAX:
            self.by_shot.setdefault(shot, {})[generation] = None
            self.size += 1

    def merge(self, other: Touched) -> None:
        for shot, generations in other.by_shot.items():
            for generation in generations:
                self._note(shot, generation)

    def bodies(self, project: UUID) -> list[bytes]:
        """The payloads, one a shot."""
        return [
            _encode(
                {"projectId": str(project), **({"shotId": shot} if shot else {}), "generationIds": list(generations)}
            )
            for shot, generations in self.by_shot.items()
        ]


def _shot_of(placing: Any) -> str | None:
    found = cast(dict[str, Any], placing).get("shot_id") if isinstance(placing, dict) else None
    return found if isinstance(found, str) else None
