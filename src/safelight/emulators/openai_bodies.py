"""What OpenAI's image API says: answers, events, errors, limits (providers.md §4.1). Pure."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, replace
from typing import Any

from safelight.emulators.openai_form import Part
from safelight.emulators.task import JSON, Broken
from safelight.emulators.wanted import SIDE_MAX, SIDE_MIN, Unwanted, Wanted, read_wanted

PROMPT_MAX = 32_000
N_MAX = 10
PREVIEWS_MAX = 3
IMAGES_MAX = 16
MODELS = ("gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2", "gpt-image-2.5-sunburst", "gpt-image-2.5-flare")
QUALITIES = ("low", "medium", "high", "xhigh", "max", "auto", "standard", "hd")
MAGIC = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"RIFF", "webp"))


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error envelope and its status."""

    status: int
    message: str
    type: str
    code: str | None = None
    param: str | None = None

    def body(self) -> JSON:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


REFUSED: dict[str, Complaint] = {
    "401": Complaint(
        401,
        "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.",
        "invalid_request_error",
        "invalid_api_key",
    ),
    "402": Complaint(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    ),
    "404": Complaint(
        404,
        "The model does not exist or you do not have access to it.",
        "invalid_request_error",
        "model_not_found",
        "model",
    ),
    "422": Complaint(400, "Invalid value for 'size'.", "image_generation_user_error", "invalid_value", "size"),
    "429": Complaint(
        429,
        "Rate limit reached for images per minute. Please try again later.",
        "input-images",
        "rate_limit_exceeded",
    ),
    "455": Complaint(503, "The engine is currently overloaded, please try again later.", "service_unavailable_error"),
    "500": Complaint(500, "The server had an error while processing your request.", "server_error"),
    "503": Complaint(503, "The engine is currently overloaded, please try again later.", "service_unavailable_error"),
}

