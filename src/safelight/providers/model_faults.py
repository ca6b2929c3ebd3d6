"""What is wrong with a model beyond its form, and where in it: one rule for files and for the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from safelight.providers.base import JSON
from safelight.providers.model import Field, FieldType, Model, Price, Route
from safelight.providers.toml_lines import Path as At
from safelight.providers.toml_lines import of_validation

MAX_OUTPUTS = 16
"""Most results of one job: each is a tile from the first frame on (J11), and one provider call makes them all."""
TIME_MAX_S = 7 * 86_400.0
"""Of what a model takes: no job's deadline is longer. More, or no number at all, would be no date."""
PRICE_MAX = 10**12
"""Of one unit: sixteen results of an hour are still a number that the ledger holds."""
ALIASES_MAX = 20

Fault = tuple[At, str]
"""Where in a model something is wrong, and what."""

_DEFAULT_TYPES: Mapping[FieldType, tuple[type, ...]] = {
    "text": (str,),
    "int": (int,),
    "number": (int, float),
    "select": (str, int, float),
    "image": (),
    "bool": (bool,),
}


class ModelInvalid(ValueError):
    """A model given through the API is wrong: `errors` is the problem document's (`invalid_input`, 422)."""

    def __init__(self, errors: list[JSON]) -> None:
        super().__init__("; ".join(error["msg"] for error in errors))
        self.errors = errors


def read_model(name: str, given: Mapping[str, Any]) -> Model:
    """A model as the API is given it: what stands in a file, without the id. Raises ModelInvalid."""
    try:
        model = msgspec.convert({"description": "", **given, "id": name}, Model)
    except msgspec.ValidationError as error:
        path, said = of_validation(error)
        raise ModelInvalid([_error(path, said)]) from None
    if wrong := [_error(path, said) for path, said in placed_faults(model)]:
        raise ModelInvalid(wrong)
    return model


def _error(path: At, said: str) -> JSON:
    return {"loc": ["body", *path], "msg": said[:1].upper() + said[1:], "type": "model"}


def faults_of(model: Model) -> Iterable[str]:
    """What is wrong with a model beyond its form, in words alone."""
    return (said for _, said in placed_faults(model))


def placed_faults(model: Model) -> Iterable[Fault]:
    """What is wrong with a model beyond its form, and where in it."""
    names = [field.name for field in model.fields]
    if not is_name(model.id):
        yield ("id",), "the id must be 1 to 200 signs without spaces"
    if not all(map(is_name, model.aliases)) or len(model.aliases) > ALIASES_MAX or model.id in model.aliases:
        yield ("aliases",), f"aliases are at most {ALIASES_MAX} other names of 1 to 200 signs without spaces"
    if not model.routes:
        yield ("routes",), "it needs at least one route"
    for index, route in enumerate(model.routes):
        yield from _route_faults(model, ("routes", index), route)
    if not 1 <= model.max_outputs <= MAX_OUTPUTS:
        yield ("max_outputs",), f"max_outputs must be 1 to {MAX_OUTPUTS}"
    yield from _price_faults(("price", "amount"), model.price)
    if not 0 < model.eta_s <= TIME_MAX_S:
        yield ("eta_s",), f"eta_s must be above 0, and at most {TIME_MAX_S:.0f}"
    if len(names) != len(set(names)):
        yield ("fields",), "a field is named twice"
    if model.n_field in names or model.n_field in model.extra:
        yield ("n_field",), "n_field is set from `n` and may not be a field or an extra"
    for index, field in enumerate(model.fields):
        yield from _field_faults(("fields", index), field)
        if field.name in model.extra:
            yield ("extra", field.name), f"{field.name} is both a field and an extra"
    start = model.field(model.start_field) if model.start_field else None
    if model.start_field and (start is None or start.type != "image"):
        yield ("start_field",), "start_field must name an image field"
    yield from _shape_faults(model)


