"""Errors as the world sees them: problem+json (RFC 9457) with a stable code. The one table from rooms to HTTP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import asyncpg
import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from safelight.access.errors import AccessError, Unauthorized
from safelight.changes.log import MustRefetch, NoLog
from safelight.credits.ledger import InsufficientCredits, LedgerError
from safelight.jobs.errors import JobError
from safelight.library.errors import LibraryError
from safelight.media.errors import MediaError, UploadOffsetMismatch
from safelight.outgoing.errors import OutgoingError
from safelight.realtime.sse import BadCursor

log: Final = structlog.get_logger("api")

STATUS: Final[Mapping[str, int]] = {
    "unauthorized": 401,
    "insufficient_credits": 402,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "idempotency_mismatch": 409,
    "must_refetch": 410,
    "too_large": 413,
    "unsupported_media_type": 415,
    "range_not_satisfiable": 416,
    "invalid_input": 422,
    "unknown_model": 422,
    "rate_limited": 429,
    "internal": 500,
    "overloaded": 503,
}
TITLES: Final[Mapping[str, str]] = {
    "unauthorized": "Not signed in",
    "insufficient_credits": "Too few credits",
    "forbidden": "Not allowed",
    "not_found": "Not found",
    "method_not_allowed": "Method not allowed",
    "conflict": "Conflict",
    "idempotency_mismatch": "Same key, other request",
    "must_refetch": "Read again",
    "too_large": "Too large",
    "unsupported_media_type": "Unsupported media type",
    "range_not_satisfiable": "Range not satisfiable",
    "invalid_input": "Invalid input",
    "unknown_model": "Unknown model",
    "rate_limited": "Too many requests",
    "internal": "Internal error",
    "overloaded": "Overloaded",
}
_BY_STATUS: Final = {
    400: "invalid_input",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
    503: "overloaded",
}
SAID_MAX: Final = 200
"""Of an offending input, repeated in an error: enough to recognise, too little to amplify."""


class Fault(BaseModel):
    """One thing that is wrong with the input."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(BaseModel):
    """RFC 9457. `code` is stable: branch on it, show `detail`."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    instance: str
    errors: list[Fault] | None = None
    required: int | None = Field(None, description="insufficient_credits: what was needed")
    available: int | None = Field(None, description="insufficient_credits: what is there")
    epoch: str | None = Field(None, description="must_refetch: the log's present life")
    head: int | None = Field(None, description="must_refetch: where the log ends")
    oldest: int | None = Field(None, description="must_refetch: the oldest entry kept")
    suggestions: list[str] | None = Field(None, description="unknown_model: names that may have been meant")
    offset: int | None = Field(None, description="conflict of an upload: how many bytes have arrived")


def documented(*codes: str) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route: the problems it may answer with."""
    by_status: dict[int | str, list[str]] = {}
    for code in codes:
        by_status.setdefault(STATUS[code], []).append(code)
    return {
        status: {
            "description": " or ".join(f"`{code}`" for code in named),
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, named in by_status.items()
    }


def problem(
    instance: str, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **extras: Any
) -> Response:
    """The answer for `code`. Extras that are None are left out."""
    status = STATUS[code]
    body = {
        "type": f"https://safelight.dev/problems/{code.replace('_', '-')}",
        "title": TITLES[code],
        "status": status,
        "code": code,
        "detail": detail,
        "instance": instance,
        **{name: value for name, value in extras.items() if value is not None},
    }
    sent = {"Cache-Control": "no-store", **(headers or {})}
    if code == "unauthorized":
        sent.setdefault("WWW-Authenticate", "Bearer")
    return Response(msgspec.json.encode(body, enc_hook=str), status, sent, "application/problem+json")


def of_error(instance: str, error: Exception) -> Response:
    """What an error of a room becomes. Raises it again if it is none that people should see."""
    match error:
        case InsufficientCredits():
            said = f"This needs {error.required} credits; {error.available} are available."
            return problem(instance, "insufficient_credits", said, required=error.required, available=error.available)
        case MustRefetch():
            return problem(
                instance, "must_refetch", str(error), epoch=str(error.epoch), head=error.head, oldest=error.oldest
            )
        case NoLog():
            return problem(instance, "not_found", "There is no such project.")
        case JobError():
            headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else None
            return problem(instance, error.code, error.detail, headers=headers, **error.extras)
        case LibraryError():
            return problem(instance, error.code, error.detail, errors=error.errors or None)
        case OutgoingError():
            return problem(instance, error.code, error.detail, errors=error.errors or None)
        case LedgerError():
            return problem(instance, error.code if error.code in STATUS else "conflict", error.detail)
        case AccessError():
            headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else None
            return problem(instance, error.code, error.detail, headers=headers)
        case MediaError():
            wait_s = math.ceil(error.retry_after_s) if error.retry_after_s else None
            return problem(
                instance,
                _media_code(error),
                error.message,
                headers={"Retry-After": str(wait_s)} if wait_s else None,
                offset=error.offset if isinstance(error, UploadOffsetMismatch) else None,
            )
        case _:
            raise error


def _media_code(error: MediaError) -> str:
    match error.code:
        case "not_found" | "upload_not_found":
            return "not_found"
        case "upload_too_large" | "result_too_large":
            return "too_large"
        case "upload_in_use" | "upload_offset_mismatch":
            return "conflict"
        case "upload_too_many":
            return "rate_limited"
        case "overloaded" | "storage_unavailable":
            return "overloaded"
        case _:
            return "invalid_input"


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document."""

    async def known(request: Request, error: Exception) -> Response:
        if isinstance(error, Unauthorized):
            request.app.state.context.metrics.credential_refused(error.reason)
        return of_error(request.url.path, error)

    for kind in (AccessError, JobError, LibraryError, LedgerError, MediaError, MustRefetch, NoLog, OutgoingError):
        app.add_exception_handler(kind, known)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults: list[dict[str, Any]] = [
            {"loc": list(fault["loc"]), "msg": fault["msg"], "type": fault["type"]} for fault in error.errors()[:50]
        ]
        if any(fault["loc"] == ["body"] and fault["type"] != "missing" for fault in faults) and not _is_json(request):
            said = "The body is JSON: send it with Content-Type: application/json."
            return problem(request.url.path, "unsupported_media_type", said)
        first: dict[str, Any] = faults[0] if faults else {"loc": [], "msg": "the input is invalid"}
        where = ".".join(str(part) for part in first["loc"])[:SAID_MAX]
        return problem(request.url.path, "invalid_input", f"{where}: {first['msg']}"[:1000], errors=faults)

    app.add_exception_handler(RequestValidationError, invalid)

    async def unwritable(request: Request, error: Exception) -> Response:
        said = "The input has text that cannot be stored: NUL, or half a surrogate pair."
        return problem(request.url.path, "invalid_input", said)

    for kind in (
        asyncpg.UntranslatableCharacterError, asyncpg.CharacterNotInRepertoireError, UnicodeEncodeError,
    ):  # fmt: skip
        app.add_exception_handler(kind, unwritable)

    async def bad_cursor(request: Request, error: Exception) -> Response:
        return problem(request.url.path, "invalid_input", str(error))

    app.add_exception_handler(BadCursor, bad_cursor)

    async def database_away(request: Request, error: Exception) -> Response:
        log.warning("request.unavailable", path=request.url.path, error=repr(error))
        # Not "nothing was changed": a commit whose answer was lost may have been one.
        said = "The database does not answer at the moment. Try again; with the same id or key that is always safe."
        return problem(request.url.path, "overloaded", said, headers={"Retry-After": "2"})

    for kind in (
        # OSError: refused, timed out, or (of an embedded server that is down) no socket there at all.
        OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError,
        asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError, asyncpg.AdminShutdownError,
    ):  # fmt: skip
        app.add_exception_handler(kind, database_away)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = _BY_STATUS.get(error.status_code, "internal" if error.status_code >= 500 else "invalid_input")
        return problem(request.url.path, code, str(error.detail), headers=error.headers)

    app.add_exception_handler(HTTPException, http)

    async def unforeseen(request: Request, error: Exception) -> Response:
        log.error("request.failed", path=request.url.path, exc_info=error)
        return problem(request.url.path, "internal", "Something went wrong on our side; the log has the details.")

    app.add_exception_handler(Exception, unforeseen)
