"""What the access room refuses, in the API's own codes."""

from __future__ import annotations

from typing import Literal

Reason = Literal["missing", "malformed", "unknown", "revoked", "expired", "foreign"]
"""Why a credential was turned away; for logs, metrics and the sentence, never for the code."""


class AccessError(Exception):
    """`code` is one of the API's, `detail` a sentence for people; `retry_after_s` where waiting helps."""

    code: str = "forbidden"

    def __init__(self, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s


class Unauthorized(AccessError):
    """401: no credential, or none that holds. A fresh one helps; the same one does not."""

    code = "unauthorized"

    def __init__(self, detail: str, reason: Reason) -> None:
        super().__init__(detail)
        self.reason: Reason = reason


class Forbidden(AccessError):
    """403: we know who asks and they may see the thing, but not do this."""

    code = "forbidden"


class NotFound(AccessError):
    """404: there is no such thing, or not for those who ask."""

    code = "not_found"


class Conflict(AccessError):
    """409: the rules of the house (a project keeps an owner) forbid it as things stand."""

    code = "conflict"


class InvalidInput(AccessError):
    """422: a name, role or user id that cannot be one."""

    code = "invalid_input"


class Unavailable(AccessError):
    """503: whether the credential holds cannot be told now. It may well: come back after `retry_after_s`."""

    code = "overloaded"
