"""The models on offer by name: those of the files, and over them those of the API (P1)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

from safelight.providers.model import Model
from safelight.providers.model_file import RegistryError, check_aliases, read_file
from safelight.providers.toml_lines import Lines, where

MAX_FILE_BYTES = 1_000_000
"""An operator's model file; a thousand models fit."""
NEAREST_MAX = 3
NEAREST_LIKENESS = 0.5
"""Of a name to an unknown one, from which on it is suggested."""


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
        models = {model.id: model for model in (*read_file("models.toml", shipped).model, *also)}
        if operator_file is not None:
            try:
                if operator_file.stat().st_size > MAX_FILE_BYTES:
                    raise RegistryError(f"{operator_file}: larger than {MAX_FILE_BYTES} bytes")
                text = operator_file.read_bytes()
                own = read_file(str(operator_file), text)
            except OSError as error:
                raise RegistryError(f"{operator_file}: cannot be read ({error.strerror})") from error
            for name in own.remove:
                if models.pop(name, None) is None:
                    at = where(str(operator_file), Lines(text.decode()), ("remove",), f"{name!r} is no model.")
                    raise RegistryError(at)
            models |= {model.id: model for model in own.model}
            check_aliases(str(operator_file), text.decode(), own, models)
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


def _aliases(models: Mapping[str, Model]) -> dict[str, str]:
    """A model's own id is never somebody else's alias."""
    return {alias: model.id for model in models.values() for alias in model.aliases if alias not in models}
