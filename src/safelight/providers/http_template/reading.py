"""From a provider's file to a template that is ready to be used, or to sentences that say what is wrong with it.

Checked strictly at the start, like the models: a mistake names the file, the line and the field.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec

from safelight.providers.http_template.blanks import ENDPOINT
from safelight.providers.http_template.checks import Fault, api_of, faults, secret_of
from safelight.providers.http_template.description import Description
from safelight.providers.http_template.selector import Selector
from safelight.providers.model import Model
from safelight.providers.model_faults import faults_of
from safelight.providers.toml_lines import Lines, of_validation, where
from safelight.providers.toml_lines import Path as At

FILE_BYTES_MAX: Final = 1_000_000
FILES_MAX: Final = 200


class TemplateError(ValueError):
    """A provider's file is wrong; each line of the text is one mistake with its file, line and field."""


@dataclass(frozen=True, slots=True)
class Template:
    """A description that was found right, with everything looked up that it names."""

    about: Description
    source: str
    api: str
    key: str | None = field(repr=False)
    secret: bytes | None = field(repr=False)
    selectors: Mapping[str, Selector]
    """By where they stand in the file, as `status.state` or `error[0].when`."""
    models: tuple[Model, ...]
    disabled: str | None

    @property
    def name(self) -> str:
        return self.about.name

    def select(self, at: str, answer: object) -> Any:
        """What the expression at that place of the file selects; None where the file has none there."""
        selector = self.selectors.get(at)
        return None if selector is None else selector.of(answer)


def shipped() -> list[str]:
    """The providers that are described here and only need a key."""
    folder = resources.files("safelight.providers.http_template").joinpath("examples")
    return sorted(each.name.removesuffix(".toml") for each in folder.iterdir() if each.name.endswith(".toml"))


def load_templates(places: Iterable[str], environ: Mapping[str, str]) -> list[Template]:
    """All providers of these files, folders of files, and names of shipped ones. Raises TemplateError."""
    found: dict[str, Template] = {}
    for name, text in _files(places):
        template = read_template(name, text, environ)
        if (other := found.get(template.name)) is not None:
            raise TemplateError(f"{name}, line 1, name: {other.source} already describes {template.name!r}.")
        found[template.name] = template
    return list(found.values())


def read_template(source: str, text: str, environ: Mapping[str, str]) -> Template:
    """One file. Raises TemplateError."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said, _, at = str(error).partition(" (at ")
        line = re.search(r"line (\d+)", at)
        number = int(line[1]) if line else text.count("\n") + 1
        raise TemplateError(f"{source}, line {number}: {said[:1].lower()}{said[1:]}.") from None
    lines = Lines(text)
    try:
        about = msgspec.convert(raw, Description)
    except msgspec.ValidationError as error:
        path, said = of_validation(error)
        raise TemplateError(where(source, lines, path, said + ".")) from None
    selectors: dict[str, Selector] = {}
    wrong = [*faults(about, selectors, environ)]
    models: list[Model] = []
    for index, given in enumerate(about.model):
        models += _model(about.name, given, ("model", index), wrong)
    if wrong:
        raise TemplateError("\n".join(where(source, lines, path, said + ".") for path, said in wrong))
    key = environ.get(about.key.env) if about.key else None
    secret = secret_of(about, environ)
    reason = None
    if about.key is not None and not key:
        reason = f"Set {about.key.env} to a key for {about.title or about.name}."
    elif about.webhook is not None and about.webhook.scheme != "none" and secret is None:
        reason = f"Set {about.webhook.secret_env} to the secret that {about.title or about.name} signs webhooks with."
    return Template(about, source, api_of(about, environ), key, secret, selectors, tuple(models), reason)


# --- finding the files ------------------------------------------------------------------------------------------


def _files(places: Iterable[str]) -> Iterator[tuple[str, str]]:
    count = 0
    for place in places:
        path = Path(place)
        if place in shipped():
            folder = resources.files("safelight.providers.http_template").joinpath("examples")
            yield f"{place}.toml", folder.joinpath(f"{place}.toml").read_text("utf-8")
            continue
        try:
            listed = sorted(path.glob("*.toml")) if path.is_dir() else [path]
            for each in listed:
                count += 1
                if count > FILES_MAX:
                    raise TemplateError(f"{place}: more than {FILES_MAX} files describe providers.")
                if each.stat().st_size > FILE_BYTES_MAX:
                    raise TemplateError(f"{each}: larger than {FILE_BYTES_MAX} bytes.")
                yield str(each), each.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            known = ", ".join(shipped())
            raise TemplateError(f"{place}: cannot be read ({why}); shipped by name are {known}.") from error


# --- its models -------------------------------------------------------------------------------------------------


def _model(provider: str, given: object, at: At, wrong: list[Fault]) -> list[Model]:
    """The model as the registry knows models, or nothing and one more fault."""
    if not isinstance(given, dict):
        wrong.append((at, "a model is a table, `[[model]]`"))
        return []
    raw: dict[str, Any] = dict(given)  # pyright: ignore[reportUnknownArgumentType]  # keys of TOML are text
    endpoint = raw.pop("endpoint", None)
    if endpoint is not None and "routes" in raw:
        wrong.append(((*at, "routes"), "a model has an `endpoint` or `routes`, not both"))
        return []
    if "routes" not in raw:
        if not isinstance(endpoint, str):
            wrong.append(((*at, "endpoint"), "it is missing: the provider's own name of the model"))
            return []
        raw["routes"] = [{"provider": provider, "endpoint": endpoint}]
    raw.setdefault("description", "")
    try:
        model = msgspec.convert(raw, Model)
    except msgspec.ValidationError as error:
        path, said = of_validation(error)
        wrong.append(((*at, *path), said))
        return []
    found = [(at, said) for said in faults_of(model)]
    found += [
        ((*at, "endpoint"), "an endpoint is letters, digits, `/`, `-`, `_`, `.`, `:`, `@` and `~`")
        for route in model.routes
        if route.provider == provider and ENDPOINT.fullmatch(route.endpoint) is None
    ]
    wrong += found
    return [] if found else [model]
