"""The studio's session: a signed cookie that names a user and the one project it was opened for. Pure.

What the user may do there is asked of the memberships at every request, so removing a member ends the session.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, Literal
from uuid import UUID

import msgspec

from safelight.access.errors import Unauthorized
from safelight.access.names import is_user_id

COOKIE: Final = "safelight_session"
LIFETIME: Final = timedelta(days=30)
LENGTH_MAX: Final = 2_000
"""Characters; a user id of 200 characters outside ASCII makes 1,200."""
SECRET_MIN: Final = 32
_PURPOSE: Final = b"safelight-session\n"  # a signature made for anything else never fits here


@dataclass(frozen=True, slots=True)
class Session:
    user_id: str
    project_id: UUID
    expires_at: datetime


class _Wire(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: Literal[1]
    user_id: str
    project_id: UUID
    expires: int


class Sessions:
    """Signs with `secret`; `previous` ones still verify, so that a secret can be changed without signing all out."""

    def __init__(self, secret: bytes, previous: Sequence[bytes] = ()) -> None:
        if any(len(each) < SECRET_MIN for each in (secret, *previous)):
            raise ValueError(f"a session secret has at least {SECRET_MIN} bytes")
        self._secrets = (secret, *previous)

    def sign(self, session: Session) -> str:
        """The cookie's value."""
        wire = _Wire(1, session.user_id, session.project_id, int(session.expires_at.timestamp()))
        payload = urlsafe_b64encode(msgspec.json.encode(wire)).rstrip(b"=")
        return f"{payload.decode()}.{_signature(self._secrets[0], payload)}"

    def verify(self, value: str, now: datetime) -> Session:
        """Whose session it is. Raises Unauthorized (`malformed`, `foreign`, `expired`)."""
        payload, dot, signature = value.partition(".")
        if len(value) > LENGTH_MAX or not value.isascii() or not dot:
            raise Unauthorized("The session cookie is not one of ours.", "malformed")
        good = False
        for secret in self._secrets:
            good |= hmac.compare_digest(_signature(secret, payload.encode()), signature)
        if not good:
            raise Unauthorized("The session cookie is not one of ours: open the studio by a new link.", "foreign")
        try:
            wire = msgspec.json.decode(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Wire)
        except (ValueError, msgspec.MsgspecError):
            raise Unauthorized("The session cookie cannot be read.", "malformed") from None
        if now.timestamp() >= wire.expires:
            raise Unauthorized("The session has expired: open the studio by a new link.", "expired")
        if not is_user_id(wire.user_id):
            raise Unauthorized("The session names no user.", "malformed")
        return Session(wire.user_id, wire.project_id, datetime.fromtimestamp(wire.expires, UTC))


def cookie_header(value: str, *, is_secure: bool) -> str:
    """The `Set-Cookie` that keeps a session: out of reach of scripts, and not sent along by other sites' forms.

    Lax and not Strict, because the link that opens the studio is followed from a mail or a terminal.
    `is_secure`: the page is served by https, so the cookie never travels otherwise.
    """
    return _set_cookie(value, int(LIFETIME.total_seconds()), is_secure)


def cookie_removal(*, is_secure: bool) -> str:
    """The `Set-Cookie` that signs out this browser."""
    return _set_cookie("", 0, is_secure)


def _set_cookie(value: str, max_age_s: int, is_secure: bool) -> str:
    secure = "; Secure" if is_secure else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}"


def _signature(secret: bytes, payload: bytes) -> str:
    return urlsafe_b64encode(hmac.digest(secret, _PURPOSE + payload, sha256)).rstrip(b"=").decode()
