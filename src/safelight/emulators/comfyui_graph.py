"""What a ComfyUI graph asks for, and what the server would say against it (providers.md §5.1, §5.2). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from safelight.emulators.task import JSON
from safelight.emulators.wanted import DURATION_MAX_S, SIDE_MAX, SIDE_MIN, VIDEO_SIDE_MAX, Wanted

SAVES = {"SaveImage": "image", "PreviewImage": "image", "SaveVideo": "video", "VHS_VideoCombine": "video"}
"""Output nodes, and what they put out."""
MODELS = frozenset({"x.safetensors", "photon.safetensors", "portrait.safetensors"})
"""Checkpoints that this server has."""
STEPS_MAX = 10_000
COUNT_MAX = 8
FPS = 24.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A graph that can run."""

    prompt: str
    seed: int
    steps: int
    wanted: Wanted
    sampler: str | None
    saves: str
    saves_class: str


class Refused(Exception):
    """The body of a 400."""

    def __init__(self, kind: str, message: str, node_errors: JSON | None = None) -> None:
        super().__init__(message)
        self.body: JSON = {
            "error": {"type": kind, "message": message, "details": "", "extra_info": {}},
            "node_errors": node_errors or {},
        }


def read_graph(raw: object, pictures: Mapping[str, bytes]) -> Asked:
    """Raises Refused. `pictures`: what was uploaded, by name as `LoadImage` says it."""
    if not isinstance(raw, dict) or not raw:
        raise Refused("no_prompt", "No prompt provided")
    graph = cast("dict[str, Any]", raw)
    for name, node in graph.items():
        if str(_object(node).get("class_type", "Missing")).startswith("Missing"):
            raise Refused("missing_node_type", f"Node '{name}' not found. The custom node may not be installed.")
    saves = [name for name, node in graph.items() if node["class_type"] in SAVES]
    if not saves:
        raise Refused("prompt_no_outputs", "Prompt has no outputs")
    errors: JSON = {}
    for name, kind, message, field, value in _faults(graph, pictures):
        about = errors.setdefault(
            name, {"errors": [], "dependent_outputs": saves, "class_type": graph[name]["class_type"]}
        )
        details = f"{field}: {value!r} not in [...]" if kind == "value_not_in_list" else f"{field}: {value!r}"
        extra = {"input_name": field, "received_value": value}
        about["errors"].append({"type": kind, "message": message, "details": details, "extra_info": extra})
    if errors:
        raise Refused("prompt_outputs_failed_validation", "Prompt outputs failed validation", errors)
    return _asked(graph, saves[0])


def _faults(graph: dict[str, Any], pictures: Mapping[str, bytes]) -> Iterator[tuple[str, str, str, str, Any]]:
    for name, node in graph.items():
        inputs = node.get("inputs", {})
        if (model := inputs.get("ckpt_name")) is not None and model not in MODELS:
            yield name, "value_not_in_list", "Value not in list", "ckpt_name", model
        if node["class_type"] == "LoadImage" and inputs.get("image") not in pictures:
            yield name, "custom_validation_failed", "Custom validation failed for node", "image", inputs.get("image")
        for field, low, high in (("steps", 1, STEPS_MAX), ("width", 16, 16384), ("height", 16, 16384)):
            value = inputs.get(field)
            if isinstance(value, int) and not isinstance(value, bool):
                if value < low:
                    yield name, "value_smaller_than_min", f"Value {value} smaller than min of {low}", field, value
                if value > high:
                    yield name, "value_bigger_than_max", f"Value {value} bigger than max of {high}", field, value
            elif field in inputs and not isinstance(value, list):
                yield name, "invalid_input_type", "Failed to convert an input value to a INT value", field, value


def _asked(graph: dict[str, Any], save: str) -> Asked:
    sampler = next((name for name, node in graph.items() if "KSampler" in node["class_type"]), None)
    inputs = _object(_object(graph.get(sampler or "")).get("inputs"))
    positive = inputs.get("positive")
    linked = str(cast("list[Any]", positive)[0]) if isinstance(positive, list) and positive else ""
    prompt = str(_object(_object(graph.get(linked)).get("inputs")).get("text", ""))
    empty = next((node for node in graph.values() if node["class_type"].startswith("Empty")), None)
    latent = _object(_object(empty).get("inputs"))
    saves_class = graph[save]["class_type"]
    is_video = SAVES[saves_class] == "video"
    side_max = VIDEO_SIDE_MAX if is_video else SIDE_MAX
    width, height = (_side(latent.get(name, 512), side_max) for name in ("width", "height"))
    seconds = _number(latent.get("length"), 24) / FPS
    wanted = Wanted(
        "video" if is_video else "image",
        1 if is_video else min(max(int(_number(latent.get("batch_size"), 1)), 1), COUNT_MAX),
        width,
        height,
        min(max(seconds, 0.5), DURATION_MAX_S) if is_video else 0.0,
        "mp4" if is_video else "png",
    )
    seed, steps = int(_number(inputs.get("seed"), 0)), int(_number(inputs.get("steps"), 1))
    return Asked(prompt, seed, steps, wanted, sampler, save, saves_class)


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _side(value: object, side_max: int) -> int:
    side = int(_number(value, 512))
    return min(max(side - side % 2, SIDE_MIN), side_max)


def _number(value: object, default: float) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default
