"""Patterns that a client made, tried on every row: `like` and expressions, by an engine whose time is linear. Pure.

Python's own engine can be made to run for ever by a pattern of twenty characters; RE2 cannot, at the price of
back-references and look-around, which are refused in words. It is loaded when somebody first asks for a pattern.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

__all__ = ["COMPARED_MAX", "PATTERN_MAX", "BadPattern", "expression", "like"]

PATTERN_MAX: Final = 200
"""Characters."""
MEMORY_MAX: Final = 64 * 1024
"""Bytes of one compiled pattern with its caches; it also bounds the steps for each character."""
COMPARED_MAX: Final = 2_000
"""Characters of a row's value that a pattern is tried on."""

Search = Callable[[str], bool]


class BadPattern(ValueError):
    """What the engine does not take; the sentence says why."""


def like(pattern: str, *, fold: bool) -> Search:
    r"""SQL's LIKE: `%` for any text, `_` for any character, `\` before one that is meant; `fold` for ILIKE.

    Raises BadPattern.
    """
    _check(pattern)
    parts: list[str] = []
    is_escaped = False
    for char in pattern:
        if is_escaped or char not in "\\%_":
            parts.append(_literal(char))
            is_escaped = False
        elif char == "\\":
            is_escaped = True
        elif char == "_":
            parts.append(".")
        elif not parts or parts[-1] != ".*":
            parts.append(".*")
    return _compiled(rf"\A{''.join(parts)}\z", fold=fold)


def expression(pattern: str, *, fold: bool) -> Search:
    """PostgreSQL's `~` (`fold`: `~*`): found anywhere, `.` is any character, `^` and `$` the ends of the whole.

    Raises BadPattern.
    """
    _check(pattern)
    return _compiled(pattern, fold=fold)


def _check(pattern: str) -> None:
    if len(pattern) > PATTERN_MAX:
        raise BadPattern(f"a pattern has up to {PATTERN_MAX} characters")


def _literal(char: str) -> str:
    return char if char.isalnum() or char == " " else rf"\x{{{ord(char):x}}}"


def _compiled(pattern: str, *, fold: bool) -> Search:
    re2: Any = importlib.import_module("re2")
    options = re2.Options()
    options.case_sensitive = not fold
    options.dot_nl = options.never_capture = True
    options.log_errors = False
    options.max_mem = MEMORY_MAX
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0]
        raise BadPattern(said.decode(errors="replace") if isinstance(said, bytes) else str(said)) from None
    except UnicodeError:
        raise BadPattern("it is no text") from None

    def search(value: str) -> bool:
        try:
            return compiled.search(value[:COMPARED_MAX]) is not None
        except UnicodeError:
            return False  # a lone surrogate: no text that PostgreSQL would hold

    return search
