"""Signed media URLs: private by default, expiring, and yet the same all day, so that caches work (M3). Pure."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final

SECRET_MIN: Final = 16  # bytes
SIGNATURE_BYTES: Final = 18  # 144 bits: 24 characters without padding
WINDOW_S: Final = 86_400
E_DIGITS_MAX: Final = 12


class MediaSigner:
    """Signs with `secret`, accepts also `previous` ones, so that a secret can be changed without a broken page."""

    def __init__(self, secret: bytes, previous: Sequence[bytes] = (), *, path: str = "/media/") -> None:
        if any(len(each) < SECRET_MIN for each in (secret, *previous)):
            raise ValueError(f"a signing secret has at least {SECRET_MIN} bytes")
        self._secrets = (secret, *previous)
        self._path = path

    def sign(self, key: str, now: datetime, ttl_window_s: int = WINDOW_S) -> str:
        """`/media/{key}?e=…&s=…`, valid for one to two windows: the same URL for all of a window (UTC day)."""
        expires = (int(now.timestamp()) // ttl_window_s + 2) * ttl_window_s
        return f"{self._path}{key}?e={expires}&s={_signature(self._secrets[0], key, expires)}"

    def verify(self, key: str, e: str, s: str, now: datetime) -> bool:
        """Whether `s` was made by us for this key and `e`, and `e` is not over. Takes the same time either way."""
        if not (e.isascii() and e.isdigit() and len(e) <= E_DIGITS_MAX and s.isascii()) or str(int(e)) != e:
            return False
        good = False
        for secret in self._secrets:
            good |= hmac.compare_digest(_signature(secret, key, int(e)), s)
        return good and now.timestamp() < int(e)


def _signature(secret: bytes, key: str, expires: int) -> str:
    message = f"safelight-media\n{expires}\n{key}".encode()
    digest = hmac.digest(secret, message, sha256)[:SIGNATURE_BYTES]
    return urlsafe_b64encode(digest).decode()
