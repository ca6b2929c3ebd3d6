"""What OpenAI's image answers and errors mean to us (providers.md §4.1). Pure."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from safelight.providers.base import JSON, AccountProblem, Ambiguous, Failure, ProviderError, Refused, Rejected
from safelight.providers.failures import failure
from safelight.providers.http import Answer, is_turned_away
from safelight.providers.loose_json import as_list, as_object, as_text
from safelight.providers.openai_spool import OUTPUTS_MAX, Made

POLICY_CODES: Final = frozenset({"moderation_blocked", "content_policy_violation", "safety_violation"})
BALANCE_CODES: Final = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "credit_balance_exhausted", "billing_not_active"}
)
"""They come with a 429 or a 400, and no waiting cures them."""
POLICY_TEXT: Final = re.compile(r"safety system|content policy|moderation", re.IGNORECASE)
RESET_HEADERS: Final = ("x-ratelimit-reset-images", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens")
DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
RETRY_MAX_S: Final = 3600.0


class EndedBadly(Exception):
    """The request was taken, and came to an end without a result: an attempt that failed (and is known to have)."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def to_error(answer: Answer) -> ProviderError | EndedBadly:
    """What an answer other than 2xx means for the attempt."""
    error = as_object(answer.object.get("error"))
    found = _by_words(error, answer.status, answer.kept_body)
    if found is not None:
        return found
    if not error and is_turned_away(answer):
        return Refused(
            failure("provider_unavailable", status=answer.status, body=answer.kept_body), answer.retry_after_s()
        )
    text = as_text(error.get("message"), 10_000)
    match answer.status:
        case 401 | 403:
            return AccountProblem(failure("provider_key", status=answer.status, body=answer.kept_body))
        case 402:
            return AccountProblem(failure("provider_balance", status=answer.status, body=answer.kept_body))
        case 429:
            return Refused(failure("provider_busy", status=429, body=answer.kept_body), wait_s(answer))
        case 400 | 413 | 415 | 422:
            return Rejected(failure("invalid_input", text, status=answer.status, body=answer.kept_body))
        case 404 | 405:
            return Rejected(failure("provider_refused", text, status=answer.status, body=answer.kept_body))
        case status if status >= 500 and error:
            # OpenAI's own word that it is over, not a gateway's guess: there is nothing left to wait for.
            return EndedBadly(failure("provider_failed", text, status=status, body=answer.kept_body))
        case status:
            return Ambiguous(failure("submit_unknown", status=status, body=answer.kept_body))


def to_stream_error(error: Mapping[str, Any]) -> ProviderError | EndedBadly:
    """An `error` event after the answer had begun."""
    kept = {name: error[name] for name in ("code", "type", "message", "param") if isinstance(error.get(name), str)}
    found = _by_words(error, None, kept)
    if found is not None:
        return found
    text = as_text(error.get("message"), 10_000)
    if error.get("type") in ("invalid_request_error", "image_generation_user_error"):
        return Rejected(failure("invalid_input", text, body=kept))
    return EndedBadly(failure("provider_failed", text, body=kept))


def _by_words(error: Mapping[str, Any], status: int | None, body: Any) -> ProviderError | None:
    """By `code` and `type`, which say more than the status."""
    text = as_text(error.get("message"), 10_000)
    names = {as_text(error.get("code"), 100), as_text(error.get("type"), 100)}
    if names & POLICY_CODES or ("image_generation_user_error" in names and text and POLICY_TEXT.search(text)):
        return Rejected(failure("content_policy", text, status=status, body=body))
    if names & BALANCE_CODES:
        return AccountProblem(failure("provider_balance", status=status, body=body))
    return None


def wait_s(answer: Answer) -> float | None:
    """How long a 429 asks us to wait: `retry-after-ms`, `retry-after`, else the longest exhausted limit's reset."""
    try:
        wait_s = float(answer.headers.get("retry-after-ms", "")) / 1000.0
        if not math.isnan(wait_s):
            return min(max(wait_s, 0.0), RETRY_MAX_S)
    except ValueError:
        pass
    said = answer.retry_after_s()
    if said is not None:
        return said
    resets = [
        reset_s
        for name in RESET_HEADERS
        if answer.headers.get(name.replace("reset", "remaining"), "0") == "0"
        and (reset_s := duration_s(answer.headers.get(name, ""))) is not None
    ]
    return max(resets, default=None)


def duration_s(said: str) -> float | None:
    """`6m0s`, `1.5s`, `20ms` in seconds; None for anything else."""
    parts = DURATION.findall(said)
    if not parts or "".join(number + unit for number, unit in parts) != said:
        return None
    return min(sum(float(number) * UNITS_S[unit] for number, unit in parts), RETRY_MAX_S)


def read_images(answer: Mapping[str, Any]) -> Sequence[Made]:
    """The pictures of a whole answer, or of a `…completed` event. Raises EndedBadly where there is none."""
    entries = [as_object(each) for each in as_list(answer.get("data"))] or [answer]
    mime = mime_of(answer.get("output_format"))
    made = [each for entry in entries[:OUTPUTS_MAX] if (each := _image(entry, mime)) is not None]
    if not made:
        raise EndedBadly(failure("no_output", body={"named": sorted(str(name)[:40] for name in answer)[:20]}))
    return made


def _image(entry: Mapping[str, Any], mime: str | None) -> Made | None:
    encoded = entry.get("b64_json")
    if isinstance(encoded, str):
        try:
            data = base64.b64decode(encoded, validate=True)
        except ValueError:  # binascii.Error, and signs beyond ASCII
            return None
        return Made(data, mime) if data else None
    url = as_text(entry.get("url"), 8192)
    if url is not None and url.startswith(("https://", "http://")):
        return Made(None, mime, url)
    return None


def mime_of(said: object) -> str | None:
    """Of an `output_format`: a hint, never trusted."""
    return {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif"}.get(str(said))


def cost_of(answer: Mapping[str, Any], request_id: str | None) -> JSON | None:
    """The tokens that were billed, and the id by which OpenAI's support finds the request."""
    usage = as_object(answer.get("usage"))
    cost: JSON = {
        name: count
        for name in ("input_tokens", "output_tokens", "total_tokens")
        if isinstance(count := usage.get(name), int) and not isinstance(count, bool)
    }
    if request_id:
        cost["request_id"] = request_id[:100]
    return cost or None
