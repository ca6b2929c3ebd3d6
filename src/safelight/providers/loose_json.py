"""Reading JSON whose shape others decide: anything may be anything, and nothing of it may surprise us later (pure)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast


def decode(body: bytes | bytearray) -> Any:
    """The body's JSON without what jsonb cannot hold (NUL, half surrogates, NaN); None where it is no JSON."""
    try:
        data = json.loads(body, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    suspicious = b"\\u0000" in body or b"\\ud" in body.lower() or b"\x00" in body
    return _clean(data) if suspicious else data


def readable(body: bytes | bytearray, length: int) -> str:
    """The first signs of a body as text that can be stored and shown."""
    return bytes(body[: 4 * length]).decode(errors="replace").replace("\x00", "")[:length]


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_clean(name): _clean(inner) for name, inner in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [_clean(inner) for inner in cast(list[Any], value)]
    return value


def as_object(value: object) -> Mapping[str, Any]:
    """The JSON object, or an empty one where it is something else."""
    return cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {}


def as_list(value: object) -> list[Any]:
    """The JSON array, or an empty one where it is something else."""
    return cast(list[Any], value) if isinstance(value, list) else []


def as_text(value: object, length_max: int) -> str | None:
    """A non-empty string of at most that length, else None."""
    return value if isinstance(value, str) and 0 < len(value) <= length_max else None
