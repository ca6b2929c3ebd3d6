from __future__ import annotations

import asyncio
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from library_world import converges, ids_of, new_generations, new_project

from safelight.db.pool import Database
from safelight.library import canvas, placing, template
from safelight.library.errors import LibraryError
from safelight.library.placing import Placement


async def new_canvas(db: Database) -> tuple[UUID, UUID, UUID]:
    """A project with two nodes."""
    async with db.connection() as conn:
        project = await new_project(conn)
    one = await db.run(lambda tx: canvas.create_node(tx, project, "prompt", data={"text": "a fox"}))
    two = await db.run(lambda tx: canvas.create_node(tx, project, "picture", x=300, y=-2.5, width=200))
    return project, one["id"], two["id"]


async def test_nodes_are_made_moved_and_removed_with_their_edges(db: Database):
    project, one, two = await new_canvas(db)
    mine = uuid4()
    async with converges(db, project):
        edge = await db.run(lambda tx: canvas.create_edge(tx, project, one, two, edge_id=mine))
    assert edge["id"] == mine
    async with converges(db, project):
        await db.run(lambda tx: canvas.patch_edge(tx, project, mine, {"label": "then"}))
    async with converges(db, project):
        moved = await db.run(lambda tx: canvas.patch_node(tx, project, two, x=10.5, width=None))
    assert (moved["x"], moved["y"], moved["width"], moved["type"]) == (10.5, -2.5, None, "picture")
    async with converges(db, project):
        await db.run(lambda tx: canvas.delete_node(tx, project, two))
    async with db.snapshot() as conn:
        assert ids_of((await canvas.list_nodes(conn, project)).items) == [one]
        assert (await canvas.list_edges(conn, project)).items == []


async def test_an_edge_can_be_removed_alone(db: Database):
    project, one, two = await new_canvas(db)
    edge = await db.run(lambda tx: canvas.create_edge(tx, project, one, two))
    async with converges(db, project):
        await db.run(lambda tx: canvas.delete_edge(tx, project, edge["id"]))


async def test_lists_are_walked_page_by_page(db: Database):
    project, one, two = await new_canvas(db)
    nodes = [one, two] + [(await db.run(lambda tx: canvas.create_node(tx, project, "n")))["id"] for _ in range(3)]
    edges = [(await db.run(lambda tx, n=n: canvas.create_edge(tx, project, one, n)))["id"] for n in nodes[1:]]
    for listing, expected in ((canvas.list_nodes, nodes), (canvas.list_edges, edges)):
        walked, cursor = [], None
        while True:
            async with db.snapshot() as conn:
                page = await listing(conn, project, limit=2, cursor=cursor)
            walked += ids_of(page.items)
            if (cursor := page.next_cursor) is None:
                break
        assert walked == sorted(expected)


async def test_a_node_shows_the_result_of_its_job_while_somebody_edits_and_drags_it(db: Database):
    project, node, _ = await new_canvas(db)
    async with db.connection() as conn:
        first, second = await new_generations(conn, project, 2)
    target = {"node_id": str(node)}
    async with converges(db, project):
        await asyncio.gather(
            db.run(
                lambda tx: placing.place(tx, [Placement(project, target, first), Placement(project, target, second)])
            ),
            db.run(lambda tx: canvas.patch_node(tx, project, node, data={"text": "a red fox", "seed": 7})),
            db.run(lambda tx: canvas.patch_node(tx, project, node, x=5)),
        )
    async with db.connection() as conn:
        row = await canvas.get_node(conn, node)
    assert row["data"] == {"text": "a red fox", "seed": 7, "generation_id": str(second)}
    assert row["x"] == 5
    async with converges(db, project):
        cleared = await db.run(lambda tx: canvas.patch_node(tx, project, node, data={"generation_id": None}))
    assert cleared["data"] == {"text": "a red fox", "seed": 7}


