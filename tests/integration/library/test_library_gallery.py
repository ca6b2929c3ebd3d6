from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from library_world import converges, ids_of, new_generations, new_project

from safelight.db.pool import Database
from safelight.library import curation, placing, shot
from safelight.library.errors import LibraryError
from safelight.library.generation import (
    Filter,
    fields_of,
    generations_by_ids,
    get_generation,
    list_generations,
    present_generation,
)

EVERYTHING = Filter()


async def listed(db: Database, project: UUID, only: Filter = EVERYTHING, limit: int = 50) -> list[UUID]:
    """The whole list, page by page, as a client walks it."""
    found: list[UUID] = []
    cursor = None
    while True:
        async with db.snapshot() as conn:
            page = await list_generations(conn, project, only, limit=limit, cursor=cursor)
        found += ids_of(page.items)
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 200])
async def test_pages_show_everything_once_newest_first(db: Database, limit: int):
    async with db.connection() as conn:
        project = await new_project(conn)
        made = await new_generations(conn, project, 7)
        await conn.execute("update generations set created_at = '2026-01-01' where output_index in (2, 3, 4)")  # a tie
        await new_generations(conn, await new_project(conn), 2)  # somebody else's
    found = await listed(db, project, limit=limit)
    assert sorted(found) == sorted(made)
    assert found == await listed(db, project)
    assert found[:2] == [made[6], made[5]]


async def test_a_list_names_the_seq_that_it_was_read_at(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn)
        await new_generations(conn, project, 2)
    async with db.snapshot() as conn:
        page = await list_generations(conn, project)
        assert page.seq == await conn.fetchval("select max(seq) from changes where project_id = $1", project)
        async with db.connection() as other:
            await new_generations(other, project, 1)  # committed meanwhile: in neither
        again = await list_generations(conn, project)
        assert (again.seq, len(again.items)) == (page.seq, 2)


async def test_the_list_is_narrowed_by_kind_star_model_and_words(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn)
        [fox] = await new_generations(conn, project, 1)
        [clip] = await new_generations(conn, project, 1, kind="video", prompt="Blue sea, at night", model="kie/veo3")
        [nameless] = await new_generations(conn, project, 1, prompt=None, model="google/nano-banana-edit")

    async def star(tx):
        return await curation.star_generation(tx, project, clip, True)

    await db.run(star)
    for only, expected in [
        (Filter(kind="video"), [clip]),
        (Filter(starred=True), [clip]),
        (Filter(starred=False), [nameless, fox]),
        (Filter(model="local/aurora"), [fox]),
        (Filter(q="SEA"), [clip]),
        (Filter(q="nig blu"), [clip]),  # beginnings, in any order
        (Filter(q="nano-banana"), [nameless]),
        (Filter(q="veo3"), [clip]),
        (Filter(q="sea fox"), []),
        (Filter(q="  "), [nameless, clip, fox]),
        (Filter(q="fox", kind="video"), []),
    ]:
        assert await listed(db, project, only) == expected, only


@pytest.mark.parametrize("q", ["'", "\\", "!&|:*()", "a' | 'b", "fox:*", "\0", "日本", "a_b", "%"])
async def test_a_search_takes_any_text_and_means_words(db: Database, q: str):
    async with db.connection() as conn:
        project = await new_project(conn)
        await new_generations(conn, project, 1, prompt="nothing of the kind")
    assert await listed(db, project, Filter(q=q)) == []


@pytest.mark.parametrize(
    "only, limit",
    [(Filter(kind="text"), 5), (Filter(q="x" * 201), 5), (Filter(model="\0"), 5), (Filter(), 0), (Filter(), 201)],
)
async def test_a_filter_that_means_nothing_is_refused(db: Database, only: Filter, limit: int):
    async with db.snapshot() as conn:
        with pytest.raises(LibraryError) as refused:
            await list_generations(conn, uuid4(), only, limit=limit)
    assert refused.value.code == "invalid_input"


@pytest.mark.parametrize("limit", [1, 2, 4, 50])
async def test_within_a_shot_the_order_is_the_shots_and_the_unpositioned_come_last(db: Database, limit: int):
    async with db.connection() as conn:
        project = await new_project(conn)
        made = await new_generations(conn, project, 6)
        await new_generations(conn, project, 2)

    async def arrange(tx):
        row = await shot.create_shot(tx, project, "s", generation_ids=[made[3], made[0], made[5]])
        for loose in (made[1], made[4], made[2]):
            await placing.put_generation(tx, project, row["id"], loose)
        return row["id"]

    shot_id = await db.run(arrange)
    expected = [made[3], made[0], made[5], made[4], made[2], made[1]]
    assert await listed(db, project, Filter(shot_id=shot_id), limit=limit) == expected


