"""What can be told, and the body that tells it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

EVENTS: Final = ("job.processing", "job.completed", "job.failed", "job.canceled")
ALL: Final = "*"
TEST: Final = "webhook.test"
TEST_DATA: Final[Mapping[str, Any]] = {"message": "This is what a webhook of Safelight's looks like. Nothing happened."}

TEXT_MAX: Final = 2_000
"""Characters of a `data:` URL in an input; what is longer is a file, which nobody wants in a webhook."""
INPUT_BYTES_MAX: Final = 256 * 1024
"""Many receivers take no body above a megabyte."""

_encoder: Final = msgspec.json.Encoder(enc_hook=str)


def body(kind: str, at: str, job: Mapping[str, Any] | None, generations: Sequence[Mapping[str, Any]]) -> bytes:
    """`job` and `generations` are as the API shows them; None for a test."""
    if job is None:
        data: Mapping[str, Any] = TEST_DATA
    else:
        given, is_whole = _slim(job["input"])
        data = {"job": {**job, "input": given}, "generations": generations}
        if not is_whole:
            data = {**data, "left_out": ["job.input"]}
    return _encoder.encode({"type": kind, "timestamp": at, "data": data})


def _slim(given: Any) -> tuple[Any, bool]:
    """The input without files in it, and whether that is all of it."""
    slim = _without_files(given)
    if len(_encoder.encode(slim)) > INPUT_BYTES_MAX:
        return {}, False
    return slim, slim is given or slim == given


def _without_files(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("data:") and len(value) > TEXT_MAX:
        return f"{value[:64]}… ({len(value):,} characters)"
    if isinstance(value, dict):
        return {name: _without_files(each) for name, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [_without_files(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    return value
