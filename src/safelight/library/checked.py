"""Values from outside, checked before they reach SQL: sizes, and what PostgreSQL's text and jsonb cannot hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, cast
from uuid import UUID

import msgspec

from safelight.library.errors import invalid

NAME_LENGTH_MAX: Final = 200
"""As the columns say."""
DATA_BYTES_MAX: Final = 64 * 1024
"""A node's or shot's free data travels in every change of its row: it is for settings, not for files."""
DATA_DEPTH_MAX: Final = 32
"""Deeper than any settings, shallower than any stack."""
IDS_MAX: Final = 500
"""Rows touched by one request: a screenful several times over, and still a short lock."""
COORDINATE_MAX: Final = 1e7
"""Canvas units; farther out, floats no longer show single pixels when zoomed."""


def text(field: str, value: str, length_max: int = NAME_LENGTH_MAX) -> str:
    """A non-empty text without surrounding blanks. Raises LibraryError `invalid_input`."""
    value = value.strip()
    if not 1 <= len(value) <= length_max:
        raise invalid(field, f"has 1 to {length_max} characters")
    if not _can_be_stored(value):
        raise invalid(field, "contains characters that cannot be stored")
    return value


def data(field: str, value: dict[str, Any], bytes_max: int = DATA_BYTES_MAX) -> dict[str, Any]:
    """A JSON object of bounded size. Raises LibraryError `invalid_input`."""
    _walk(field, value, 0)
    if len(msgspec.json.encode(value)) > bytes_max:
        raise invalid(field, f"is larger than {bytes_max // 1024} kB")
    return value


def coordinate(field: str, value: float) -> float:
    """A place or size on the canvas. Raises LibraryError `invalid_input`."""
    if not math.isfinite(value) or abs(value) > COORDINATE_MAX:
        raise invalid(field, f"is a number between -{COORDINATE_MAX:.0f} and {COORDINATE_MAX:.0f}")
    return value


def extent(field: str, value: float | None) -> float | None:
    """A width or height; None where the content decides. Raises LibraryError `invalid_input`."""
    if value is not None and coordinate(field, value) <= 0:
        raise invalid(field, "is more than 0")
    return value


def ids(field: str, values: Sequence[UUID], count_max: int = IDS_MAX) -> list[UUID]:
    """Distinct ids, in the given order. Raises LibraryError `invalid_input` if there are too many."""
    if len(values) > count_max:
        raise invalid(field, f"are at most {count_max}")
    return list(dict.fromkeys(values))


def _can_be_stored(value: str) -> bool:
    # PostgreSQL has no NUL in text, and UTF-8 has no lone surrogates.
    return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


def _walk(field: str, value: object, depth: int) -> None:
    if depth > DATA_DEPTH_MAX:
        raise invalid(field, f"is nested more than {DATA_DEPTH_MAX} deep")
    match value:
        case str():
            if not _can_be_stored(value):
                raise invalid(field, "contains characters that cannot be stored")
        case float():
            if not math.isfinite(value):
                raise invalid(field, "contains a number that JSON does not have")
        case dict():
            for key, inner in cast("dict[str, object]", value).items():
                _walk(field, key, depth)
                _walk(field, inner, depth + 1)
        case list():
            for inner in cast("list[object]", value):
                _walk(field, inner, depth + 1)
        case _:
            pass
