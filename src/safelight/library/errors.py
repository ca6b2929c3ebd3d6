"""What the library refuses, in the API's own codes."""

from __future__ import annotations

from typing import Any


class LibraryError(Exception):
    """`code` is one of the API's: `not_found`, `conflict`, `invalid_input`. The transaction is to be given up.

    `errors` are entries `{loc, msg, type}` where single parts of the input are at fault.
    """

    def __init__(self, code: str, detail: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.errors = errors or []


def not_found(what: str, identity: object) -> LibraryError:
    """What is in another project is not found either."""
    return LibraryError("not_found", f"there is no {what} {identity} in this project")


def invalid(field: str, why: str, kind: str = "value_error") -> LibraryError:
    """One field of the input is wrong."""
    return LibraryError("invalid_input", f"{field}: {why}", [{"loc": ["body", field], "msg": why, "type": kind}])
