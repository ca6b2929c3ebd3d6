from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from library_world import converges, ids_of, new_generations, new_project

from safelight.db.pool import Conn, Database
from safelight.library import curation, placing, shot
from safelight.library.errors import LibraryError
from safelight.library.placing import Placement


async def places(conn: Conn, shot_id: UUID) -> dict[UUID, str | None]:
    rows = await conn.fetch(
        "select generation_id, position from shot_generations where shot_id = $1 order by position nulls last", shot_id
    )
    return {row["generation_id"]: row["position"] for row in rows}


async def studio(db: Database, n: int = 4) -> tuple[UUID, UUID, list[UUID]]:
    """A project, a shot in it that is empty, and `n` generations."""
    async with db.connection() as conn:
        project = await new_project(conn)
        made = await new_generations(conn, project, n)
    row = await db.run(lambda tx: shot.create_shot(tx, project, "Opening"))
    return project, row["id"], made


async def test_a_shot_made_with_outputs_shows_them_at_once_in_their_order(db: Database):
    project, _, made = await studio(db)
    wanted, mine = [made[2], made[0], made[3]], uuid4()
    async with converges(db, project):
        row = await db.run(lambda tx: shot.create_shot(tx, project, " Two ", shot_id=mine, generation_ids=wanted))
    assert (row["id"], row["name"]) == (mine, "Two")
    async with db.connection() as conn:
        assert list(await places(conn, mine)) == wanted
        counts = (await shot.shot_counts(conn, project))[mine]
        assert (counts.total, counts.unpositioned, counts.videos) == (3, 0, 0)


async def test_new_shots_come_last_and_can_be_moved_between_others(db: Database):
    project, first, _ = await studio(db)
    second, third = [(await db.run(lambda tx: shot.create_shot(tx, project, "n")))["id"] for _ in range(2)]

    async def order() -> list[UUID]:
        walked, cursor = [], None
        while True:
            async with db.snapshot() as conn:
                page = await shot.list_shots(conn, project, limit=2, cursor=cursor)
            walked += ids_of(page.items)
            if (cursor := page.next_cursor) is None:
                return walked

    assert await order() == [first, second, third]
    async with db.connection() as conn:
        taken = (await shot.get_shot(conn, first))["position"]
    async with converges(db, project):  # the place is taken: right behind it
        await db.run(lambda tx: shot.patch_shot(tx, project, third, position=taken))
    assert await order() == [first, third, second]


async def test_shots_made_at_the_same_moment_get_places_of_their_own(db: Database):
    project, _, _ = await studio(db)
    async with converges(db, project):
        await asyncio.gather(*(db.run(lambda tx: shot.create_shot(tx, project, "n")) for _ in range(8)))
    async with db.connection() as conn:
        assert await conn.fetchval("select count(distinct position) from shots where project_id = $1", project) == 9


async def test_a_shot_is_renamed_and_keeps_what_was_not_given(db: Database):
    project, shot_id, _ = await studio(db)
    async with converges(db, project):
        await db.run(lambda tx: shot.patch_shot(tx, project, shot_id, settings={"fps": 24}))
    async with converges(db, project):
        row = await db.run(lambda tx: shot.patch_shot(tx, project, shot_id, name="Chase"))
    assert (row["name"], row["settings"], row["position"]) == ("Chase", {"fps": 24}, "a0")


async def test_a_deleted_shot_leaves_its_generations_in_the_library(db: Database):
    project, shot_id, made = await studio(db)
    await db.run(lambda tx: placing.put_generations(tx, project, shot_id, made, "a0"))
    async with converges(db, project):
        await db.run(lambda tx: shot.delete_shot(tx, project, shot_id))
    async with db.connection() as conn:
        assert await conn.fetchval("select count(*) from generations where project_id = $1", project) == len(made)


async def test_a_generation_joins_a_shot_moves_and_leaves(db: Database):
    project, shot_id, [one, two, *_] = await studio(db)

    async def put(generation: UUID, position: str | None) -> str | None:
        async with converges(db, project):
            row = await db.run(lambda tx: placing.put_generation(tx, project, shot_id, generation, position))
        return row["position"]

    assert await put(one, None) is None
    assert await put(one, "a0") == "a0"
    moved_behind = await put(two, "a0")  # taken: right behind
    assert moved_behind is not None
    assert moved_behind > "a0"
    assert await put(one, "a5") == "a5"
    assert await put(one, None) is None
    async with converges(db, project):
        assert await db.run(lambda tx: placing.remove_generation(tx, project, shot_id, one)) is True
    async with converges(db, project, silent=True):
        assert await db.run(lambda tx: placing.remove_generation(tx, project, shot_id, one)) is False


