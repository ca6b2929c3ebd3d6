"""Who may open a socket and join a channel, and whether they still may (S6). The gate decides; this asks it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from starlette.requests import HTTPConnection

from safelight.access.errors import AccessError, Forbidden, Unavailable
from safelight.access.gate import Gate
from safelight.access.principal import MEMBER_ROLES, Principal, Role, may
from safelight.access.sessions import COOKIE
from safelight.access.tokens import LEEWAY_S
from safelight.db.pool import Database
from safelight.realtime.join import JoinConfig, project_of
from safelight.realtime.session import Grant

__all__ = ["Door", "Refused", "key_of"]


class Refused(Exception):
    """Not this one. `may_wait`: a token that comes within a moment may change it."""

    def __init__(self, reason: str, *, may_wait: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_wait = may_wait


class Door:
    """`authenticate` a connection, `admit` a join, `recheck` grants."""

    def __init__(
        self, gate: Gate, db: Database, clock: Callable[[], datetime], own_origins: Collection[str] = ()
    ) -> None:
        self._gate = gate
        self._db = db
        self._clock = clock
        self._own_origins = frozenset(own_origins)

    async def authenticate(self, asked: HTTPConnection, *, with_cookie: bool) -> Principal:
        """Who opens the socket or calls. Raises AccessError."""
        host = asked.headers.get("host", "")
        scheme = "https" if asked.url.scheme in ("https", "wss") else "http"
        apikey = asked.headers.get("apikey") or asked.headers.get("x-api-key") or asked.query_params.get("apikey")

        async def ask(cookie: str | None) -> Principal:
            return await self._gate.authenticate(
                authorization=asked.headers.get("authorization"),
                cookie=cookie,
                apikey=apikey,
                method="POST",  # opening a socket is no reading: a cookie alone does not do it for another site's page
                headers=asked.headers,
                own_origins=self._own_origins | {f"{scheme}://{host}"},
            )

        cookie = asked.cookies.get(COOKIE) if with_cookie else None
        try:
            return await ask(cookie)
        except Forbidden:
            if cookie is None or not apikey:
                raise
            return await ask(None)  # an app on another port of the same machine: its key counts, our cookie does not

    async def admit(self, opener: Principal, name: str, config: JoinConfig, token: str | None) -> Grant:
        """The right to be on this topic. Raises Refused; the database's errors."""
        unauthorized = f"Unauthorized: You do not have permissions to read from this Channel topic: {name}"
        try:
            principal = opener
            if token is not None and not token.startswith("pk_"):  # supabase-js sends its key where it has no token
                principal = await self._gate.authenticate(authorization=f"Bearer {token}")
            if principal.scope == "publishable":
                raise Refused(f"{unauthorized} (it takes a token)", may_wait=True)
            project = project_of(name) or principal.project_id or opener.project_id or config.named_project
            if project is None:
                raise Refused(f"{unauthorized} (a topic's name ends with its project's id)")
            role = await self._gate.allow(principal, project, "read")
        except Unavailable as error:
            raise Refused(f"UnableToAuthorize: {error.detail}") from None
        except AccessError as error:
            raise Refused(f"{unauthorized} ({error.detail})") from None
        return self.grant(principal, project, role)

    async def allow_write(self, principal: Principal, project: UUID) -> Grant:
        """The right to broadcast there. Raises AccessError."""
        role = await self._gate.allow(principal, project, "write")
        return self.grant(principal, project, role)

    def grant(self, principal: Principal, project: UUID, role: Role | None) -> Grant:
        expires_at = None
        if principal.expires_at is not None:
            # The token's leeway counts here too, or one in its last seconds would be let in and out in circles.
            left_s = (principal.expires_at - self._clock()).total_seconds() + LEEWAY_S
            expires_at = time.monotonic() + left_s
        return Grant(
            project=project,
            may_write=may(principal, "write", role),
            is_server=principal.scope == "secret",
            user_id=principal.user_id,
            key_id=key_of(principal),
            expires_at=expires_at,
        )

    def forget(self) -> None:
        """Somebody's right is gone: ask anew."""
        self._gate.forget()

    async def recheck(self, grants: Collection[Grant], openers: Iterable[UUID]) -> Verdicts:
        """Look up, in three statements however many there are, what each grant rests on. Raises AWAY errors."""
        key_ids = {grant.key_id for grant in grants if grant.key_id} | set(openers)
        pairs = {(grant.user_id, grant.project) for grant in grants if grant.user_id is not None}
        projects = {grant.project for grant in grants}
        async with self._db.connection() as conn:
            live = await conn.fetch("select id from api_keys where id = any ($1) and revoked_at is null", list(key_ids))
            there = await conn.fetch("select id from projects where id = any ($1)", list(projects))
            roles = await conn.fetch(
                "select m.user_id, m.project_id, m.role from members m"
                " join unnest($1::text[], $2::uuid[]) as asked (user_id, project_id) using (user_id, project_id)",
                [user for user, _ in pairs],
                [project for _, project in pairs],
            )
        return Verdicts(
            frozenset(row["id"] for row in live),
            frozenset(row["id"] for row in there),
            {(row["user_id"], row["project_id"]): MEMBER_ROLES[row["role"]] for row in roles},
        )


class Verdicts:
    """What a recheck found."""

    def __init__(self, keys: frozenset[UUID], projects: frozenset[UUID], roles: dict[tuple[str, UUID], Role]) -> None:
        self.keys = keys
        self._projects = projects
        self._roles = roles

    def of(self, grant: Grant) -> Grant | None:
        """The grant as it is now; None if it is gone."""
        if grant.project not in self._projects or (grant.key_id is not None and grant.key_id not in self.keys):
            return None
        if grant.user_id is None:
            return grant
        role = self._roles.get((grant.user_id, grant.project))
        if role is None:
            return None
        may_write = role >= Role.EDITOR
        return grant if may_write == grant.may_write else replace(grant, may_write=may_write)


def key_of(principal: Principal) -> UUID | None:
    """The id of the API key that this is, if it is one."""
    kind, _, identity = principal.actor.partition(":")
    return UUID(identity) if principal.kind == "key" and kind == "key" else None
