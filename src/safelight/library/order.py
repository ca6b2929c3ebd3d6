"""Fractional positions: texts that sort as the things they stand for, with room between any two. Pure.

Over the library `fractional-indexing`; it leaves out what this file adds: keys from outside are checked, equal
keys are parted, and a new order moves as few things as it can (each move is a change in every open window).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from fractional_indexing import FIError, generate_n_keys_between, validate_order_key

from safelight.library.errors import invalid

LENGTH_MAX: Final = 100
"""Inserting at one spot over and over adds about a character every six times; past this, all get fresh keys."""


def check_position(position: str) -> str:
    """Raises LibraryError `invalid_input` for what is no key: nothing could be put beside it later."""
    try:
        if not (1 <= len(position) <= LENGTH_MAX and position.isascii() and position.isalnum()):
            raise FIError("not base 62")
        validate_order_key(position)
    except (FIError, IndexError, ValueError):
        raise invalid("position", "is not a fractional index (such as a0, a1, a0V)") from None
    return position


def at_end(last: str | None, n: int = 1) -> list[str]:
    """`n` keys behind the last one there is."""
    return generate_n_keys_between(last, None, n)


def from_position(position: str, taken: Sequence[str], n: int = 1) -> list[str]:
    """`n` keys that begin at `position`, all before the next taken key and none equal to a taken one."""
    following = min((key for key in taken if key > position), default=None)
    if position not in taken:
        return [position, *generate_n_keys_between(position, following, n - 1)]
    return generate_n_keys_between(position, following, n)


def rekey(current: Sequence[str | None]) -> list[str]:
    """Keys for things in their new order, given their present ones; those already in order keep theirs."""
    kept = _longest_ascending(current)
    keys: list[str] = []
    index = 0
    while index < len(current):
        if index in kept:
            keys.append(_present(current, index))
            index += 1
            continue
        end = index
        while end < len(current) and end not in kept:
            end += 1
        below = keys[-1] if keys else None
        above = _present(current, end) if end < len(current) else None
        keys += generate_n_keys_between(below, above, end - index)
        index = end
    if any(len(key) > LENGTH_MAX for key in keys):
        return generate_n_keys_between(None, None, len(current))
    return keys


def _present(current: Sequence[str | None], index: int) -> str:
    key = current[index]
    assert key is not None
    return key


def _longest_ascending(current: Sequence[str | None]) -> set[int]:
    """Indices of a longest strictly ascending run of keys (patience sorting)."""
    tails: list[int] = []
    tail_keys: list[str] = []
    before: list[int | None] = [None] * len(current)
    for index, key in enumerate(current):
        if key is None:
            continue
        at = bisect_left(tail_keys, key)
        before[index] = tails[at - 1] if at else None
        tails[at : at + 1] = [index]
        tail_keys[at : at + 1] = [key]
    chain: set[int] = set()
    index = tails[-1] if tails else None
    while index is not None:
        chain.add(index)
        index = before[index]
    return chain
