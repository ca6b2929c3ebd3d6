"""Unmodified `@supabase/realtime-js` and `@supabase/supabase-js` work against our socket (S4)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from realtime_parts import REALTIME_NODE, Node, World, a_world, node_process

from safelight.server.run import listen

Json = dict[str, Any]
KINDS = ["realtime", "supabase"]


@pytest.fixture
async def world(dsn: str, tmp_path: Path) -> AsyncIterator[World]:
    made = await a_world(dsn, tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with node_process() as made:
        yield made


async def opened(node: Node, world: World, kind: str = "realtime", client: str = "c", role: str = "editor") -> str:
    """A client with the publishable key and a person's token."""
    token = await world.member(role)
    await node.do("open", client=client, kind=kind, url=world.url, key=world.publishable_key, token=token)
    return token


def test_the_realtime_lock_file_names_no_download_host() -> None:
    lock = json.loads((REALTIME_NODE / "package-lock.json").read_text())
    assert lock["packages"]["node_modules/@supabase/supabase-js"]["version"] == "2.119.0"
    for name, package in lock["packages"].items():
        assert "resolved" not in package
        assert name == "" or package["integrity"].startswith("sha512-")


@pytest.mark.parametrize("kind", KINDS)
async def test_the_pattern_of_the_seed_apps_works_as_it_is(world: World, node: Node, kind: str) -> None:
    await opened(node, world, kind)
    on = [
        {"type": "broadcast", "filter": {"event": "task-update"}},
        {"type": "postgres_changes", "filter": {
            "event": "INSERT", "schema": "public", "table": "tasks", "filter": f"project_id=eq.{world.project}"}},
    ]  # fmt: skip
    await node.do("channel", client="c", name="t", topic=f"task-updates:{world.project}", on=on)
    await node.subscribed("t")
    job = await world.add_job()  # in the moment after SUBSCRIBED
    inserted = await node.event("t", "postgres_changes")
    assert (inserted["eventType"], inserted["table"], inserted["new"]["id"]) == ("INSERT", "tasks", str(job))
    assert inserted["new"]["input"] == {"prompt": "a red fox"}
    assert inserted["new"]["quoted"] == 5
    assert inserted["errors"] is None
    update = await node.event("t", "broadcast", event="task-update")
    assert (update["payload"]["id"], update["payload"]["status"]) == (str(job), "pending")


async def test_every_kind_of_change_comes_cast_and_with_what_was_before(world: World, node: Node) -> None:
    await opened(node, world)
    on = [{"type": "postgres_changes", "filter": {"event": "*", "schema": "public", "table": "shots"}},
          {"type": "postgres_changes", "filter": {
              "event": "UPDATE", "schema": "public", "table": "generations", "filter": "starred=eq.true,bytes=gt.5",
              "select": ["id", "bytes"]}}]  # fmt: skip
    await node.do("channel", client="c", name="t", topic=f"task-updates:{world.project}", on=on)
    await node.subscribed("t")
    shot = await world.add_shot("old")
    await world.write("update shots set name = 'new' where id = $1 returning 1", shot)
    await world.write("delete from shots where id = $1 returning 1", shot)
    generation = await world.add_generation(await world.add_job())
    await world.write("update generations set starred = true where id = $1 returning 1", generation)
    assert (await node.event("t", "postgres_changes", eventType="INSERT"))["new"]["name"] == "old"
    updated = await node.event("t", "postgres_changes", eventType="UPDATE", table="shots")
    assert (updated["new"]["name"], updated["old"]["name"]) == ("new", "old")
    deleted = await node.event("t", "postgres_changes", eventType="DELETE")
    assert (deleted["old"]["id"], deleted["new"]) == (str(shot), {})
    starred = await node.event("t", "postgres_changes", table="generations")
    assert starred["new"] == {"id": str(generation), "bytes": 10}


