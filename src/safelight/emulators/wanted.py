"""What a model's input asks for: kind, count, size, length, format. Pure.

Only as much of the models' own schemas as decides the file; sizes settle for small ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, cast

from safelight.emulators.media import MediaKind

IMAGE_SIDE = 768
VIDEO_SIZE = (640, 360)
VIDEO_DURATION_S = 3.0
SIDE_MIN, SIDE_MAX = 64, 2048
VIDEO_SIDE_MAX = 640  # a clip of 720p takes two cores a quarter of a minute
DURATION_MIN_S, DURATION_MAX_S = 0.5, 10.0  # made on a laptop while somebody waits
COUNT_MAX = 8

NAMED_SIZES = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
RESOLUTIONS = {"480p": 480, "540p": 540, "580p": 580, "720p": 720, "1080p": 1080}
LONG_SIDES = {"1k": 1024, "2k": 2048, "4k": 2048}
VIDEO_WORDS = re.compile(
    r"video|veo|kling|wan|luma|ray2|minimax|hailuo|hunyuan|sora|ltx|seedance|pixverse|runway|cogvideo|mochi|animate"
)
RATIO = re.compile(r"^(\d{1,2})[:x](\d{1,2})$")
NUMBER = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*s?\s*$")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make: `count` files of one size."""

    kind: MediaKind
    count: int
    width: int
    height: int
    duration_s: float
    format: str


class Unwanted(Exception):
    """The input cannot be: which field, why, and the provider's word for it (`type`)."""

    def __init__(self, field: str, message: str, type: str, context: dict[str, Any], value: Any) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message
        self.type = type
        self.context = context
        self.value = value


def kind_of(model: str) -> MediaKind:
    """By its name: nobody keeps a list of all models of all vendors."""
    return "video" if VIDEO_WORDS.search(model.lower()) else "image"


def read_wanted(model: str, given: dict[str, Any], default_format: str) -> Wanted:
    """Raises Unwanted for sizes, counts and lengths that no model takes."""
    kind = kind_of(model)
    width, height = _size(kind, given)
    count = 1 if kind == "video" else _whole(given, ("num_images", "n", "max_images"), 1, COUNT_MAX, 1)
    if kind == "video":
        return Wanted(kind, count, width - width % 2, height - height % 2, _duration(given), "mp4")
    named = str(given.get("output_format") or default_format).lower()
    chosen = {"jpg": "jpeg"}.get(named, named)
    if chosen not in ("png", "jpeg", "webp"):
        raise Unwanted(
            "output_format", f"Input should be 'jpeg', 'png' or 'webp', not {named!r}", "literal_error", {}, named
        )
    return Wanted(kind, count, width, height, 0.0, chosen)


def _size(kind: MediaKind, given: dict[str, Any]) -> tuple[int, int]:
    size: object = given.get("image_size") or given.get("video_size") or given.get("size")
    if isinstance(size, dict):
        given = {**given, **cast("dict[str, Any]", size)}
        size = None
    side_max = VIDEO_SIDE_MAX if kind == "video" else SIDE_MAX
    base = VIDEO_SIZE if kind == "video" else (IMAGE_SIDE, IMAGE_SIDE)
    if "width" in given or "height" in given:
        return (
            _whole(given, ("width",), SIDE_MIN, side_max, base[0]),
            _whole(given, ("height",), SIDE_MIN, side_max, base[1]),
        )
    if isinstance(size, str) and size in NAMED_SIZES:
        return NAMED_SIZES[size]
    wish = str(given.get("resolution") or "").lower()
    ratio = RATIO.match(str(given.get("aspect_ratio") or given.get("aspectRatio") or size or ""))
    if ratio is None:
        if wish not in RESOLUTIONS and wish not in LONG_SIDES:
            return base
        ratio = RATIO.match("16:9" if kind == "video" else "1:1")
        assert ratio is not None
    across, down = max(1, int(ratio[1])), max(1, int(ratio[2]))
    if wish in RESOLUTIONS:
        short = RESOLUTIONS[wish]
        long = short * max(across, down) / min(across, down)
    else:
        long = LONG_SIDES.get(wish, max(base))
    scale = min(long, side_max) / max(across, down)
    return _even(across * scale), _even(down * scale)


def _even(side: float) -> int:
    return max(SIDE_MIN, round(side / 2) * 2)


def _whole(given: dict[str, Any], names: tuple[str, ...], low: int, high: int, default: int) -> int:
    name, value = next(((name, given[name]) for name in names if given.get(name) is not None), ("", default))
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unwanted(name, "Input should be a valid integer", "int_type", {}, value)
    if value < low:
        raise Unwanted(
            name, f"Input should be greater than or equal to {low}", "greater_than_equal", {"ge": low}, value
        )
    if value > high:
        raise Unwanted(name, f"Input should be less than or equal to {high}", "less_than_equal", {"le": high}, value)
    return value


def _duration(given: dict[str, Any]) -> float:
    value = given.get("duration", given.get("duration_s"))
    if value is None:
        return VIDEO_DURATION_S
    match = NUMBER.match(str(value))
    seconds = float(match[1]) if match else 0.0
    if not 0.1 <= seconds <= 60:
        raise Unwanted("duration", "Input should be a number of seconds", "value_error", {}, value)
    return min(max(seconds, DURATION_MIN_S), DURATION_MAX_S)
