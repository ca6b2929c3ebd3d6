"""API keys: how they look (pure), and their rows. Only the SHA-256 is kept: the plaintext is said once (S6).

A key is `sk_` or `pk_`, 32 random bytes in base62, and a checksum, so that a typo or a cut-off paste is told
apart from a foreign key, and found by secret scanners, without asking the database.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple
from uuid import UUID

import asyncpg

from safelight.access import audit
from safelight.access.errors import Conflict, NotFound, Unauthorized
from safelight.access.names import checked_name
from safelight.db.pool import Conn, Row, Transaction

KeyKind = Literal["secret", "publishable"]

KEYS_MAX: Final = 200
"""Live keys of one project: a key for each server and each developer, and a leak of ours is noticed."""
NAME_MAX: Final = 100
PREFIX_SHOWN: Final = 11
"""Characters shown in lists: enough to recognise a key, and 208 of its 256 bits stay secret."""
USE_STEP_S: Final = 60
"""`last_used_at` is this coarse, so that a busy key costs one write a minute."""

_PREFIXES: Final[dict[KeyKind, str]] = {"secret": "sk_", "publishable": "pk_"}
_KINDS: Final[dict[str, KeyKind]] = {prefix: kind for kind, prefix in _PREFIXES.items()}
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGITS: Final = frozenset(_ALPHABET)
_BODY: Final = 43  # base62 digits that hold 256 bits
_SUM: Final = 6  # base62 digits that hold 32 bits
_LENGTH: Final = 3 + _BODY + _SUM


class NewKey(NamedTuple):
    """`plaintext` cannot be had again."""

    id: UUID
    plaintext: str


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret. `project_id` None: every project of the installation."""

    id: UUID
    project_id: UUID | None
    kind: KeyKind
    name: str
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


def generate(kind: KeyKind) -> str:
    """A new key's plaintext."""
    body = _PREFIXES[kind] + _base62(int.from_bytes(secrets.token_bytes(32)), _BODY)
    return body + _checksum(body)


def is_key(credential: str) -> bool:
    """Whether this is meant to be one of our keys and not a token."""
    return credential[:3] in _KINDS


def kind_of(plaintext: str) -> KeyKind:
    """What the key says it is. Raises Unauthorized if it is mistyped, cut off or no key at all."""
    kind = _KINDS.get(plaintext[:3])
    if kind is None:
        raise Unauthorized("This is not an API key: those begin with sk_ or pk_.", "malformed")
    body, checksum = plaintext[:-_SUM], plaintext[-_SUM:]
    if len(plaintext) != _LENGTH or not _DIGITS.issuperset(plaintext[3:]) or _checksum(body) != checksum:
        raise Unauthorized("The API key is mistyped or cut off.", "malformed")
    return kind


def digest(plaintext: str) -> bytes:
    """What is stored in its place: 32 random bytes need no slow hash."""
    return hashlib.sha256(plaintext.encode()).digest()


async def create_key(
    tx: Transaction, *, project_id: UUID | None, kind: KeyKind, name: str, actor: str = "system"
) -> NewKey:
    """A new key of a project, or (None) of the whole installation.

    Raises InvalidInput (name), NotFound (project), Conflict (too many keys).
    """
    name = checked_name("name", name, NAME_MAX, may_be_empty=True)
    live = await tx.conn.fetchval(
        "select count(*) from api_keys where project_id is not distinct from $1 and revoked_at is null", project_id
    )
    if live >= KEYS_MAX:
        raise Conflict(f"There are {KEYS_MAX} keys already: revoke some that are not used.")
    plaintext = generate(kind)
    try:
        key_id: UUID = await tx.conn.fetchval(
            "insert into api_keys (project_id, kind, name, hash, prefix) values ($1, $2, $3, $4, $5) returning id",
            project_id, kind, name, digest(plaintext), plaintext[:PREFIX_SHOWN],
        )  # fmt: skip
    except asyncpg.ForeignKeyViolationError:
        raise NotFound("There is no such project.") from None
    await audit.record(
        tx,
        actor,
        "key.create",
        project_id,
        {"key": key_id, "kind": kind, "name": name, "prefix": plaintext[:PREFIX_SHOWN]},
    )
    return NewKey(key_id, plaintext)


async def find_key(conn: Conn, plaintext: str) -> Key | None:
    """The key's row, revoked or not. Raises Unauthorized if it is mistyped."""
    kind_of(plaintext)
    return await find_digest(conn, digest(plaintext))


async def find_digest(conn: Conn, key_digest: bytes) -> Key | None:
    """As `find_key`, for a caller that keeps no plaintexts."""
    row = await conn.fetchrow("select * from api_keys where hash = $1", key_digest)
    return _key(row) if row else None


async def list_keys(conn: Conn, project_id: UUID | None) -> list[Key]:
    """The keys of one project, or (None) those of the installation; newest first, a revoked one for 90 days."""
    rows = await conn.fetch(
        "select * from api_keys where project_id is not distinct from $1"
        " and (revoked_at is null or revoked_at > now() - interval '90 days') order by created_at desc, id limit 1000",
        project_id,
    )
    return [_key(row) for row in rows]


async def revoke_key(tx: Transaction, key_id: UUID, *, within: UUID | None = None, actor: str = "system") -> Key:
    """End a key for good; again is fine. `within`: only if it is a key of that project.

    Takes effect within the gate's memory (seconds); in this process at once if `Gate.forget` is called after.
    Raises NotFound.
    """
    row = await tx.conn.fetchrow(
        "select * from api_keys where id = $1 and ($2::uuid is null or project_id = $2) for update",
        key_id, within,
    )  # fmt: skip
    if row is None:
        raise NotFound("There is no such key.")
    if row["revoked_at"] is None:
        row = await tx.conn.fetchrow("update api_keys set revoked_at = now() where id = $1 returning *", key_id)
        assert row is not None
        await audit.record(tx, actor, "key.revoke", row["project_id"], {"key": key_id, "prefix": row["prefix"]})
    return _key(row)


async def note_uses(conn: Conn, uses: Sequence[tuple[UUID, datetime]]) -> None:
    """Write when keys were last used; one that was written less than a minute before is left alone."""
    await conn.execute(
        "update api_keys k set last_used_at = u.at from unnest($1::uuid[], $2::timestamptz[]) as u (id, at)"
        " where k.id = u.id and (k.last_used_at is null or k.last_used_at <= u.at - $3 * interval '1 second')",
        [key_id for key_id, _ in uses],
        [at for _, at in uses],
        USE_STEP_S,
    )


def _key(row: Row) -> Key:
    return Key(
        row["id"], row["project_id"], row["kind"], row["name"], row["prefix"],
        row["created_at"], row["last_used_at"], row["revoked_at"],
    )  # fmt: skip


def _base62(number: int, width: int) -> str:
    digits: list[str] = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _SUM)
