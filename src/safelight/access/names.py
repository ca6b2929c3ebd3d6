"""What people may call things and themselves: text that PostgreSQL takes and a log line survives. Pure."""

from __future__ import annotations

from typing import Final

from safelight.access.errors import InvalidInput

USER_ID_MAX: Final = 200
"""As in the table `members`."""


def is_user_id(text: str) -> bool:
    """Whether this can be somebody's id: a NUL or half a surrogate would be an error of the database later."""
    return 0 < len(text) <= USER_ID_MAX and text.isprintable()


def checked_user_id(text: str) -> str:
    """Raises InvalidInput."""
    if not is_user_id(text):
        raise InvalidInput(f"A user id has 1 to {USER_ID_MAX} printable characters.")
    return text


def checked_name(field: str, text: str, length_max: int, *, may_be_empty: bool = False) -> str:
    """The name without spaces around it. Raises InvalidInput."""
    text = text.strip()
    if len(text) > length_max or not text.isprintable() or not (text or may_be_empty):
        raise InvalidInput(f"{field}: {'up' if may_be_empty else '1'} to {length_max} printable characters.")
    return text
