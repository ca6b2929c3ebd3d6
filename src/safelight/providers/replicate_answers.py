"""What Replicate's answers mean to us: predictions, their logs and failures, and refused requests (pure).

Facts: providers.md §3.2, §3.4; the four-digit codes: replicate.com/docs/reference/error-codes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from safelight.providers.base import (
    JSON,
    Canceled,
    Failed,
    Failure,
    Observation,
    Output,
    Running,
    Succeeded,
    Unchanged,
    Waiting,
)
from safelight.providers.failures import failure
from safelight.providers.http import Answer
from safelight.providers.loose_json import as_list, as_object, as_text
from safelight.providers.outputs import find_outputs

LOGS_MAX: Final = 20
LOG_LENGTH_MAX: Final = 300
LOGS_READ_MAX: Final = 20_000
"""Characters of the logs' end that are read: a progress bar rewrites its line thousands of times."""
LEAVES_MAX: Final = 200
DEPTH_MAX: Final = 8
KEPT_INPUT: Final = ("id", "status", "error", "metrics", "model", "version")

BAR: Final = re.compile(r"^\s*(\d{1,3})%\s*\|")
"""A line of tqdm, as Replicate's own client reads it: the only progress there is (§3.2)."""

POLICY: Final = re.compile(
    r"nsfw|\bE005\b|flagged|content polic|violat\w* .*polic|moderation|safety (system|checker|filter)|sensitive content"
    r"|inappropriate|prohibited",
    re.IGNORECASE,
)
PLATFORM: Final = re.compile(
    r"please retry|try again|\(code: PA\)|interrupted|\bE(1000|6716|8765|9243|9825|004)\b|timed? ?out|temporarily"
    r"|internal (server )?error|director|connection (reset|refused|aborted)|queue is full",
    re.IGNORECASE,
)
"""The platform's trouble, not the model's: the same input may succeed (§7.3). A model's own exception will not."""
INPUT: Final = re.compile(
    r"\bE1001\b|out of memory|invalid (input|value|image|size|prompt|url)|must be|not a valid|cannot identify image"
    r"|validation|unsupported",
    re.IGNORECASE,
)


def read_prediction(said: Mapping[str, Any], kind: str) -> Observation:
    """A prediction object. Where it has ended, what it says is final."""
    match said.get("status"):
        case "starting":
            return Waiting()
        case "processing":
            return _running(said.get("logs"))
        case "succeeded":
            return _succeeded(said, kind)
        case "failed":
            return Failed(prediction_failure(said))
        case "canceled":
            return Canceled()
        case "aborted":
            # Its deadline passed before it began: not billed, and another attempt may be luckier.
            return Failed(failure("provider_timeout", as_text(said.get("error"), 10_000), body=kept(said)))
        case other:
            return Unchanged(str(other)[:200])


def prediction_failure(said: Mapping[str, Any]) -> Failure:
    """Why a prediction failed. Replicate has one free text for it; only that tells input from infrastructure."""
    text = as_text(said.get("error"), 10_000)
    if text and POLICY.search(text):
        return failure("content_policy", text, body=kept(said))
    if text and PLATFORM.search(text):
        return failure("provider_failed", text, transient=True, body=kept(said))
    if text and INPUT.search(text):
        return failure("invalid_input", text, body=kept(said))
    return failure("provider_failed", text, transient=False, body=kept(said))


def refusal(answer: Answer) -> Failure:
    """The failure behind a 4xx of a request that was not taken."""
    text = detail_of(answer)
    if text and POLICY.search(text):
        return failure("content_policy", text, status=answer.status, body=answer.kept_body)
    code = {400: "invalid_input", 413: "invalid_input", 422: "invalid_input"}.get(answer.status, "provider_refused")
    return failure(code, text, status=answer.status, body=answer.kept_body)


def detail_of(answer: Answer) -> str | None:
    """The words of a problem body: `detail`, else `title`, and the fields it names."""
    body = answer.object
    text = as_text(body.get("detail"), 10_000) or as_text(body.get("title"), 10_000)
    fields = [as_object(entry) for entry in as_list(body.get("invalid_fields"))[:5]]
    named = "; ".join(f"{entry.get('field')}: {entry.get('description')}" for entry in fields if entry.get("field"))
    return ": ".join(filter(None, (text, named))) or None


def kept(said: Mapping[str, Any]) -> JSON:
    """What of a prediction is kept with a failure: its own words, not our request that it repeats."""
    short = {name: said[name] for name in KEPT_INPUT if said.get(name) not in (None, "")}
    return short if len(json.dumps(short)) <= 2000 else {"id": short.get("id"), "status": short.get("status")}


def _running(logs: object) -> Running:
    lines = log_lines(logs)
    bars = [int(found[1]) for line in lines if (found := BAR.match(line))]
    percent = float(bars[-1]) if bars and bars[-1] <= 100 else None
    return Running(percent=percent, message=lines[-1] if lines else None, logs=lines[-LOGS_MAX:])


def log_lines(logs: object) -> Sequence[str]:
    """The last lines that say something; a bar rewrites its line with carriage returns."""
    if not isinstance(logs, str):
        return []
    parts = re.split(r"[\r\n]+", logs[-LOGS_READ_MAX:])
    return [part.strip()[:LOG_LENGTH_MAX] for part in parts if part.strip()]


def _succeeded(said: Mapping[str, Any], kind: str) -> Observation:
    if said.get("data_removed") is True:
        return Failed(failure("result_expired", body=kept(said)))
    outputs = prediction_outputs(said.get("output"), kind)
    if not outputs:
        return Failed(failure("no_output", body=kept(said)))
    metrics = as_object(said.get("metrics"))
    cost = {
        name: value for name in ("predict_time", "total_time") if isinstance(value := metrics.get(name), int | float)
    }
    return Succeeded(outputs, cost or None)


def prediction_outputs(output: object, kind: str) -> list[Output]:
    """All media in an output of any form: a URL, a list, an object of URLs, `data:` URIs (§3.2)."""
    leaves = [leaf for leaf, _ in zip(_leaves(output, DEPTH_MAX), range(LEAVES_MAX), strict=False)]
    return find_outputs({"output": leaves}, kind)


def _leaves(value: object, depth: int) -> Iterator[object]:
    """Strings, and file objects with a `url`, in the model's order."""
    if depth == 0:
        return
    if isinstance(value, str):
        yield value
        return
    for inner in as_list(value):
        yield from _leaves(inner, depth - 1)
    file = as_object(value)
    if isinstance(file.get("url"), str):
        yield file
        return
    for inner in file.values():
        yield from _leaves(inner, depth - 1)
