"""Projects and the people in them. Every change is in the audit log, in the same transaction (O4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from safelight.access import audit
from safelight.access.errors import Conflict, InvalidInput, NotFound
from safelight.access.names import checked_name, checked_user_id
from safelight.access.principal import MEMBER_ROLES, Principal, Role
from safelight.db.pool import Conn, Row, Transaction

NAME_MAX: Final = 200
OWNED_MAX: Final = 100
"""Projects that one person makes for themselves; a server's key makes as many as it likes."""
MEMBERS_MAX: Final = 1_000
PAGE_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Project:
    """`role` is what whoever asked is in it."""

    id: UUID
    name: str
    created_at: datetime
    role: Role


@dataclass(frozen=True, slots=True)
class Member:
    user_id: str
    role: Role
    created_at: datetime


async def create_project(
    tx: Transaction, principal: Principal, name: str, *, project_id: UUID | None = None
) -> Project:
    """A new project; a person becomes its owner. The caller has asked the gate for `project.create`.

    Raises InvalidInput (name), Conflict (the id is taken, or too many projects).
    """
    name = checked_name("name", name, NAME_MAX)
    if principal.user_id is not None:
        # One at a time for one person, so that a hundred requests at once do not all count the same hundred.
        await tx.conn.execute("select pg_advisory_xact_lock(hashtextextended($1, 5963794))", principal.user_id)
        owned = await tx.conn.fetchval(
            "select count(*) from members where user_id = $1 and role = 'owner'", principal.user_id
        )
        if owned >= OWNED_MAX:
            raise Conflict(f"You own {OWNED_MAX} projects already.")
    row = await tx.conn.fetchrow(
        "insert into projects (id, name) values (coalesce($1, gen_random_uuid()), $2)"
        " on conflict (id) do nothing returning id, name, created_at",
        project_id, name,
    )  # fmt: skip
    if row is None:
        raise Conflict("A project has this id already.")
    if principal.user_id is not None:
        await tx.conn.execute(
            "insert into members (project_id, user_id, role) values ($1, $2, 'owner')", row["id"], principal.user_id
        )
    await audit.record(tx, principal.actor, "project.create", row["id"], {"name": name})
    tx.touch(row["id"])
    role = Role.OWNER if principal.user_id is not None else (principal.role or Role.OWNER)
    return Project(row["id"], row["name"], row["created_at"], role)


async def find_project(conn: Conn, project_id: UUID, role: Role) -> Project:
    """The project as seen by somebody who is `role` in it (as the gate said). Raises NotFound."""
    row = await conn.fetchrow("select id, name, created_at from projects where id = $1", project_id)
    if row is None:
        raise NotFound("There is no such project.")
    return Project(row["id"], row["name"], row["created_at"], role)


async def list_projects(
    conn: Conn, principal: Principal, *, after: UUID | None = None, limit: int = 50
) -> list[Project]:
    """Those that `principal` may see, in the order of their ids; `after` is the last id of the page before."""
    rows = await conn.fetch(
        """
        select p.id, p.name, p.created_at, m.role from projects p
        left join members m on m.project_id = p.id and m.user_id = $1
        where ($1::text is null or m.user_id is not null) and ($2::uuid is null or p.id = $2)
          and ($3::uuid is null or p.id > $3)
        order by p.id limit $4
        """,
        principal.user_id, principal.project_id, after, min(max(limit, 1), PAGE_MAX),
    )  # fmt: skip
    return [
        Project(row["id"], row["name"], row["created_at"], MEMBER_ROLES.get(row["role"], principal.role or Role.VIEWER))
        for row in rows
    ]


async def rename_project(tx: Transaction, project_id: UUID, name: str, *, actor: str) -> None:
    """Raises InvalidInput, NotFound."""
    name = checked_name("name", name, NAME_MAX)
    was = await _locked(tx, project_id)
    if was["name"] == name:
        return
    await tx.conn.execute("update projects set name = $2 where id = $1", project_id, name)
    await audit.record(tx, actor, "project.rename", project_id, {"from": was["name"], "to": name})
    tx.touch(project_id)


