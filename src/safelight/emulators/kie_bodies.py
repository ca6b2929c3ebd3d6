"""What KIE says: envelope, records, callbacks (providers.md §2.1-§2.5). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from safelight.emulators.task import JSON, Broken, Succeeded, Task
from safelight.emulators.timeline import Phase

CODE_TEXTS = {
    200: "success",
    400: "Your request was rejected because it violates the content policy.",
    401: "You do not have access permissions",
    402: "The current credits are insufficient, please top up",
    404: "Not found",
    408: "Upstream did not answer within 10 minutes",
    422: "Invalid parameter",
    429: "Your call frequency is too high, please try again later",
    433: "The usage limit of this key has been reached",
    451: "Failed to fetch the image",
    455: "The service is under maintenance",
    500: "Server exception, please try again later or contact customer service",
    501: "Generation failed",
    505: "This feature is disabled",
}

# What a task may fail of: failCode, failMsg.
FAILURES: dict[str, tuple[str, str]] = {
    "content_policy": ("400", "Your prompt was flagged by Website as violating our content policies."),
    "transient": ("500", "Internal server error"),
    "internal_server_error": ("500", "Internal server error"),
    "timeout": ("408", "Upstream did not answer within 10 minutes"),
    "invalid_input": ("422", "Invalid parameter"),
    "image_fetch": ("451", "Failed to fetch the image. Kindly verify any access limits set by you or your provider."),
    "maintenance": ("455", "The service is under maintenance"),
    "generation_failed": ("501", "Generation failed"),
}

VEO_MODELS = ("veo3", "veo3_fast")
VEO_IMAGES_MAX = {"TEXT_2_VIDEO": 0, "FIRST_AND_LAST_FRAMES_2_VIDEO": 2, "REFERENCE_2_VIDEO": 3}
VEO_RATIOS = ("16:9", "9:16", "Auto")
CREDITS = {"google/nano-banana": 4, "google/nano-banana-edit": 4, "nano-banana-pro": 18, "veo3": 250, "veo3_fast": 60}
CREDITS_IMAGE, CREDITS_VIDEO = 5, 50


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why KIE does not take an input."""

    code: int
    message: str


RATIOS = frozenset(["1:1", "9:16", "16:9", "3:4", "4:3", "3:2", "2:3", "5:4", "4:5", "21:9", "auto"])
PROMPT_MAX = {"nano-banana-pro": 10_000}
IMAGES_FIELD = {"google/nano-banana-edit": ("image_urls", 10, True), "nano-banana-pro": ("image_input", 8, False)}


def flaw_in(model: str, given: JSON) -> Flaw | None:
    """The documented rules of the nano-banana family; other models are only asked for a prompt."""
    prompt = given.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        return Flaw(422, "prompt is required")
    if len(prompt) > PROMPT_MAX.get(model, 5000):
        return Flaw(422, f"prompt exceeds {PROMPT_MAX.get(model, 5000)} characters")
    name, images_max, required = IMAGES_FIELD.get(model, ("image_urls", 14, False))
    images: Any = given.get(name)
    if required and not images:
        return Flaw(422, f"{name} is required")
    if images is not None and (not isinstance(images, list) or len(images) > images_max):  # pyright: ignore[reportUnknownArgumentType]
        return Flaw(422, f"{name} must be a list of at most {images_max} URLs")
    size = given.get("image_size")
    if model.startswith("google/nano-banana") and size is not None and str(size) not in RATIOS:
        return Flaw(422, f"image_size is not within the range of allowed options: {size}")
    return None


def veo_flaw_in(model: str, given: JSON) -> Flaw | None:
    """The documented rules of Veo 3.1 (§2.5)."""
    prompt = given.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        return Flaw(422, "prompt is required")
    kind, images = given.get("generationType"), given.get("imageUrls")
    if kind is not None and kind not in VEO_IMAGES_MAX:
        return Flaw(422, f"generationType must be one of {', '.join(VEO_IMAGES_MAX)}")
    if kind == "REFERENCE_2_VIDEO" and model != "veo3_fast":
        return Flaw(422, "REFERENCE_2_VIDEO is only supported by veo3_fast")
    if images is not None and not isinstance(images, list):
        return Flaw(422, "imageUrls must be a list of URLs")
    count = len(images or [])  # pyright: ignore[reportUnknownArgumentType]
    most = VEO_IMAGES_MAX[kind] if kind is not None else VEO_IMAGES_MAX["FIRST_AND_LAST_FRAMES_2_VIDEO"]
    if count > most or (count == 0 and kind in ("FIRST_AND_LAST_FRAMES_2_VIDEO", "REFERENCE_2_VIDEO")):
        return Flaw(422, f"{count} pictures do not fit generationType {kind or 'FIRST_AND_LAST_FRAMES_2_VIDEO'}")
    ratio = given.get("aspect_ratio", given.get("aspectRatio"))
    if ratio is not None and ratio not in VEO_RATIOS:
        return Flaw(422, f"aspect_ratio must be one of {', '.join(VEO_RATIOS)}")
    seed = given.get("seeds")
    if seed is not None and (not isinstance(seed, int) or not 10_000 <= seed <= 99_999):
        return Flaw(422, "seeds must be an integer from 10000 to 99999")
    return None


