"""People's tokens (JWT): signed with a secret we share with the app's sign-in, or with its published keys (S6).

Supabase's tokens pass as they are: `sub` is the user. What a token says of roles is not believed: roles are ours,
per project. A clock difference of ten seconds is forgiven.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

import jwt

from safelight.access.errors import Unauthorized
from safelight.access.jwks import ALGORITHMS, KeySet
from safelight.access.names import is_user_id

LEEWAY_S: Final = 10
LENGTH_MAX: Final = 8_192
"""Characters; what servers take in a header. Ours have 200, Supabase's about 1,000."""
SECRET_MIN: Final = 32
"""Bytes: HS256 is as strong as its secret, and a short one is guessed from a single token."""
TTL_MAX_S: Final = 366 * 86_400

Clock = Callable[[], datetime]
_UNCHECKED_HERE: Final[Mapping[str, Any]] = {
    # The claims are checked below, on our clock and with our sentences; the signature is checked by PyJWT.
    **{f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")},
    "enforce_minimum_key_length": True,
}


@dataclass(frozen=True, slots=True)
class Claims:
    """What we believe of a token. `user_id` None: the service itself (only where that is trusted)."""

    user_id: str | None
    expires_at: datetime


class Tokens:
    """Verifies tokens; with a secret also issues them.

    `audience` and `issuer`, where set, must be in the token. `trusts_service_role`: a token with the claim
    `role: service_role` is the installation's own (as in a Supabase project whose secret only servers know).
    """

    def __init__(
        self,
        *,
        clock: Clock,
        secret: str | None = None,
        keys: KeySet | None = None,
        audience: str | None = None,
        issuer: str | None = None,
        trusts_service_role: bool = False,
    ) -> None:
        if secret is not None and len(secret.encode()) < SECRET_MIN:
            raise ValueError(f"the JWT secret has at least {SECRET_MIN} bytes")
        self._secret = secret
        self._keys = keys
        self._audience = audience
        self._issuer = issuer
        self._trusts_service_role = trusts_service_role
        self._clock = clock

    def issue(self, user_id: str, ttl_s: int) -> str:
        """A token for `user_id`, signed with the secret; for the demo, tests and apps without a sign-in.

        Raises ValueError without a secret, for an impossible user id or lifetime.
        """
        if self._secret is None or not is_user_id(user_id) or not 0 < ttl_s <= TTL_MAX_S:
            raise ValueError("issuing takes a secret, a user id and a lifetime of up to a year")
        now = int(self._clock().timestamp())
        claims: dict[str, Any] = {"sub": user_id, "iat": now, "exp": now + ttl_s}
        if self._audience is not None:
            claims["aud"] = self._audience
        if self._issuer is not None:
            claims["iss"] = self._issuer
        return jwt.encode(claims, self._secret, algorithm="HS256")

    async def verify(self, token: str) -> Claims:
        """What the token says, if it holds now.

        Raises Unauthorized (`malformed`, `foreign`, `expired`), Unavailable if the issuer's keys cannot be had.
        """
        if len(token) > LENGTH_MAX:
            raise Unauthorized(f"The token is longer than {LENGTH_MAX} characters.", "malformed")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError):
            raise Unauthorized("This is neither an API key nor a token (JWT).", "malformed") from None
        key, algorithm = await self._key_for(header)
        try:
            claims = jwt.decode(token, key, algorithms=[algorithm], options=_UNCHECKED_HERE)  # pyright: ignore[reportArgumentType]
        except jwt.InvalidSignatureError:
            raise Unauthorized("The token's signature is not its issuer's.", "foreign") from None
        except (jwt.PyJWTError, ValueError):
            raise Unauthorized("The token cannot be read.", "malformed") from None
        return self._believed(claims)

    async def _key_for(self, header: Mapping[str, Any]) -> tuple[Any, str]:
        """The key by the token's algorithm. What may verify it is fixed by the key: a public key is no secret."""
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in {"HS256", *ALGORITHMS}:
            raise Unauthorized("Tokens are signed with HS256, RS256, ES256 or EdDSA.", "malformed")
        if algorithm == "HS256" and self._secret is not None:
            return self._secret, algorithm
        if algorithm != "HS256" and self._keys is not None:
            return await self._keys.key(header.get("kid"), algorithm), algorithm
        raise Unauthorized(f"This server knows no issuer of {algorithm} tokens.", "foreign")

    def _believed(self, claims: Mapping[str, Any]) -> Claims:
        now = self._clock().timestamp()
        expires = _instant(claims, "exp")
        if expires is None:
            raise Unauthorized("The token has no expiry (exp).", "malformed")
        if now >= expires + LEEWAY_S:
            raise Unauthorized("The token has expired: sign in again.", "expired")
        if (starts := _instant(claims, "nbf")) is not None and now < starts - LEEWAY_S:
            raise Unauthorized("The token is not valid yet: is a clock wrong?", "malformed")
        if self._audience is not None and self._audience not in _strings(claims.get("aud")):
            raise Unauthorized("The token is meant for another audience (aud).", "foreign")
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise Unauthorized("The token is from another issuer (iss).", "foreign")
        expires_at = datetime.fromtimestamp(expires, UTC)
        if self._trusts_service_role and claims.get("role") == "service_role":
            return Claims(None, expires_at)
        user_id = claims.get("sub")
        if not isinstance(user_id, str) or not is_user_id(user_id):
            raise Unauthorized("The token names no user (sub).", "malformed")
        return Claims(user_id, expires_at)


_YEAR_10000: Final = 253_402_300_800


def _instant(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unauthorized(f"The token's {name} is no time.", "malformed")
    if not 0 <= value < _YEAR_10000 - LEEWAY_S:
        raise Unauthorized(f"The token's {name} is no time.", "malformed")
    return float(value)


def _strings(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else [value]
