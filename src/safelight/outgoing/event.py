"""What can be told, and the body that tells it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from safelight.providers.abridged import without_files

EVENTS: Final = ("job.processing", "job.completed", "job.failed", "job.canceled")
ALL: Final = "*"
TEST: Final = "webhook.test"
TEST_DATA: Final[Mapping[str, Any]] = {"message": "This is what a webhook of Safelight's looks like. Nothing happened."}

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
        if not is_whole or job.get("left_out"):
            data = {**data, "left_out": ["job.input"]}
    return _encoder.encode({"type": kind, "timestamp": at, "data": data})


def _slim(given: Any) -> tuple[Any, bool]:
    """The input without files in it, and whether that is all of it."""
    slim = without_files(given)
    if len(_encoder.encode(slim)) > INPUT_BYTES_MAX:
        return {}, False
    return slim, slim is given or slim == given
