"""What Replicate says: predictions, problems, webhooks and their signature (providers.md §3, §6). Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Any

from safelight.emulators.task import JSON, Broken, Stopped, Succeeded, Task
from safelight.emulators.timeline import STEPS
from safelight.emulators.wire import iso_time

# What a prediction may fail of: the one free text there is.
FAILURES: dict[str, str] = {
    "content_policy": "NSFW content detected. Try running it again, or try a different prompt.",
    "sensitive": "The input or output was flagged as sensitive. Please try again with different inputs. (E005)",
    "transient": "Prediction interrupted; please retry (code: PA)",
    "timeout": "Prediction timed out after 30m (E6716)",
    "internal_server_error": "Director: unexpected error handling prediction (E9243)",
    "out_of_memory": "Model ran out of memory (E1001)",
    "invalid_input": "Invalid input: image must be at least 256x256",
    "model_error": "CUDA error: device-side assert triggered",
    "aborted": "Prediction aborted: its deadline passed before it started",
}

REFUSED: dict[str, tuple[int, JSON]] = {
    "401": (401, {"title": "Unauthenticated", "detail": "You did not pass a valid authentication token"}),
    "402": (
        402,
        {
            "title": "Insufficient credit",
            "detail": "You have insufficient credit to run this model. Go to "
            "https://replicate.com/account/billing#billing to purchase credit.",
        },
    ),
    "404": (404, {"title": "Not found", "detail": "The requested resource could not be found."}),
    "422": (
        422,
        {
            "title": "Input validation failed",
            "detail": "- input: prompt is required",
            "invalid_fields": [{"type": "required", "field": "input.prompt", "description": "prompt is required"}],
        },
    ),
    "455": (503, {"title": "Service unavailable", "detail": "Down for maintenance."}),
    "500": (500, {"title": "Internal server error", "detail": "Internal server error"}),
    "503": (503, {"title": "Service unavailable", "detail": "Service unavailable"}),
}
SINGLE = ("pro", "kontext", "ultra", "imagen", "nano-banana", "recraft", "ideogram")
"""Models whose names hold one of these answer one URL instead of a list, as videos always do."""
TERMINAL = frozenset({"succeeded", "failed", "canceled", "aborted"})


def problem(status: int, body: JSON) -> JSON:
    return {**body, "status": status}


def throttled(retry_after_s: float | None) -> JSON:
    said = 30 if retry_after_s is None else retry_after_s
    body: JSON = {"detail": f"Request was throttled. Your rate limit resets in ~{said:g}s.", "status": 429}
    return body if retry_after_s is None else body | {"retry_after": retry_after_s}


def invalid(field: str, said: str) -> JSON:
    return problem(
        422,
        {
            "title": "Input validation failed",
            "detail": f"- input.{field}: {said}",
            "invalid_fields": [{"type": "value_error", "field": f"input.{field}", "description": said}],
        },
    )


def status_of(task: Task, now: float) -> str:
    match task.outcome:
        case Succeeded():
            return "succeeded"
        case Stopped():
            return "canceled"
        case Broken() as broken:
            return "aborted" if broken.reason == "aborted" else "failed"
        case None:
            # A prediction does not go back: a runner that failed is the platform's business.
            return "processing" if now >= task.timeline.starts_at else "starting"


def error_of(task: Task) -> str | None:
    match task.outcome:
        case Broken() as broken:
            return broken.message or FAILURES.get(broken.reason, FAILURES["model_error"])
        case _:
            return None


def output_of(task: Task) -> Any:
    """A list of URLs, or one: as the model has it."""
    if not isinstance(task.outcome, Succeeded):
        return None
    urls = [file.url for file in task.outcome.files]
    wanted = task.order.wanted
    is_single = (wanted is not None and wanted.kind == "video") or any(word in task.order.model for word in SINGLE)
    return (urls[0] if urls else None) if is_single else urls


def logs_of(task: Task, now: float) -> str:
    """A seed, and a bar as tqdm draws it, line by line."""
    if now < task.timeline.starts_at or (isinstance(task.outcome, Broken) and task.outcome.reason == "aborted"):
        return ""
    is_done = isinstance(task.outcome, Succeeded)
    done = STEPS if is_done else task.timeline.steps_done(min(now, task.ended_at or now))
    bars = [f"{100 * n // STEPS:3d}%|{'█' * (n // 3):<10}| {n}/{STEPS} [00:{n:02d}<00:{STEPS - n:02d}, 9.87it/s]"
            for n in range(1, done + 1)]  # fmt: skip
    return "\n".join([f"Using seed: {task.number}", *bars]) + "\n"


def prediction(task: Task, now: float, api_url: str, *, removed: bool = False) -> JSON:
    """The prediction object. `removed`: its hour has passed, and all it held with it."""
    order, ended_at = task.order, task.ended_at
    status = status_of(task, now)
    started_at = task.timeline.starts_at if status not in ("starting", "aborted") else None
    if started_at is not None and ended_at is not None and ended_at < started_at:
        started_at = None  # canceled in the queue
    body: JSON = {
        "id": task.id,
        "model": order.model,
        "version": order.extra["version"],
        "status": status,
        "input": {} if removed else order.input,
        "output": None if removed else output_of(task),
        "logs": "" if removed else logs_of(task, now),
        "error": error_of(task),
        "metrics": {},
        "source": "api",
        "data_removed": removed,
        "webhook": order.webhook_url,
        "webhook_events_filter": order.extra["events"],
        "deadline": None,
        "deployment": order.extra["deployment"],
        "created_at": iso_time(task.timeline.accepted_at),
        "started_at": None if started_at is None else iso_time(started_at),
        "completed_at": None if ended_at is None else iso_time(ended_at),
        "urls": {
            "get": f"{api_url}/predictions/{task.id}",
            "cancel": f"{api_url}/predictions/{task.id}/cancel",
            "stream": f"{api_url.removesuffix('/v1')}/stream/{task.id}",
            "web": f"https://replicate.com/p/{task.id}",
        },
    }
    if ended_at is not None:
        body["metrics"] = {"total_time": round(ended_at - task.timeline.accepted_at, 3)}
        if started_at is not None:
            body["metrics"]["predict_time"] = round(ended_at - started_at, 3)
    return body


def forged_prediction(body: JSON) -> JSON:
    """The opposite of the truth."""
    if body["status"] == "succeeded":
        return {**body, "status": "failed", "output": None, "error": FAILURES["content_policy"]}
    return {**body, "status": "succeeded", "output": ["https://example.com/f.png"], "error": None}


def new_id() -> str:
    """Letters and digits of base32, as Replicate's ids look."""
    return base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()


def secret_from_seed(seed: int) -> str:
    """The same seed gives the same secret, so that a restarted emulator is still believed."""
    return (
        "whsec_" + base64.b64encode(hashlib.sha256(f"safelight replicate emulator {seed}".encode()).digest()).decode()
    )


def standard_headers(secret: str, message_id: str, body: bytes, timestamp_s: int) -> dict[str, str]:
    """Standard Webhooks: the same id on every attempt, the time of this one."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    digest = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": f"v1,{digest}",
    }
