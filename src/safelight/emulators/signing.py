"""How the providers sign their webhooks (providers.md §1.10, §2.4). Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class FalSigner:
    """fal's ED25519 signature over request id, account, time and the body's hash."""

    def __init__(self, private_key: bytes, user_id: str) -> None:
        """`private_key` is the 32-byte seed of the key."""
        self._key = Ed25519PrivateKey.from_private_bytes(private_key)
        self.user_id = user_id

    @classmethod
    def from_seed(cls, seed: int, user_id: str = "emulator_user") -> FalSigner:
        """The same seed gives the same key, so that a restarted emulator is still believed."""
        return cls(hashlib.sha256(f"safelight fal emulator {seed}".encode()).digest(), user_id)

    def headers(self, request_id: str, body: bytes, timestamp_s: int) -> dict[str, str]:
        message = "\n".join((request_id, self.user_id, str(timestamp_s), hashlib.sha256(body).hexdigest()))
        return {
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": self.user_id,
            "X-Fal-Webhook-Timestamp": str(timestamp_s),
            "X-Fal-Webhook-Signature": self._key.sign(message.encode()).hex(),
        }

    def jwks(self) -> dict[str, Any]:
        raw = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]}


def kie_headers(key: str | None, task_id: str, timestamp_s: int) -> dict[str, str]:
    """KIE signs id and time only, and only when the account has a key."""
    if key is None:
        return {}
    digest = hmac.digest(key.encode(), f"{task_id}.{timestamp_s}".encode(), "sha256")
    return {
        "X-Webhook-Timestamp": str(timestamp_s),
        "X-Webhook-Signature": base64.b64encode(digest).decode(),
    }