async def test_two_clients_see_each_other_and_talk_in_text_and_bytes(world: World, node: Node) -> None:
    topic = f"room:{world.project}"
    for name in ("ann", "bob"):
        await opened(node, world, client=name)
        on = [{"type": "broadcast", "filter": {"event": "cur"}},
              *({"type": "presence", "filter": {"event": each}} for each in ("sync", "join", "leave"))]  # fmt: skip
        config = {"presence": {"key": name}, "broadcast": {"ack": True, "self": False}}
        await node.do("channel", client=name, name=name, topic=topic, config=config, on=on)
        await node.subscribed(name)
    assert await node.do("track", name="ann", meta={"at": 1}) == "ok"
    assert await node.do("track", name="bob", meta={"at": 2}) == "ok"
    await node.event("ann", "presence", event="join", key="bob")
    await node.event("bob", "presence", event="join", key="ann")
    seen = await node.do("presence", name="ann")
    assert {key: metas[0]["at"] for key, metas in seen.items()} == {"ann": 1, "bob": 2}
    assert await node.do("send", name="ann", message={"type": "broadcast", "event": "cur", "payload": {"x": 1}}) == "ok"
    assert (await node.event("bob", "broadcast"))["payload"] == {"x": 1}
    mark = len(node.said)
    sent = {"type": "broadcast", "event": "cur"}
    assert await node.do("send", name="bob", message=sent, bytes=[0, 255, 7]) == "ok"
    assert (await node.event("ann", "broadcast", after=mark))["payload"] == {"bytes": [0, 255, 7]}
    assert await node.do("untrack", name="bob") == "ok"
    await node.event("ann", "presence", event="leave", key="bob")
    own = [said for said in node.said[:mark] if said.get("channel") == "ann" and said.get("on") == "broadcast"]
    assert own == []  # self: false


async def test_a_message_over_http_reaches_the_others(world: World, node: Node) -> None:
    topic = f"room:{world.project}"
    await opened(node, world, client="ann")
    await opened(node, world, kind="supabase", client="bob")
    on = [{"type": "broadcast", "filter": {"event": "cur"}}]
    await node.do("channel", client="ann", name="ann", topic=topic, on=on)
    await node.subscribed("ann")
    await node.do("channel", client="bob", name="bob", topic=topic)
    await node.do("httpSend", name="bob", event="cur", payload={"x": 3})
    assert (await node.event("ann", "broadcast"))["payload"] == {"x": 3}


async def test_replay_on_a_private_channel_comes_from_the_log(world: World, node: Node) -> None:
    since_ms = await world.value("select (extract(epoch from now()) * 1000)::bigint - 60000")
    jobs = [str(await world.add_job()) for _ in range(30)]
    await opened(node, world)
    config = {"private": True, "broadcast": {"replay": {"since": since_ms, "limit": 100}}}
    on = [{"type": "broadcast", "filter": {"event": "task-update"}}]
    await node.do("channel", client="c", name="t", topic=f"task-updates:{world.project}", config=config, on=on)
    await node.subscribed("t")
    await node.wait(lambda said: (said.get("payload") or {}).get("payload", {}).get("id") == jobs[-1], "the last job")
    got = [said["payload"] for said in node.said if said.get("on") == "broadcast"]
    assert [each["payload"]["id"] for each in got] == jobs  # 30: the original server would stop at 25
    assert all(each["meta"]["replayed"] for each in got)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_first_join_without_its_token_ends_subscribed_and_never_with_less(
    world: World, node: Node, kind: str
) -> None:
    await node.do("open", client="c", kind=kind, url=world.url, key=world.publishable_key)
    on = [{"type": "broadcast", "filter": {"event": "change"}}]
    await node.do("channel", client="c", name="t", topic=f"task-updates:{world.project}", on=on)
    await node.do("subscribe", name="t")
    refused = await node.status("t", "CHANNEL_ERROR")
    assert "Unauthorized" in refused["error"]
    await node.do("setToken", client="c", token=await world.member("viewer"))
    await node.status("t", "SUBSCRIBED")
    shot = await world.add_shot()
    assert (await node.event("t", "broadcast", event="change"))["payload"]["id"] == str(shot)


async def test_a_token_that_expires_ends_in_an_error_and_a_fresh_one_brings_the_channel_back(
    world: World, node: Node
) -> None:
    name = "ann"
    await world.write("insert into members values ($1, $2, 'viewer')", world.project, name)
    short = world.system.context.gate.tokens.issue(name, 1)
    await node.do("open", client="c", kind="realtime", url=world.url, key=world.publishable_key, token=short)
    on = [{"type": "broadcast", "filter": {"event": "change"}}]
    await node.do("channel", client="c", name="t", topic=f"task-updates:{world.project}", on=on)
    await node.subscribed("t")
    await node.status("t", "CHANNEL_ERROR")
    mark = len(node.said)
    await node.do("setToken", client="c", token=world.token(name))
    await node.status("t", "SUBSCRIBED", after=mark)
    await world.add_shot()
    await node.event("t", "broadcast", event="change")


