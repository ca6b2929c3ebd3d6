"""A file of models, `models.toml` or the operator's own, read strictly (P1).

A misspelt key is an error at start, not a default.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping

import msgspec

from safelight.providers.model import Field, Kind, Model, Price, Route
from safelight.providers.model_faults import Fault, alias_taken, placed_faults
from safelight.providers.toml_lines import Lines, of_validation, where


class RegistryError(ValueError):
    """A model file is wrong; each line of the message names the file, the line, the field and what to change."""


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


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    model: tuple[Model, ...] = ()
    pull: tuple[PullModel, ...] = ()
    remove: tuple[str, ...] = ()


def read_file(name: str, text: bytes) -> ModelFile:
    """Raises RegistryError."""
    try:
        words = text.decode()
        raw = tomllib.loads(words)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RegistryError(f"{name}: {error}") from error
    lines = Lines(words)
    try:
        file = msgspec.convert(raw, ModelFile)
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


def check_aliases(name: str, text: str, own: ModelFile, models: Mapping[str, Model]) -> None:
    lines = Lines(text)
    for index, model in enumerate(own.model):
        for alias in model.aliases:
            if taken := alias_taken(model.id, alias, models.values()):
                raise RegistryError(where(name, lines, ("model", index, "aliases"), f"{alias!r} is {taken}."))
