"""Signing secrets: derived, never stored; shown once; a rotated one signs on for a day beside the new (J12).

A secret is the HMAC of its owner's id and a random salt under a key that this installation drew for itself. So a list
of endpoints, or a copy of it, holds nothing that could sign. An owner is an endpoint, or a project, whose own secret
signs what goes to a job's `webhook_url`; a project's first one has an empty salt and no row.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID

from standardwebhooks import Webhook

from safelight.db.pool import Conn, Transaction

OVERLAP: Final = timedelta(hours=24)
"""How long receivers have to learn a new secret."""
SIGNING_MAX: Final = 5
"""Secrets that sign at once: the new, and those rotated away within a day. Receivers read so many without complaint."""
SALT_BYTES: Final = 16
FIRST_SALT: Final = b""
"""Of a project."""


@dataclass(frozen=True, slots=True)
class Rotated:
    secret: str = field(repr=False)
    previous_expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Signer:
    """`key`: 32 bytes that only this installation has."""

    key: bytes = field(repr=False)

    def secret(self, owner: UUID, salt: bytes) -> str:
        """`whsec_…` of 32 bytes, as Standard Webhooks writes it."""
        derived = hmac.digest(self.key, b"safelight-webhook\n" + owner.bytes + salt, sha256)
        return "whsec_" + base64.b64encode(derived).decode()

    def headers(
        self, owner: UUID, salts: Sequence[bytes], *, message_id: str, at: datetime, body: bytes
    ) -> dict[str, str]:
        """One signature for each secret that is in force, the newest first."""
        text = body.decode()
        signatures = [Webhook(self.secret(owner, salt)).sign(message_id, at, text) for salt in salts[:SIGNING_MAX]]
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signatures),
        }


async def salts_of(conn: Conn, owner: UUID) -> list[bytes]:
    """Those that sign now, the one in force first. Of a project that never rotated: the first."""
    rows = await conn.fetch(
        """
        select salt from webhook_salts where owner = $1 and (expires_at is null or expires_at > now())
        order by expires_at desc nulls first
        """,
        owner,
    )
    return [row["salt"] for row in rows] or [FIRST_SALT]


async def begin(tx: Transaction, owner: UUID) -> bytes:
    """A new endpoint's salt."""
    salt = secrets.token_bytes(SALT_BYTES)
    await tx.conn.execute("insert into webhook_salts (owner, salt) values ($1, $2)", owner, salt)
    return salt


async def rotate(tx: Transaction, owner: UUID) -> tuple[bytes, datetime]:
    """A new salt in force, and when the old one ends. The caller holds the owner's row, so that two wait in line."""
    expires_at: datetime | None = await tx.conn.fetchval(
        "update webhook_salts set expires_at = now() + $2 where owner = $1 and expires_at is null returning expires_at",
        owner,
        OVERLAP,
    )
    if expires_at is None:
        expires_at = await tx.conn.fetchval(
            "insert into webhook_salts (owner, salt, expires_at) values ($1, $2, now() + $3) returning expires_at",
            owner,
            FIRST_SALT,
            OVERLAP,
        )
    assert expires_at is not None
    await tx.conn.execute("delete from webhook_salts where owner = $1 and expires_at <= now()", owner)
    return await begin(tx, owner), expires_at
