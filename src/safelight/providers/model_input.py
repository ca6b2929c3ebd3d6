"""A caller's input for a model becomes the complete input for its provider, or a list of what is wrong (pure).

Names the registry does not know pass through: providers have many fields and gain new ones. Names that begin
with `_` are ours; `_emulator` steers the emulators and passes only where the deployment allows it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from safelight.providers.base import JSON
from safelight.providers.model import Field, Model, Route

NAMES_MAX = 100
"""Most names in one input: the richest provider models have about forty."""
NAME_LENGTH_MAX = 100
DEPTH_MAX = 16
"""Nesting of an input: deep enough for every known schema, shallow enough for every JSON reader."""
TEXT_LENGTH_MAX = 20_000
"""A text field whose model names no limit."""
URL_LENGTH_MAX = 8_192
DATA_URL_LENGTH_MAX = 14_000_000
"""A picture of 10 MB (the smallest limit among the providers, providers.md §2.2) as base64."""
EMULATOR_FIELD = "_emulator"

_CASUAL_RATIO_FIELD = "aspect_ratio"


@dataclass(frozen=True, slots=True)
class InputFault:
    """One thing that is wrong, in the style FastAPI answers: where, what, and a stable type."""

    loc: tuple[str | int, ...]
    msg: str
    type: str

    def as_json(self) -> JSON:
        return {"loc": list(self.loc), "msg": self.msg, "type": self.type}


class InputInvalid(ValueError):
    """The input does not fit the model: `errors` is the problem document's `errors` (`invalid_input`, 422)."""

    def __init__(self, faults: Sequence[InputFault]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, fault.loc))}: {fault.msg}" for fault in faults))
        self.faults = tuple(faults)

    @property
    def errors(self) -> list[JSON]:
        return [fault.as_json() for fault in self.faults]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a valid input will make, as far as it can be told: a tile's shape, a price's measure. None = unknown."""

    width: int | None
    height: int | None
    duration_s: float | None


def validate_input(
    model: Model,
    given: Mapping[str, Any],
    *,
    n: int = 1,
    start_url: str | None = None,
    allow_emulator: bool = False,
) -> JSON:
    """The complete provider input: defaults, count and start image are in it. Raises InputInvalid.

    `start_url` is the URL of the job's start image, reachable for the provider. An input that went through once
    goes through again unchanged, with the same `n`.
    """
    faults = [*_count_faults(model, given, n), *_name_faults(model, given, allow_emulator)]
    faults += [InputFault(("body", "input", *loc), msg, kind) for loc, msg, kind in _unstorable(given, ())]
    if faults:
        raise InputInvalid(faults)

    complete: JSON = {name: value for name, value in given.items() if value is not None}
    _translate_ratio(model, complete)
    if start_url is not None:
        faults += _place_start(model, complete, start_url)
    for field in model.fields:
        if field.name not in complete:
            if field.default is not None:
                complete[field.name] = field.default
            elif field.required:
                faults.append(_fault(field, "Field required", "missing"))
            continue
        complete[field.name], wrong = _check(field, complete[field.name])
        faults += wrong
    if faults:
        raise InputInvalid(faults)

    _fill_size(model, complete)
    complete.update(model.extra)
    if model.n_field is not None:
        complete[model.n_field] = n
    return complete


def for_route(route: Route, complete: Mapping[str, Any]) -> JSON:
    """A complete input in the words of the provider it goes to."""
    told = dict(complete)
    if route.input is None:
        return told
    for name, others in route.input.values.items():
        value = told.get(name)
        if isinstance(value, str | int | float):
            told[name] = others.get(str(value), value)
    for name in route.input.omit:
        told.pop(name, None)
    renamed = {route.input.rename.get(name, name): value for name, value in told.items()}
    return {**renamed, **route.input.extra}


def expected(model: Model, complete: Mapping[str, Any]) -> Expected:
    """Size and length that a complete input asks for."""
    width, height = _expected_size(model, complete)
    return Expected(width, height, _expected_duration_s(model, complete))


# --- the input as a whole ---------------------------------------------------------------------------------------


def _count_faults(model: Model, given: Mapping[str, Any], n: int) -> Iterable[InputFault]:
    if n < 1:
        yield InputFault(("body", "n"), "Input should be greater than or equal to 1", "greater_than_equal")
    if n > model.max_outputs:
        yield InputFault(
            ("body", "n"),
            f"{model.name} makes at most {model.max_outputs} results for one job; submit several jobs for more",
            "less_than_equal",
        )
    if model.n_field is not None and given.get(model.n_field, n) not in (n, None):
        yield InputFault(("body", "input", model.n_field), "Ask for several results with `n`", "conflict")


def _name_faults(model: Model, given: Mapping[str, Any], allow_emulator: bool) -> Iterable[InputFault]:
    if len(given) > NAMES_MAX:
        yield InputFault(("body", "input"), f"An input has at most {NAMES_MAX} names", "too_long")
        return
    for name in given:
        if name == EMULATOR_FIELD and allow_emulator:
            if not isinstance(given[name], Mapping):
                yield InputFault(("body", "input", name), "Input should be an object", "dict_type")
        elif name.startswith("_"):
            yield InputFault(("body", "input", name[:NAME_LENGTH_MAX]), "This name is reserved", "extra_forbidden")
        elif len(name) > NAME_LENGTH_MAX:
            yield InputFault(("body", "input", name[:NAME_LENGTH_MAX]), "The name is too long", "string_too_long")
        elif name in model.extra and given[name] != model.extra[name]:
            yield InputFault(("body", "input", name), "This is fixed for the model", "extra_forbidden")


def _unstorable(value: Any, loc: tuple[str | int, ...]) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
    """What PostgreSQL's jsonb or another JSON reader would refuse, found before a job exists."""
    if len(loc) > DEPTH_MAX:
        yield loc, f"Nested deeper than {DEPTH_MAX} levels", "too_deep"
    elif isinstance(value, str):
        if "\x00" in value or not _is_unicode(value):
            yield loc, "Text may not contain NUL or half a surrogate pair", "string_unicode"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield loc, "Input should be a finite number", "finite_number"
    elif isinstance(value, Mapping):
        for name, inner in cast(Mapping[str, Any], value).items():
            yield from _unstorable(name, (*loc, "[key]"))
            yield from _unstorable(inner, (*loc, name))
    elif isinstance(value, list):
        for index, inner in enumerate(cast(list[Any], value)):
            yield from _unstorable(inner, (*loc, index))


