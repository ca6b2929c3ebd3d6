"""The models on offer: read from `models.toml` and the operator's own file, checked strictly at the start (P1).

A model is data: which fields its form has, where the count and the start image go, what it costs, which
provider makes it. No code asks for a model by name. A misspelt key in a file is an error at start, not a default.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from safelight.providers.base import JSON

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


class RegistryError(ValueError):
    """A model file is wrong; the message names the file, the model and what to change."""


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one `unit` costs, in credits' smallest unit (C3)."""

    unit: Unit
    amount: int


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One provider that makes this model, and its own name for it. The first is used, the rest are failover (P6)."""

    provider: str
    endpoint: str


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
    """All models by their public name, in the order of the files."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._models = {model.id: model for model in models}

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
                own = _read(str(operator_file), operator_file.read_bytes())
            except OSError as error:
                raise RegistryError(f"{operator_file}: cannot be read ({error.strerror})") from error
            for name in own.remove:
                if models.pop(name, None) is None:
                    raise RegistryError(f"{operator_file}: `remove` names {name!r}, which is no model")
            models |= {model.id: model for model in own.model}
        return cls(models.values())

    def get(self, model_id: str) -> Model | None:
        """None = unknown: the caller answers `unknown_model`."""
        return self._models.get(model_id)

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def __len__(self) -> int:
        return len(self._models)


def public_model(model: Model) -> JSON:
    """The model as `GET /v1/models` shows it: enough to draw its form and quote its price."""
    return {
        "id": model.id,
        "name": model.name,
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


def _read(name: str, text: bytes) -> _ModelFile:
    try:
        raw = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RegistryError(f"{name}: {error}") from error
    try:
        file = msgspec.convert(raw, _ModelFile)
    except msgspec.ValidationError as error:
        raise RegistryError(f"{name}: {error}") from error
    file = msgspec.structs.replace(file, model=(*file.model, *(short.model() for short in file.pull)))
    seen: set[str] = set()
    for model in file.model:
        faults = list(faults_of(model))
        if model.id in seen:
            faults.append("the id is used twice")
        if faults:
            raise RegistryError(f"{name}: model {model.id!r}: " + "; ".join(faults))
        seen.add(model.id)
    return file


def faults_of(model: Model) -> Iterable[str]:
    """What is wrong with a model beyond its form."""
    names = [field.name for field in model.fields]
    if not model.id or len(model.id) > 200 or any(sign.isspace() for sign in model.id):
        yield "the id must be 1 to 200 signs without spaces"
    if not model.routes:
        yield "it needs at least one route"
    if not 1 <= model.max_outputs <= MAX_OUTPUTS:
        yield f"max_outputs must be 1 to {MAX_OUTPUTS}"
    if model.price.amount < 0:
        yield "a price cannot be negative"
    if model.eta_s <= 0:
        yield "eta_s must be above 0"
    if len(names) != len(set(names)):
        yield "a field is named twice"
    if model.n_field in names or model.n_field in model.extra:
        yield "n_field is set from `n` and may not be a field or an extra"
    for field in model.fields:
        yield from _field_faults(field)
        if field.name in model.extra:
            yield f"{field.name} is both a field and an extra"
    start = model.field(model.start_field) if model.start_field else None
    if model.start_field and (start is None or start.type != "image"):
        yield "start_field must name an image field"
    yield from _shape_faults(model)


def _field_faults(field: Field) -> Iterable[str]:
    where = f"field {field.name!r}: "
    if not field.name or field.name.startswith("_"):
        yield where + "a name may not be empty nor begin with `_`"
    if (field.type == "select") != bool(field.options):
        yield where + "options belong to a select, and a select needs them"
    if field.options and field.default is not None and field.default not in field.options:
        yield where + "the default is not among the options"
    if field.min is not None and field.max is not None and field.min > field.max:
        yield where + "min is above max"
    if field.many and field.type != "image":
        yield where + "only an image field takes many"
    if field.default is not None and type(field.default) not in _DEFAULT_TYPES[field.type]:
        yield where + f"the default does not fit the type {field.type}"


def _shape_faults(model: Model) -> Iterable[str]:
    aspect, duration = model.aspect, model.duration
    if aspect is not None:
        field = model.field(aspect.field)
        if field is None or field.type != "select":
            yield "aspect.field must name a select"
        elif unknown := [option.value for option in aspect.options if option.value not in (field.options or ())]:
            yield f"aspect.options has {unknown}, which the field does not offer"
        if (aspect.width_field is None) != (aspect.height_field is None):
            yield "aspect needs both width_field and height_field, or neither"
        for name in (aspect.width_field, aspect.height_field):
            if name is not None and model.field(name) is None:
                yield f"aspect names {name!r}, which is no field"
        if any(option.width < 1 or option.height < 1 for option in aspect.options):
            yield "aspect sizes must be above 0"
    if duration is not None:
        named = [duration.field, duration.frames_field, duration.fps_field]
        if lost := [name for name in named if name is not None and model.field(name) is None]:
            yield f"duration names {lost}, which are no fields"
        if (duration.frames_field is None) != (duration.fps_field is None):
            yield "duration needs both frames_field and fps_field, or neither"
