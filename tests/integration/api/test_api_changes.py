"""Following a project over HTTP (S2): poll, wait and stream have one meaning, and no cursor is continued in part."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from uuid import UUID, uuid4

from api_world import World, assert_problem, fal, ok, seq_of

from safelight.changes import log as change_log


async def shot(world: World, name: str = "One") -> int:
    """A change; its seq."""
    return seq_of(await world.api.post(f"{world.p}/shots", json={"name": name}))


async def test_a_change_has_the_contracts_shape_and_the_resources_row(world: World) -> None:
    headers = {"safelight-client": "window-1"}
    made = await world.api.post(f"{world.p}/shots", json={"name": "One"}, headers=headers)
    [change] = await world.changes(seq_of(made) - 1)
    assert set(change) == {"seq", "at", "table", "op", "id", "row", "old", "keys", "origin"}
    assert (change["seq"], change["table"], change["op"]) == (seq_of(made), "shots", "insert")
    assert (change["row"], change["old"], change["origin"]) == (ok(made, 201), None, "window-1")
    assert ["shots", world.project] in change["keys"]
    gone = await world.api.delete(f"/v1/shots/{change['id']}")
    [change] = await world.changes(seq_of(gone) - 1)
    assert (change["op"], change["row"]) == ("delete", None)
    assert change["old"]["id"] == made.json()["id"]


async def test_pages_go_on_without_a_hole(world: World) -> None:
    for index in range(7):
        await shot(world, f"S{index}")
    seen: list[int] = []
    while True:
        page = ok(await world.api.get(f"{world.p}/changes", params={"after": len(seen), "limit": 3}))
        assert set(page) == {"epoch", "head", "changes"}
        assert len(page["changes"]) <= 3
        if not page["changes"]:
            break
        seen += [change["seq"] for change in page["changes"]]
    assert seen == list(range(1, page["head"] + 1))
    for asked in ({"limit": 1001}, {"limit": 0}, {"wait": 26}, {"wait": -1}, {"after": -1}, {"epoch": "x"}):
        assert_problem(await world.api.get(f"{world.p}/changes", params=asked), 422, "invalid_input")


async def test_a_wait_ends_with_the_first_change_and_not_before(world: World) -> None:
    head = await world.head()
    waiting = asyncio.create_task(world.api.get(f"{world.p}/changes", params={"after": head, "wait": 25}))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done
    seq = await shot(world)
    page = ok(await waiting)
    assert [change["seq"] for change in page["changes"]] == [seq]
    empty = ok(await world.api.get(f"{world.p}/changes", params={"after": seq, "wait": 0.05}))
    assert (empty["changes"], empty["head"]) == ([], seq)


async def test_a_stream_begins_now_and_goes_on_from_its_last_event(world: World) -> None:
    await shot(world, "before")
    async with world.events(f"{world.p}/changes/stream") as events:
        beat = json.loads((await events.next("head")).data)
        seqs = [await shot(world, "a"), await shot(world, "b")]
        first = await events.next("change")
        assert json.loads(first.data)["seq"] == seqs[0]
        assert first.id == f"{beat['epoch']}:{seqs[0]}"
    seqs.append(await shot(world, "while away"))
    async with world.events(f"{world.p}/changes/stream", last_event_id=first.id) as events:
        again = [json.loads((await events.next("change")).data)["seq"] for _ in range(2)]
        assert again == seqs[1:], "nothing missed, nothing twice"
    # A browser that reconnects repeats the address it began with: Last-Event-ID wins.
    async with world.events(f"{world.p}/changes/stream?after=0", last_event_id=first.id) as events:
        assert json.loads((await events.next("change")).data)["seq"] == seqs[1]
    async with world.events(f"{world.p}/changes/stream?after=0") as events:
        assert json.loads((await events.next("change")).data)["seq"] == 1


async def test_poll_and_stream_say_the_same(world: World) -> None:
    for index in range(3):
        await shot(world, f"S{index}")
    polled = await world.changes(0)
    async with world.events(f"{world.p}/changes/stream?after=0") as events:
        streamed = [json.loads((await events.next("change")).data) for _ in polled]
    assert streamed == polled


async def test_a_foreign_epoch_or_a_cursor_beyond_the_head_must_refetch(world: World) -> None:
    await shot(world)
    page = ok(await world.api.get(f"{world.p}/changes"))
    for asked in ({"epoch": str(uuid4()), "after": 1}, {"after": page["head"] + 1}, {"after": 2**63 - 1}):
        problem = assert_problem(await world.api.get(f"{world.p}/changes", params=asked), 410, "must_refetch")
        assert (problem["epoch"], problem["head"], problem["oldest"]) == (page["epoch"], page["head"], 1)
    good = {"epoch": page["epoch"], "after": page["head"]}
    assert ok(await world.api.get(f"{world.p}/changes", params=good))["changes"] == []
    async with world.events(f"{world.p}/changes/stream", last_event_id=f"{uuid4()}:1") as events:
        seen = await events.rest()
    assert [event.event for event in seen if event.event != "message"] == ["must_refetch"]
    assert json.loads(seen[0].data)["head"] == page["head"]
    for header in ("nonsense", "a:b", f"{page['epoch']}:-1"):
        answer = await world.api.get(f"{world.p}/changes/stream", headers={"last-event-id": header})
        assert_problem(answer, 422, "invalid_input")


async def test_a_cursor_older_than_what_is_kept_must_refetch(world: World) -> None:
    for index in range(4):
        await shot(world, f"S{index}")
    head = await world.head()
    # The first entries were written 40 days ago, as the database sees it; then housekeeping comes by.
    await world.value("update changes set at = at - interval '40 days' where seq <= $1", head - 2)
    await change_log.retention(world.system.db, timedelta(days=30))
    other = await world.new_project()
    assert ok(await world.admin.get(f"/v1/projects/{other}/changes"))["head"] > 0
    fresh = world.system.feed
    fresh._channels.clear()  # as after a restart: memory may hold what the log no longer does

    problem = assert_problem(await world.api.get(f"{world.p}/changes", params={"after": 1}), 410, "must_refetch")
    assert (problem["head"], problem["oldest"]) == (head, head - 1)
    kept = ok(await world.api.get(f"{world.p}/changes", params={"after": head - 2}))
    assert [change["seq"] for change in kept["changes"]] == [head - 1, head]


async def test_progress_is_pushed_and_not_logged(world: World) -> None:
    async with world.events(f"{world.p}/changes/stream") as events:
        job = await world.submit(fal({"latency_s": 3, "queue_s": 0.2, "webhook": "lost"}))
        await world.attempt_of(job["id"])
        identity = UUID(job["id"])
        while True:
            await world.value("update job_work set heard_at = now() - interval '1 hour' where job_id = $1", identity)
            if (await world.job(job["id"]))["stage"] == "running":
                break
        progress = json.loads((await events.next("progress")).data)
    assert progress["job_id"] == job["id"]
    assert {"percent", "queue_position", "eta_s"} <= set(progress)
    assert {change["table"] for change in await world.changes(0)} <= {"projects", "credits", "jobs", "generations"}
    await world.api.post(f"/v1/jobs/{job['id']}/cancel")


async def test_two_windows_see_each_others_changes_within_one_stream_each(world: World) -> None:
    mine, theirs = await world.user("editor"), await world.user("viewer")
    async with (
        world.events(f"{world.p}/changes/stream", mine) as left,
        world.events(f"{world.p}/changes/stream", theirs) as right,
    ):
        await left.next("head")
        await right.next("head")
        made = ok(await mine.post(f"{world.p}/nodes", json={"type": "prompt"}), 201)
        for events in (left, right):
            assert json.loads((await events.next("change")).data)["row"] == made


async def test_another_projects_changes_are_not_there(world: World) -> None:
    stranger = await world.user(None)
    for path in ("changes", "changes/stream"):
        assert_problem(await stranger.get(f"{world.p}/{path}"), 404, "not_found")
        assert_problem(await world.admin.get(f"/v1/projects/{uuid4()}/{path}"), 404, "not_found")
