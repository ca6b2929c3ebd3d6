"""A model on offer: which fields its form has, where the count and the start image go, what it costs, who makes it.

Data only. No code asks for a model by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from safelight.providers.base import JSON

FieldType = Literal["text", "int", "number", "select", "image", "bool"]
Kind = Literal["image", "video", "audio"]
Unit = Literal["picture", "second", "megapixel", "flat"]


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
