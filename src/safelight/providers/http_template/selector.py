"""Picking a value out of a provider's answer: JMESPath, compiled once, that finds or does not, never breaks (pure)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

LENGTH_MAX: Final = 500
"""Signs of one expression: it is written by hand."""


class SelectorError(ValueError):
    """The expression is none; the text says what is wrong and where in it."""


class Selector:
    """One expression. `of` gives what it selects, None where the answer has no such thing."""

    __slots__ = ("_search", "text")

    def __init__(self, text: str) -> None:
        """Raises SelectorError."""
        import jmespath  # only installations that describe a provider pay for it
        from jmespath.exceptions import JMESPathError

        if not text.strip() or len(text) > LENGTH_MAX:
            raise SelectorError(f"an expression has 1 to {LENGTH_MAX} signs")
        try:
            compiled = cast(Any, jmespath).compile(text)
            # Unknown functions and wrong counts of arguments show only when it runs.
            compiled.search({})
        except JMESPathError as error:
            if type(error).__name__ != "JMESPathTypeError":
                raise SelectorError(_first_line(error)) from None
            compiled = cast(Any, jmespath).compile(text)
        except (ValueError, RecursionError) as error:
            raise SelectorError(_first_line(error)) from None
        self.text = text
        self._search = cast("Callable[[Any], Any]", compiled.search)

    def of(self, answer: object) -> Any:
        """What `answer` says there. A function that does not take what is there selects nothing."""
        try:
            return self._search(answer)
        except (ValueError, TypeError, RecursionError):  # JMESPathError is a ValueError
            return None


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n", 1)[0].split()).rstrip(".:")
