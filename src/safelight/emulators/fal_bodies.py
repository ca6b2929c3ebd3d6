"""What fal says: submit, status, result and webhook bodies (providers.md §1.3-§1.6, §1.10). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from safelight.emulators.fal_errors import FalError, fal_error
from safelight.emulators.task import JSON, Broken, Stopped, Succeeded, Task
from safelight.emulators.timeline import STEPS, Phase
from safelight.emulators.wire import iso_time

NAMESPACES = frozenset({"workflows", "comfy"})
NORMAL_STATUS = {"IN_QUEUE": 202, "IN_PROGRESS": 202, "COMPLETED": 200}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`[namespace/]owner/alias[/path]`."""

    full: str
    app: str
    """`[namespace/]owner/alias`: what status, result and cancel are addressed by."""


def parse_endpoint(text: str) -> Endpoint | None:
    """None when it names no app."""
    parts = [part for part in text.split("/") if part]
    if len(parts) == 1 and parts[0].partition("-")[0].isdigit() and "-" in parts[0]:
        parts = list(parts[0].split("-", 1))  # the old form `1234-name`
    length = 3 if parts and parts[0] in NAMESPACES else 2
    if len(parts) < length:
        return None
    return Endpoint("/".join(parts), "/".join(parts[:length]))


def task_urls(queue_url: str, app: str, request_id: str) -> JSON:
    base = f"{queue_url}/{app}/requests/{request_id}"
    return {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}


def error_of(task: Task) -> FalError | None:
    """None while it runs and when it went well."""
    match task.outcome:
        case Broken() as broken:
            return fal_error(broken)
        case Stopped():
            return fal_error(Broken("client_cancelled"))
        case _:
            return None


def status_body(task: Task, queue_url: str, app: str, now: float, *, with_logs: bool) -> JSON:
    urls = task_urls(queue_url, app, task.id)
    stretch = task.timeline.at(now)
    if task.outcome is None and stretch.phase is Phase.QUEUED:
        position = task.timeline.queue_position(now)
        return {"status": "IN_QUEUE", "request_id": task.id, "queue_position": position, **urls}
    logs = log_lines(task, now) if with_logs else None
    if task.outcome is None:
        return {"status": "IN_PROGRESS", "request_id": task.id, "logs": logs, **urls}
    body: JSON = {"status": "COMPLETED", "request_id": task.id, "logs": logs, **urls}
    if isinstance(task.outcome, Succeeded):
        body["metrics"] = {"inference_time": inference_time_s(task)}
    error = error_of(task)
    if error is not None and error.error_type is not None:
        # A model's own failure does not show here (TanStack/ai#396): the result must be fetched.
        body |= {"error": error.text, "error_type": error.error_type}
    return body


def log_lines(task: Task, now: float) -> list[JSON]:
    """The whole list so far. A task that ended has done all its steps, unless it broke or was stopped."""
    done = STEPS if isinstance(task.outcome, Succeeded) else task.timeline.steps_done(now)
    if task.outcome is not None and done < STEPS:
        done = task.timeline.steps_done(task.ended_at or now)
    return [
        {
            "message": f"step {step}/{STEPS}",
            "level": "INFO",
            "source": "USER",
            "timestamp": iso_time(task.timeline.step_time(step, task.ended_at)),
        }
        for step in range(1, done + 1)
    ]


def inference_time_s(task: Task) -> float:
    begun = task.timeline.stretches[-1].begins_at
    return round(max(0.001, (task.ended_at or begun) - begun), 3)


def result_body(task: Task) -> JSON:
    """The model's output. Only for tasks that succeeded."""
    done = task.outcome
    assert isinstance(done, Succeeded)
    wanted = task.order.wanted
    files = [
        {"url": file.url, "content_type": file.mime, "file_name": file.name, "file_size": file.size_bytes}
        for file in done.files
    ]
    if wanted is not None and wanted.kind == "video":
        return {"video": files[0] if files else None, "seed": done.seed, "prompt": task.order.prompt}
    sizes = [{"width": file.width, "height": file.height} for file in done.files]
    return {
        "images": [file | size for file, size in zip(files, sizes, strict=True)],
        "timings": {"inference": inference_time_s(task)},
        "seed": done.seed,
        "has_nsfw_concepts": [False] * len(files),
        "prompt": task.order.prompt,
    }


def billable_units(task: Task) -> str:
    wanted = task.order.wanted
    if wanted is None:
        return "0"
    return f"{wanted.duration_s:g}" if wanted.kind == "video" else str(wanted.count)


def webhook_body(task: Task, *, forged: bool = False) -> JSON:
    """`forged` tells the opposite of the truth, so that whoever believes it shows it."""
    # After a platform retry the gateway's id is that of the last attempt.
    gateway_id = str(uuid5(NAMESPACE_URL, task.id)) if task.faults.requeue else task.id
    head: dict[str, Any] = {"request_id": task.id, "gateway_request_id": gateway_id}
    error = error_of(task)
    if forged and error is None:
        lie = fal_error(Broken("content_policy_violation"))
        return head | {"status": "ERROR", "error": lie.text, "payload": lie.body}
    if forged:
        return head | {"status": "OK", "payload": {"images": [{"url": "https://example.com/forged.png"}]}}
    if error is not None:
        return head | {"status": "ERROR", "error": error.text, "payload": error.body}
    if task.faults.webhook == "payload_error":
        said = "Response payload is not JSON serializable. Either return a JSON serializable object or use the queue."
        return head | {"status": "OK", "payload": None, "payload_error": said}
    return head | {"status": "OK", "payload": result_body(task)}