async def test_a_fresh_token_in_time_keeps_the_channel_without_a_word(world: World, node: Node) -> None:
    name = "ann"
    await world.write("insert into members values ($1, $2, 'viewer')", world.project, name)
    short = world.system.context.gate.tokens.issue(name, 5)
    await node.do("open", client="c", kind="realtime", url=world.url, key=world.publishable_key, token=short)
    await node.do("channel", client="c", name="t", topic=f"task-updates:{world.project}",
                  on=[{"type": "broadcast", "filter": {"event": "change"}}])  # fmt: skip
    await node.subscribed("t")
    (join,) = [each.join for each in world.system.realtime.hub.members()]
    before = join.grant
    await node.do("setToken", client="c", token=world.token(name))
    async with asyncio.timeout(30):
        while join.grant is before:
            await asyncio.sleep(0.02)
    assert join.grant is not None
    assert before is not None
    assert (join.grant.expires_at or 0) > (before.expires_at or 0) + 1000
    assert not [said for said in node.said if said.get("status") not in (None, "SUBSCRIBED")]


async def test_the_same_channel_mounted_twice_as_react_does_ends_with_one_that_works(world: World, node: Node) -> None:
    await opened(node, world)
    on = [{"type": "broadcast", "filter": {"event": "change"}}]
    topic = f"task-updates:{world.project}"
    await node.do("channel", client="c", name="first", topic=topic, on=on)
    await node.do("subscribe", name="first")
    leaving = asyncio.create_task(node.do("leave", name="first"))
    await asyncio.sleep(0)
    await leaving
    await node.do("channel", client="c", name="second", topic=topic, on=on)
    await node.subscribed("second")
    shot = await world.add_shot()
    assert (await node.event("second", "broadcast", event="change"))["payload"]["id"] == str(shot)
    assert world.system.realtime.hub.channels == 1


async def test_leaving_closes_the_channel_and_nothing_comes_any_more(world: World, node: Node) -> None:
    await opened(node, world)
    on = [{"type": "broadcast", "filter": {"event": "change"}}]
    await node.do("channel", client="c", name="t", topic=f"task-updates:{world.project}", on=on)
    await node.subscribed("t")
    assert await node.do("leave", name="t") == "ok"
    await node.status("t", "CLOSED")
    assert world.system.realtime.hub.channels == 0


async def test_after_a_restart_of_the_server_the_client_is_back_by_itself(dsn: str, tmp_path: Path, node: Node) -> None:
    first = await a_world(dsn, tmp_path)
    port = int(first.url.rpartition(":")[2])
    try:
        await opened(node, first)
        on = [{"type": "broadcast", "filter": {"event": "change"}}]
        await node.do("channel", client="c", name="t", topic=f"task-updates:{first.project}", on=on)
        await node.subscribed("t")
    finally:
        await first.close()
    mark = len(node.said)
    second = await a_world(dsn, tmp_path, first, listener=listen("127.0.0.1", port))
    try:
        await node.status("t", "SUBSCRIBED", after=mark)
        shot = await second.add_shot()
        assert (await node.event("t", "broadcast", event="change"))["payload"]["id"] == str(shot)
    finally:
        await second.close()


async def test_a_revoked_member_is_told_and_stays_out(world: World, node: Node) -> None:
    await opened(node, world)
    await node.do("channel", client="c", name="t", topic=f"task-updates:{world.project}",
                  on=[{"type": "broadcast", "filter": {"event": "change"}}])  # fmt: skip
    await node.subscribed("t")
    mark = len(node.said)
    await world.write("delete from members where project_id = $1 returning 1", world.project)
    await node.status("t", "CHANNEL_ERROR", after=mark)
    refused = await node.wait(
        lambda said: said.get("status") == "CHANNEL_ERROR" and "Unauthorized" in (said["error"] or ""), "refused", mark
    )
    assert refused["channel"] == "t"
    assert not [said for said in node.said[mark:] if said.get("status") == "SUBSCRIBED"]
