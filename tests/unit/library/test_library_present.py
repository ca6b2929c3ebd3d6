from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from safelight.library import checked
from safelight.library.errors import LibraryError
from safelight.library.generation import fields_of, present_generation
from safelight.library.page import ById, InOrder, Newest, decode, encode

ID = UUID(int=7)
ROW = {
    "id": ID, "project_id": ID, "job_id": ID, "output_index": 0, "kind": "video", "mime": "video/mp4", "width": 640,
    "height": 360, "duration_s": 3.200000047683716, "bytes": 9, "sha256": b"x", "thumbhash": "abc",
    "files": {"original": "o.mp4", "poster": "p.webp", "thumbs": {"256": "t.webp"}}, "meta": {}, "starred": False,
    "shots": [], "prompt": "a fox", "model": "m", "created_at": datetime(2026, 1, 2, 3, 4, 5, 600000, UTC),
    "deleted_at": None,
}  # fmt: skip
LOGGED = ROW | {
    "id": str(ID), "project_id": str(ID), "job_id": str(ID), "duration_s": 3.2, "sha256": "\\x78",
    "created_at": "2026-01-02T03:04:05.6+00:00",
}  # fmt: skip


def sign(key: str) -> str:
    return f"/media/{key}?s=1"


def test_a_generation_has_exactly_the_fields_of_the_contract_and_signed_urls():
    assert present_generation(ROW, sign) == {
        "id": str(ID), "project_id": str(ID), "job_id": str(ID), "output_index": 0, "kind": "video",
        "mime": "video/mp4", "width": 640, "height": 360, "duration_s": 3.2, "bytes": 9, "thumbhash": "abc",
        "urls": {"original": "/media/o.mp4?s=1", "poster": "/media/p.webp?s=1", "thumbs": {"256": "/media/t.webp?s=1"}},
        "starred": False, "shots": [], "prompt": "a fox", "model": "m", "created_at": "2026-01-02T03:04:05.600000Z",
        "deleted_at": None,
    }  # fmt: skip


def test_a_row_of_the_log_looks_like_the_row_of_the_table():
    assert present_generation(LOGGED, sign) == present_generation(ROW, sign)


def test_only_the_fields_asked_for_are_shown_and_always_the_id():
    assert present_generation(ROW, sign, fields_of("width, height")) == {"id": str(ID), "width": 640, "height": 360}
    with pytest.raises(LibraryError):
        fields_of("id,files")


def test_a_picture_without_derivatives_still_has_its_urls():
    assert present_generation(ROW | {"files": {"original": "o.png"}}, sign)["urls"] == {
        "original": "/media/o.png?s=1", "poster": None, "thumbs": {},
    }  # fmt: skip


def test_cursors_come_back_as_they_went_out():
    at = datetime(2026, 1, 2, 3, 4, 5, 600001, UTC)
    for cursor in (Newest(at, ID), InOrder(None, at, ID), InOrder("a0V", at, ID), ById(ID)):
        assert decode(encode(cursor), type(cursor)) == cursor


@pytest.mark.parametrize("cursor", ["", "x", "é", "%%%", "bnVsbA", "W10", "A" * 2000, encode(ById(ID)), "WyJ4Il0"])
def test_a_cursor_of_another_list_is_refused(cursor: str):
    with pytest.raises(LibraryError) as refused:
        decode(cursor, Newest)
    assert refused.value.code == "invalid_input"


def nested(depth: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(depth):
        value = {"x": value}
    return value


@pytest.mark.parametrize(
    "value", [{"a": "\0"}, {"\0": 1}, {"a": ["\ud800"]}, {"a": "x" * 70_000}, {"a": float("inf")}, nested(50)]
)
def test_data_that_the_database_cannot_hold_is_refused_before_it_gets_there(value: dict[str, object]):
    with pytest.raises(LibraryError) as refused:
        checked.data("data", value)
    assert refused.value.errors[0]["loc"] == ["body", "data"]
