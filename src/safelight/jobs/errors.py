"""What may go wrong when a person asks something of a job. Mapped to HTTP in one table in the api room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class JobError(Exception):
    """Nothing was changed. `code` is stable (api.md); `extras` go beside it into the problem document.

    `retry_after_s` where waiting helps.
    """

    retry_after_s: int | None = None

    def __init__(self, code: str, detail: str, **extras: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.extras = extras


class JobNotFound(JobError):
    def __init__(self, what: str = "There is no such job.") -> None:
        super().__init__("not_found", what)


class JobConflict(JobError):
    """The job is not in a state for this."""

    def __init__(self, detail: str) -> None:
        super().__init__("conflict", detail)


class IdempotencyMismatch(JobError):
    """The same id or key came before with another body (J2)."""

    def __init__(self, detail: str) -> None:
        super().__init__("idempotency_mismatch", detail)


class UnknownModel(JobError):
    """`nearest`: what may have been meant."""

    def __init__(self, model: str, nearest: Sequence[str] = ()) -> None:
        said = f"There is no model {model!r}; GET /v1/models lists them."
        if nearest:
            said = f"There is no model {model!r}. Did you mean {' or '.join(nearest)}? GET /v1/models lists them all."
        super().__init__("unknown_model", said, suggestions=list(nearest) or None)


class InvalidSubmission(JobError):
    """`errors` is a list of {loc, msg, type}."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        first = errors[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        super().__init__("invalid_input", f"{where}: {first['msg']}", errors=errors)


class TooManyWait(JobError):
    """As many claims wait in this process, or for this project, as may."""

    retry_after_s = 5

    def __init__(self) -> None:
        super().__init__("rate_limited", "Too many claims wait already: ask again a little later, or without `wait`.")
