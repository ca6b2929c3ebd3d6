"""The gate: every request passes here. Who asks (`authenticate`), and may they (`allow`) (S6, O4).

Answers are remembered for a few seconds (memory.py): a busy client costs no query, and a key revoked or a member
removed elsewhere is out within that time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from safelight.access import keys
from safelight.access.csrf import csrf_ok
from safelight.access.errors import Forbidden, NotFound, Unauthorized
from safelight.access.memory import Memory
from safelight.access.principal import MEMBER_ROLES, Action, Principal, Role, may
from safelight.access.sessions import Sessions
from safelight.access.tokens import Tokens
from safelight.db.pool import Database

log: Final = structlog.get_logger("access")

USES_MAX: Final = 10_000
"""Keys whose last use waits to be written; beyond that the rest waits for its next use."""
FLUSH_EVERY_S: Final = 30.0


class Gate:
    """`clock` is the house's (UTC), `admins` the people whose studio may work the flags.

    `run()` writes when keys were used; whoever starts it stops it.
    """

    def __init__(
        self,
        db: Database,
        tokens: Tokens,
        sessions: Sessions,
        clock: Callable[[], datetime],
        admins: Collection[str] = (),
    ) -> None:
        self.tokens = tokens
        self.sessions = sessions
        self._db = db
        self._clock = clock
        self._admins = frozenset(admins)
        self._keys: Memory[bytes, keys.Key] = Memory(clock)
        self._members: Memory[tuple[str, UUID], Role] = Memory(clock)
        self._projects: Memory[UUID, bool] = Memory(clock)
        self._uses: dict[UUID, datetime] = {}
        self._written: dict[UUID, datetime] = {}

    async def authenticate(
        self,
        authorization: str | None = None,
        cookie: str | None = None,
        apikey: str | None = None,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        own_origins: Collection[str] = (),
    ) -> Principal:
        """Who asks. What was sent on purpose counts before what the browser adds by itself:

        `Authorization`, then an `apikey` that is secret or a token, then the cookie, then a publishable `apikey`.
        With a cookie, anything but reading must come from our own page.
        Raises Unauthorized, Forbidden (from another site's page), Unavailable.
        """
        if authorization:
            return await self._bearer(_credential(authorization))
        apikey = (apikey or "").strip()
        if apikey and not apikey.startswith("pk_"):
            return await self._bearer(apikey)
        if cookie:
            try:
                found = self._session(cookie)
            except Unauthorized:
                if not apikey:
                    raise
            else:
                if not csrf_ok(method, headers or {}, own_origins):
                    raise Forbidden("This request did not come from the studio's own page.")
                return found
        if apikey:
            return await self._bearer(apikey)
        raise Unauthorized("Send an API key or a token: Authorization: Bearer …", "missing")

    async def project_role(self, principal: Principal, project_id: UUID) -> Role | None:
        """What `principal` is in the project; None if the project is not theirs to see, or is not."""
        if principal.project_id not in (None, project_id):
            return None
        if principal.user_id is not None:
            return await self._membership(principal.user_id, project_id)
        if principal.project_id == project_id:
            return principal.role  # a project's keys go with it
        return principal.role if await self._exists(project_id) else None

    async def allow(
        self,
        principal: Principal,
        project_id: UUID | None,
        action: Action,
        *,
        unseen: str = "There is no such project.",
    ) -> Role | None:
        """Let `principal` do `action`, in the project or (None) in the installation; returns its role there.

        Raises NotFound (saying `unseen`) for a project they may not see, Forbidden where they see it but may not.
        """
        if project_id is None:
            role = principal.role
            if role is not None and principal.user_id is not None and principal.project_id is not None:
                # Removing a member ends the session of an admin, too.
                role = role if await self._membership(principal.user_id, principal.project_id) else None
        elif (role := await self.project_role(principal, project_id)) is None:
            raise NotFound(unseen)
        if may(principal, action, role):
            return role
        if principal.scope == "publishable":
            raise Forbidden("A publishable key may only open the socket and read the client config.")
        if action == "work":
            raise Forbidden("Workers sign in with a secret key (sk_).")
        if action == "credits.grant":
            raise Forbidden("Credits are granted with a secret key (sk_).")
        if project_id is None:
            raise Forbidden("This takes a secret key of the whole installation.")
        raise Forbidden(f"You are {role.label if role else 'nobody'} in this project, and that is too little for this.")

    def forget(self) -> None:
        """Drop what is remembered: call after keys, members or projects were changed by this process."""
        for memory in (self._keys, self._members, self._projects):
            memory.forget()

    async def run(self) -> None:
        """Write down now and then when keys were last used. Ends by cancellation; call `flush` after."""
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Write the uses gathered since the last time. A database that is away costs a line in the log, no more."""
        uses, self._uses = self._uses, {}
        if not uses:
            return
        try:
            async with self._db.connection() as conn:
                await keys.note_uses(conn, sorted(uses.items()))
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("key_uses.not_written", keys=len(uses), error=repr(error))
            return
        horizon = self._clock().timestamp() - keys.USE_STEP_S
        self._written = {key: at for key, at in (self._written | uses).items() if at.timestamp() > horizon}

    async def _bearer(self, credential: str) -> Principal:
        if keys.is_key(credential):
            return await self._key(credential)
        claims = await self.tokens.verify(credential)
        if claims.user_id is None:
            return Principal(
                kind="key", actor="service_role", user_id=None, project_id=None,
                role=Role.ADMIN, scope="secret", expires_at=claims.expires_at,
            )  # fmt: skip
        return Principal(
            kind="user", actor=f"user:{claims.user_id}", user_id=claims.user_id, project_id=None,
            role=None, scope="user", expires_at=claims.expires_at,
        )  # fmt: skip

    async def _key(self, plaintext: str) -> Principal:
        keys.kind_of(plaintext)  # a typo never reaches the database
        digest = keys.digest(plaintext)

        async def look() -> keys.Key | None:
            async with self._db.connection() as conn:
                return await keys.find_digest(conn, digest)

        found = await self._keys.get(digest, look)
        if found is None:
            raise Unauthorized("The API key is unknown.", "unknown")
        if found.revoked_at is not None:
            raise Unauthorized("The API key was revoked.", "revoked")
        self._used(found.id)
        secret_role = Role.ADMIN if found.project_id is None else Role.OWNER
        role = secret_role if found.kind == "secret" else Role.VIEWER
        return Principal(
            kind="key", actor=f"key:{found.id}", user_id=None, project_id=found.project_id, role=role, scope=found.kind
        )

    def _session(self, cookie: str) -> Principal:
        session = self.sessions.verify(cookie, self._clock())
        return Principal(
            kind="session", actor=f"user:{session.user_id}", user_id=session.user_id, project_id=session.project_id,
            role=Role.ADMIN if session.user_id in self._admins else None,  # in a project, memberships alone count
            scope="session", expires_at=session.expires_at,
        )  # fmt: skip

    def _used(self, key_id: UUID) -> None:
        now = self._clock()
        written = self._written.get(key_id)
        if written is not None and 0 <= (now - written).total_seconds() < keys.USE_STEP_S:
            return
        if key_id in self._uses or len(self._uses) < USES_MAX:
            self._uses[key_id] = now

    async def _membership(self, user_id: str, project_id: UUID) -> Role | None:
        async def look() -> Role | None:
            async with self._db.connection() as conn:
                role = await conn.fetchval(
                    "select role from members where project_id = $1 and user_id = $2", project_id, user_id
                )
            return MEMBER_ROLES[role] if role is not None else None

        return await self._members.get((user_id, project_id), look)

    async def _exists(self, project_id: UUID) -> bool:
        async def look() -> bool | None:
            async with self._db.connection() as conn:
                return await conn.fetchval("select true from projects where id = $1", project_id)

        return await self._projects.get(project_id, look) is not None


def _credential(authorization: str) -> str:
    scheme, _, rest = authorization.strip().partition(" ")
    # `Key` is how fal's clients say it (K4).
    if scheme.lower() in ("bearer", "key") and rest.strip():
        return rest.strip()
    raise Unauthorized("The Authorization header reads: Bearer, a space, and an API key or a token.", "malformed")