async def test_two_windows_that_drop_on_the_same_spot_get_two_places(db: Database):
    project, shot_id, made = await studio(db, 6)
    async with converges(db, project):
        await asyncio.gather(
            *(db.run(lambda tx, each=each: placing.put_generation(tx, project, shot_id, each, "a0")) for each in made)
        )
    async with db.connection() as conn:
        assert len(set((await places(conn, shot_id)).values())) == 6


async def test_reordering_moves_as_few_as_it_can_and_nothing_is_doubled_or_missing(db: Database):
    project, shot_id, made = await studio(db, 5)
    await db.run(lambda tx: placing.put_generations(tx, project, shot_id, made, "a0"))
    wanted = [made[4], *made[:4]]
    async with converges(db, project):
        moved = await db.run(lambda tx: placing.reorder(tx, project, shot_id, wanted))
    assert [row["generation_id"] for row in moved] == [made[4]]
    async with db.connection() as conn:
        assert list(await places(conn, shot_id)) == wanted
    async with converges(db, project, silent=True):
        assert await db.run(lambda tx: placing.reorder(tx, project, shot_id, wanted)) == []


async def test_reordering_positions_the_loose_ones_and_keeps_the_unnamed_behind(db: Database):
    project, shot_id, made = await studio(db, 4)
    await db.run(lambda tx: placing.put_generations(tx, project, shot_id, made[:3], "a0"))
    await db.run(lambda tx: placing.put_generation(tx, project, shot_id, made[3]))
    async with converges(db, project):
        await db.run(lambda tx: placing.reorder(tx, project, shot_id, [made[3], made[2]]))
    async with db.connection() as conn:
        assert list(await places(conn, shot_id)) == [made[3], made[2], made[0], made[1]]


async def test_bad_placings_are_refused_and_change_nothing(db: Database):
    project, shot_id, made = await studio(db)
    await db.run(lambda tx: placing.put_generation(tx, project, shot_id, made[0], "a0"))
    async with db.connection() as conn:
        foreign = await new_project(conn)
        [theirs] = await new_generations(conn, foreign, 1)
    cases: list[tuple[str, Any]] = [
        ("not_found", lambda tx: placing.put_generation(tx, project, uuid4(), made[0])),
        ("not_found", lambda tx: placing.put_generation(tx, project, shot_id, theirs)),
        ("not_found", lambda tx: placing.put_generation(tx, foreign, shot_id, theirs)),
        ("invalid_input", lambda tx: placing.put_generation(tx, project, shot_id, made[0], "no key")),
        ("not_found", lambda tx: placing.reorder(tx, project, shot_id, [made[1]])),
        ("invalid_input", lambda tx: placing.reorder(tx, project, shot_id, [made[0], made[0]])),
        ("not_found", lambda tx: placing.remove_generation(tx, foreign, shot_id, made[0])),
        ("not_found", lambda tx: shot.patch_shot(tx, foreign, shot_id, name="mine")),
        ("not_found", lambda tx: shot.delete_shot(tx, foreign, shot_id)),
        ("invalid_input", lambda tx: shot.create_shot(tx, project, "   ")),
        ("invalid_input", lambda tx: shot.create_shot(tx, project, "x" * 201)),
        ("invalid_input", lambda tx: shot.create_shot(tx, project, "nul\0")),
        ("conflict", lambda tx: shot.create_shot(tx, project, "again", shot_id=shot_id)),
        ("not_found", lambda tx: shot.create_shot(tx, project, "n", generation_ids=[theirs])),
        ("not_found", lambda tx: shot.create_shot(tx, uuid4(), "n")),
    ]
    for code, attempt in cases:
        async with converges(db, project, silent=True):
            with pytest.raises(LibraryError) as refused:
                await db.run(attempt)
        assert refused.value.code == code


async def test_new_results_join_the_shots_that_their_jobs_named(db: Database):
    project, shot_id, made = await studio(db, 6)
    await db.run(lambda tx: placing.put_generations(tx, project, shot_id, made[:2], "a0"))
    targets: list[Any] = [
        {"shot_id": str(shot_id), "position": "a0"},
        {"shot_id": str(shot_id), "position": "a0"},
        {"shot_id": str(shot_id)},
        {"shot_id": str(uuid4())},  # deleted meanwhile: the result is in the library all the same
    ]
    async with converges(db, project):
        placed = [Placement(project, target, each) for target, each in zip(targets, made[2:], strict=True)]
        await db.run(lambda tx: placing.place(tx, placed))
    async with db.connection() as conn:
        found = await places(conn, shot_id)
    assert list(found) == [made[0], made[2], made[3], made[1], made[4]]
    assert found[made[4]] is None
    async with converges(db, project, silent=True):  # settled again after a crash: no change
        await db.run(lambda tx: placing.place(tx, placed))