async def test_the_grid_may_ask_for_few_fields_and_then_for_the_tiles_in_view(db: Database):
    async with db.connection() as conn:
        project, foreign = await new_project(conn), await new_project(conn)
        made = await new_generations(conn, project, 3)
        [theirs] = await new_generations(conn, foreign, 1)
    fields = fields_of("width,thumbhash,urls")
    async with db.snapshot() as conn:
        page = await list_generations(conn, project, fields=fields)
        grid = [present_generation(row, str, fields) for row in page.items]
        assert [tile.keys() for tile in grid] == [{"id", "width", "thumbhash", "urls"}] * 3
        asked = [made[2], theirs, made[0], uuid4(), made[2]]
        assert ids_of((await generations_by_ids(conn, project, asked)).items) == [made[2], made[0]]
        with pytest.raises(LibraryError):
            await generations_by_ids(conn, project, [uuid4() for _ in range(201)])


async def test_a_star_is_seen_everywhere_and_setting_it_again_is_no_change(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn)
        [made] = await new_generations(conn, project, 1)

    async def star(tx):
        return await curation.star_generation(tx, project, made, True)

    async with converges(db, project):
        assert (await db.run(star))["starred"] is True
    async with converges(db, project, silent=True):
        await db.run(star)


async def test_a_deleted_generation_leaves_the_lists_and_undo_brings_it_back_in_its_place(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn)
        made = await new_generations(conn, project, 3)

    async def arrange(tx):
        return (await shot.create_shot(tx, project, "s", generation_ids=made))["id"]

    shot_id = await db.run(arrange)
    before = [await listed(db, project), await listed(db, project, Filter(shot_id=shot_id))]

    async def delete(tx):
        return await curation.delete_generation(tx, project, made[1])

    async def restore(tx):
        return await curation.restore_generation(tx, project, made[1])

    async with converges(db, project):
        gone = await db.run(delete)
    async with converges(db, project, silent=True):
        assert (await db.run(delete))["deleted_at"] == gone["deleted_at"]
    assert await listed(db, project) == [made[2], made[0]]
    assert await listed(db, project, Filter(shot_id=shot_id)) == [made[0], made[2]]
    async with db.connection() as conn:
        assert (await shot.shot_counts(conn, project))[shot_id].total == 2
        assert (await get_generation(conn, made[1]))["deleted_at"] is not None

    async with converges(db, project):
        await db.run(restore)
    assert [await listed(db, project), await listed(db, project, Filter(shot_id=shot_id))] == before


async def test_many_at_once_are_one_batch_that_says_what_it_did_not_find(db: Database):
    async with db.connection() as conn:
        project, foreign = await new_project(conn), await new_project(conn)
        made = await new_generations(conn, project, 4)
        [theirs] = await new_generations(conn, foreign, 1)
    for op, column, value in [("star", "starred", True), ("unstar", "starred", False)]:
        async with converges(db, project):
            done = await db.run(lambda tx, op=op: curation.batch(tx, project, op, [*made, theirs]))
        assert ids_of(done.rows) == made
        assert list(done.missing) == [theirs]
        assert {row[column] for row in done.rows} == {value}
    async with converges(db, project):
        await db.run(lambda tx: curation.batch(tx, project, "delete", made[:2]))
    async with converges(db, project):
        await db.run(lambda tx: curation.batch(tx, project, "restore", made))
    async with db.connection() as conn:
        assert (await get_generation(conn, theirs))["starred"] is False
    for op, ids in [("explode", made), ("star", [uuid4() for _ in range(501)])]:
        with pytest.raises(LibraryError) as refused:
            await db.run(lambda tx, op=op, ids=ids: curation.batch(tx, project, op, ids))
        assert refused.value.code == "invalid_input"


async def test_what_is_in_another_project_is_not_found(db: Database):
    async with db.connection() as conn:
        project, foreign = await new_project(conn), await new_project(conn)
        [theirs] = await new_generations(conn, foreign, 1)
    async with converges(db, foreign, silent=True):
        for attempt in (
            lambda tx: curation.star_generation(tx, project, theirs, True),
            lambda tx: curation.delete_generation(tx, project, theirs),
            lambda tx: curation.restore_generation(tx, project, uuid4()),
        ):
            with pytest.raises(LibraryError) as refused:
                await db.run(attempt)
            assert refused.value.code == "not_found"
