"""Errors as fal says them, so that its clients raise their typed ones. The one table from our rooms to its shapes.

Two shapes (providers.md §1.8): what is wrong with the input is a list with `loc`, `msg` and `type`; everything else is
a sentence with an `error_type`. 409 is never said: `fal_client` answers it with ten more tries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import asyncpg
import structlog
from starlette.exceptions import HTTPException

from safelight.access.errors import AccessError, Unauthorized
from safelight.changes.log import NoLog
from safelight.compat.fal.order import COUNT
from safelight.compat.fal.wire import Answer, BadRequest
from safelight.credits.ledger import InsufficientCredits, LedgerError
from safelight.jobs.errors import JobError
from safelight.media.errors import MediaError

log: Final = structlog.get_logger("compat")

DOCS: Final = "https://docs.fal.ai/errors#"
AWAY_S: Final = 2

Database: Final = (
    # OSError: refused, timed out, or (of an embedded server that is down) no socket there at all.
    OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError, asyncpg.AdminShutdownError,
)  # fmt: skip
Unwritable: Final = (asyncpg.UntranslatableCharacterError, asyncpg.CharacterNotInRepertoireError, UnicodeEncodeError)


def detail(loc: Sequence[str | int], msg: str, kind: str) -> dict[str, Any]:
    """One entry of a model error."""
    return {"loc": list(loc), "msg": msg, "type": kind, "url": DOCS + kind}


def invalid(*entries: dict[str, Any]) -> Answer:
    return Answer({"detail": list(entries)}, 422, {"X-Fal-Needs-Retry": "0"})


def flat(status: int, said: str, kind: str, headers: Mapping[str, str] | None = None, **extras: Any) -> Answer:
    """A platform error: a sentence, and its type in the body and in a header."""
    return Answer({"detail": said, "error_type": kind, **extras}, status, {"X-Fal-Error-Type": kind, **(headers or {})})


def no_request() -> Answer:
    return Answer({"status": "NOT_FOUND", "detail": "Request not found"}, 404)


def of_error(error: Exception) -> Answer:
    """What an error of a room becomes. Raises it again if it is none that people should see."""
    match error:
        case BadRequest():
            return flat(error.status, str(error), error.kind)
        case InsufficientCredits():
            # As fal says it, because apps look for these words.
            said = (
                f"User is locked. Reason: Exhausted balance. This needs {error.required} credits; "
                f"{error.available} are available."
            )
            return flat(403, said, "insufficient_credits", required=error.required, available=error.available)
        case JobError():
            return _of_job_error(error)
        case Unauthorized():
            return flat(401, error.detail, "unauthorized", {"WWW-Authenticate": "Key"})
        case AccessError() if error.code == "not_found":
            return no_request()
        case AccessError():
            status = {"forbidden": 403, "conflict": 400, "invalid_input": 422, "overloaded": 503}.get(error.code, 403)
            wait = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else None
            return flat(status, error.detail, error.code, wait)
        case MediaError():
            wait = {"Retry-After": str(math.ceil(error.retry_after_s))} if error.retry_after_s else None
            status = 400 if error.status == 409 else error.status
            return flat(status, error.message, error.code, wait)
        case LedgerError():
            return flat(400, error.detail, "bad_request")
        case NoLog():
            return no_request()
        case HTTPException():
            kind = "not_found" if error.status_code == 404 else "bad_request"
            return flat(error.status_code, str(error.detail), kind, error.headers)
        case _ if isinstance(error, Unwritable):
            return invalid(detail(["body"], "The input has text that cannot be stored.", "value_error"))
        case _ if isinstance(error, Database):
            log.warning("request.unavailable", error=repr(error))
            said = "The database does not answer at the moment. Try again; with an Idempotency-Key that is always safe."
            return flat(503, said, "internal_error", {"Retry-After": str(AWAY_S)})
        case _:
            raise error


def _of_job_error(error: JobError) -> Answer:
    match error.code:
        case "not_found":
            return no_request()
        case "unknown_model":
            return flat(404, error.detail, "not_found")
        case "invalid_input":
            faults: list[dict[str, Any]] = error.extras.get("errors", [])
            return invalid(*(detail(_place(fault["loc"]), fault["msg"], fault["type"]) for fault in faults))
        case "idempotency_mismatch":
            return invalid(detail(["header", "idempotency-key"], error.detail, "idempotency_mismatch"))
        case _:
            return flat(400, error.detail, "bad_request")


def _place(loc: Sequence[str | int]) -> list[str | int]:
    """Where it is wrong in the body as fal's clients send it: the input is the whole of it."""
    if list(loc) == ["body", "n"]:
        return ["body", COUNT]
    return [part for index, part in enumerate(loc) if not (index == 1 and part == "input")]


# --- a job that ended without a result ----------------------------------------------------------------------------

CANCELLED: Final = "client_cancelled"

_OF_MODEL: Final[Mapping[str, tuple[str, list[str | int]]]] = {
    "content_policy": ("content_policy_violation", ["body", "prompt"]),
    "invalid_input": ("value_error", ["body"]),
    "input_unreachable": ("file_download_error", ["body"]),
    "no_output": ("no_media_generated", ["body"]),
}
_SLOW: Final = frozenset({"provider_timeout", "deadline_exceeded"})
BROKEN: Final = "runner_server_error"
SLOW: Final = "request_timeout"
ENTRIES_MAX: Final = 20


def of_canceled() -> Answer:
    return flat(499, "Request was cancelled by the client", CANCELLED)


def of_failure(error: Mapping[str, Any]) -> Answer:
    """What the result says of a job that failed; `error` as in api.md, Jobs.

    Final is final: 503, and 504 without the mark of a user's own limit, would be asked for again by the clients.
    """
    said = _as_said(error.get("provider") or {})
    if said is not None:
        return said
    code, message = str(error["code"]), str(error["message"])
    retry = {"X-Fal-Needs-Retry": "1" if error.get("retryable") else "0"}
    if code in _OF_MODEL:
        kind, loc = _OF_MODEL[code]
        return Answer({"detail": [detail(loc, message, kind)]}, 422, retry)
    if code in _SLOW:
        return flat(504, message, SLOW, {**retry, "X-Fal-Request-Timeout-Type": "user"}, code=code)
    return flat(500, message, BROKEN, retry, code=code)


def kind_of(error: Mapping[str, Any]) -> str:
    """`error_type` of a failed job's status."""
    code = str(error["code"])
    if code in _OF_MODEL:
        return _OF_MODEL[code][0]
    return SLOW if code in _SLOW else BROKEN


def _as_said(provider: Mapping[str, Any]) -> Answer | None:
    """The provider's own list of faults, where that is how it speaks."""
    body, status = provider.get("body"), provider.get("status")
    listed = cast("dict[str, Any]", body).get("detail") if isinstance(body, dict) else None
    if not isinstance(listed, list) or not isinstance(status, int) or not 400 <= status < 500:
        return None
    entries: list[dict[str, Any]] = []
    for each in cast("list[Any]", listed)[:ENTRIES_MAX]:
        if not isinstance(each, dict):
            return None
        entry = cast("dict[str, Any]", each)
        if not all(isinstance(entry.get(name), str) for name in ("msg", "type")):
            return None
        entries.append(entry)
    return Answer({"detail": entries}, status, {"X-Fal-Needs-Retry": "0"}) if entries else None
