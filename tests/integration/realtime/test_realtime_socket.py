"""The socket over a real connection: joining, changes from the log, broadcasts, presence, ends."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator
from uuid import uuid4

import pytest
from realtime_world import Wire, World, until

from safelight.realtime.feed import CATCH_UPS_MAX, Feed


async def test_a_person_joins_their_project_and_sees_a_write_made_right_after(world: World) -> None:
    token = await world.member("viewer")
    async with world.socket() as wire:
        _, system = await wire.join(world.topic, token)
        assert system["status"] == "ok"
        shot = await world.add_shot()
        change = await wire.event("change")
        assert change["payload"]["id"] == str(shot)
        assert change["payload"]["seq"] == system["seq"] + 1
        assert change["payload"]["epoch"] == system["epoch"] == change["meta"]["epoch"]
        assert ["shots", str(world.project)] in change["payload"]["keys"]


@pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
async def test_both_versions_get_every_change_in_order_without_a_hole(world: World, vsn: str) -> None:
    async with world.socket(world.secret_key, vsn) as wire:
        _, system = await wire.join(world.topic)
        for number in range(30):
            await world.add_shot(f"shot {number}")
        seqs = [(await wire.event("change"))["payload"]["seq"] for _ in range(30)]
        assert seqs == list(range(system["seq"] + 1, system["seq"] + 31))


async def test_a_join_that_names_its_cursor_gets_everything_after_it_then_what_is_new(world: World) -> None:
    shots = [str(await world.add_shot(f"shot {number}")) for number in range(5)]
    begin = await world.head() - 5
    async with world.socket(world.secret_key) as wire:
        await wire.join(world.topic, broadcast={"cursor": str(begin), "events": ["change"]})
        shots.append(str(await world.add_shot("live")))
        got = [(await wire.event("change"))["payload"] for _ in range(6)]
        assert [each["id"] for each in got] == shots
        assert [each["seq"] for each in got] == list(range(begin + 1, begin + 7))


async def test_a_cursor_of_another_life_is_told_to_read_anew_and_to_join_again(world: World) -> None:
    async with world.socket(world.secret_key) as wire:
        await wire.join(world.topic, broadcast={"cursor": f"{uuid4()}:1"})
        gap = await wire.event("gap")
        assert gap["payload"]["must_refetch"] is True
        assert gap["payload"]["head"] == await world.head()
        await wire.event("phx_error")


async def test_replay_since_a_moment_comes_before_what_is_live_and_is_marked(world: World) -> None:
    await world.add_shot("long ago")
    await world.value("update changes set at = at - interval '1 hour' where project_id = $1 returning 1", world.project)
    since_ms = await world.value("select (extract(epoch from now() - interval '1 minute') * 1000)::bigint")
    recent = [str(await world.add_shot(f"recent {number}")) for number in range(3)]
    async with world.socket(world.secret_key) as wire:
        await wire.join(world.topic, broadcast={"replay": {"since": since_ms, "limit": 2}}, private=True)
        live = str(await world.add_shot("live"))
        got = [await wire.event("change") for _ in range(3)]
        assert [each["payload"]["id"] for each in got] == [*recent[-2:], live]
        assert got[0]["meta"]["replayed"] is True


async def test_a_replay_that_comes_late_is_still_of_what_was_before_the_join(world: World) -> None:
    recent = [str(await world.add_shot(f"recent {number}")) for number in range(3)]
    async with world.socket(world.secret_key) as other, world.socket(world.secret_key) as wire:
        await other.join(world.topic)
        async with reading_of_the_past_waits(world.system.feed):
            await wire.join(world.topic, broadcast={"replay": {"since": 0, "limit": 2}}, private=True)
            live = str(await world.add_shot("live"))
            await other.event("change")
        got = [await wire.event("change") for _ in range(3)]
        assert [each["payload"]["id"] for each in got] == [*recent[-2:], live]
        assert [each["meta"].get("replayed") for each in got] == [True, True, None]


@contextlib.asynccontextmanager
async def reading_of_the_past_waits(feed: Feed) -> AsyncGenerator[None]:
    for _ in range(CATCH_UPS_MAX):
        await feed._catch_ups.acquire()
    try:
        yield
    finally:
        for _ in range(CATCH_UPS_MAX):
            feed._catch_ups.release()


async def test_postgres_changes_come_under_the_name_and_filter_that_were_asked_for(world: World) -> None:
    asked = {"event": "INSERT", "schema": "public", "table": "tasks", "filter": f"project_id=eq.{world.project}"}
    async with world.socket(world.secret_key, "1.0.0") as wire:
        ref = await wire.send(world.topic, "phx_join", {"config": {"postgres_changes": [asked]}})
        (binding,) = (await wire.reply(ref))["response"]["postgres_changes"]
        assert {key: value for key, value in binding.items() if key != "id"} == asked
        job = await world.add_job()
        await world.write("update jobs set priority = 3 where id = $1 returning 1", job)
        await world.add_job()
        first = await wire.event("postgres_changes")
        assert first["ids"] == [binding["id"]]
        data = first["data"]
        assert (data["table"], data["schema"], data["type"], data["errors"]) == ("tasks", "public", "INSERT", None)
        assert {"name": "status", "type": "text"} in data["columns"]
        assert {"name": "input", "type": "jsonb"} in data["columns"]
        assert data["record"]["id"] == str(job)
        assert data["record"]["project_id"] == str(world.project)
        assert data["record"]["input"] == {"prompt": "a red fox"}
        assert "old_record" not in data
        assert "secret.example" not in json.dumps(wire.seen)  # internal columns stay inside
        second = await wire.event("postgres_changes")
        assert second["data"]["record"]["id"] != str(job)  # the update was not asked for


async def test_updates_and_deletes_carry_what_was_before(world: World) -> None:
    asked = [
        {"event": "UPDATE", "schema": "public", "table": "shots"},
        {"event": "DELETE", "schema": "public", "table": "shots", "filter": "name=eq.new"},
        {"event": "*", "schema": "public", "table": "shots", "select": ["id", "name"]},
    ]
    async with world.socket(world.secret_key) as wire:
        await wire.join(world.topic, postgres_changes=asked, broadcast={"events": []})
        shot = await world.add_shot("old")
        await world.write("update shots set name = 'new' where id = $1 returning 1", shot)
        await world.write("delete from shots where id = $1 returning 1", shot)
        got = [(await wire.event("postgres_changes"))["data"] for _ in range(5)]
    inserted = got[0]
    assert (inserted["type"], inserted["record"]) == ("INSERT", {"id": str(shot), "name": "old"})
    updates = [each for each in got if each["type"] == "UPDATE"]
    whole = next(each for each in updates if len(each["columns"]) > 2)
    assert whole["record"]["name"] == "new"
    assert whole["old_record"] == {"id": str(shot), "name": "old", "position": "a0"}
    deletes = [each for each in got if each["type"] == "DELETE"]
    assert len(deletes) == 2
    assert all(each["old_record"]["name"] == "new" and "record" not in each for each in deletes)


async def test_generations_that_land_together_are_told_once(world: World) -> None:
    job = await world.add_job()
    async with world.socket(world.secret_key) as wire:
        await wire.join(world.topic, broadcast={"events": ["GENERATIONS_UPDATED"]})
        made = [str(await world.add_generation(job, index)) for index in range(3)]
        told: list[str] = []
        while len(told) < 3:
            payload = (await wire.event("GENERATIONS_UPDATED"))["payload"]
            assert payload["projectId"] == str(world.project)
            told += payload["generationIds"]
        assert told == made


async def test_generations_that_landed_while_a_client_was_away_are_told_when_it_has_caught_up(world: World) -> None:
    job = await world.add_job()
    begin = await world.head()
    made = [str(await world.add_generation(job, index)) for index in range(3)]
    async with world.socket(world.secret_key) as wire:
        events = ["change", "GENERATIONS_UPDATED"]
        await wire.join(world.topic, broadcast={"cursor": str(begin), "events": events})
        assert [(await wire.event("change"))["payload"]["id"] for _ in made] == made
        assert (await wire.event("GENERATIONS_UPDATED"))["payload"]["generationIds"] == made


async def test_a_jobs_new_state_is_told_as_task_update(world: World) -> None:
    async with world.socket(world.secret_key) as wire:
        await wire.join(world.topic)
        job = await world.add_job()
        payload = (await wire.event("task-update"))["payload"]
        assert (payload["id"], payload["status"]) == (str(job), "pending")
        assert payload["progress"]["percent"] is None


async def test_progress_reaches_the_topic_and_is_not_in_the_log(world: World) -> None:
    async with world.socket(world.secret_key) as wire:
        await wire.join(world.topic)
        head = await world.head()
        world.system.feed.publish_progress(world.project, b'{"job_id":"j","percent":40}')
        assert (await wire.event("progress"))["payload"] == {"job_id": "j", "percent": 40}
        assert await world.head() == head


async def test_the_beat_names_the_head_that_was_sent(world: World) -> None:
    async with world.socket(world.secret_key) as wire:
        _, system = await wire.join(world.topic)
        await world.add_shot()
        beat = (await wire.event("head"))["payload"]
        assert beat == {"epoch": system["epoch"], "seq": system["seq"] + 1}


async def test_a_broadcast_reaches_the_others_and_the_sender_only_if_it_wants(world: World) -> None:
    token, topic = await world.member("editor"), f"realtime:cursors:{world.project}"
    async with world.socket() as one, world.socket(vsn="1.0.0") as two:
        ref, _ = await one.join(topic, token, broadcast={"ack": True, "self": False})
        await two.join(topic, token, broadcast={"self": True})
        sent = await one.send(topic, "broadcast", {"type": "broadcast", "event": "cur", "payload": {"x": 1}}, ref)
        assert await one.reply(sent) == {"status": "ok", "response": {}}
        got = await two.event("broadcast")
        assert (got["event"], got["payload"]) == ("cur", {"x": 1})
        await two.send(topic, "broadcast", {"type": "broadcast", "event": "cur", "payload": {"x": 2}}, "1")
        assert (await two.event("broadcast"))["payload"] == {"x": 2}
        assert (await one.event("broadcast"))["payload"] == {"x": 2}


async def test_bytes_are_broadcast_as_bytes_to_those_who_can_take_them(world: World) -> None:
    topic = f"realtime:cursors:{world.project}"
    async with world.socket(world.secret_key) as one, world.socket(world.secret_key) as two:
        ref, _ = await one.join(topic)
        await two.join(topic)
        name = topic.encode()
        await one.ws.send(bytes((3, len(ref), 1, len(name), 3, 0, 0)) + ref.encode() + b"9" + name + b"cur\x00\xff")
        got = await two.next()
        assert isinstance(got, bytes)
        assert got[0] == 4
        meta_length = got[3]
        assert got[5:].startswith(name + b"cur")
        assert got[5 + len(name) + 3 + meta_length :] == b"\x00\xff"


async def test_a_viewer_may_listen_and_not_speak(world: World) -> None:
    token, topic = await world.member("viewer"), f"realtime:cursors:{world.project}"
    async with world.socket() as wire:
        ref, _ = await wire.join(topic, token, broadcast={"ack": True})
        sent = await wire.send(topic, "broadcast", {"event": "cur", "payload": {}}, ref)
        assert (await wire.reply(sent))["status"] == "error"


async def test_two_people_see_each_other_come_and_go(world: World) -> None:
    token, topic = await world.member("viewer"), f"realtime:cursors:{world.project}"
    async with world.socket() as one:
        ref, _ = await one.join(topic, token, presence={"key": "ann", "enabled": True})
        assert await one.event("presence_state") == {}
        await one.send(topic, "presence", {"type": "presence", "event": "track", "payload": {"u": 1}}, ref)
        joined = await one.event("presence_diff")
        assert joined["joins"]["ann"]["metas"][0]["u"] == 1
        async with world.socket() as two:
            await two.join(topic, token, presence={"key": "bob", "enabled": True})
            state = await two.event("presence_state")
            assert state["ann"]["metas"][0]["phx_ref"]
            await two.send(topic, "presence", {"type": "presence", "event": "track", "payload": {}}, "1")
            assert "bob" in (await one.event("presence_diff"))["joins"]
        assert "bob" in (await one.event("presence_diff"))["leaves"]


async def test_a_join_without_a_token_waits_a_moment_for_it_and_is_let_in(world: World) -> None:
    token = await world.member("viewer")
    async with world.socket() as wire:
        ref = await wire.send(world.topic, "phx_join", {"config": {}})
        await wire.send(world.topic, "access_token", {"access_token": token}, ref)
        assert (await wire.reply(ref))["status"] == "ok"


async def test_a_publishable_key_alone_opens_the_socket_and_no_channel(world: World) -> None:
    async with world.socket() as wire:
        reason = await wire.refused(world.topic)
        assert reason.startswith("Unauthorized: You do not have permissions to read from this Channel topic")
        assert (await wire.refused(world.topic, world.publishable_key)).startswith("Unauthorized")


async def test_other_peoples_projects_and_forged_tokens_are_refused(world: World) -> None:
    foreign = uuid4()
    await world.write("insert into projects (id, name) values ($1, 'theirs') returning 1", foreign, project=foreign)
    token = await world.member("owner")
    async with world.socket() as wire:
        assert (await wire.refused(f"realtime:task-updates:{foreign}", token)).startswith("Unauthorized")
        assert (await wire.refused(world.topic, world.token("a stranger"))).startswith("Unauthorized")
        assert (await wire.refused(world.topic, token[:-3] + "abc")).startswith("Unauthorized")
    async with world.socket(world.secret_key) as wire:
        assert (await wire.refused(f"realtime:task-updates:{foreign}")).startswith("Unauthorized")


async def test_another_projects_changes_never_come(world: World) -> None:
    foreign = uuid4()
    await world.write("insert into projects (id, name) values ($1, 'theirs') returning 1", foreign, project=foreign)
    async with world.socket(world.secret_key) as wire:
        ref, _ = await wire.join(world.topic, postgres_changes=[{"event": "*", "schema": "public"}])
        await world.add_shot(project=foreign)
        own = await world.add_shot()
        change = await wire.event("change", "postgres_changes")
        assert str(own) in json.dumps(change)
        assert str(foreign) not in json.dumps(wire.seen)
        await wire.event("postgres_changes")
        await wire.is_quiet(world.topic, ref)


async def test_a_socket_without_a_key_is_refused_in_words(world: World) -> None:
    status, body = await world.refusal(None)
    assert status == 401
    assert body["error"]
    status, _ = await world.refusal("pk_nonsense")
    assert status == 401
    status, _ = await world.refusal(world.publishable_key, vsn="9.9.9")
    assert status == 400


async def test_the_studios_cookie_opens_the_socket_for_its_own_page_only(world: World) -> None:
    from datetime import timedelta

    from safelight.access.sessions import COOKIE, Session

    user = "ann"
    await world.write("insert into members values ($1, $2, 'viewer') returning 1", world.project, user)
    expires_at = world.system.context.now() + timedelta(hours=1)
    cookie = world.system.context.sessions.sign(Session(user, world.project, expires_at))
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus

    def headers(origin: str) -> dict[str, str]:
        return {"Cookie": f"{COOKIE}={cookie}", "Origin": origin}

    async with connect(world.address(None), proxy=None, additional_headers=headers(world.url)) as ws:
        await Wire(ws, "2.0.0").join(world.topic)
    with pytest.raises(InvalidStatus) as refused:
        async with connect(world.address(None), proxy=None, additional_headers=headers("https://evil.example")):
            pass
    assert refused.value.response.status_code == 403
    foreign = headers("http://localhost:3000")
    async with connect(world.address(world.publishable_key), proxy=None, additional_headers=foreign) as ws:
        assert (await Wire(ws, "2.0.0").refused(world.topic)).startswith("Unauthorized")  # the cookie did not count


async def test_a_fault_at_one_entry_ends_in_an_error_and_a_new_join_works(world: World, monkeypatch) -> None:
    from safelight.realtime import room

    real = room.render

    def faulty(key, epoch, entries, **more):
        if any((entry.change.row or {}).get("name") == "odd" for entry in entries):
            raise ValueError("a fault of ours")
        return real(key, epoch, entries, **more)

    monkeypatch.setattr(room, "render", faulty)
    async with world.socket(world.secret_key) as wire:
        await wire.join(world.topic)
        await world.add_shot("odd")
        await wire.event("phx_error")
        await wire.join(world.topic)
        shot = await world.add_shot("even")
        assert (await wire.event("change"))["payload"]["id"] == str(shot)
    assert world.system.realtime.hub.stats.faults == 1


async def test_the_socket_is_also_where_self_hosted_clients_look_for_it(world: World) -> None:
    from websockets.asyncio.client import connect

    async with connect(world.address(world.secret_key, None, "/socket/websocket"), proxy=None) as ws:
        await ws.send('{"topic":"phoenix","event":"heartbeat","payload":{},"ref":null}')
        assert json.loads(await ws.recv())["payload"] == {"status": "ok", "response": {}}


async def test_a_malformed_frame_costs_its_sender_the_socket_and_nobody_else(world: World) -> None:
    async with world.socket(world.secret_key) as good:
        await good.join(world.topic)
        async with world.socket(world.secret_key) as bad:
            await bad.ws.send("{" * 1000)
            assert await bad.closed() == 1007
        async with world.socket(world.secret_key) as large:
            await large.ws.send("x" * (1024 * 1024 + 1))
            assert await large.closed() in (1007, 1009)
        await world.add_shot()
        await good.event("change")


async def test_a_removed_member_loses_the_channel_and_is_not_let_in_again(world: World) -> None:
    token = await world.member("editor")
    async with world.socket() as wire:
        await wire.join(world.topic, token)
        await world.write("delete from members where project_id = $1 returning 1", world.project)
        await wire.event("phx_error")
        assert (await wire.refused(world.topic, token)).startswith("Unauthorized")


async def test_a_revoked_key_loses_its_socket(world: World) -> None:
    async with world.socket(world.secret_key) as wire:
        await wire.join(world.topic)
        await world.write("update api_keys set revoked_at = now() where project_id = $1 returning 1", world.project)
        assert await wire.closed() == 1008


async def test_a_deleted_project_ends_its_channels(world: World) -> None:
    async with world.socket(world.secret_key) as wire:
        await wire.join(world.topic)
        await world.write("delete from projects where id = $1 returning 1", world.project)
        assert (await wire.event("change"))["payload"]["op"] == "delete"
        assert await wire.closed() == 1008  # its keys went with it


async def test_with_realtime_switched_off_clients_are_told_and_new_ones_refused_until_it_is_on(world: World) -> None:
    async with world.socket(world.secret_key) as wire:
        await wire.join(world.topic)
        await world.write("insert into flags (name, value) values ('REALTIME_ENABLED', 'false') returning 1")
        config = (await wire.event("config"))["payload"]
        assert config["realtime_enabled"] is False
        assert await wire.closed() == 1001
    status, body = await world.refusal(world.secret_key)
    assert status == 503
    assert "poll" in body["error"]
    async with world.http() as http:  # everything else goes on
        assert (await http.get(f"/v1/projects/{world.project}/changes")).status_code == 200
    await world.write("delete from flags returning 1")

    async def is_open() -> bool:
        return world.system.realtime.flags.now.realtime_enabled

    await until(is_open, "realtime to be on")
    async with world.socket(world.secret_key) as wire:
        await wire.join(world.topic)


async def test_a_stopping_server_closes_its_sockets_so_that_clients_come_back(world: World) -> None:
    async with world.socket(world.secret_key) as wire:
        await wire.join(world.topic)
        world.stop.set()
        assert await wire.closed() == 1012


async def test_rest_broadcasts_reach_the_topic(world: World) -> None:
    topic = f"cursors:{world.project}"
    async with world.socket(world.secret_key) as wire, world.http() as http:
        await wire.join(f"realtime:{topic}")
        sent = {"messages": [{"topic": topic, "event": "cur", "payload": {"x": 1}, "private": False}]}
        answer = await http.post("/realtime/v1/api/broadcast?apikey=x&vsn=2.0.0", json=sent)
        assert (answer.status_code, answer.content) == (202, b"")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert (await wire.event("cur"))["payload"] == {"x": 1}
        assert (await http.post(f"/api/broadcast/{topic}/events/one", json={"y": 2})).status_code == 202
        assert (await wire.event("one"))["payload"] == {"y": 2}
        octets = {"content-type": "application/octet-stream"}
        answer = await http.post(f"/api/broadcast/{topic}/events/one", content=b"\x01\x02", headers=octets)
        assert answer.status_code == 202
        got = await wire.next()
        assert isinstance(got, bytes)
        assert got.endswith(b"\x01\x02")


async def test_rest_broadcasts_that_may_not_be_are_refused(world: World) -> None:
    viewer, topic = await world.member("viewer"), f"task-updates:{world.project}"

    async def status(key: str, event: str, payload: object = None, topic: str = topic) -> int:
        async with world.http(key) as http:
            sent = {"messages": [{"topic": topic, "event": event, "payload": payload or {}}]}
            return (await http.post("/api/broadcast", json=sent)).status_code

    assert await status(viewer, "cur") == 403
    assert await status(world.publishable_key, "cur") == 403
    assert await status(world.secret_key, "change") == 403
    assert await status(world.secret_key, "cur", topic=f"task-updates:{uuid4()}") == 403
    assert await status(world.secret_key, "cur", {"x": "y" * 300_000}) == 413
    assert await status("nonsense", "cur") == 401
    async with world.http() as http:
        assert (await http.post("/api/broadcast", content=b"{")).status_code == 422
        assert (await http.post("/api/broadcast", content=b"x" * 2_000_000)).status_code == 413
        assert (await http.options("/api/broadcast")).status_code == 204


async def test_a_reader_that_sleeps_is_told_of_the_gap_and_then_gets_everything(world: World) -> None:
    async with world.socket(world.secret_key, max_queue=1) as slow, world.socket(world.secret_key) as quick:
        _, system = await slow.join(world.topic, broadcast={"events": ["change", "gap"]})
        await quick.join(world.topic, broadcast={"events": ["change"]})
        shots = 120
        for number in range(shots):  # far more than kernel buffers and the queue hold
            await world.write(
                "insert into shots (project_id, name, settings) values ($1, $2, jsonb_build_object('x', $3::text))",
                world.project, f"shot {number}", str(uuid4()) * 4_000,
            )  # fmt: skip
            await quick.event("change")
        gaps, seqs = 0, []
        while len(seqs) < shots:
            got = await slow.event("change", "gap")
            if got["event"] == "gap":
                gaps += 1
            else:
                seqs.append(got["payload"]["seq"])
        assert seqs == list(range(system["seq"] + 1, system["seq"] + shots + 1))
        assert gaps >= 1
        live = await world.add_shot("after")
        assert (await slow.event("change"))["payload"]["id"] == str(live)


async def test_broadcasts_reach_the_sockets_of_another_process(world: World, build) -> None:
    other = await build(world)
    topic = f"realtime:cursors:{world.project}"
    async with world.socket(world.secret_key) as one, other.socket(world.secret_key) as two:
        ref, _ = await one.join(topic)
        await two.join(topic)
        large = "ä" * 20_000
        for payload in ({"x": 1}, {"x": large}):
            await one.send(topic, "broadcast", {"event": "cur", "payload": payload}, ref)
            assert (await two.event("cur"))["payload"] == payload


async def test_people_on_different_processes_see_each_other(world: World, build) -> None:
    other, topic = await build(world), f"realtime:cursors:{world.project}"
    async with world.socket(world.secret_key) as one:
        ref, _ = await one.join(topic, presence={"key": "ann", "enabled": True})
        await one.send(topic, "presence", {"event": "track", "payload": {"at": 1}}, ref)
        async with other.socket(world.secret_key) as two:
            ref, _ = await two.join(topic, presence={"key": "bob", "enabled": True})
            await two.send(topic, "presence", {"event": "track", "payload": {"at": 2}}, ref)
            while True:  # ann was there before bob's process had the topic: it asked
                diff = await two.event("presence_diff")
                if "ann" in diff["joins"]:
                    assert diff["joins"]["ann"]["metas"][0]["at"] == 1
                    break
            while "bob" not in (await one.event("presence_diff"))["joins"]:
                pass
        while "bob" not in (await one.event("presence_diff"))["leaves"]:
            pass


async def test_what_is_shown_of_a_table_is_what_the_table_has(world: World) -> None:
    from safelight.realtime.tables import HIDDEN, TABLES

    async with world.system.db.connection() as conn:
        rows = await conn.fetch(
            "select table_name, column_name, udt_name from information_schema.columns where table_schema = 'public'"
        )
    for table, columns in TABLES.items():
        found = {row["column_name"]: row["udt_name"] for row in rows if row["table_name"] == table}
        hidden = HIDDEN.get(table, frozenset())
        assert dict(columns) == {name: kind for name, kind in found.items() if name not in hidden}, table
        assert hidden <= set(found)
