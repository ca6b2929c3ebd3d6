"""The library over HTTP: pictures, shots, canvas, templates; every list merged with the feed is the list anew (S3)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from api_world import Json, World, assert_problem, ok, seq_of, small, until

LISTS = {"jobs": "jobs", "generations": "generations", "shots": "shots", "nodes": "nodes", "edges": "edges"}
NOT_IN_A_ROW = {
    "jobs": ("progress",),  # pushed, not logged
    "shots": ("counts",),  # counted when asked
}


def comparable(table: str, row: Json) -> Json:
    kept = {name: value for name, value in row.items() if name not in NOT_IN_A_ROW.get(table, ())}
    if "urls" in kept:  # signed anew each time
        urls = kept["urls"]
        kept["urls"] = {
            "original": urls["original"].partition("?")[0],
            "poster": (urls["poster"] or "").partition("?")[0],
            "thumbs": {size: url.partition("?")[0] for size, url in urls["thumbs"].items()},
        }
    return kept


async def snapshot(world: World) -> tuple[dict[str, dict[str, Json]], dict[str, int]]:
    """Every list with the seq that it names."""
    rows: dict[str, dict[str, Json]] = {}
    seqs: dict[str, int] = {}
    for table, path in LISTS.items():
        items, seqs[table] = await world.everything(f"{world.p}/{path}", limit=3)
        rows[table] = {item["id"]: comparable(table, item) for item in items}
    return rows, seqs


async def merged(world: World, rows: dict[str, dict[str, Json]], seqs: dict[str, int]) -> dict[str, dict[str, Json]]:
    """The lists, with the changes after them applied as any client would."""
    held = {table: dict(found) for table, found in rows.items()}
    changes = await world.changes(min(seqs.values()))
    assert [change["seq"] for change in changes] == list(range(min(seqs.values()) + 1, await world.head() + 1))
    for change in changes:
        table = change["table"]
        if table not in held or change["seq"] <= seqs[table]:
            continue
        if change["op"] == "delete" or (change["row"] or {}).get("deleted_at"):
            held[table].pop(change["id"], None)
        else:
            held[table][change["id"]] = comparable(table, change["row"])
    return held


async def test_any_list_and_the_changes_after_it_are_the_list_read_anew(world: World) -> None:
    first = await world.pictures(2)
    begun = await snapshot(world)
    api, p = world.api, world.p

    shot = ok(await api.post(f"{p}/shots", json={"name": "One", "generation_ids": first}), 201)
    other = ok(await api.post(f"{p}/shots", json={"name": "Two"}), 201)
    ok(await api.patch(f"/v1/shots/{other['id']}", json={"name": "Zwei", "settings": {"fps": 24}}))
    second = await world.pictures(3, target={"shot_id": other["id"]})
    ok(await api.patch(f"/v1/generations/{first[0]}", json={"starred": True}))
    ok(await api.post(f"{p}/generations/batch", json={"op": "delete", "ids": [first[1], second[0]]}))
    ok(await api.post(f"/v1/generations/{second[0]}/restore"))
    middle = await snapshot(world)
    ok(await api.post(f"/v1/shots/{other['id']}/reorder", json={"ids": second[::-1]}))
    ok(await api.put(f"/v1/shots/{shot['id']}/generations/{second[1]}", json={"position": None}))
    ok(await api.delete(f"/v1/shots/{other['id']}/generations/{second[2]}"), 204)
    nodes = [ok(await api.post(f"{p}/nodes", json={"type": "prompt", "x": x}), 201) for x in range(3)]
    edge = {"source": nodes[0]["id"], "target": nodes[1]["id"]}
    ok(await api.post(f"{p}/edges", json=edge), 201)
    ok(await api.patch(f"/v1/nodes/{nodes[0]['id']}", json={"x": 40.5, "data": {"prompt": "a fox"}}))
    ok(await api.delete(f"/v1/nodes/{nodes[1]['id']}"), 204)
    ok(await api.delete(f"/v1/shots/{shot['id']}"), 204)
    late = await world.submit()
    moving = await snapshot(world)  # while a job runs and thumbnails are made

    await world.reaches(late["id"], "completed")
    await until(world.is_quiet, "the last thumbnail")
    fresh, _ = await snapshot(world)
    for rows, seqs in (begun, middle, moving):
        assert await merged(world, rows, seqs) == fresh
    assert fresh["generations"]
    assert fresh["nodes"]
    assert fresh["edges"] == {}


async def test_a_write_names_the_seq_of_its_change_and_who_asked(world: World) -> None:
    [picture] = await world.pictures(1)
    headers = {"safelight-client": "window-7"}
    writes: list[Any] = [
        await world.api.patch(f"/v1/generations/{picture}", json={"starred": True}, headers=headers),
        await world.api.delete(f"/v1/generations/{picture}", headers=headers),
        await world.api.post(f"/v1/generations/{picture}/restore", headers=headers),
        await world.api.post(f"{world.p}/shots", json={"name": "One"}, headers=headers),
        await world.api.post(f"{world.p}/nodes", json={"type": "prompt"}, headers=headers),
        await world.api.post(f"{world.p}/jobs", json=small(), headers=headers),
    ]
    seqs = [seq_of(answer) for answer in writes]
    assert seqs == sorted(seqs)
    changes = {change["seq"]: change for change in await world.changes(0)}
    for answer in writes:
        assert changes[seq_of(answer)]["origin"] == "window-7", answer.request.url
    assert changes[1]["origin"] is None


async def test_the_grid_reads_ids_first_and_then_what_is_in_view(world: World) -> None:
    pictures = await world.pictures(3)
    params = {"fields": "id,width,height,thumbhash"}
    slim = ok(await world.api.get(f"{world.p}/generations", params=params))["items"]
    assert all(set(item) == {"id", "width", "height", "thumbhash"} for item in slim)
    assert {item["id"] for item in slim} == set(pictures)
    wanted = [pictures[2], str(uuid4()), pictures[0]]
    answer = await world.api.post(f"{world.p}/generations/by-ids", json={"ids": wanted})
    assert [item["id"] for item in ok(answer)["items"]] == [pictures[2], pictures[0]], "as asked, without what is not"
    assert seq_of(answer)
    whole = answer.json()["items"][0]
    assert whole == ok(await world.api.get(f"/v1/generations/{pictures[2]}"))
    assert set(whole) >= {"id", "job_id", "output_index", "kind", "mime", "bytes", "urls", "starred", "shots", "prompt"}
    unknown = await world.api.get(f"{world.p}/generations", params={"fields": "id,secret"})
    assert_problem(unknown, 422, "invalid_input", "secret")
    for ids in ([], [str(uuid4())] * 5000, ["x"]):
        answer = await world.api.post(f"{world.p}/generations/by-ids", json={"ids": ids})
        assert_problem(answer, 422, "invalid_input")


async def test_the_gallery_narrows_by_kind_star_model_and_words(world: World) -> None:
    [fox] = await world.pictures(1, prompt="a red fox in the snow")
    [city] = await world.pictures(1, prompt="a city at night")
    ok(await world.api.patch(f"/v1/generations/{city}", json={"starred": True}))

    async def ids(**asked: object) -> list[str]:
        return [item["id"] for item in ok(await world.api.get(f"{world.p}/generations", params=asked))["items"]]

    assert await ids() == [city, fox]
    assert await ids(starred=True) == [city]
    assert await ids(starred=False) == [fox]
    assert await ids(q="red sn") == [fox], "each word, as a beginning"
    assert await ids(q="aurora") == [city, fox]
    assert await ids(q="unicorn") == []
    assert await ids(model="local/aurora", kind="image") == [city, fox]
    assert await ids(kind="video") == []


async def test_a_deleted_picture_comes_back_in_its_place(world: World) -> None:
    pictures = await world.pictures(3)
    shot = ok(await world.api.post(f"{world.p}/shots", json={"name": "One", "generation_ids": pictures}), 201)
    gallery = [item["id"] for item in (await world.everything(f"{world.p}/generations"))[0]]

    async def in_shot() -> list[str]:
        params = {"shot_id": shot["id"]}
        return [item["id"] for item in ok(await world.api.get(f"{world.p}/generations", params=params))["items"]]

    assert await in_shot() == pictures
    gone = ok(await world.api.delete(f"/v1/generations/{pictures[1]}"))
    assert gone["deleted_at"]
    again = ok(await world.api.delete(f"/v1/generations/{pictures[1]}"))
    assert again["deleted_at"] == gone["deleted_at"], "again is fine"
    assert await in_shot() == [pictures[0], pictures[2]]
    back = ok(await world.api.post(f"/v1/generations/{pictures[1]}/restore"))
    assert back["deleted_at"] is None
    assert await in_shot() == pictures
    assert [item["id"] for item in (await world.everything(f"{world.p}/generations"))[0]] == gallery


async def test_many_at_once_say_which_are_missing(world: World) -> None:
    pictures, nobody = await world.pictures(3), str(uuid4())
    await until(world.is_quiet, "the thumbnails")
    for op, field, value in [("star", "starred", True), ("unstar", "starred", False)]:
        body = {"op": op, "ids": [*pictures[:2], nobody]}
        answer = await world.api.post(f"{world.p}/generations/batch", json=body)
        done = ok(answer)
        assert [item["id"] for item in done["items"]] == pictures[:2]
        assert all(item[field] is value for item in done["items"])
        assert done["missing"] == [nobody]
        assert seq_of(answer) == await world.head()
    other = await world.new_project()
    foreign = await world.admin.post(f"/v1/projects/{other}/generations/batch", json={"op": "delete", "ids": pictures})
    assert ok(foreign) == {"items": [], "missing": pictures}, "another project's are not there"
    assert len((await world.everything(f"{world.p}/generations"))[0]) == 3


async def test_shots_keep_their_order_by_fractional_index(world: World) -> None:
    pictures = await world.pictures(4)
    shot = ok(await world.api.post(f"{world.p}/shots", json={"name": "One"}), 201)
    path = f"/v1/shots/{shot['id']}"

    async def order() -> list[str]:
        params = {"shot_id": shot["id"]}
        return [item["id"] for item in ok(await world.api.get(f"{world.p}/generations", params=params))["items"]]

    async def place(picture: str, position: str | None) -> Json:
        return ok(await world.api.put(f"{path}/generations/{picture}", json={"position": position}))

    a, b, c, d = pictures
    assert (await place(a, "a1"))["position"] == "a1"
    assert (await place(b, "a0"))["position"] == "a0"
    assert await order() == [b, a]
    between = (await place(c, "a0V"))["position"]
    assert "a0" < between < "a1"
    assert await order() == [b, c, a]
    taken = (await place(d, "a0"))["position"]
    assert taken != "a0", "two pictures on one spot get two positions"
    assert (await order())[:2] == [b, d]
    assert (await place(d, None))["position"] is None
    [card] = ok(await world.api.get(f"{world.p}/shots"))["items"]
    assert card["counts"] == {"total": 4, "unpositioned": 1, "videos": 0}
    answer = await world.api.post(f"{path}/reorder", json={"ids": [a, b, c]})
    moved = ok(answer)["items"]
    assert {row["generation_id"] for row in moved} <= {a, b, c}
    assert await order() == [a, b, c, d], "the unpositioned come last"
    async with world.unchanged():
        for position in ("", "!", "a" * 300):
            answer = await world.api.put(f"{path}/generations/{a}", json={"position": position})
            assert_problem(answer, 422, "invalid_input")
        assert_problem(await world.api.put(f"{path}/generations/{uuid4()}", json={}), 404, "not_found")
    ok(await world.api.delete(f"{path}/generations/{a}"), 204)
    assert await order() == [b, c, d]


async def test_shots_have_an_order_of_their_own(world: World) -> None:
    made = [ok(await world.api.post(f"{world.p}/shots", json={"name": f"S{index}"}), 201) for index in range(3)]
    items, _ = await world.everything(f"{world.p}/shots", limit=2)
    assert [item["name"] for item in items] == ["S0", "S1", "S2"]
    ok(await world.api.patch(f"/v1/shots/{made[2]['id']}", json={"position": "Zz"}))
    items, _ = await world.everything(f"{world.p}/shots", limit=2)
    assert [item["name"] for item in items] == ["S2", "S0", "S1"]
    identity = str(uuid4())
    ok(await world.api.post(f"{world.p}/shots", json={"id": identity, "name": "mine"}), 201)
    again = await world.api.post(f"{world.p}/shots", json={"id": identity, "name": "mine"})
    assert_problem(again, 409, "conflict")


async def test_a_canvas_has_nodes_and_edges_and_forgets_both_together(world: World) -> None:
    left = ok(await world.api.post(f"{world.p}/nodes", json={"type": "prompt", "data": {"a": 1, "b": 2}}), 201)
    right = ok(await world.api.post(f"{world.p}/nodes", json={"type": "image", "x": 300, "width": 200}), 201)
    patched = ok(await world.api.patch(f"/v1/nodes/{left['id']}", json={"data": {"a": None, "c": 3}}))
    assert patched["data"] == {"b": 2, "c": 3}
    assert ok(await world.api.patch(f"/v1/nodes/{right['id']}", json={"width": None}))["width"] is None
    joined = {"source": left["id"], "target": right["id"]}
    edge = ok(await world.api.post(f"{world.p}/edges", json=joined), 201)
    assert ok(await world.api.patch(f"/v1/edges/{edge['id']}", json={"data": {"k": 1}}))["data"] == {"k": 1}
    async with world.unchanged():
        assert_problem(await world.api.post(f"{world.p}/edges", json=joined), 409, "conflict")
        same = {"source": left["id"], "target": left["id"]}
        assert_problem(await world.api.post(f"{world.p}/edges", json=same), 422, "invalid_input")
        away = {"source": left["id"], "target": str(uuid4())}
        assert_problem(await world.api.post(f"{world.p}/edges", json=away), 404, "not_found")
    ok(await world.api.delete(f"/v1/nodes/{left['id']}"), 204)
    assert ok(await world.api.get(f"{world.p}/edges"))["items"] == []
    assert_problem(await world.api.delete(f"/v1/nodes/{left['id']}"), 404, "not_found")


async def test_templates_are_made_once_replaced_and_deleted(world: World) -> None:
    content = {"name": "Ad", "model": "local/aurora", "input": {"prompt": "{BRAND}"}}
    ok(await world.api.post(f"{world.p}/templates", json={"slug": "ad", **content}), 201)
    again = await world.api.post(f"{world.p}/templates", json={"slug": "ad", **content})
    assert_problem(again, 409, "conflict")
    ok(await world.api.put(f"{world.p}/templates/ad", json=content | {"name": "Ad 2"}))
    ok(await world.api.put(f"{world.p}/templates/bee", json=content))
    items, _ = await world.everything(f"{world.p}/templates", limit=1)
    assert [(item["slug"], item["name"]) for item in items] == [("ad", "Ad 2"), ("bee", "Ad")]
    assert ok(await world.api.get(f"{world.p}/templates/ad"))["variables"] == ["BRAND"]
    assert_problem(await world.api.put(f"{world.p}/templates/No%20Slug", json=content), 422, "invalid_input")
    ok(await world.api.delete(f"{world.p}/templates/ad"), 204)
    assert_problem(await world.api.get(f"{world.p}/templates/ad"), 404, "not_found")
    assert_problem(await world.api.delete(f"{world.p}/templates/ad"), 404, "not_found")
