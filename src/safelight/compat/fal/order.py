"""A submit as fal's clients say it becomes a submission as we know it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from safelight.jobs.errors import InvalidSubmission
from safelight.jobs.submission import Submission
from safelight.providers.model import Model

COUNT: Final = "num_images"
"""How fal's models call the number of results; understood for every model."""
DELIVERY: Final = frozenset({"sync_mode"})
"""Says how fal is to hand the result over, nothing about the result: ours are always stored and have an address."""
LOW: Final = -10
KEY_MAX: Final = 255


def order(model: Model, given: Mapping[str, Any], headers: Mapping[str, str], start: UUID | None) -> Submission:
    """Raises InvalidSubmission for a count that is none; the model's own rules come later."""
    input = {name: value for name, value in given.items() if name not in DELIVERY or model.field(name) is not None}
    count = 1
    for name in dict.fromkeys((model.n_field or COUNT, COUNT)):
        if name in input and model.field(name) is None:
            count = _count(name, input.pop(name))
            break
    priority = LOW if headers.get("x-fal-queue-priority", "").lower() == "low" else 0
    return Submission(model=model.id, input=input, n=count, start=start, priority=priority)


def _count(name: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        said = "Input should be a whole number above 0"
        raise InvalidSubmission([{"loc": ["body", name], "msg": said, "type": "greater_than_equal"}])
    return value


def key_of(headers: Mapping[str, str]) -> str | None:
    """`Idempotency-Key`: fal's clients send none by themselves and repeat a submit whose answer was lost (J2)."""
    key = headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= KEY_MAX:
        said = f"The key has 1 to {KEY_MAX} characters"
        raise InvalidSubmission([{"loc": ["header", "idempotency-key"], "msg": said, "type": "string_length"}])
    return key
