"""The gate before a real database: who gets in, what they see, and how soon a revocation is in force (S6, O4)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from safelight.access import keys, projects
from safelight.access.errors import AccessError, Forbidden, NotFound, Unauthorized
from safelight.access.gate import Gate
from safelight.access.principal import Principal, Role
from safelight.access.sessions import Session, Sessions
from safelight.access.tokens import Tokens
from safelight.db.pool import Database

SECRET = "a-secret-that-the-sign-in-and-we-share-0123456789"
OWN = ["http://localhost:8000"]


class World:
    """A gate with a clock that the test sets, and a count of the connections it took."""

    def __init__(self, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.db = db
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.sessions = Sessions(b"k" * 32)
        self.tokens = Tokens(clock=lambda: self.now, secret=SECRET, trusts_service_role=True)
        self.gate = Gate(db, self.tokens, self.sessions, lambda: self.now)
        self.connections = 0
        real = db.connection

        def counted() -> Any:
            self.connections += 1
            return real()

        monkeypatch.setattr(db, "connection", counted)

    async def project(self, owner: str | None = None) -> UUID:
        who = Principal("user", f"user:{owner}", owner, None, None, "user") if owner else ROOT
        made = await self.db.run(lambda tx: projects.create_project(tx, who, "p"))
        return made.id

    async def key(self, project: UUID | None, kind: keys.KeyKind = "secret") -> keys.NewKey:
        return await self.db.run(lambda tx: keys.create_key(tx, project_id=project, kind=kind, name="k"))

    async def member(self, project: UUID, user: str, role: str) -> None:
        await self.db.run(lambda tx: projects.set_member(tx, project, user, role, actor="test"))

    def user(self, name: str) -> str:
        return "Bearer " + self.tokens.issue(name, 3600)

    def cookie(self, user: str, project: UUID) -> str:
        return self.sessions.sign(Session(user, project, self.now + timedelta(days=1)))


ROOT = Principal("key", "key:root", None, None, Role.ADMIN, "secret")


@pytest.fixture
def world(db: Database, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(db, monkeypatch)


async def turned_away(world: World, **sent: Any) -> str:
    with pytest.raises(Unauthorized) as caught:
        await world.gate.authenticate(**sent)
    return caught.value.reason


async def test_a_key_of_the_installation_sees_every_project_that_is_there(world: World) -> None:
    project = await world.project("ada")
    who = await world.gate.authenticate("Bearer " + (await world.key(None)).plaintext)
    assert (who.kind, who.role, who.project_id, who.user_id) == ("key", Role.ADMIN, None, None)
    assert await world.gate.allow(who, project, "manage") == Role.ADMIN
    await world.gate.allow(who, None, "admin")
    await world.gate.allow(who, None, "project.create")
    with pytest.raises(NotFound):
        await world.gate.allow(who, uuid4(), "read")


async def test_a_projects_key_owns_it_and_sees_no_other(world: World) -> None:
    project, other = await world.project(), await world.project()
    who = await world.gate.authenticate("bearer  " + (await world.key(project)).plaintext + " ")
    assert await world.gate.allow(who, project, "credits.grant") == Role.OWNER
    with pytest.raises(NotFound):
        await world.gate.allow(who, other, "read")
    for action in ("admin", "project.create"):
        with pytest.raises(Forbidden):
            await world.gate.allow(who, None, action)


@pytest.mark.parametrize("bound", [True, False])
async def test_a_publishable_key_opens_the_socket_and_nothing_else(world: World, bound: bool) -> None:
    project = await world.project()
    made = await world.key(project if bound else None, "publishable")
    assert made.plaintext.startswith("pk_")
    who = await world.gate.authenticate(apikey=made.plaintext)
    await world.gate.allow(who, None, "client_config")
    await world.gate.allow(who, project, "socket")
    for action in ("read", "write", "manage", "credits.grant"):
        with pytest.raises(Forbidden):
            await world.gate.allow(who, project, action)
    with pytest.raises(Forbidden):
        await world.gate.allow(who, None, "admin")


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("viewer", ["read"], ["write", "manage", "credits.grant"]),
        ("editor", ["read", "write"], ["manage", "credits.grant"]),
        ("owner", ["read", "write", "manage"], ["credits.grant"]),
    ],
)
async def test_a_person_may_in_each_project_what_their_role_there_says(
    world: World, role: str, may: list[Any], may_not: list[Any]
) -> None:
    project, other = await world.project("owner"), await world.project("owner")
    await world.member(project, "ada", role)
    for sent in ({"authorization": world.user("ada")}, {"cookie": world.cookie("ada", project)}):
        who = await world.gate.authenticate(**sent)
        assert (who.actor, who.user_id, who.role) == ("user:ada", "ada", None)
        assert who.expires_at is not None
        for action in may:
            assert await world.gate.allow(who, project, action) == projects.MEMBER_ROLES[role]
        for action in may_not:
            with pytest.raises(Forbidden):
                await world.gate.allow(who, project, action)
        with pytest.raises(NotFound) as caught:
            await world.gate.allow(who, other, "read", unseen="There is no such job.")
        assert caught.value.detail == "There is no such job."
        with pytest.raises(Forbidden):
            await world.gate.allow(who, None, "admin")


async def test_a_studio_session_sees_only_the_project_it_was_opened_for(world: World) -> None:
    mine, other = await world.project("ada"), await world.project("ada")
    who = await world.gate.authenticate(cookie=world.cookie("ada", mine))
    await world.gate.allow(who, mine, "manage")
    with pytest.raises(NotFound):
        await world.gate.allow(who, other, "read")
    with pytest.raises(Forbidden):
        await world.gate.allow(who, None, "project.create")


async def test_a_service_role_token_is_the_installations_own(world: World) -> None:
    import jwt

    token = jwt.encode({"role": "service_role", "exp": world.now + timedelta(hours=1)}, SECRET)
    who = await world.gate.authenticate("Bearer " + token)
    assert await world.gate.allow(who, await world.project(), "manage") == Role.ADMIN


async def test_what_was_sent_on_purpose_counts_before_the_cookie(world: World) -> None:
    project = await world.project("ada")
    secret, publishable = await world.key(None), await world.key(None, "publishable")
    cookie = world.cookie("ada", project)
    both = await world.gate.authenticate(world.user("bob"), cookie, publishable.plaintext)
    assert both.actor == "user:bob"
    assert (await world.gate.authenticate(None, cookie, secret.plaintext)).actor == f"key:{secret.id}"
    assert (await world.gate.authenticate(None, cookie, publishable.plaintext)).kind == "session"
    assert (await world.gate.authenticate(None, "stale", publishable.plaintext)).scope == "publishable"
    assert await turned_away(world, authorization="Bearer nonsense", cookie=cookie) == "malformed"
    assert await turned_away(world, apikey="sk_nonsense", cookie=cookie) == "malformed"
    assert await turned_away(world, cookie="stale") == "malformed"


async def test_a_write_with_the_cookie_from_another_sites_page_is_refused(world: World) -> None:
    project = await world.project("ada")
    sent: dict[str, Any] = {"cookie": world.cookie("ada", project), "method": "POST", "own_origins": OWN}
    assert (await world.gate.authenticate(**sent, headers={"origin": OWN[0]})).kind == "session"
    for headers in ({}, {"origin": "https://evil.example"}):
        with pytest.raises(Forbidden):
            await world.gate.authenticate(**sent, headers=headers)
    evil = {"origin": "https://evil.example"}  # a token is never sent along by itself
    who = await world.gate.authenticate(world.user("ada"), method="POST", own_origins=OWN, headers=evil)
    assert who.kind == "user"


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "missing"),
        ("", "missing"),
        ("Bearer", "malformed"),
        ("Bearer ", "malformed"),
        ("Basic YWRhOnB3", "malformed"),
        ("Bearer sk_short", "malformed"),
        ("Bearer x.y.z", "malformed"),
        ("Bearer \ud83e\udd8a", "malformed"),
    ],
)
async def test_who_shows_nothing_that_holds_is_turned_away_without_a_query(
    world: World, authorization: str | None, reason: str
) -> None:
    assert await turned_away(world, authorization=authorization) == reason
    assert world.connections == 0


async def test_a_key_that_we_never_made_is_unknown_and_costs_one_query(world: World) -> None:
    made_up = keys.generate("secret")
    for _ in range(10):
        assert await turned_away(world, authorization="Bearer " + made_up) == "unknown"
    assert world.connections == 1


async def test_a_busy_client_costs_no_queries(world: World) -> None:
    project = await world.project("owner")
    await world.member(project, "ada", "viewer")
    key = await world.key(None)
    for _ in range(50):
        await world.gate.allow(await world.gate.authenticate("Bearer " + key.plaintext), project, "read")
        await world.gate.allow(await world.gate.authenticate(world.user("ada")), project, "read")
    assert world.connections == 3  # the key, the project, the membership


Undo = Callable[[World, UUID, keys.NewKey], Any]


async def _revoke(world: World, project: UUID, key: keys.NewKey) -> None:
    await world.db.run(lambda tx: keys.revoke_key(tx, key.id))


async def _remove(world: World, project: UUID, key: keys.NewKey) -> None:
    await world.db.run(lambda tx: projects.remove_member(tx, project, "ada", actor="test"))


async def _demote(world: World, project: UUID, key: keys.NewKey) -> None:
    await world.member(project, "ada", "viewer")


async def _delete(world: World, project: UUID, key: keys.NewKey) -> None:
    await world.db.run(lambda tx: projects.delete_project(tx, project, actor="test"))


@pytest.mark.parametrize(
    ("undo", "sent", "expected"),
    [
        (_revoke, "key", Unauthorized),
        (_delete, "key", Unauthorized),
        (_remove, "user", NotFound),
        (_remove, "cookie", NotFound),
        (_demote, "user", Forbidden),
        (_demote, "cookie", Forbidden),
        (_delete, "user", NotFound),
    ],
)
@pytest.mark.parametrize("is_told", [True, False])
async def test_what_is_taken_away_is_gone_within_seconds_and_at_once_where_the_gate_is_told(
    world: World, undo: Undo, sent: str, expected: type[AccessError], is_told: bool
) -> None:
    project = await world.project("owner")
    await world.member(project, "ada", "editor")
    key = await world.key(project)
    shown = {
        "key": {"authorization": "Bearer " + key.plaintext},
        "user": {"authorization": world.user("ada")},
        "cookie": {"cookie": world.cookie("ada", project)},
    }[sent]
    await world.gate.allow(await world.gate.authenticate(**shown), project, "write")
    await undo(world, project, key)
    if is_told:
        world.gate.forget()
    else:
        world.now += timedelta(seconds=5)
    with pytest.raises(expected):
        await world.gate.allow(await world.gate.authenticate(**shown), project, "write")


async def test_a_keys_last_use_is_written_at_most_once_a_minute(world: World) -> None:
    key = await world.key(None)

    async def used_at() -> datetime | None:
        async with world.db.connection() as conn:
            return await conn.fetchval("select last_used_at from api_keys where id = $1", key.id)

    async def use() -> None:
        await world.gate.authenticate("Bearer " + key.plaintext)
        await world.gate.flush()

    start = world.now
    await use()
    assert await used_at() == start
    for _ in range(5):
        world.now += timedelta(seconds=11)
        await use()
        assert await used_at() == start
    other = Gate(world.db, world.tokens, world.sessions, lambda: world.now)  # another process knows no better
    await other.authenticate("Bearer " + key.plaintext)
    await other.flush()
    assert await used_at() == start
    world.now += timedelta(seconds=5)
    await use()
    assert await used_at() == start + timedelta(seconds=60)


async def test_a_database_that_is_away_loses_the_note_of_a_use_and_nothing_else(world: World, dsn: str) -> None:
    key = await world.key(None)
    closing = await Database.connect(dsn)
    gate = Gate(closing, world.tokens, world.sessions, lambda: world.now)
    await gate.authenticate("Bearer " + key.plaintext)
    await closing.close()
    await gate.flush()
    assert (await gate.authenticate("Bearer " + key.plaintext)).kind == "key"
