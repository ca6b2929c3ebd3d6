"""What is shown of an input that is too large to be shown everywhere. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from safelight.providers.base import JSON
from safelight.providers.model_input import TEXT_LENGTH_MAX

__all__ = ["INPUT_BYTES_MAX", "abridged", "without_files"]

INPUT_BYTES_MAX: Final = 64 * 1024
"""Of JSON. A job's row travels in every entry of the change log to every window: it is for words, not for files."""
FILE_LENGTH_MIN: Final = 2_000
"""Characters of a `data:` URL; what is longer is a file."""
PROMPT_LENGTH_KEPT: Final = 5_000
"""As long as a generation's."""
SHORT_BYTES: Final = 100
"""A number, a truth value, a name out of a list: what a page draws a tile's shape from."""


def abridged(given: JSON) -> JSON | None:
    """The input without files and endless texts, or its prompt and what is short; None: it is not too large."""
    if _size(given) <= INPUT_BYTES_MAX:
        return None
    shown: JSON = _each_text(given, _shortened)
    if _size(shown) <= INPUT_BYTES_MAX:
        return shown
    prompt = given.get("prompt")
    words = {"prompt": prompt[:PROMPT_LENGTH_KEPT]} if isinstance(prompt, str) else {}
    return {name: value for name, value in shown.items() if _size(value) <= SHORT_BYTES} | words


def without_files(value: Any) -> Any:
    """`data:` URLs that hold a file as the beginning of their text."""
    return _each_text(value, _named)


def _size(value: Any) -> int:
    return len(msgspec.json.encode(value))


def _named(text: str) -> str:
    if text.startswith("data:") and len(text) > FILE_LENGTH_MIN:
        return f"{text[:64]}… ({len(text):,} characters)"
    return text


def _shortened(text: str) -> str:
    named = _named(text)
    return named if len(named) <= TEXT_LENGTH_MAX else f"{named[:TEXT_LENGTH_MAX]}… ({len(named):,} characters)"


def _each_text(value: Any, make: Callable[[str], str]) -> Any:
    match value:
        case str():
            return make(value)
        case dict():
            return {name: _each_text(each, make) for name, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
        case list():
            return [_each_text(each, make) for each in value]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return value
