"""The models on offer: read from `models.toml` and the operator's own file, checked strictly at the start (P1).

A model is data: which fields its form has, where the count and the start image go, what it costs, which
provider makes it. No code asks for a model by name. A misspelt key in a file is an error at start, not a default.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from safelight.providers.base import JSON
from safelight.providers.toml_lines import Lines, of_validation, where
from safelight.providers.toml_lines import Path as At

MAX_OUTPUTS = 16
"""Most results of one job: each is a tile from the first frame on (J11), and one provider call makes them all."""
MAX_FILE_BYTES = 1_000_000
"""An operator's model file; a thousand models fit."""

FieldType = Literal["text", "int", "number", "select", "image", "bool"]
Kind = Literal["image", "video", "audio"]
Unit = Literal["picture", "second", "megapixel", "flat"]


_DEFAULT_TYPES: Mapping[FieldType, tuple[type, ...]] = {
    "text": (str,),
    "int": (int,),
    "number": (int, float),
    "select": (str, int, float),
    "image": (),
    "bool": (bool,),
}


TIME_MAX_S = 7 * 86_400.0
"""Of what a model takes: no job's deadline is longer. More, or no number at all, would be no date."""
PRICE_MAX = 10**12
"""Of one unit: sixteen results of an hour are still a number that the ledger holds."""
ALIASES_MAX = 20
NEAREST_MAX = 3
NEAREST_LIKENESS = 0.5
"""Of a name to an unknown one, from which on it is suggested."""

Fault = tuple[At, str]
"""Where in a model something is wrong, and what."""


class RegistryError(ValueError):
    """A model file is wrong; each line of the message names the file, the line, the field and what to change."""


class ModelInvalid(ValueError):
    """A model given through the API is wrong: `errors` is the problem document's (`invalid_input`, 422)."""

    def __init__(self, errors: list[JSON]) -> None:
        super().__init__("; ".join(error["msg"] for error in errors))
        self.errors = errors


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one `unit` costs, in credits' smallest unit (C3)."""

    unit: Unit
    amount: int


class RouteInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How this provider is told what the model's form says, where its words are others. In the order of the fields."""

    values: Mapping[str, Mapping[str, str | int | float | bool]] = msgspec.field(
        default_factory=dict[str, Mapping[str, Any]]
    )
    """Other words for a field's values: `{aspect_ratio = {"16:9" = "landscape_16_9"}}`."""
    omit: tuple[str, ...] = ()
    """Fields that this provider does not know."""
    rename: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    """Its own names of fields: `{image_urls = "input_images"}`."""
    extra: Mapping[str, str | int | float | bool] = msgspec.field(default_factory=dict[str, Any])
    """Sent with every request."""


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One provider that makes this model, and its own name for it. The first is used, the rest are failover (P6)."""

    provider: str
    endpoint: str
    price: Price | None = None
    """For who names this provider; a job that only fails over to it costs what was quoted."""
    timeout_s: float | None = None
    """After which the next provider is asked; None: by the model's usual duration (JobPolicy)."""
    input: RouteInput | None = None


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One input of a model: what a form shows and what validation holds to."""

    name: str
    type: FieldType
    label: str
    required: bool = False
    default: str | int | float | bool | None = None
    options: tuple[str | int | float, ...] | None = None
    min: float | None = None
    max: float | None = None
    max_length: int | None = None
    many: bool = False
    """An image field that takes a list of URLs."""
    max_items: int | None = None
    custom_size: bool = False
    """A select that also takes `{"width": …, "height": …}`, each side within `min` and `max`."""
    advanced: bool = False
    help: str | None = None


class AspectOption(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    value: str
    ratio: str
    width: int
    height: int


class Aspect(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How this model is told the shape, so that one `aspect_ratio` works for all and a tile has its size at once."""

    field: str
    options: tuple[AspectOption, ...]
    width_field: str | None = None
    height_field: str | None = None


