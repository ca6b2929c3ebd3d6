"""Who asks, and the one table of what they may do (S6). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Final, Literal
from uuid import UUID


class Role(IntEnum):
    """Each may what those before it may."""

    VIEWER = 1
    EDITOR = 2
    OWNER = 3
    ADMIN = 4
    """Of the whole installation; no membership gives it, only an instance-wide secret key, or the operator by name."""

    @property
    def label(self) -> str:
        """As it stands in the table `members` and in the API: `viewer`, `editor`, `owner`, `admin`."""
        return self.name.lower()


MEMBER_ROLES: Final[Mapping[str, Role]] = {role.label: role for role in (Role.VIEWER, Role.EDITOR, Role.OWNER)}

Kind = Literal["key", "user", "session"]
Scope = Literal["secret", "publishable", "user", "session"]
Action = Literal[
    "read", "write", "manage", "admin", "flags", "credits.grant", "work", "project.create", "socket", "client_config"
]

# What each kind of credential needs to be in the project for an action: a role, or nothing at all (None).
# A scope that is not named may not, whatever its role.
RULES: Final[Mapping[Action, Mapping[Scope, Role | None]]] = {
    "read": {"secret": Role.VIEWER, "user": Role.VIEWER, "session": Role.VIEWER},
    "write": {"secret": Role.EDITOR, "user": Role.EDITOR, "session": Role.EDITOR},
    "manage": {"secret": Role.OWNER, "user": Role.OWNER, "session": Role.OWNER},
    "admin": {"secret": Role.ADMIN},
    # Of what an admin may, the kill switch alone is in the studio, for the people the operator named (S8).
    "flags": {"secret": Role.ADMIN, "session": Role.ADMIN},
    # Credits are money: an app's server gives them, never a person's browser (api.md).
    "credits.grant": {"secret": Role.OWNER},
    # A machine that makes results, or says it did: a server's key, never a person's browser (P3).
    "work": {"secret": Role.OWNER},
    # A studio session lives in one project and so makes no others.
    "project.create": {"secret": Role.ADMIN, "user": None},
    # Opening the socket shows nothing; each channel is joined with a token that may read (S6).
    "socket": {"secret": None, "publishable": None, "user": None, "session": None},
    "client_config": {"secret": None, "publishable": None, "user": None, "session": None},
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `project_id` set: sees that project only. `role` set: has it by itself, else by membership."""

    kind: Kind
    actor: str
    """`key:{id}` or `user:{user id}`, as it stands in the audit log."""
    user_id: str | None
    project_id: UUID | None
    role: Role | None
    scope: Scope
    expires_at: datetime | None = None
    """When the credential stops to hold; None: when it is revoked."""


def may(principal: Principal, action: Action, project_role: Role | None) -> bool:
    """Whether `principal`, being `project_role` where it asks (None: nobody there), may do `action`."""
    rule = RULES[action]
    if principal.scope not in rule:
        return False
    needed = rule[principal.scope]
    return needed is None or (project_role is not None and project_role >= needed)
