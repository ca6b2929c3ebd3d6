"""What fal's errors mean to us: its catalogue as a table (providers.md §1.8), and how an error body is read (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from safelight.providers.base import Failure
from safelight.providers.failures import failure
from safelight.providers.http import Answer
from safelight.providers.loose_json import as_list, as_object, as_text

TYPE_LENGTH_MAX = 100


@dataclass(frozen=True, slots=True)
class Meaning:
    code: str
    transient: bool


_INPUT: Final = Meaning("invalid_input", transient=False)
_FILE: Final = Meaning("input_unreachable", transient=False)
_BROKE: Final = Meaning("provider_failed", transient=True)
_SLOW: Final = Meaning("provider_timeout", transient=True)
_STOPPED: Final = Meaning("canceled", transient=False)

MEANINGS: Final[Mapping[str, Meaning]] = {
    # model errors, `detail[].type`
    "internal_server_error": _BROKE,
    "generation_timeout": _SLOW,
    "downstream_service_error": _BROKE,
    "downstream_service_unavailable": _BROKE,
    "content_policy_violation": Meaning("content_policy", transient=False),
    "no_media_generated": Meaning("no_output", transient=False),
    "file_download_error": _FILE,
    "image_load_error": _FILE,
    # platform errors, `error_type`
    "request_timeout": _SLOW,
    "startup_timeout": _SLOW,
    "runner_scheduling_failure": _BROKE,
    "runner_connection_timeout": _BROKE,
    "runner_disconnected": _BROKE,
    "runner_connection_refused": _BROKE,
    "runner_connection_error": _BROKE,
    "runner_incomplete_response": _BROKE,
    "runner_server_error": _BROKE,
    "internal_error": _BROKE,
    "client_disconnected": _STOPPED,
    "client_cancelled": _STOPPED,
    "bad_request": _INPUT,
}
"""Types that are not listed are validation errors where they come with a 422, else judged by the status."""

BY_STATUS: Final[Mapping[int, Meaning]] = {
    400: _INPUT,
    404: Meaning("provider_refused", transient=False),
    413: _INPUT,
    415: _INPUT,
    422: _INPUT,
    429: Meaning("provider_busy", transient=True),
    499: _STOPPED,
    504: _SLOW,
}


@dataclass(frozen=True, slots=True)
class FalError:
    """An error body as read: its type if it names one, what it says, and whether the model itself said it."""

    type: str | None
    text: str | None
    from_model: bool = False


def read_error(answer: Answer) -> FalError:
    """The type from the body or the header, and a text a person may read: `prompt: Field required`."""
    body = answer.object
    detail = body.get("detail")
    entries = [as_object(entry) for entry in as_list(detail)[:5]]
    if entries:
        said = as_text(entries[0].get("type"), TYPE_LENGTH_MAX)
        text = "; ".join(filter(None, map(_entry_text, entries)))
        return FalError(said, text or None, from_model=said is not None)
    kind = body.get("error_type") or answer.headers.get("x-fal-error-type")
    text = detail if isinstance(detail, str) else body.get("error") or body.get("message")
    return FalError(as_text(kind, TYPE_LENGTH_MAX), text if isinstance(text, str) else None)


def to_failure(answer: Answer, error: FalError | None = None) -> Failure:
    """The failure behind an error answer. fal's own hint about retrying wins over the table."""
    error = error or read_error(answer)
    known = MEANINGS.get(error.type or "")
    meaning = known or BY_STATUS.get(answer.status) or (_BROKE if answer.status >= 500 else _REFUSED)
    hint = answer.headers.get("x-fal-needs-retry") or answer.headers.get("x-fal-retryable")
    transient = meaning.transient if hint is None else hint.strip().lower() in ("1", "true", "yes")
    if answer.headers.get("x-fal-request-timeout-type", "").lower() == "user":
        transient = False  # our own deadline passed: the same request would meet it again
    if meaning.code == "content_policy":
        transient = False
    return failure(meaning.code, error.text, transient=transient, status=answer.status, body=answer.kept_body)


def status_failure(kind: str | None, text: str, body: Any) -> Failure:
    """The failure that a COMPLETED status names, where the result could not say it better."""
    meaning = MEANINGS.get(kind or "", _BROKE)
    return failure(meaning.code, text, transient=meaning.transient, body=body)


_REFUSED: Final = Meaning("provider_refused", transient=False)


def _entry_text(entry: Mapping[str, Any]) -> str:
    """`loc` without its first word (`body`), and the message."""
    msg = entry.get("msg")
    place = ".".join(str(part) for part in as_list(entry.get("loc"))[1:])
    return f"{place}: {msg}" if place and isinstance(msg, str) else msg if isinstance(msg, str) else ""