class Duration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the length of a clip stands: a field in seconds, frames over frames per second, or always the same."""

    field: str | None = None
    frames_field: str | None = None
    fps_field: str | None = None
    fixed_s: float | None = None


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    name: str
    kind: Kind
    description: str
    routes: tuple[Route, ...]
    price: Price
    fields: tuple[Field, ...]
    aliases: tuple[str, ...] = ()
    """Other names it may be asked by; jobs keep its `id`."""
    max_outputs: int = 1
    n_field: str | None = None
    """The provider's field for the number of results; None where the provider takes it beside the input."""
    start_field: str | None = None
    """The image field a job's start image goes into."""
    eta_s: float = 10.0
    """Expected seconds from submit to result, until this installation has learnt its own."""
    aspect: Aspect | None = None
    duration: Duration | None = None
    extra: Mapping[str, str | int | float | bool] = msgspec.field(default_factory=dict[str, Any])
    """Sent with every request of this model, and not the caller's to change."""

    @property
    def provider(self) -> str:
        """The provider tried first."""
        return self.routes[0].provider

    @property
    def needs_start(self) -> bool:
        start = self.field(self.start_field) if self.start_field else None
        return start is not None and start.required

    def field(self, name: str) -> Field | None:
        return next((field for field in self.fields if field.name == name), None)


_PROMPT = Field(name="prompt", type="text", label="Prompt", required=True, max_length=10_000)


class PullModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[pull]]`: a model of the operator's own machines (P3), in as few lines as can be."""

    id: str
    name: str | None = None
    kind: Kind = "image"
    description: str = "Made by a machine of our own."
    price: Price = Price(unit="flat", amount=0)
    max_outputs: int = 1
    start_field: str | None = None
    eta_s: float = 10.0
    fields: tuple[Field, ...] = (_PROMPT,)

    def model(self) -> Model:
        return Model(
            id=self.id,
            name=self.name or self.id,
            kind=self.kind,
            description=self.description,
            routes=(Route(provider="pull", endpoint=self.id),),
            price=self.price,
            fields=self.fields,
            max_outputs=self.max_outputs,
            start_field=self.start_field,
            eta_s=self.eta_s,
        )


class _ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    model: tuple[Model, ...] = ()
    pull: tuple[PullModel, ...] = ()
    remove: tuple[str, ...] = ()


class Registry:
    """All models by their public name, in the order of the files, with those of the API laid over them."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._from_files = {model.id: model for model in models}
        self._models = self._from_files
        self._aliases = _aliases(self._models)

    @classmethod
    def load(cls, operator_file: Path | None = None, also: Sequence[Model] = ()) -> Registry:
        """Shipped models, then those that came with the description of a provider, then the operator's.

        Raises RegistryError.
        """
        shipped = resources.files("safelight.providers").joinpath("models.toml").read_bytes()
        models = {model.id: model for model in (*_read("models.toml", shipped).model, *also)}
        if operator_file is not None:
            try:
                if operator_file.stat().st_size > MAX_FILE_BYTES:
                    raise RegistryError(f"{operator_file}: larger than {MAX_FILE_BYTES} bytes")
                text = operator_file.read_bytes()
                own = _read(str(operator_file), text)
            except OSError as error:
                raise RegistryError(f"{operator_file}: cannot be read ({error.strerror})") from error
            for name in own.remove:
                if models.pop(name, None) is None:
                    at = where(str(operator_file), Lines(text.decode()), ("remove",), f"{name!r} is no model.")
                    raise RegistryError(at)
            models |= {model.id: model for model in own.model}
            _check_aliases(str(operator_file), text.decode(), own, models)
        return cls(models.values())

    def lay_over(self, models: Iterable[Model]) -> None:
        """From now on these too, in place of those of the same name in the files; what was laid over before is gone."""
        self._models = self._from_files | {model.id: model for model in models}
        self._aliases = _aliases(self._models)

    def is_from_file(self, model_id: str) -> bool:
        """There is one of this name in the files, whatever lies over it."""
        return model_id in self._from_files

    def get(self, name: str) -> Model | None:
        """By its id or an alias. None = unknown: the caller answers `unknown_model`."""
        return self._models.get(name) or self._models.get(self._aliases.get(name, ""))

    def nearest(self, name: str) -> list[str]:
        """Names that somebody who wrote `name` may have meant, the likeliest first."""
        known = {each.lower(): each for each in (*self._aliases, *self._models)}
        asked = name.lower()
        whole = difflib.get_close_matches(asked, known, NEAREST_MAX, NEAREST_LIKENESS)
        # `flux-schnell` for `fal-ai/flux/schnell`: the words are there, the way to them is not.
        words = set(re.findall(r"[a-z0-9]+", asked))
        sharing = [each for each in known if words and words <= set(re.findall(r"[a-z0-9]+", each))]
        return [known[each] for each in dict.fromkeys([*sharing, *whole])][:NEAREST_MAX]

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def __len__(self) -> int:
        return len(self._models)


def public_model(model: Model) -> JSON:
    """The model as `GET /v1/models` shows it: enough to draw its form and quote its price."""
    return {
        "id": model.id,
        "name": model.name,
        "aliases": list(model.aliases),
        "provider": model.provider,
        "kind": model.kind,
        "description": model.description,
        "price": {"unit": model.price.unit, "amount": model.price.amount},
        "max_outputs": model.max_outputs,
        "fields": [_public_field(field) for field in model.fields],
        "start_field": model.start_field,
        "needs_start": model.needs_start,
        "eta_s": model.eta_s,
    }


def _public_field(field: Field) -> JSON:
    shown = msgspec.to_builtins(field)
    return {name: value for name, value in shown.items() if value is not None}


# --- reading ----------------------------------------------------------------------------------------------------


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


def _read(name: str, text: bytes) -> _ModelFile:
    try:
        words = text.decode()
        raw = tomllib.loads(words)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RegistryError(f"{name}: {error}") from error
    lines = Lines(words)
    try:
        file = msgspec.convert(raw, _ModelFile)
    except msgspec.ValidationError as error:
        path, said = of_validation(error)
        raise RegistryError(where(name, lines, path, said + ".")) from error
    written = len(file.model)
    file = msgspec.structs.replace(file, model=(*file.model, *(short.model() for short in file.pull)))
    seen: set[str] = set()
    wrong: list[Fault] = []
    for index, model in enumerate(file.model):
        at = ("model", index) if index < written else ("pull", index - written)
        wrong += [((*at, *path), said) for path, said in placed_faults(model)]
        if model.id in seen:
            wrong.append(((*at, "id"), f"{model.id!r} is used twice"))
        seen.add(model.id)
    if wrong:
        raise RegistryError("\n".join(where(name, lines, path, said + ".") for path, said in wrong))
    return file


def _aliases(models: Mapping[str, Model]) -> dict[str, str]:
    """A model's own id is never somebody else's alias."""
    return {alias: model.id for model in models.values() for alias in model.aliases if alias not in models}


def _check_aliases(name: str, text: str, own: _ModelFile, models: Mapping[str, Model]) -> None:
    lines = Lines(text)
    for index, model in enumerate(own.model):
        for alias in model.aliases:
            if taken := alias_taken(model.id, alias, models.values()):
                raise RegistryError(where(name, lines, ("model", index, "aliases"), f"{alias!r} is {taken}."))


def alias_taken(model_id: str, alias: str, models: Iterable[Model]) -> str | None:
    """Whose it is already, in words."""
    for model in models:
        if model.id != model_id and (alias == model.id or alias in model.aliases):
            return "the id of a model" if alias == model.id else f"an alias of {model.id}"
    return None


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
