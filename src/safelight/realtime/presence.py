"""Who is on a topic: keys, and under each the metas of its sockets (Phoenix presence). Pure.

Joins and leaves are gathered and told as one diff, so that a crowd that arrives at once costs one message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

__all__ = ["Board", "Presences", "plain"]

METAS_MAX: Final = 1_000
"""On one topic: a state message of this many is what a browser still draws."""

Presences = dict[str, dict[str, Any]]
_encode: Final = msgspec.json.Encoder().encode


class Board:
    """The presences of one topic. A holder (a join's number) has at most one meta."""

    __slots__ = ("_held", "_joins", "_leaves", "_refs")

    def __init__(self) -> None:
        self._held: dict[Any, tuple[str, dict[str, Any]]] = {}
        self._joins: Presences = {}
        self._leaves: Presences = {}
        self._refs = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, holder: Any) -> bool:
        return holder in self._held

    def track(self, holder: Any, key: str, given: Mapping[str, Any], tag: str = "") -> bool:
        """Show the holder under the key, or with new data. False if the topic is full. `tag` makes refs unique."""
        old = self._held.get(holder)
        if old is None and len(self._held) >= METAS_MAX:
            return False
        self._refs += 1
        meta = {**given, "phx_ref": f"{tag}{self._refs:x}"}
        meta.pop("phx_ref_prev", None)
        if old is not None:
            meta["phx_ref_prev"] = old[1]["phx_ref"]
            self._note(self._leaves, old)
        self._held[holder] = (key, meta)
        self._note(self._joins, (key, meta))
        return True

    def untrack(self, holder: Any) -> bool:
        """The holder is gone. False if it was not there."""
        old = self._held.pop(holder, None)
        if old is not None:
            self._note(self._leaves, old)
        return old is not None

    def shows(self, holder: Any, key: str, given: Mapping[str, Any]) -> bool:
        """Whether the holder is shown just so."""
        found = self._held.get(holder)
        return found is not None and found[0] == key and plain(found[1]) == plain(given)

    def held(self) -> Iterator[tuple[Any, str, dict[str, Any]]]:
        """Everybody: holder, key, meta."""
        for holder, (key, meta) in self._held.items():
            yield holder, key, meta

    def state(self) -> bytes:
        """The payload of `presence_state`."""
        found: Presences = {}
        for held in self._held.values():
            self._note(found, held)
        return _encode(found)

    def take_diff(self) -> bytes | None:
        """The payload of `presence_diff` since the last one; None where nothing changed."""
        if not self._joins and not self._leaves:
            return None
        diff = _encode({"joins": self._joins, "leaves": self._leaves})
        self._joins, self._leaves = {}, {}
        return diff

    @staticmethod
    def _note(where: Presences, held: tuple[str, dict[str, Any]]) -> None:
        key, meta = held
        where.setdefault(key, {"metas": []})["metas"].append(meta)


def plain(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The meta as it was given, without the refs that a board adds."""
    return {name: value for name, value in meta.items() if name not in ("phx_ref", "phx_ref_prev")}
