"""Entries as clients see them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from safelight.changes.log import Change
from safelight.changes.present import Presenters

P = UUID("0197a000-0000-7000-8000-000000000001")


def change(op: str, row: dict[str, Any] | None, old: dict[str, Any] | None) -> Change:
    return Change(P, 7, datetime(2026, 1, 2, tzinfo=UTC), "generations", op, P, row, old, "tab-1")  # type: ignore[arg-type]


def shout(row: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": row["prompt"].upper()}


def test_a_change_is_shown_with_exactly_the_fields_of_the_contract():
    shown = msgspec.json.decode(Presenters({"generations": shout}).encode(change("insert", {"prompt": "fox"}, None)))
    assert shown == {
        "seq": 7,
        "at": "2026-01-02T00:00:00Z",
        "table": "generations",
        "op": "insert",
        "id": str(P),
        "row": {"prompt": "FOX"},
        "old": None,
        "keys": [["unified-generations", "project", str(P)], ["shots", str(P)], ["project-video-counts", str(P)]],
        "origin": "tab-1",
    }


def test_the_row_before_a_delete_is_shown_like_a_row_but_the_kept_columns_of_an_update_stay_raw():
    presenters = Presenters({"generations": shout})
    assert presenters.present(change("delete", None, {"prompt": "fox"})).old == {"prompt": "FOX"}
    assert presenters.present(change("update", {"prompt": "a"}, {"starred": False})).old == {"starred": False}


def test_a_row_that_cannot_be_shown_still_reaches_clients_by_its_keys():
    presenters = Presenters({"generations": shout})
    shown = presenters.present(change("insert", {"no": "prompt"}, None))
    assert shown.row is None
    assert shown.keys
    assert presenters.failures == 1
