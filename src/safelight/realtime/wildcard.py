"""SQL's LIKE: `%` for any text, `_` for any character, `\\` before one that is meant. Pure.

Not by regular expressions: one that a client made could be made to run for ever. This takes at most the product of
both lengths.
"""

from __future__ import annotations

__all__ = ["is_like"]

_MANY = None
_ONE = ""


def is_like(pattern: str, text: str, *, fold: bool = False) -> bool:
    """Whether the whole text fits the pattern; with `fold`, whatever the case."""
    if fold:
        pattern, text = pattern.lower(), text.lower()
    tokens = _tokens(pattern)
    at = position = 0
    star, resumed = -1, 0
    while position < len(text):
        token = tokens[at] if at < len(tokens) else "end"
        if token is _MANY and at < len(tokens):
            star, resumed = at, position
            at += 1
        elif at < len(tokens) and (token == _ONE or token == text[position]):
            at += 1
            position += 1
        elif star >= 0:  # let the last % take one character more
            resumed += 1
            at, position = star + 1, resumed
        else:
            return False
    return all(token is _MANY for token in tokens[at:])


def _tokens(pattern: str) -> list[str | None]:
    tokens: list[str | None] = []
    escaped = False
    for char in pattern:
        if escaped:
            tokens.append(char)
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            tokens.append({"%": _MANY, "_": _ONE}.get(char, char))
    return tokens
