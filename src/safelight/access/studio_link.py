"""The one-time link that opens the studio: made by the CLI or the app's server, traded once for a session.

Only the hash is stored, so who reads the database opens no studio.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from safelight.access import audit
from safelight.access.errors import InvalidInput, NotFound, Unauthorized
from safelight.access.names import checked_user_id
from safelight.access.sessions import LIFETIME, Session
from safelight.db.pool import Transaction

TTL_MAX_S: Final = 7 * 86_400
"""A link lies in mails and shell histories: a week is plenty."""
LENGTH: Final = 43  # 32 bytes in base64url


async def create_link(
    tx: Transaction, *, user_id: str, project_id: UUID, ttl_s: int, now: datetime, actor: str = "system"
) -> str:
    """The secret part of a link for a member of the project, good once within `ttl_s`.

    Raises NotFound (project, or no member of it), InvalidInput.
    """
    checked_user_id(user_id)
    if not 0 < ttl_s <= TTL_MAX_S:
        raise InvalidInput(f"A link lives between 1 and {TTL_MAX_S} seconds.")
    if not await tx.conn.fetchval(
        "select exists (select from members where project_id = $1 and user_id = $2)", project_id, user_id
    ):
        raise NotFound("There is no such project, or the user is not a member of it: add them first.")
    plaintext = secrets.token_urlsafe(32)
    await tx.conn.execute("delete from studio_links where expires_at < $1::timestamptz - interval '1 day'", now)
    try:
        await tx.conn.execute(
            "insert into studio_links (hash, user_id, project_id, expires_at)"
            " values ($1, $2, $3, $4::timestamptz + $5 * interval '1 second')",
            _digest(plaintext), user_id, project_id, now, ttl_s,
        )  # fmt: skip
    except asyncpg.ForeignKeyViolationError:
        raise NotFound("There is no such project.") from None
    await audit.record(tx, actor, "studio_link.create", project_id, {"user_id": user_id, "ttl_s": ttl_s})
    return plaintext


async def redeem_link(tx: Transaction, plaintext: str, *, now: datetime) -> Session:
    """Trade the link for a session of 30 days. Of two who try at once, one gets it.

    Raises Unauthorized (`malformed`, `unknown`, `revoked` if used before, `expired`).
    """
    if len(plaintext) != LENGTH or not plaintext.isascii():
        raise Unauthorized("The link is cut off or mistyped.", "malformed")
    digest = _digest(plaintext)
    row = await tx.conn.fetchrow(
        "update studio_links set used_at = $2 where hash = $1 and used_at is null and expires_at > $2"
        " returning user_id, project_id",
        digest, now,
    )  # fmt: skip
    if row is not None:
        await audit.record(tx, f"user:{row['user_id']}", "studio_link.redeem", row["project_id"])
        return Session(row["user_id"], row["project_id"], now + LIFETIME)
    was = await tx.conn.fetchrow("select used_at from studio_links where hash = $1", digest)
    if was is None:
        raise Unauthorized("The link is unknown or long over: ask for a new one.", "unknown")
    if was["used_at"] is not None:
        raise Unauthorized("The link was used already: ask for a new one.", "revoked")
    raise Unauthorized("The link has expired: ask for a new one.", "expired")


def _digest(plaintext: str) -> bytes:
    return hashlib.sha256(plaintext.encode()).digest()