# What an accepted request may fail of.
FAILURES: dict[str, Complaint] = {
    "content_policy": Complaint(
        400,
        "Your request was rejected by the safety system. If you believe this is an error, contact us at "
        "help.openai.com and include the request ID. safety_violations=[violence].",
        "image_generation_user_error",
        "moderation_blocked",
    ),
    "invalid_input": Complaint(
        400, "Invalid image file or mode for image 1.", "image_generation_user_error", "invalid_image_file", "image"
    ),
    "transient": REFUSED["500"],
    "internal_server_error": REFUSED["500"],
    "quota": REFUSED["402"],
    "billing": Complaint(
        400, "Billing hard limit has been reached.", "billing_limit_user_error", "billing_hard_limit_reached"
    ),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as read and checked."""

    model: str
    input: JSON
    """As it is remembered: without `_emulator`, pictures described."""
    wanted: Wanted
    stream: bool
    previews: int
    faults: Any
    is_edit: bool


class Wrong(Exception):
    """The request cannot be."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(complaint.message)
        self.complaint = complaint


def wrong(message: str, param: str, code: str = "invalid_value") -> Wrong:
    return Wrong(Complaint(400, message, "invalid_request_error", code, param))


def read_request(given: JSON, pictures: list[Part] | None) -> Asked:
    """`pictures`: of an edit, None for a generation. Raises Wrong."""
    given = dict(given)
    faults = given.pop("_emulator", None)
    model, prompt = given.get("model"), given.get("prompt")
    if not isinstance(model, str) or not model.startswith(("gpt-image-", "chatgpt-image-")) or model == "gpt-image-1":
        raise Wrong(REFUSED["404"])
    if not isinstance(prompt, str) or not prompt:
        raise wrong("Missing required parameter: 'prompt'.", "prompt", "missing_required_parameter")
    if len(prompt) > PROMPT_MAX:
        raise wrong(f"Invalid 'prompt': string too long, maximum is {PROMPT_MAX}.", "prompt", "string_above_max_length")
    if "response_format" in given:
        raise wrong("Unknown parameter: 'response_format'.", "response_format", "unknown_parameter")
    if str(given.get("quality", "auto")) not in QUALITIES:
        raise wrong(f"Invalid value: {given['quality']!r}.", "quality")
    previews = _whole(given, "partial_images", 0, PREVIEWS_MAX, 0)
    wanted = _wanted(model, given, _whole(given, "n", 1, N_MAX, 1))
    if given.get("background") == "transparent" and wanted.format == "jpeg":
        raise wrong("Transparent background is not supported for JPEG.", "background")
    if pictures is not None:
        given["images"] = _described(pictures)
    stream = given.pop("stream", False) in (True, "true")
    return Asked(model, given, wanted, stream, previews, faults, pictures is not None)


def _wanted(model: str, given: JSON, count: int) -> Wanted:
    size = given.get("size") or "auto"
    shape: JSON = {"width": 1024, "height": 1024}
    if size != "auto":
        across, cross, down = str(size).partition("x")
        if not cross or not across.isdecimal() or not down.isdecimal():
            raise wrong(f"Invalid size: {size!r}.", "size")
        shape = {"width": int(across), "height": int(down)}
        if not all(SIDE_MIN <= side <= SIDE_MAX for side in shape.values()):
            raise wrong(f"Invalid size: {size!r}. Sides are {SIDE_MIN} to {SIDE_MAX} pixels.", "size")
    try:
        wanted = read_wanted(model, {**shape, "output_format": given.get("output_format")}, "png")
    except Unwanted as bad:
        raise wrong(bad.message, bad.field) from None
    return replace(wanted, count=count)


def _whole(given: JSON, name: str, low: int, high: int, default: int) -> int:
    value = given.get(name)
    if value is None:
        return default
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise wrong(f"Invalid {name!r}: expected an integer from {low} to {high}.", name, "integer_out_of_range")
    return value


def _described(pictures: list[Part]) -> list[JSON]:
    images = [part for part in pictures if part.name in ("image", "image[]")]
    if not images:
        raise wrong("Missing required parameter: 'image'.", "image", "missing_required_parameter")
    if len(images) > IMAGES_MAX:
        raise wrong(f"Too many images: at most {IMAGES_MAX}.", "image", "array_above_max_length")
    described: list[JSON] = []
    for index, part in enumerate(pictures):
        found = next((name for magic, name in MAGIC if part.data.startswith(magic)), None)
        if found is None:
            raise Wrong(
                replace(FAILURES["invalid_input"], message=f"Invalid image file or mode for image {index + 1}.")
            )
        described.append({"field": part.name, "format": found, "bytes": len(part.data), "type": part.mime})
    return described


def failure_of(broken: Broken) -> Complaint:
    return FAILURES.get(broken.reason, FAILURES["transient"])


def images_answer(asked: Asked, pictures: list[bytes]) -> JSON:
    return {
        "created": int(time.time()),
        "data": [{"b64_json": base64.b64encode(each).decode()} for each in pictures],
        **_about(asked),
        "usage": usage(asked, len(pictures)),
    }


def event(asked: Asked, picture: bytes, preview: int | None) -> tuple[str, JSON]:
    """Name and data of a `partial_image` event, or of `completed` where `preview` is None."""
    name = ("image_edit" if asked.is_edit else "image_generation") + (
        ".completed" if preview is None else ".partial_image"
    )
    data: JSON = {
        "type": name,
        "b64_json": base64.b64encode(picture).decode(),
        "created_at": int(time.time()),
        **_about(asked),
    }
    return name, data | ({"usage": usage(asked, 1)} if preview is None else {"partial_image_index": preview})


def _about(asked: Asked) -> JSON:
    quality = str(asked.input.get("quality") or "auto")
    return {
        "background": "transparent" if asked.input.get("background") == "transparent" else "opaque",
        "output_format": asked.wanted.format,
        "quality": "medium" if quality == "auto" else quality,
        "size": f"{asked.wanted.width}x{asked.wanted.height}",
    }


def usage(asked: Asked, count: int) -> JSON:
    text = 1 + len(str(asked.input["prompt"])) // 4
    image = 300 * len(asked.input.get("images", []))
    output = count * (max(1, asked.wanted.width * asked.wanted.height // 1000) + 100 * asked.previews)
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": output,
        "total_tokens": text + image + output,
    }
