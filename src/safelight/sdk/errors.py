"""What can go wrong, as one readable hierarchy: a stable `code`, what happened, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

if TYPE_CHECKING:
    from safelight.sdk.resources import JobInfo


class SafelightError(Exception):
    """The root. `code` is stable (api.md); `status` is the HTTP status, None where no answer is behind it."""

    def __init__(
        self, detail: str, *, code: str, status: int | None = None, extras: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status
        self.extras: Mapping[str, Any] = extras or {}

    @property
    def hint(self) -> str:
        """What to do next, "" where nothing sensible can be said."""
        return HINTS.get(self.code, "")


class Unauthorized(SafelightError):
    """The key or token is missing, wrong, revoked or expired."""


class Forbidden(SafelightError):
    """Known, but not allowed."""


class NotFound(SafelightError):
    """It does not exist, or you may not see it."""


class Conflict(SafelightError):
    """It cannot be done in the state that the thing is in."""


class IdempotencyMismatch(Conflict):
    """This id or idempotency key was used before with another body."""


class InsufficientCredits(SafelightError):
    """Nothing was sent to a provider."""

    @property
    def required(self) -> int:
        return int(self.extras.get("required", 0))

    @property
    def available(self) -> int:
        return int(self.extras.get("available", 0))


class InvalidInput(SafelightError):
    """`errors` names each field: `{loc, msg, type}`."""

    @property
    def errors(self) -> list[Mapping[str, Any]]:
        return list(self.extras.get("errors", ()))


class UnknownModel(InvalidInput):
    """No model of that name."""


class TooLarge(SafelightError):
    """The body is over the limit."""


class RateLimited(SafelightError):
    """Asked too often, and for longer than the client is willing to wait by itself."""


class Overloaded(SafelightError):
    """The server cannot take it now."""


class MustRefetch(SafelightError):
    """The cursor is from another epoch or older than what is kept: read the lists again and go on from `head`."""

    @property
    def epoch(self) -> str:
        return str(self.extras.get("epoch", ""))

    @property
    def head(self) -> int:
        return int(self.extras.get("head", 0))

    @property
    def oldest(self) -> int:
        return int(self.extras.get("oldest", 0))


class Unreachable(SafelightError):
    """No answer. A job that was submitted goes on without us."""


class UnexpectedAnswer(SafelightError):
    """Not what the contract says: another program, a proxy, or a version that does not fit."""


class NotConfigured(SafelightError):
    """It is not known which server, key or project to use."""


class DownloadFailed(SafelightError):
    """The file could not be fetched whole; nothing is left behind."""


class WaitTimeout(SafelightError):
    """The wait is over, the job is not: it goes on and its results will be in the library (F9)."""

    def __init__(self, job: JobInfo, waited_s: float) -> None:
        super().__init__(
            f"job {job.id} is still {job.stage} after {waited_s:.0f} s; it goes on without us",
            code="wait_timeout",
        )
        self.job = job


class JobFailed(SafelightError):
    """The job ended without a result and without a charge."""

    def __init__(self, job: JobInfo) -> None:
        error = job.error
        super().__init__(
            error.message if error else f"job {job.id} was {job.status}",
            code=error.code if error else job.status,
            extras={"retryable": bool(error and error.retryable)},
        )
        self.job = job

    @property
    def job_id(self) -> UUID:
        return self.job.id

    @property
    def is_retryable(self) -> bool:
        """Whether `job.retry()` can help."""
        return bool(self.extras["retryable"])

    @property
    def hint(self) -> str:
        return "Trying again can help." if self.is_retryable else ""


class JobCanceled(JobFailed):
    """Somebody cancelled it."""


BY_CODE: Final[Mapping[str, type[SafelightError]]] = {
    "unauthorized": Unauthorized,
    "forbidden": Forbidden,
    "not_found": NotFound,
    "conflict": Conflict,
    "idempotency_mismatch": IdempotencyMismatch,
    "insufficient_credits": InsufficientCredits,
    "invalid_input": InvalidInput,
    "unknown_model": UnknownModel,
    "too_large": TooLarge,
    "rate_limited": RateLimited,
    "overloaded": Overloaded,
    "must_refetch": MustRefetch,
}
"""The stable codes of api.md. A code that is not here (an addition of the server's) is found by its status."""

BY_STATUS: Final[Mapping[int, type[SafelightError]]] = {
    401: Unauthorized,
    402: InsufficientCredits,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: MustRefetch,
    413: TooLarge,
    422: InvalidInput,
    429: RateLimited,
    503: Overloaded,
}

HINTS: Final[Mapping[str, str]] = {
    "unauthorized": "Check SAFELIGHT_KEY, or make a new key with `safelight keys create`.",
    "forbidden": "This needs a secret key (sk_…) or a role in the project.",
    "insufficient_credits": "Add some with `safelight credits grant AMOUNT`.",
    "rate_limited": "Wait a little and try again.",
    "overloaded": "Wait a little and try again.",
    "unreachable": "Is the server running? Start one with `safelight demo`, or set SAFELIGHT_URL.",
    "unexpected_answer": "Does SAFELIGHT_URL point at a Safelight server of this version?",
    "not_configured": "Start one with `safelight demo`, or set SAFELIGHT_URL, SAFELIGHT_KEY and SAFELIGHT_PROJECT.",
    "wait_timeout": "Look again with `safelight jobs watch JOB`.",
    "must_refetch": "Read the lists again and follow from their Safelight-Seq.",
}