def _is_unicode(value: str) -> bool:
    """No half of a surrogate pair in it. A picture as base64 is 14 million signs: they are not looked at one by one."""
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def _translate_ratio(model: Model, complete: JSON) -> None:
    """`aspect_ratio` is understood for every model with a shape, so that a template may change its model."""
    aspect = model.aspect
    if aspect is None or model.field(_CASUAL_RATIO_FIELD) is not None or aspect.field in complete:
        return
    option = next((o for o in aspect.options if o.ratio == complete.get(_CASUAL_RATIO_FIELD)), None)
    if option is not None:
        del complete[_CASUAL_RATIO_FIELD]
        complete[aspect.field] = option.value


def _place_start(model: Model, complete: JSON, start_url: str) -> Iterable[InputFault]:
    field = model.field(model.start_field) if model.start_field else None
    if field is None:
        return [InputFault(("body", "start"), f"{model.name} takes no start image", "start_not_supported")]
    if not field.many:
        if complete.get(field.name, start_url) != start_url:
            return [_fault(field, "Give the start image either here or as `start`, not both", "conflict")]
        complete[field.name] = start_url
        return []
    others = complete.get(field.name, [])
    listed: list[Any] = cast(list[Any], others) if isinstance(others, list) else [others]
    complete[field.name] = [start_url, *(url for url in listed if url != start_url)]
    return []


def _fill_size(model: Model, complete: JSON) -> None:
    """Width and height of the chosen shape, where the model wants them as numbers; one given side keeps the ratio."""
    aspect = model.aspect
    if aspect is None or aspect.width_field is None or aspect.height_field is None:
        return
    option = next((o for o in aspect.options if o.value == complete.get(aspect.field)), None)
    if option is None:
        return
    width: int | None = complete.get(aspect.width_field)
    height: int | None = complete.get(aspect.height_field)
    if width is not None and height is not None:
        return
    if width is not None:
        height = _within(model.field(aspect.height_field), round(width * option.height / option.width))
    elif height is not None:
        width = _within(model.field(aspect.width_field), round(height * option.width / option.height))
    else:
        width, height = option.width, option.height
    complete[aspect.width_field], complete[aspect.height_field] = width, height


def _within(field: Field | None, value: int) -> int:
    low = field.min if field is not None and field.min is not None else 1
    high = field.max if field is not None and field.max is not None else value
    return int(min(max(value, low), high))


# --- one field --------------------------------------------------------------------------------------------------


def _fault(field: Field, msg: str, kind: str, *inside: str | int) -> InputFault:
    return InputFault(("body", "input", field.name, *inside), msg, kind)


