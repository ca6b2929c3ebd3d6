"""Texts with blanks, as `/tasks/{task_id}`: what may stand in them, and how each is filled (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast
from urllib.parse import quote

from safelight.providers.base import JSON

BLANK: Final = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
MISSING: Final = object()
ENDPOINT: Final = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9._~:@/-]{1,300}")
"""A provider's name of a model that may stand in a path and climbs nowhere."""


def blanks_of(value: object) -> Iterator[str]:
    """The names of all blanks in a text, a list or a table."""
    if isinstance(value, str):
        yield from BLANK.findall(value)
    elif isinstance(value, Mapping):
        for inner in cast(Mapping[str, Any], value).values():
            yield from blanks_of(inner)
    elif isinstance(value, list | tuple):
        for inner in cast("list[Any]", value):
            yield from blanks_of(inner)


def filled_path(path: str, values: Mapping[str, str]) -> str:
    """A path whose blanks are filled; nothing of a value can begin another part of the URL."""
    return BLANK.sub(lambda blank: quote(values.get(blank[1], ""), safe="/" if blank[1] == "endpoint" else ""), path)


def filled_body(template: Mapping[str, Any], values: Mapping[str, Any]) -> JSON:
    """A table whose blanks are filled. A text that is one blank becomes the value, and is left out without one."""
    body: JSON = {}
    for name, value in template.items():
        made = _filled(value, values)
        if made is not MISSING:
            body[name] = made
    return body


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        if alone := BLANK.fullmatch(value):
            found = values.get(alone[1])
            return MISSING if found is None else found
        return BLANK.sub(lambda blank: str(values.get(blank[1], "")), value)
    if isinstance(value, Mapping):
        return filled_body(cast(Mapping[str, Any], value), values)
    if isinstance(value, list):
        made = [_filled(inner, values) for inner in cast("list[Any]", value)]
        return [inner for inner in made if inner is not MISSING]
    return value