def alias_taken(model_id: str, alias: str, models: Iterable[Model]) -> str | None:
    """Whose it is already, in words."""
    for model in models:
        if model.id != model_id and (alias == model.id or alias in model.aliases):
            return "the id of a model" if alias == model.id else f"an alias of {model.id}"
    return None


def is_name(text: str) -> bool:
    """May be a model's id or alias: it stands in a path."""
    return 1 <= len(text) <= 200 and text.isprintable() and not any(sign.isspace() or sign in "?#" for sign in text)


def _price_faults(at: At, price: Price) -> Iterable[Fault]:
    if price.amount < 0:
        yield at, "a price cannot be negative"
    elif price.amount > PRICE_MAX:
        yield at, f"a price is at most {PRICE_MAX}"


def _route_faults(model: Model, at: At, route: Route) -> Iterable[Fault]:
    if not route.provider or not route.endpoint:
        yield at, "a route names a provider and its endpoint"
    if route.timeout_s is not None and not 1 <= route.timeout_s <= TIME_MAX_S:
        yield (*at, "timeout_s"), f"timeout_s must be at least 1, and at most {TIME_MAX_S:.0f}"
    if route.price is not None:
        yield from _price_faults((*at, "price", "amount"), route.price)
    if model.routes.index(route) < at[-1]:  # pyright: ignore[reportOperatorIssue]  # the last step is a number
        yield at, "this route is named twice"
    if route.input is not None:
        known = {field.name for field in model.fields} | {model.n_field, *model.extra}
        for kind, names in (("values", route.input.values), ("omit", route.input.omit), ("rename", route.input.rename)):
            if lost := [name for name in names if name not in known]:
                yield (*at, "input", kind), f"names {', '.join(map(repr, lost))}, which the model's form does not have"


def _field_faults(at: At, field: Field) -> Iterable[Fault]:
    named = f"field {field.name!r}: "
    if not field.name or field.name.startswith("_"):
        yield (*at, "name"), named + "a name may not be empty nor begin with `_`"
    if (field.type == "select") != bool(field.options):
        yield (*at, "options"), named + "options belong to a select, and a select needs them"
    if field.options and field.default is not None and field.default not in field.options:
        yield (*at, "default"), named + "the default is not among the options"
    if field.min is not None and field.max is not None and field.min > field.max:
        yield (*at, "min"), named + "min is above max"
    if field.many and field.type != "image":
        yield (*at, "many"), named + "only an image field takes many"
    if field.default is not None and type(field.default) not in _DEFAULT_TYPES[field.type]:
        yield (*at, "default"), named + f"the default does not fit the type {field.type}"


def _shape_faults(model: Model) -> Iterable[Fault]:
    aspect, duration = model.aspect, model.duration
    if aspect is not None:
        field = model.field(aspect.field)
        if field is None or field.type != "select":
            yield ("aspect", "field"), "aspect.field must name a select"
        elif unknown := [option.value for option in aspect.options if option.value not in (field.options or ())]:
            yield ("aspect", "options"), f"aspect.options has {unknown}, which the field does not offer"
        if (aspect.width_field is None) != (aspect.height_field is None):
            yield ("aspect",), "aspect needs both width_field and height_field, or neither"
        for name in (aspect.width_field, aspect.height_field):
            if name is not None and model.field(name) is None:
                yield ("aspect",), f"aspect names {name!r}, which is no field"
        if any(option.width < 1 or option.height < 1 for option in aspect.options):
            yield ("aspect", "options"), "aspect sizes must be above 0"
    if duration is not None:
        named = [duration.field, duration.frames_field, duration.fps_field]
        if lost := [name for name in named if name is not None and model.field(name) is None]:
            yield ("duration",), f"duration names {lost}, which are no fields"
        if (duration.frames_field is None) != (duration.fps_field is None):
            yield ("duration",), "duration needs both frames_field and fps_field, or neither"