def envelope(code: int, data: Any = None, message: str | None = None) -> JSON:
    return {"code": code, "msg": message or CODE_TEXTS.get(code, "error"), "data": data}


def credits_for(task: Task) -> int:
    wanted = task.order.wanted
    if wanted is None:
        return 0
    usual = CREDITS_VIDEO if wanted.kind == "video" else CREDITS_IMAGE
    return CREDITS.get(task.order.model, usual) * wanted.count


def failure_of(task: Task) -> tuple[str, str] | None:
    """`failCode` and `failMsg`; None unless it failed."""
    match task.outcome:
        case Broken() as broken:
            code, text = FAILURES.get(broken.reason, FAILURES["generation_failed"])
            return code, broken.message or text
        case _:
            return None


def state_of(task: Task, now: float) -> str:
    if task.outcome is not None:
        return "success" if isinstance(task.outcome, Succeeded) else "fail"
    if task.timeline.at(now).phase is Phase.RUNNING:
        return "generating"
    return "waiting" if 2 * task.timeline.queue_position(now) > task.timeline.queue_length else "queuing"


def result_urls(task: Task) -> list[str] | None:
    return [file.url for file in task.outcome.files] if isinstance(task.outcome, Succeeded) else None


def param_of(task: Task) -> str:
    """The request as KIE gives it back: a JSON string, in newer answers with the input encoded once more."""
    if task.order.extra["veo"]:
        return _text({**task.order.input, "callBackUrl": task.order.webhook_url, "model": task.order.model})
    asked = {"model": task.order.model, "callBackUrl": task.order.webhook_url, "input": _text(task.order.input)}
    return _text({name: value for name, value in asked.items() if value is not None})


def record(task: Task, now: float) -> JSON:
    """`data` of jobs/recordInfo."""
    urls, failure = result_urls(task), failure_of(task)
    ended_at = task.ended_at
    body: JSON = {
        "taskId": task.id,
        "model": task.order.model,
        "state": state_of(task, now),
        "param": param_of(task),
        "resultJson": "" if urls is None else _text({"resultUrls": urls}),
        "failCode": failure[0] if failure else "",
        "failMsg": failure[1] if failure else "",
        "costTime": None if ended_at is None else _ms(ended_at - task.timeline.accepted_at),
        "completeTime": None if ended_at is None else _ms(ended_at),
        "createTime": _ms(task.timeline.accepted_at),
        "updateTime": _ms(ended_at or now),
    }
    if urls is not None:
        body["creditsConsumed"] = credits_for(task)
    return body


def callback(task: Task, *, forged: bool = False) -> JSON:
    """The market callback of an ended task. `forged` says the opposite of the truth."""
    assert task.ended_at is not None
    urls, failure = result_urls(task), failure_of(task)
    if forged:
        urls, failure = (
            (None, FAILURES["content_policy"]) if urls is not None else (["https://example.com/f.png"], None)
        )
    data: JSON = {
        "taskId": task.id,
        "model": task.order.model,
        "state": "fail" if failure else "success",
        "param": param_of(task),
        "resultJson": None if urls is None else _text({"resultUrls": urls}),
        "costTime": 0 if failure else round(task.ended_at - task.timeline.accepted_at),
        "completeTime": _ms(task.ended_at),
        "createTime": _ms(task.timeline.accepted_at),
        "updateTime": _ms(task.ended_at),
        "failCode": failure[0] if failure else None,
        "failMsg": failure[1] if failure else None,
    }
    if failure:
        return {"code": 501, "msg": "Playground task failed.", "data": data}
    return {
        "code": 200,
        "msg": "Playground task completed successfully.",
        "data": data | {"creditsConsumed": credits_for(task)},
    }


def veo_record(task: Task) -> JSON:
    """`data` of veo/record-info."""
    urls, failure = result_urls(task), failure_of(task)
    flag = 1 if urls is not None else 0 if failure is None else 3 if failure[0] in ("408", "500") else 2
    return {
        "taskId": task.id,
        "paramJson": param_of(task),
        "successFlag": flag,
        "response": None if urls is None else _veo_result(urls) | {"taskId": task.id},
        "createTime": _clock_text(task.timeline.accepted_at),
        "completeTime": None if task.ended_at is None else _clock_text(task.ended_at),
        "errorCode": failure[0] if failure else None,
        "errorMessage": failure[1] if failure else "",
        "fallbackFlag": False,
    }


def veo_callback(task: Task, *, forged: bool = False) -> JSON:
    urls, failure = result_urls(task), failure_of(task)
    if forged:
        urls, failure = (
            (None, FAILURES["content_policy"]) if urls is not None else (["https://example.com/f.mp4"], None)
        )
    head: JSON = {"taskId": task.id, "promptJson": param_of(task), "fallbackFlag": False}
    if failure is not None:
        code = int(failure[0]) if failure[0] in ("400", "422", "500", "501") else 501
        return {"code": code, "msg": failure[1], "data": head}
    return {
        "code": 200,
        "msg": "Veo3.1 video generated successfully.",
        "data": head | {"info": _veo_result(urls or [])},
    }


def _veo_result(urls: list[str]) -> JSON:
    return {"resultUrls": urls, "originUrls": urls, "resolution": "1080p"}


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _clock_text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