async def test_a_result_of_a_foreign_or_broken_target_stays_in_the_library_and_breaks_nothing(db: Database):
    project, shot_id, [made, *_] = await studio(db)
    async with db.connection() as conn:
        foreign = await new_project(conn)
    other = await db.run(lambda tx: shot.create_shot(tx, foreign, "theirs"))
    for target in ({"shot_id": str(other["id"])}, {"shot_id": "x"}, {"node_id": str(uuid4())}, {}):
        async with converges(db, project, silent=True):
            await db.run(lambda tx, target=target: placing.place(tx, [Placement(project, target, made)]))
    async with converges(db, project):  # an impossible position is none
        await db.run(lambda tx: placing.place(tx, [Placement(project, {"shot_id": shot_id, "position": "!"}, made)]))


async def test_a_target_is_checked_at_submit(db: Database):
    project, shot_id, _ = await studio(db)
    async with db.connection() as conn:
        foreign = await new_project(conn)
        kept = await placing.check_target(conn, project, {"shot_id": str(shot_id), "position": "a0", "node_id": None})
        assert kept == {"shot_id": str(shot_id), "position": "a0"}
        for owner, target, code in [
            (project, {}, "invalid_input"),
            (project, {"shot_id": "x"}, "invalid_input"),
            (project, {"shot_id": str(shot_id), "node_id": str(shot_id)}, "invalid_input"),
            (project, {"shot_id": str(shot_id), "colour": "red"}, "invalid_input"),
            (project, {"shot_id": str(shot_id), "position": "!"}, "invalid_input"),
            (project, {"shot_id": str(shot_id), "position": 3}, "invalid_input"),
            (project, {"node_id": str(uuid4()), "position": "a0"}, "invalid_input"),
            (project, {"shot_id": str(uuid4())}, "not_found"),
            (project, {"node_id": str(shot_id)}, "not_found"),
            (foreign, {"shot_id": str(shot_id)}, "not_found"),
        ]:
            with pytest.raises(LibraryError) as refused:
                await placing.check_target(conn, owner, target)
            assert refused.value.code == code


class NotFoundMeanwhile(Exception):
    """Another hand was first."""


async def any_action(db: Database, random: Random, project: UUID, where: UUID, some: list[UUID]) -> None:
    position = random.choice((None, "a0", "a1"))
    target = {"shot_id": str(where), "position": position}
    actions: list[Any] = [
        lambda tx: placing.put_generations(tx, project, where, some, position),
        lambda tx: placing.remove_generation(tx, project, where, some[0]),
        lambda tx: placing.reorder(tx, project, where, some),
        lambda tx: curation.batch(tx, project, random.choice(curation.OPS), some),
        lambda tx: shot.patch_shot(tx, project, where, name=str(random.random())),
        lambda tx: shot.create_shot(tx, project, "n", generation_ids=some),
        lambda tx: placing.place(tx, [Placement(project, target, each) for each in some]),
        lambda tx: shot.delete_shot(tx, project, where),
    ]
    [action] = random.choices(actions, weights=[4, 2, 2, 4, 1, 1, 4, 0.3])
    try:
        await db.run(action)
    except LibraryError as refused:
        if refused.code != "not_found":
            raise
        raise NotFoundMeanwhile from refused


@pytest.mark.parametrize("seed", range(4))
async def test_many_hands_at_once_leave_what_the_log_says(db: Database, seed: int):
    """Everything that people and settling do to shots, concurrently; deadlocks are retried, nothing diverges."""
    random = Random(seed)
    project, _, made = await studio(db, 8)
    shots = [(await db.run(lambda tx: shot.create_shot(tx, project, "s")))["id"] for _ in range(3)]

    async def hand() -> None:
        for _ in range(20):
            with suppress(NotFoundMeanwhile):
                await any_action(db, random, project, random.choice(shots), random.sample(made, random.randint(1, 4)))

    async with converges(db, project):
        await asyncio.gather(*(hand() for _ in range(5)))
    async with db.connection() as conn:
        doubled = await conn.fetch(
            "select shot_id from shot_generations where position is not null"
            " group by shot_id, position having count(*) > 1"
        )
    assert doubled == []