async def test_bad_canvas_input_is_refused_and_changes_nothing(db: Database):
    project, one, two = await new_canvas(db)
    foreign, theirs, _ = await new_canvas(db)
    await db.run(lambda tx: canvas.create_edge(tx, project, one, two))
    big = {"big": "x" * 60_000}
    cases: list[tuple[str, Any]] = [
        ("invalid_input", lambda tx: canvas.create_node(tx, project, "")),
        ("invalid_input", lambda tx: canvas.create_node(tx, project, "x" * 51)),
        ("invalid_input", lambda tx: canvas.create_node(tx, project, "n", x=float("nan"))),
        ("invalid_input", lambda tx: canvas.create_node(tx, project, "n", y=1e300)),
        ("invalid_input", lambda tx: canvas.create_node(tx, project, "n", width=0)),
        ("invalid_input", lambda tx: canvas.create_node(tx, project, "n", data={"a": "\0"})),
        ("invalid_input", lambda tx: canvas.create_node(tx, project, "n", data=big | {"z": "x" * 10_000})),
        ("conflict", lambda tx: canvas.create_node(tx, project, "n", node_id=one)),
        ("not_found", lambda tx: canvas.patch_node(tx, foreign, one, x=1)),
        ("not_found", lambda tx: canvas.delete_node(tx, foreign, one)),
        ("not_found", lambda tx: canvas.create_edge(tx, project, one, theirs)),
        ("invalid_input", lambda tx: canvas.create_edge(tx, project, one, one)),
        ("conflict", lambda tx: canvas.create_edge(tx, project, one, two)),
        ("not_found", lambda tx: canvas.patch_edge(tx, project, uuid4(), {})),
        ("not_found", lambda tx: canvas.delete_edge(tx, project, uuid4())),
    ]
    for code, attempt in cases:
        async with converges(db, project, silent=True):
            with pytest.raises(LibraryError) as refused:
                await db.run(attempt)
        assert refused.value.code == code
    with pytest.raises(LibraryError):
        async with db.connection() as conn:
            await canvas.get_edge(conn, uuid4())


async def test_a_nodes_data_does_not_grow_without_bound_by_patches(db: Database):
    project, node, _ = await new_canvas(db)
    noise = Random(1)

    async def patch(number: int) -> None:
        piece = {f"k{number}": "".join(noise.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=60_000))}
        await db.run(lambda tx: canvas.patch_node(tx, project, node, data=piece))

    await patch(0)
    await patch(1)
    with pytest.raises(LibraryError) as refused:
        await patch(2)
    assert refused.value.code == "invalid_input"
    async with db.connection() as conn:
        assert set((await canvas.get_node(conn, node))["data"]) == {"text", "k0", "k1"}


async def test_templates_are_kept_by_slug(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn)
    row = await db.run(
        lambda tx: template.create_template(tx, project, "ad", "Advert", "m", {"prompt": "{BRAND}"}, "{START}")
    )
    assert template.present_template(row)["variables"] == ["BRAND", "START"]
    with pytest.raises(LibraryError) as refused:
        await db.run(lambda tx: template.create_template(tx, project, "ad", "Other", "m", {}))
    assert refused.value.code == "conflict"
    for slug in ("b", "a0", "c-1"):
        await db.run(lambda tx, slug=slug: template.put_template(tx, project, slug, "n", "m", {}))
    await db.run(lambda tx: template.put_template(tx, project, "b", "renamed", "m2", {"x": 1}))

    async with db.snapshot() as conn:
        first = await template.list_templates(conn, project, limit=3)
        rest = await template.list_templates(conn, project, limit=3, cursor=first.next_cursor)
        assert [row["slug"] for row in (*first.items, *rest.items)] == ["a0", "ad", "b", "c-1"]
        stored = await template.get_template(conn, project, "b")
        assert (stored["name"], stored["model"], stored["input"], stored["start"]) == ("renamed", "m2", {"x": 1}, None)
        filled = template.render(
            template.template_of(await template.get_template(conn, project, "ad")), {"BRAND": "Acme", "START": "s"}
        )
        assert (filled.input, filled.start) == ({"prompt": "Acme"}, "s")

    await db.run(lambda tx: template.delete_template(tx, project, "b"))
    for slug in ("b", "\0", "../x"):
        async with db.connection() as conn:
            with pytest.raises(LibraryError) as refused:
                await template.get_template(conn, project, slug)
        assert refused.value.code == "not_found"
    for slug in ("", "Ad", "-a", "x" * 64, "a\n"):
        with pytest.raises(LibraryError) as refused:
            await db.run(lambda tx, slug=slug: template.put_template(tx, project, slug, "n", "m", {}))
        assert refused.value.code == "invalid_input"
