"""What the room refuses, in the API's own codes."""

from __future__ import annotations

from typing import Any


class OutgoingError(Exception):
    """Nothing was changed. `errors` are entries `{loc, msg, type}` where single fields are at fault."""

    def __init__(self, code: str, detail: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors or []


def not_found(what: str) -> OutgoingError:
    return OutgoingError("not_found", f"There is no such {what}.")


def invalid(field: str, why: str, kind: str = "value_error") -> OutgoingError:
    return OutgoingError("invalid_input", f"{field}: {why}", [{"loc": ["body", field], "msg": why, "type": kind}])
