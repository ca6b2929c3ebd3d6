"""Secrets that the installation makes for itself: once, whoever starts first, the same for every process."""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from typing import Final

from safelight.db.pool import Database, Transaction

SECRET_BYTES: Final = 32
GIVEN_MIN: Final = 32
"""Bytes of a secret that the operator sets: shorter ones are words."""


async def installation_secret(db: Database, name: str, given: str | None = None) -> bytes:
    """The 32 bytes called `name`: drawn and stored at the first call, the same ever after.

    With `given` (a setting) nothing is stored: they are derived from it, others for every name, so that one setting
    serves several purposes and all machines. Raises ValueError if it is too short.
    """
    if given is not None:
        if len(given.encode()) < GIVEN_MIN:
            raise ValueError(f"the secret has at least {GIVEN_MIN} bytes")
        return hmac.digest(given.encode(), f"safelight-secret\n{name}".encode(), sha256)

    async def work(tx: Transaction) -> bytes:
        await tx.conn.execute(
            "insert into secrets (name, value) values ($1, $2) on conflict (name) do nothing",
            name, secrets.token_bytes(SECRET_BYTES),
        )  # fmt: skip
        return await tx.conn.fetchval("select value from secrets where name = $1", name)

    return await db.run(work)