def _check(field: Field, value: Any) -> tuple[Any, list[InputFault]]:
    """The value as the provider shall get it, and what is wrong with it."""
    match field.type:
        case "text":
            return value, _text_faults(field, value)
        case "int" | "number":
            if field.type == "int" and isinstance(value, float) and value.is_integer():
                value = int(value)
            return value, _number_faults(field, value)
        case "bool":
            wrong = not isinstance(value, bool)
            return value, [_fault(field, "Input should be true or false", "bool_type")] if wrong else []
        case "select":
            return value, _select_faults(field, value)
        case "image":
            if not field.many:
                return value, _image_faults(field, value)
            listed = cast(list[Any], value if isinstance(value, list) else [value])
            return listed, _images_faults(field, listed)


def _text_faults(field: Field, value: Any) -> list[InputFault]:
    if not isinstance(value, str):
        return [_fault(field, "Input should be a valid string", "string_type")]
    if field.required and not value.strip():
        return [_fault(field, "Text may not be blank", "string_too_short")]
    limit = field.max_length or TEXT_LENGTH_MAX
    if len(value) > limit:
        return [_fault(field, f"Text should have at most {limit} signs, it has {len(value)}", "string_too_long")]
    return []


def _number_faults(field: Field, value: Any, *inside: str) -> list[InputFault]:
    if field.type == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            return [_fault(field, "Input should be a number", "float_type", *inside)]
    elif isinstance(value, bool) or not isinstance(value, int):
        return [_fault(field, "Input should be a whole number", "int_type", *inside)]
    if field.min is not None and value < field.min:
        return [_fault(field, f"Input should be at least {field.min:g}", "greater_than_equal", *inside)]
    if field.max is not None and value > field.max:
        return [_fault(field, f"Input should be at most {field.max:g}", "less_than_equal", *inside)]
    return []


def _select_faults(field: Field, value: Any) -> list[InputFault]:
    options = field.options or ()
    if field.custom_size and isinstance(value, Mapping):
        size = cast(Mapping[str, Any], value)
        if set(size) != {"width", "height"}:
            return [_fault(field, "A size has exactly width and height", "size_type")]
        return [fault for side in ("width", "height") for fault in _number_faults(field, size[side], side)]
    if isinstance(value, str | int | float) and not isinstance(value, bool) and value in options:
        return []
    return [_fault(field, "Input should be one of " + ", ".join(map(str, options)), "one_of")]


def _image_faults(field: Field, value: Any, *inside: int) -> list[InputFault]:
    if not isinstance(value, str):
        return [_fault(field, "Input should be the URL of a picture", "url_type", *inside)]
    if value.startswith("data:image/"):
        if ";base64," in value[:64] and not value.isascii():
            # As lists show it (abridged.py): a provider would be paid for a broken picture.
            said = "The data: URL is no whole picture; one from a list of jobs is cut, GET /v1/jobs/{id} has all of it"
            return [_fault(field, said, "url_cut", *inside)]
        limit = DATA_URL_LENGTH_MAX
    elif value.startswith(("https://", "http://")) and not any(sign.isspace() for sign in value):
        limit = URL_LENGTH_MAX
    else:
        return [_fault(field, "Input should be an http(s) or data:image URL", "url_scheme", *inside)]
    if len(value) > limit:
        return [_fault(field, f"The URL is longer than {limit} signs", "url_too_long", *inside)]
    return []


def _images_faults(field: Field, listed: Sequence[Any]) -> list[InputFault]:
    if field.required and not listed:
        return [_fault(field, "At least one picture is needed", "too_short")]
    if field.max_items is not None and len(listed) > field.max_items:
        return [_fault(field, f"At most {field.max_items} pictures, not {len(listed)}", "too_long")]
    return [fault for index, url in enumerate(listed) for fault in _image_faults(field, url, index)]


# --- what it will make ------------------------------------------------------------------------------------------


def _expected_size(model: Model, complete: Mapping[str, Any]) -> tuple[int | None, int | None]:
    aspect = model.aspect
    if aspect is None:
        return None, None
    width, height = complete.get(aspect.width_field or ""), complete.get(aspect.height_field or "")
    if width is not None and height is not None:
        return width, height
    value = complete.get(aspect.field)
    if isinstance(value, Mapping):
        size = cast(Mapping[str, Any], value)
        return int(size["width"]), int(size["height"])
    option = next((o for o in aspect.options if o.value == value), None)
    return (option.width, option.height) if option is not None else (None, None)


def _expected_duration_s(model: Model, complete: Mapping[str, Any]) -> float | None:
    duration = model.duration
    if duration is None:
        return None
    if duration.fixed_s is not None:
        return duration.fixed_s
    if duration.field is not None and duration.field in complete:
        return float(complete[duration.field])
    frames, fps = complete.get(duration.frames_field or ""), complete.get(duration.fps_field or "")
    return frames / fps if frames and fps else None