async def delete_project(tx: Transaction, project_id: UUID, *, actor: str) -> None:
    """The project with all that is in it: jobs, results' rows, members, keys, ledger. The audit log keeps the fact.

    Raises NotFound; Conflict while jobs run, because a provider is still being paid for them.
    """
    was = await tx.conn.fetchrow("select name from projects where id = $1 for update", project_id)
    if was is None:
        raise NotFound("There is no such project.")
    # Locked for good: a job submitted from now on waits for us and then finds no project.
    running = await tx.conn.fetchval(
        "select count(*) from jobs where project_id = $1"
        " and stage not in ('completed', 'failed', 'canceled', 'expired')",
        project_id,
    )
    if running:
        raise Conflict(f"{running} jobs are still running in this project: cancel them or wait.")
    await tx.conn.execute("delete from projects where id = $1", project_id)
    await audit.record(tx, actor, "project.delete", project_id, {"name": was["name"]})
    tx.touch(project_id)


async def list_members(conn: Conn, project_id: UUID) -> list[Member]:
    """Owners first, then by age."""
    rows = await conn.fetch(
        "select user_id, role, created_at from members where project_id = $1"
        " order by array_position(array['owner', 'editor', 'viewer'], role), created_at, user_id limit $2",
        project_id, MEMBERS_MAX,
    )  # fmt: skip
    return [_member(row) for row in rows]


async def set_member(tx: Transaction, project_id: UUID, user_id: str, role: str, *, actor: str) -> Member:
    """Make somebody a member, or give a member another role; again is fine.

    Raises InvalidInput, NotFound (project), Conflict (the last owner steps down, or too many members).
    """
    checked_user_id(user_id)
    if role not in MEMBER_ROLES:
        raise InvalidInput(f"A role is one of {', '.join(MEMBER_ROLES)}.")
    await _locked(tx, project_id)
    was = await tx.conn.fetchrow(
        "select user_id, role, created_at from members where project_id = $1 and user_id = $2", project_id, user_id
    )
    if was is not None and was["role"] == role:
        return _member(was)
    if was is not None and was["role"] == "owner":
        await _keep_an_owner(tx, project_id, user_id)
    if was is None:
        count = await tx.conn.fetchval("select count(*) from members where project_id = $1", project_id)
        if count >= MEMBERS_MAX:
            raise Conflict(f"The project has {MEMBERS_MAX} members already.")
    row = await tx.conn.fetchrow(
        "insert into members (project_id, user_id, role) values ($1, $2, $3)"
        " on conflict (project_id, user_id) do update set role = excluded.role returning user_id, role, created_at",
        project_id, user_id, role,
    )  # fmt: skip
    assert row is not None
    detail = {"user_id": user_id, "role": role, "was": was["role"] if was else None}
    await audit.record(tx, actor, "member.set", project_id, detail)
    return _member(row)


async def remove_member(tx: Transaction, project_id: UUID, user_id: str, *, actor: str) -> None:
    """Raises NotFound, Conflict (the last owner)."""
    await _locked(tx, project_id)
    was = await tx.conn.fetchval("select role from members where project_id = $1 and user_id = $2", project_id, user_id)
    if was is None:
        raise NotFound("They are not a member of this project.")
    if was == "owner":
        await _keep_an_owner(tx, project_id, user_id)
    await tx.conn.execute("delete from members where project_id = $1 and user_id = $2", project_id, user_id)
    await audit.record(tx, actor, "member.remove", project_id, {"user_id": user_id, "was": was})


async def _locked(tx: Transaction, project_id: UUID) -> Row:
    """The project, held until the end of the transaction: two owners do not step down past each other.

    Not so hard that submitting jobs would wait for it.
    """
    row = await tx.conn.fetchrow("select name from projects where id = $1 for no key update", project_id)
    if row is None:
        raise NotFound("There is no such project.")
    return row


async def _keep_an_owner(tx: Transaction, project_id: UUID, but: str) -> None:
    others = await tx.conn.fetchval(
        "select exists (select from members where project_id = $1 and role = 'owner' and user_id <> $2)",
        project_id, but,
    )  # fmt: skip
    if not others:
        raise Conflict("They are the project's last owner: make somebody else an owner first.")


def _member(row: Row) -> Member:
    return Member(row["user_id"], MEMBER_ROLES[row["role"]], row["created_at"])
