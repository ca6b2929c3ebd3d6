"""Keys, one-time links, secrets and the audit log in a real database (S6, O4)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from safelight.access import audit, keys, projects
from safelight.access.errors import Conflict, InvalidInput, NotFound, Unauthorized
from safelight.access.principal import Principal
from safelight.access.secret_store import installation_secret
from safelight.access.sessions import LIFETIME, Session
from safelight.access.studio_link import create_link, redeem_link
from safelight.db.pool import Database

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
ADA = Principal("user", "user:ada", "ada", None, None, "user")


@pytest.fixture
async def project(db: Database) -> UUID:
    return (await db.run(lambda tx: projects.create_project(tx, ADA, "p"))).id


async def everything_stored(db: Database) -> str:
    async with db.connection() as conn:
        tables = [
            row["tablename"] for row in await conn.fetch("select tablename from pg_tables where schemaname = 'public'")
        ]
        return "\n".join([str(await conn.fetch(f"select t::text from {table} t")) for table in tables])


async def actions(db: Database) -> list[tuple[str, str]]:
    async with db.connection() as conn:
        return [(entry.actor, entry.action) for entry in reversed(await audit.entries(conn))]


async def test_a_key_is_found_by_its_plaintext_which_is_stored_nowhere(db: Database, project: UUID) -> None:
    made = await db.run(lambda tx: keys.create_key(tx, project_id=project, kind="secret", name=" ci ", actor="cli"))
    async with db.connection() as conn:
        found = await keys.find_key(conn, made.plaintext)
        assert found is not None
        assert (found.id, found.project_id, found.kind, found.name) == (made.id, project, "secret", "ci")
        assert made.plaintext.startswith(found.prefix)
        assert await keys.find_key(conn, keys.generate("secret")) is None
        assert await keys.list_keys(conn, project) == [found]
        assert await keys.list_keys(conn, None) == []
    stored = await everything_stored(db)
    assert found.prefix in stored
    assert made.plaintext not in stored
    assert made.plaintext[11:] not in stored


async def test_a_revoked_key_stays_revoked_and_is_still_told_apart_from_an_unknown_one(
    db: Database, project: UUID
) -> None:
    made = await db.run(lambda tx: keys.create_key(tx, project_id=None, kind="secret", name="", actor="cli"))
    first = await db.run(lambda tx: keys.revoke_key(tx, made.id, actor="cli"))
    again = await db.run(lambda tx: keys.revoke_key(tx, made.id, actor="cli"))
    assert first == again
    async with db.connection() as conn:
        found = await keys.find_key(conn, made.plaintext)
    assert found is not None
    assert found.revoked_at is not None
    assert (await actions(db))[1:] == [("cli", "key.create"), ("cli", "key.revoke")]


async def test_an_owner_revokes_only_the_keys_of_their_project(db: Database, project: UUID) -> None:
    other = (await db.run(lambda tx: projects.create_project(tx, ADA, "q"))).id
    for theirs in (None, other):
        made = await db.run(lambda tx, at=theirs: keys.create_key(tx, project_id=at, kind="secret", name=""))
        with pytest.raises(NotFound):
            await db.run(lambda tx, key=made.id: keys.revoke_key(tx, key, within=project))
    with pytest.raises(NotFound):
        await db.run(lambda tx: keys.revoke_key(tx, uuid4()))


async def test_keys_of_no_project_with_no_name_or_without_number_are_refused(db: Database, project: UUID) -> None:
    with pytest.raises(NotFound):
        await db.run(lambda tx: keys.create_key(tx, project_id=uuid4(), kind="secret", name=""))
    for name in ("x" * 101, "a\0b", "a\nb"):
        with pytest.raises(InvalidInput):
            await db.run(lambda tx, name=name: keys.create_key(tx, project_id=project, kind="secret", name=name))
    async with db.connection() as conn:
        await conn.execute(
            "insert into api_keys (project_id, kind, hash, prefix)"
            " select $1, 'secret', sha256(n::text::bytea), 'sk_' from generate_series(1, $2) n",
            project, keys.KEYS_MAX,
        )  # fmt: skip
    with pytest.raises(Conflict):
        await db.run(lambda tx: keys.create_key(tx, project_id=project, kind="secret", name=""))


async def made_link(db: Database, project: UUID, ttl_s: int = 60) -> str:
    return await db.run(
        lambda tx: create_link(tx, user_id="ada", project_id=project, ttl_s=ttl_s, now=NOW, actor="cli")
    )


async def redeemed(db: Database, link: str, now: datetime = NOW) -> Session:
    return await db.run(lambda tx: redeem_link(tx, link, now=now))


async def test_a_link_opens_one_session_for_its_user_and_project(db: Database, project: UUID) -> None:
    link = await made_link(db, project)
    assert link not in await everything_stored(db)
    assert await redeemed(db, link) == Session("ada", project, NOW + LIFETIME)
    with pytest.raises(Unauthorized) as caught:
        await redeemed(db, link)
    assert caught.value.reason == "revoked"
    assert (await actions(db))[1:] == [("cli", "studio_link.create"), ("user:ada", "studio_link.redeem")]


async def test_of_many_who_race_for_a_link_exactly_one_gets_in(db: Database, project: UUID) -> None:
    for _ in range(5):
        link = await made_link(db, project)
        outcomes = await asyncio.gather(*(redeemed(db, link) for _ in range(8)), return_exceptions=True)
        assert [outcome for outcome in outcomes if isinstance(outcome, Session)] == [
            Session("ada", project, NOW + LIFETIME)
        ]
        assert sum(isinstance(outcome, Unauthorized) for outcome in outcomes) == 7


async def test_two_open_transactions_do_not_both_get_the_link(db: Database, project: UUID) -> None:
    link = await made_link(db, project)
    has_it, goes_on = asyncio.Event(), asyncio.Event()

    async def slow() -> Session:
        async def work(tx: object) -> Session:
            session = await redeem_link(tx, link, now=NOW)  # pyright: ignore[reportArgumentType]
            has_it.set()
            await goes_on.wait()
            return session

        return await db.run(work)

    first = asyncio.create_task(slow())
    await has_it.wait()
    second = asyncio.create_task(redeemed(db, link))
    async with db.connection() as conn, asyncio.timeout(20):
        while not await conn.fetchval("select count(*) from pg_locks where not granted"):
            await asyncio.sleep(0.01)
    goes_on.set()
    assert (await first).user_id == "ada"
    with pytest.raises(Unauthorized):
        await second


async def test_a_link_whose_redeeming_was_rolled_back_is_still_good(db: Database, project: UUID) -> None:
    link = await made_link(db, project)

    async def fails(tx: object) -> None:
        await redeem_link(tx, link, now=NOW)  # pyright: ignore[reportArgumentType]
        raise RuntimeError("died here")

    with pytest.raises(RuntimeError):
        await db.run(fails)
    assert (await redeemed(db, link)).user_id == "ada"


async def test_a_link_that_is_over_unknown_or_cut_off_opens_nothing(db: Database, project: UUID) -> None:
    link = await made_link(db, project)
    with pytest.raises(Unauthorized) as over:
        await redeemed(db, link, NOW + timedelta(seconds=60))
    with pytest.raises(Unauthorized) as unknown:
        await redeemed(db, "x" * len(link))
    with pytest.raises(Unauthorized) as cut:
        await redeemed(db, link[:-1])
    assert (over.value.reason, unknown.value.reason, cut.value.reason) == ("expired", "unknown", "malformed")


async def test_links_are_made_for_members_only_and_for_a_week_at_most(db: Database, project: UUID) -> None:
    for user, where in (("bob", project), ("ada", uuid4())):
        with pytest.raises(NotFound):
            await db.run(
                lambda tx, user=user, where=where: create_link(tx, user_id=user, project_id=where, ttl_s=60, now=NOW)
            )
    for ttl_s in (0, 7 * 86_400 + 1):
        with pytest.raises(InvalidInput):
            await made_link(db, project, ttl_s)


async def test_links_that_are_long_over_are_swept_out(db: Database, project: UUID) -> None:
    await made_link(db, project)
    await db.run(lambda tx: create_link(tx, user_id="ada", project_id=project, ttl_s=60, now=NOW + timedelta(days=2)))
    async with db.connection() as conn:
        assert await conn.fetchval("select count(*) from studio_links") == 1


async def test_processes_that_start_together_agree_on_a_secret(db: Database) -> None:
    made = await asyncio.gather(*(installation_secret(db, "session") for _ in range(8)))
    assert len(set(made)) == 1
    assert len(made[0]) == 32
    assert await installation_secret(db, "session") == made[0]
    assert await installation_secret(db, "media") != made[0]


async def test_a_secret_that_is_set_is_used_for_each_purpose_apart_and_not_stored(db: Database) -> None:
    given = "set-by-the-operator-and-long-enough-0123"
    session, media = [await installation_secret(db, name, given) for name in ("session", "media")]
    assert session == await installation_secret(db, "session", given)
    assert len({session, media}) == 2
    async with db.connection() as conn:
        assert await conn.fetchval("select count(*) from secrets") == 0
    with pytest.raises(ValueError):
        await installation_secret(db, "session", "short")


async def test_the_audit_log_is_read_page_by_page_newest_first(db: Database, project: UUID) -> None:
    for number in range(5):
        await db.run(lambda tx, n=number: audit.record(tx, "cli", "test.done", project, {"n": n}))
    async with db.connection() as conn:
        first = await audit.entries(conn, project_id=project, limit=3)
        rest = await audit.entries(conn, project_id=project, before=first[-1].id)
        assert await audit.entries(conn, project_id=uuid4()) == []
    assert [entry.detail.get("n") for entry in first + rest] == [4, 3, 2, 1, 0, None]
