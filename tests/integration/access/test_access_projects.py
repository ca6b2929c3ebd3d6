"""Projects and the people in them; who did what stands in the audit log (S6, O4)."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from safelight.access import audit, projects
from safelight.access.errors import Conflict, InvalidInput, NotFound
from safelight.access.principal import Principal, Role
from safelight.access.projects import Project
from safelight.credits import ledger
from safelight.db.pool import Database

ADA = Principal("user", "user:ada", "ada", None, None, "user")
BOB = Principal("user", "user:bob", "bob", None, None, "user")
ROOT = Principal("key", "key:root", None, None, Role.ADMIN, "secret")


async def created(db: Database, who: Principal = ADA, name: str = "p", **more: Any) -> Project:
    return await db.run(lambda tx: projects.create_project(tx, who, name, **more))


async def set_member(db: Database, project: UUID, user: str, role: str) -> projects.Member:
    return await db.run(lambda tx: projects.set_member(tx, project, user, role, actor="user:ada"))


async def removed(db: Database, project: UUID, user: str) -> None:
    await db.run(lambda tx: projects.remove_member(tx, project, user, actor="user:ada"))


async def roles(db: Database, project: UUID) -> dict[str, str]:
    async with db.connection() as conn:
        return {member.user_id: member.role.label for member in await projects.list_members(conn, project)}


async def test_who_makes_a_project_owns_it_and_windows_hear_of_it(db: Database) -> None:
    told: list[UUID] = []
    db.on_touch(told.extend)
    made = await created(db, name="  First light ")
    assert (made.name, made.role) == ("First light", Role.OWNER)
    assert await roles(db, made.id) == {"ada": "owner"}
    assert told == [made.id]
    async with db.connection() as conn:
        assert (await ledger.wallet(conn, made.id)).available == 0
        assert await projects.find_project(conn, made.id, Role.OWNER) == made


async def test_a_project_made_by_a_server_has_no_members_yet(db: Database) -> None:
    identity = uuid4()
    made = await created(db, ROOT, project_id=identity)
    assert (made.id, made.role, await roles(db, made.id)) == (identity, Role.ADMIN, {})
    with pytest.raises(Conflict):
        await created(db, ROOT, project_id=identity)


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "a\0b", "a\nb", "\ud800"])
async def test_a_name_that_is_none_is_refused(db: Database, name: str) -> None:
    with pytest.raises(InvalidInput):
        await created(db, name=name)
    made = await created(db)
    with pytest.raises(InvalidInput):
        await db.run(lambda tx: projects.rename_project(tx, made.id, name, actor="x"))


async def test_one_person_does_not_make_projects_without_end_even_all_at_once(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projects, "OWNED_MAX", 3)
    outcomes = await asyncio.gather(*(created(db) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(outcome, Project) for outcome in outcomes) == 3
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 5
    assert (await created(db, BOB)).role == Role.OWNER
    assert (await created(db, ROOT)).role == Role.ADMIN


async def test_each_sees_their_own_projects_and_the_installations_key_all(db: Database) -> None:
    of_ada, of_bob, shared = await created(db), await created(db, BOB), await created(db, BOB)
    await set_member(db, shared.id, "ada", "viewer")

    async def seen(who: Principal, **page: Any) -> dict[UUID, Role]:
        async with db.connection() as conn:
            return {each.id: each.role for each in await projects.list_projects(conn, who, **page)}

    assert await seen(ADA) == {of_ada.id: Role.OWNER, shared.id: Role.VIEWER}
    assert await seen(BOB) == {of_bob.id: Role.OWNER, shared.id: Role.OWNER}
    assert await seen(ROOT) == dict.fromkeys((of_ada.id, of_bob.id, shared.id), Role.ADMIN)
    bound = Principal("key", "key:k", None, of_bob.id, Role.OWNER, "secret")
    assert await seen(bound) == {of_bob.id: Role.OWNER}
    session = Principal("session", "user:ada", "ada", shared.id, None, "session")
    assert await seen(session) == {shared.id: Role.VIEWER}
    assert await seen(Principal("session", "user:ada", "ada", of_bob.id, None, "session")) == {}
    first = await seen(ROOT, limit=2)
    rest = await seen(ROOT, after=max(first))
    assert (len(first), first.keys() | rest.keys()) == (2, {of_ada.id, of_bob.id, shared.id})
    assert not first.keys() & rest.keys()


async def test_a_new_name_is_a_change_and_the_same_name_is_none(db: Database) -> None:
    made = await created(db)
    await db.run(lambda tx: projects.rename_project(tx, made.id, "other", actor="user:ada"))
    await db.run(lambda tx: projects.rename_project(tx, made.id, "other", actor="user:ada"))
    async with db.connection() as conn:
        changes = await conn.fetch(
            "select row->>'name' as name from changes where project_id = $1 and tbl = 'projects' order by seq", made.id
        )
    assert [row["name"] for row in changes] == ["p", "other"]
    with pytest.raises(NotFound):
        await db.run(lambda tx: projects.rename_project(tx, uuid4(), "x", actor="x"))


async def test_a_deleted_project_is_gone_with_its_people_and_keys_and_the_log_remembers_who(db: Database) -> None:
    made = await created(db)
    async with db.connection() as conn:
        await ledger.grant(conn, made.id, 100, "k", "", "test")
    await db.run(lambda tx: projects.delete_project(tx, made.id, actor="user:ada"))
    async with db.connection() as conn:
        with pytest.raises(NotFound):
            await projects.find_project(conn, made.id, Role.OWNER)
        entry = (await audit.entries(conn, project_id=made.id))[0]
    assert (entry.actor, entry.action, entry.detail) == ("user:ada", "project.delete", {"name": "p"})
    with pytest.raises(NotFound):
        await db.run(lambda tx: projects.delete_project(tx, made.id, actor="user:ada"))


async def test_a_project_whose_jobs_run_is_not_deleted(db: Database) -> None:
    made = await created(db)
    async with db.connection() as conn:
        await conn.execute(
            "insert into jobs"
            " (id, project_id, model, provider, endpoint, kind, input, quoted, deadline_at, request_hash)"
            " values (gen_random_uuid(), $1, 'm', 'p', 'e', 'image', '{}', 0, now() + '1 hour', '')",
            made.id,
        )
    with pytest.raises(Conflict):
        await db.run(lambda tx: projects.delete_project(tx, made.id, actor="user:ada"))


async def test_members_come_change_and_go(db: Database) -> None:
    made = await created(db)
    assert (await set_member(db, made.id, "bob", "viewer")).role == Role.VIEWER
    assert (await set_member(db, made.id, "bob", "viewer")).role == Role.VIEWER
    assert (await set_member(db, made.id, "bob", "editor")).role == Role.EDITOR
    assert list((await roles(db, made.id)).items()) == [("ada", "owner"), ("bob", "editor")]
    await removed(db, made.id, "bob")
    with pytest.raises(NotFound):
        await removed(db, made.id, "bob")
    async with db.connection() as conn:
        told = [(e.action, e.detail.get("role"), e.detail.get("was")) for e in await audit.entries(conn, limit=3)]
    assert told == [
        ("member.remove", None, "editor"),
        ("member.set", "editor", "viewer"),
        ("member.set", "viewer", None),
    ]


@pytest.mark.parametrize(("user", "role"), [("bob", "admin"), ("bob", ""), ("", "viewer"), ("a\0", "viewer")])
async def test_a_member_is_somebody_with_a_role_of_ours(db: Database, user: str, role: str) -> None:
    made = await created(db)
    with pytest.raises(InvalidInput):
        await set_member(db, made.id, user, role)


async def test_a_project_keeps_an_owner_even_when_two_step_down_at_once(db: Database) -> None:
    for step_down in (removed, lambda db, project, user: set_member(db, project, user, "editor")):
        made = await created(db)
        with pytest.raises(Conflict):
            await step_down(db, made.id, "ada")
        await set_member(db, made.id, "bob", "owner")
        outcomes = await asyncio.gather(
            step_down(db, made.id, "ada"), step_down(db, made.id, "bob"), return_exceptions=True
        )
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1
        assert list((await roles(db, made.id)).values()).count("owner") == 1


async def test_members_are_bounded(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projects, "MEMBERS_MAX", 2)
    made = await created(db)
    await set_member(db, made.id, "bob", "viewer")
    with pytest.raises(Conflict):
        await set_member(db, made.id, "eve", "viewer")
    with pytest.raises(NotFound):
        await set_member(db, uuid4(), "bob", "viewer")
