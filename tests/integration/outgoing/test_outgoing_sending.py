"""How it is sent: again until it arrives, never into a private network, and nobody waits for one that hangs (J12)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import UUID

import httpcore
import pytest
from outgoing_world import Room, until
from standardwebhooks import WebhookVerificationError
from starlette.responses import Response, StreamingResponse

from safelight.db.pool import AWAY
from safelight.outgoing import delivery, endpoint, turn
from safelight.outgoing.errors import OutgoingError
from safelight.outgoing.schedule import DELAYS_S, FAILURES_MIN, TRIES_MAX
from safelight.outgoing.sender import PER_LANE_MAX

COMPLETED = ("job.completed",)


async def waits_s(room: Room, identity: str) -> float:
    """From its last try to its next, as both are written down."""
    return await room.value(
        "select extract(epoch from d.due_at - max(t.at))::float8 from webhook_deliveries d"
        " join webhook_tries t on t.delivery_id = d.id where d.id = $1 group by d.id",
        UUID(identity),
    )


# --- again, until it arrives --------------------------------------------------------------------------------------


async def test_what_is_refused_is_sent_again_under_the_same_id_until_it_arrives(room: Room):
    _, key = await room.webhook(events=COMPLETED)
    room.receiver.answers["/ok"] = [Response("not now", 500), Response("still not", 503)]
    room.sender()
    await room.completed()
    room.wake()
    (log,) = await room.becomes("pending", tries=1)
    assert "HTTP 500" in log["said"]
    assert log["next_try_at"] is not None
    assert 0 < await waits_s(room, log["id"]) < 0.4 * DELAYS_S[1]
    await room.time_passes()
    (log,) = await room.becomes("pending", tries=2)
    assert 0.4 * DELAYS_S[1] < await waits_s(room, log["id"]) < 1.6 * DELAYS_S[1]
    await room.time_passes()
    (log,) = await room.becomes("delivered", tries=3)
    heard = await room.receiver.hears(3)
    assert {each.id for each in heard} == {log["id"]}
    assert len({each.body for each in heard}) == 1
    for each in heard:
        each.proven(key)
    assert [(each["status"], each["response"]) for each in log["tries"]] == [
        (500, "not now"), (503, "still not"), (200, "this is /ok"),
    ]  # fmt: skip
    assert log["tries"][1]["error"] == "The receiver answered HTTP 503 Service Unavailable."
    assert log["said"] == "Delivered."


async def test_after_the_last_try_it_is_given_up_and_can_be_replayed(room: Room):
    await room.webhook("/500", COMPLETED)
    await room.completed()
    room.sender()
    for tries in range(1, TRIES_MAX):
        await room.becomes("pending", tries=tries)
        await room.time_passes()
    (log,) = await room.becomes("failed", tries=TRIES_MAX)
    assert log["said"].startswith("Given up after 10 tries.")
    assert log["next_try_at"] is None
    room.receiver.answers["/500"] = [Response(status_code=204)]
    await room.replay(log["id"])
    (log,) = await room.becomes("delivered", tries=TRIES_MAX + 1)
    assert {each.id for each in room.receiver.heard} == {log["id"]}


async def test_a_receiver_that_asks_for_time_gets_it_within_bounds(room: Room):
    await room.webhook("/busy", COMPLETED)
    at = datetime.now(UTC) + timedelta(hours=2)
    for said in ("600", format_datetime(at, usegmt=True), "99999999", "soon"):
        room.receiver.answers["/busy"].append(Response(status_code=429, headers={"retry-after": said}))
    room.sender()
    expected = [(500, 700), (7_000, 7_300), (86_300, 86_500), (3_500, 10_900)]
    await room.completed()
    room.wake()
    for tries, (least, most) in enumerate(expected, 1):
        (log,) = await room.becomes("pending", tries=tries)
        assert least < await waits_s(room, log["id"]) < most, f"try {tries}"
        await room.time_passes()


async def test_what_is_no_2xx_is_no_delivery(room: Room):
    wrong = {"/moved": "redirect", "/404": "404 Not Found", "/599": "HTTP 599."}
    webhooks = {path: (await room.webhook(path, COMPLETED))[0] for path in wrong}
    room.sender()
    await room.completed()
    room.wake()
    for path, words in wrong.items():
        (log,) = await room.becomes("pending", tries=1, endpoint_id=webhooks[path])
        assert words in log["said"]
    assert sorted(each.path for each in room.receiver.heard) == sorted(wrong)  # no redirect was followed


async def test_a_server_that_is_not_there_is_said_in_words(room: Room):
    await room.webhook(url="http://127.0.0.1:1/hook", events=COMPLETED)
    room.sender(allow=["127.0.0.1:1"])
    await room.completed()
    room.wake()
    (log,) = await room.becomes("pending", tries=1)
    assert log["tries"][0]["status"] is None
    assert log["tries"][0]["error"].startswith("127.0.0.1 cannot be reached")


async def test_a_server_that_never_answers_is_a_failed_try(room: Room):
    await room.webhook("/hang", COMPLETED)
    room.sender(total_s=0.3)
    await room.completed()
    room.wake()
    (log,) = await room.becomes("pending", tries=1)
    assert log["tries"][0]["error"] == "No answer within 0.3 seconds."
    assert log["tries"][0]["duration_ms"] >= 300


async def test_of_an_endless_answer_only_the_beginning_is_read_and_kept(room: Room):
    await room.webhook("/long", COMPLETED)
    room.receiver.answers["/long"] = [Response("x\0" * 5_000_000, 200)]
    room.sender()
    await room.completed()
    room.wake()
    (log,) = await room.becomes("delivered")
    assert log["tries"][0]["response"] == "x�" * 500


async def test_a_receiver_that_has_said_yes_and_hangs_on_its_body_has_been_told(
    room: Room, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("safelight.outgoing.post.BODY_S", 0.2)

    async def dripping() -> AsyncIterator[bytes]:
        yield b"thank you"
        await room.receiver.let_go.wait()

    await room.webhook("/drips", COMPLETED)
    room.receiver.answers["/drips"] = [StreamingResponse(dripping(), 200)]
    room.sender()
    await room.completed()
    room.wake()
    (log,) = await room.becomes("delivered")
    assert [(each["status"], each["response"]) for each in log["tries"]] == [(200, "thank you")]


# --- nothing is lost, nothing is told twice without its id -----------------------------------------------------------


async def test_what_a_dead_sender_had_taken_is_sent_by_the_next_when_its_lease_ends(room: Room):
    """SIGKILL in the middle of a try: nobody writes anything down, and the claim stands until its time is over."""
    await room.webhook(events=COMPLETED)
    await room.completed()
    async with room.db.connection() as conn:
        (lost,) = await turn.claim(conn, {}, [], per_lane=4, limit=16)
        assert await turn.claim(conn, {}, [], per_lane=4, limit=16) == []  # it is leased
    room.sender()
    (log,) = await room.deliveries()
    assert log["said"] == "A try is under way."
    await room.leases_end()
    (log,) = await room.becomes("delivered", tries=2)
    assert log["id"] == str(lost.id)
    assert "stopped in the middle" in log["tries"][0]["error"]
    assert log["tries"][1]["status"] == 200


async def test_a_sender_that_comes_back_after_its_lease_changes_nothing(room: Room):
    await room.webhook(events=COMPLETED)
    await room.completed()
    async with room.db.connection() as conn:
        (zombie,) = await turn.claim(conn, {}, [], per_lane=4, limit=16)
    room.sender()
    await room.leases_end()
    before = await room.becomes("delivered", tries=2)
    refused = turn.Posted(500, "late", "refused", 1)
    await turn.note(room.db, zombie, refused, chance=0.5, now=datetime.now(UTC))
    assert await room.deliveries() == before


async def test_many_senders_send_each_webhook_once(room: Room):
    await room.webhook(events=COMPLETED)
    jobs = [await room.completed() for _ in range(40)]
    for _ in range(4):
        room.sender()
    await room.becomes("delivered", len(jobs))
    heard = await room.receiver.hears(len(jobs))
    assert len(heard) == len({each.id for each in heard}) == len(jobs)
    assert {each.said["data"]["job"]["id"] for each in heard} == {str(job) for job in jobs}


async def test_a_sender_that_is_stopped_gives_back_what_was_under_way(room: Room):
    await room.webhook("/hang", COMPLETED)
    await room.completed()
    room.sender()
    await room.receiver.hears(1)
    await room.stop()
    assert await room.value("select due_at <= now() from webhook_deliveries")
    room.receiver.let_go.set()
    room.sender()
    (log,) = await room.becomes("delivered", tries=2)
    assert "stopped in the middle" in log["tries"][0]["error"]


async def test_what_the_database_did_not_hear_is_sent_again(room: Room):
    """Every connection is cut while the receiver works: its answer cannot be noted, or only by a new connection."""
    await room.webhook("/hang", COMPLETED)
    await room.completed()
    sender = room.sender()
    await room.receiver.hears(1)
    async with room.db.connection() as conn:
        await conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where pid <> pg_backend_pid() and datname = current_database()"
        )
    room.receiver.let_go.set()

    async def has_landed() -> bool:
        return not sender._flying

    await until(has_landed)

    async def leases_have_ended() -> bool:
        with contextlib.suppress(*AWAY):  # a connection that was cut a moment ago
            await room.leases_end()
            return True
        return False

    await until(leases_have_ended)
    (log,) = await room.becomes("delivered")
    assert {each.id for each in room.receiver.heard} == {log["id"]}


# --- nobody waits for one that hangs -------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1_000, 3])
async def test_an_endpoint_that_hangs_delays_no_other(room: Room, monkeypatch: pytest.MonkeyPatch, window: int):
    """Thirty deliveries wait for a dead server, all older than those to the living one, however far a look goes."""
    monkeypatch.setattr("safelight.outgoing.lanes.WINDOW", window)
    await room.webhook("/hang", COMPLETED)
    for _ in range(30):
        await room.completed()
    living, _ = await room.webhook("/ok", COMPLETED)
    jobs = [await room.completed() for _ in range(20)]
    room.sender()
    await room.becomes("delivered", len(jobs), endpoint_id=living)

    async def is_full() -> bool:
        return room.receiver.hanging == PER_LANE_MAX

    await until(is_full, "the hanging one to have its four")
    assert len(room.receiver.at("/hang")) == PER_LANE_MAX
    assert len(room.receiver.at("/ok")) == len(jobs)


async def test_a_jobs_own_address_that_hangs_delays_no_other_host(room: Room):
    for _ in range(10):
        await room.completed(webhook_url=f"{room.receiver.url}/hang")
    await room.completed(webhook_url=f"http://localhost:{room.receiver.port}/own")
    room.sender(allow=[f"127.0.0.1:{room.receiver.port}", f"localhost:{room.receiver.port}"])
    await room.receiver.hears(1, "/own")

    async def is_full() -> bool:
        return room.receiver.hanging == PER_LANE_MAX

    await until(is_full)
    assert room.receiver.hanging == PER_LANE_MAX


# --- never into a private network ----------------------------------------------------------------------------------


async def test_a_name_that_moved_into_a_private_network_is_not_called(room: Room):
    """It was public when it was registered; now it is the machine that we run on."""
    asked: list[str] = []

    async def moved(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"]

    await room.webhook(url=f"https://hooks.example.com:{room.receiver.port}/hook", events=COMPLETED)
    room.sender(resolver=moved)
    await room.completed()
    room.wake()
    (log,) = await room.becomes("pending", tries=1)
    assert asked == ["hooks.example.com"]
    assert "private network" in log["tries"][0]["error"]
    assert log["tries"][0]["status"] is None
    assert room.receiver.heard == []


async def test_an_allowance_that_was_taken_back_is_not_used(room: Room):
    await room.webhook(events=COMPLETED)
    room.sender(allow=[])
    await room.completed()
    room.wake()
    (log,) = await room.becomes("pending", tries=1)
    assert log["tries"][0]["error"].startswith("Not sent")
    assert room.receiver.heard == []


async def test_every_try_looks_the_name_up_and_connects_to_what_was_checked(room: Room):
    """A name with a private and a public address: the private one is never called."""
    called: list[str] = []

    async def both(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1", "93.184.216.34"]

    class Watched(httpcore.AsyncNetworkBackend):
        async def connect_tcp(self, host: str, port: int, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
            called.append(host)
            raise httpcore.ConnectError("nobody is there")

    await room.webhook(url="https://hooks.example.com/hook", events=COMPLETED)
    room.sender(resolver=both)
    room.senders[0][1]._backend._inner = Watched()
    await room.completed()
    room.wake()
    await room.becomes("pending", tries=1)
    assert called == ["93.184.216.34"]


# --- giving up an endpoint, and taking it up again -----------------------------------------------------------------


async def test_gone_disables_the_endpoint_and_stops_what_waits(room: Room):
    webhook, _ = await room.webhook("/410", COMPLETED)
    other, _ = await room.webhook("/ok", COMPLETED)
    room.sender()
    await room.completed()
    room.wake()
    await room.becomes("failed", endpoint_id=webhook)

    async def is_disabled() -> dict[str, object] | None:
        return (await room.endpoint(webhook))["disabled"]

    disabled = await until(is_disabled)
    assert disabled["code"] == "gone"
    assert "410" in disabled["message"]
    assert (await room.endpoint(other))["enabled"]
    await room.completed()
    room.wake()
    await room.becomes("delivered", 2, endpoint_id=other)
    assert len(room.receiver.at("/410")) == 1
    (log,) = await room.deliveries(endpoint_id=webhook)
    with pytest.raises(OutgoingError, match="enable it first"):
        await room.replay(log["id"])
    room.receiver.answers["/410"] = [Response("better"), Response("better")]
    await room.change(webhook, enabled=True)
    assert (await room.endpoint(webhook))["disabled"] is None
    await room.replay(log["id"])
    await room.completed()
    room.wake()
    await room.becomes("delivered", 2, endpoint_id=webhook)


async def test_five_days_of_nothing_but_failures_disable_the_endpoint(room: Room):
    webhook, _ = await room.webhook("/500", COMPLETED)
    jobs = [await room.completed() for _ in range(2)]
    await room.execute(
        "update webhook_endpoints set failing_since = now() - interval '6 days', failures = $1", FAILURES_MIN - 1
    )
    room.sender()

    async def is_disabled() -> dict[str, object] | None:
        return (await room.endpoint(webhook))["disabled"]

    disabled = await until(is_disabled)
    assert disabled["code"] == "failing"
    assert (await room.endpoint(webhook))["failing_since"] is not None
    log = await room.becomes("stopped", len(jobs), tries=0, hurry=True)
    assert any("five days" in each["said"] for each in log)


async def test_one_success_forgets_the_failures(room: Room):
    webhook, _ = await room.webhook(events=COMPLETED)
    await room.execute("update webhook_endpoints set failing_since = now() - interval '6 days', failures = 1000")
    room.sender()
    await room.completed()
    room.wake()
    await room.becomes("delivered")
    found = await room.endpoint(webhook)
    assert found["enabled"]
    assert found["failing_since"] is None


async def test_what_was_under_way_when_it_was_disabled_is_written_down_all_the_same(room: Room):
    webhook, _ = await room.webhook("/hang", COMPLETED)
    await room.completed()
    room.sender()
    await room.receiver.hears(1)
    await room.change(webhook, enabled=False)
    (log,) = await room.becomes("stopped", tries=0)
    assert log["said"] == "Stopped. It was disabled by hand."
    room.receiver.let_go.set()
    (log,) = await room.becomes("delivered")
    assert log["tries"][0]["status"] == 204


async def test_disabling_while_tries_are_noted_waits_for_nobody_and_sends_nothing_more(room: Room):
    """A try that is being noted holds its delivery and wants the endpoint; disabling holds the endpoint."""
    webhook, _ = await room.webhook("/500", COMPLETED)
    for _ in range(30):
        await room.completed()
    room.sender()
    await room.receiver.hears(5)
    await room.change(webhook, enabled=False)
    await room.becomes("stopped", 30, tries=0, hurry=True)
    await room.lands()
    sent = len(room.receiver.heard)
    await room.completed()
    await room.time_passes()
    assert len(await room.deliveries()) == 30
    assert len(room.receiver.heard) == sent


async def test_a_deleted_endpoint_gets_nothing_and_its_log_stays(room: Room):
    webhook, _ = await room.webhook("/500", COMPLETED)
    await room.completed()
    room.sender()
    (log,) = await room.becomes("pending", tries=1)
    await room.db.run(lambda tx: endpoint.delete(tx, webhook, actor="test"))
    await room.time_passes()
    (log,) = await room.becomes("stopped")
    assert log["said"] == "Stopped. The webhook was deleted."
    assert log["url"] is None
    with pytest.raises(OutgoingError, match="deleted"):
        await room.replay(log["id"])
    assert len(room.receiver.heard) == 1


async def test_what_waits_goes_to_the_new_address(room: Room):
    webhook, key = await room.webhook("/500", COMPLETED)
    await room.completed()
    room.sender()
    await room.becomes("pending", tries=1)
    await room.change(webhook, url=f"{room.receiver.url}/new")
    await room.time_passes()
    (heard,) = await room.receiver.hears(1, "/new")
    heard.proven(key)


# --- secrets -------------------------------------------------------------------------------------------------------


async def test_after_a_rotation_both_secrets_prove_and_a_day_later_only_the_new(room: Room):
    webhook, old = await room.webhook(events=COMPLETED)
    new = await room.rotate(webhook)
    newest = await room.rotate(webhook)  # twice in a row: the first is still the one that the receiver has
    assert len({old, new, newest}) == 3
    room.sender()
    await room.completed()
    room.wake()
    (heard,) = await room.receiver.hears(1)
    for key in (old, new, newest):
        heard.proven(key)
    await room.execute("update webhook_salts set expires_at = expires_at - interval '25 hours'")
    await room.completed()
    room.wake()
    heard = (await room.receiver.hears(2))[1]
    heard.proven(newest)
    for key in (old, new):
        with pytest.raises(WebhookVerificationError):
            heard.proven(key)


async def test_the_projects_own_secret_rotates_alike(room: Room):
    old = await room.project_secret()
    await room.db.run(lambda tx: endpoint.rotate_of_project(tx, room.project, actor="test"))
    new = await room.project_secret()
    assert new != old
    room.sender()
    await room.completed(webhook_url=f"{room.receiver.url}/own")
    room.wake()
    (heard,) = await room.receiver.hears(1)
    heard.proven(old)
    heard.proven(new)


async def test_no_secret_is_in_the_database(room: Room):
    webhook, key = await room.webhook()
    held = await room.value(
        "select string_agg(t::text, ' ') from (select w, s from webhook_endpoints w, webhook_salts s) t"
    )
    assert str(webhook) in held
    assert key.removeprefix("whsec_") not in held


# --- tests, and the log --------------------------------------------------------------------------------------------


async def test_a_test_is_sent_once_also_to_a_disabled_endpoint_and_counts_for_nothing(room: Room):
    webhook, key = await room.webhook("/500")
    await room.change(webhook, enabled=False)
    room.sender()
    await room.test(webhook)
    room.wake()
    (log,) = await room.becomes("failed")
    assert log["type"] == "webhook.test"
    assert log["job_id"] is None
    (heard,) = await room.receiver.hears(1)
    assert heard.proven(key)["type"] == "webhook.test"
    found = await room.endpoint(webhook)
    assert found["failing_since"] is None
    assert not found["enabled"]


async def test_a_replay_of_what_is_under_way_is_left_to_it(room: Room):
    await room.webhook("/hang", COMPLETED)
    await room.completed()
    room.sender()
    (heard,) = await room.receiver.hears(1)
    await room.replay(heard.id)
    room.receiver.let_go.set()
    (log,) = await room.becomes("delivered")
    assert len(log["tries"]) == len(room.receiver.heard) == 1


async def test_the_log_is_kept_for_thirty_days(room: Room):
    await room.webhook(events=COMPLETED)
    room.sender()
    for _ in range(2):
        await room.completed()
    room.wake()
    old, new = await room.becomes("delivered", 2)
    await room.execute(
        "update webhook_events set at = now() - interval '31 days' where id ="
        " (select event_id from webhook_deliveries where id = $1)", UUID(old["id"]),
    )  # fmt: skip
    assert await delivery.sweep(room.db) == 1
    assert [each["id"] for each in await room.deliveries()] == [new["id"]]
    assert await room.value("select count(*) from webhook_tries") == 1


async def test_nothing_in_sending_reads_a_table_whole(room: Room):
    webhook, _ = await room.webhook(events=COMPLETED)
    room.sender()
    for _ in range(10):
        await room.completed()
    room.wake()
    await room.becomes("delivered", 10)
    await delivery.sweep(room.db)
    await room.deliveries(endpoint_id=webhook)
    tables = ["webhook_endpoints", "webhook_salts", "webhook_events", "webhook_deliveries", "webhook_tries"]

    async def is_told() -> bool:
        return await room.value(
            "select coalesce(sum(idx_scan), 0) > 50 from pg_stat_user_tables where relname = any ($1)", tables
        )

    await until(is_told, "the statistics of what was done")
    read = await room.value(
        "select string_agg(relname || ' ' || seq_tup_read, ', ') from pg_stat_user_tables"
        " where relname = any ($1) and seq_tup_read > 0", tables,
    )  # fmt: skip
    assert read is None


async def test_a_stopped_sender_leaves_no_task_behind(room: Room):
    await room.webhook("/hang", COMPLETED)
    await room.completed()
    room.sender()
    await room.receiver.hears(1)
    await room.stop()
    assert [task for task in asyncio.all_tasks() if task.get_name() == "webhook"] == []
