"""One socket's conversation: joins, tokens, broadcasts, presence, and the end of all of them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from safelight.realtime import session as rules
from safelight.realtime.phoenix import Vsn
from safelight.realtime.session import (
    Action,
    Ask,
    Attach,
    Close,
    Detach,
    Grant,
    Join,
    Publish,
    Renew,
    Send,
    Session,
    State,
    Track,
    Untrack,
)

P = UUID("0f9d6a3e-0000-4000-8000-000000000001")
EPOCH = UUID("0f9d6a3e-0000-4000-8000-0000000000ee")
TOPIC = f"realtime:task-updates:{P}"
EDITOR = Grant(P, may_write=True, is_server=False, user_id="ann")
VIEWER = Grant(P, may_write=False, is_server=False, user_id="ann")
SERVER = Grant(P, may_write=True, is_server=True)


def frame(event: str, payload: Any = None, ref: str = "7", join_ref: str | None = "6", topic: str = TOPIC) -> str:
    return json.dumps([join_ref, ref, topic, event, payload if payload is not None else {}])


def joining(config: Any = None, ref: str = "6", topic: str = TOPIC, **more: Any) -> str:
    return frame("phx_join", {"config": config or {}, **more}, ref, ref, topic)


def said(actions: list[Action]) -> list[Any]:
    return [json.loads(action.data) for action in actions if isinstance(action, Send)]


def asked(actions: list[Action]) -> Join:
    (ask,) = [action for action in actions if isinstance(action, Ask)]
    return ask.join


def joined(session: Session, now: float = 0.0, grant: Grant = EDITOR, config: Any = None, topic: str = TOPIC) -> Join:
    join = asked(session.receive(joining(config, topic=topic), now))
    assert any(isinstance(action, Attach) for action in session.admitted(join, grant, EPOCH, 41))
    return join


def test_a_join_is_answered_then_told_from_which_seq_it_gets_everything() -> None:
    session = Session(Vsn.V2, 0.0)
    asking = {"event": "INSERT", "schema": "public", "table": "tasks", "filter": f"project_id=eq.{P}"}
    join = asked(session.receive(joining({"postgres_changes": [asking]}), 0.0))
    actions = session.admitted(join, EDITOR, EPOCH, 41)
    reply, system = said(actions)
    assert reply[:4] == ["6", "6", TOPIC, "phx_reply"]
    assert reply[4]["status"] == "ok"
    (binding,) = reply[4]["response"]["postgres_changes"]
    assert {key: value for key, value in binding.items() if key != "id"} == asking
    assert system[:4] == ["6", None, TOPIC, "system"]
    assert (system[4]["status"], system[4]["seq"], system[4]["epoch"]) == ("ok", 41, str(EPOCH))
    assert actions[-1] == Attach(join)


def test_a_heartbeat_is_answered_with_status_and_response() -> None:
    actions = Session(Vsn.V2, 0.0).receive(frame("heartbeat", topic="phoenix", join_ref=None), 0.0)
    assert said(actions) == [[None, "7", "phoenix", "phx_reply", {"status": "ok", "response": {}}]]


def test_a_first_join_without_a_token_waits_a_moment_for_it() -> None:
    session = Session(Vsn.V2, 0.0)
    join = asked(session.receive(joining(), 0.0))
    assert session.refused(join, "Unauthorized: x", 0.0, may_wait=True) == []
    assert session.tick(0.2) == []
    actions = session.receive(frame("access_token", {"access_token": "fresh"}), 0.25)
    assert actions == [Ask(join, "fresh")]
    assert Attach(join) in session.admitted(join, EDITOR, EPOCH, 1)


def test_a_join_whose_token_never_comes_is_refused_so_that_the_client_joins_again() -> None:
    session = Session(Vsn.V2, 0.0)
    join = asked(session.receive(joining(), 0.0))
    session.refused(join, "Unauthorized: x", 0.0, may_wait=True)
    assert session.wake_at == pytest.approx(rules.HOLD_S)
    (told,) = said(session.tick(0.31))
    assert told == ["6", "6", TOPIC, "phx_reply", {"status": "error", "response": {"reason": "Unauthorized: x"}}]
    assert not session.joins


def test_whoever_is_refused_again_and_again_waits_longer_for_it() -> None:
    session = Session(Vsn.V2, 0.0)
    for _ in range(rules.REFUSALS_FREE):
        assert said(session.refused(asked(session.receive(joining(), 0.0)), "no", 0.0))
    assert session.refused(asked(session.receive(joining(), 0.0)), "no", 0.0) == []
    assert said(session.tick(rules.REFUSAL_DELAY_S))


def test_an_expired_token_ends_the_channel_in_the_way_that_heals() -> None:
    session = Session(Vsn.V2, 0.0)
    join = joined(session, grant=Grant(P, may_write=True, is_server=False, user_id="ann", expires_at=20.0))
    assert session.tick(19.9) == []
    actions = session.tick(20.0)
    assert actions[0] == Detach(join)
    system, error = said(actions)
    assert (system[3], system[4]["status"]) == ("system", "error")
    assert error[:4] == ["6", "6", TOPIC, "phx_error"]  # phx_close would be for good


def test_a_fresh_token_keeps_the_channel() -> None:
    session = Session(Vsn.V2, 0.0)
    join = joined(session, grant=Grant(P, may_write=True, is_server=False, user_id="ann", expires_at=20.0))
    assert session.receive(frame("access_token", {"access_token": "fresh"}), 10.0) == [Renew(join, "fresh")]
    session.renewed(join, Grant(P, may_write=True, is_server=False, user_id="ann", expires_at=50.0))
    assert session.tick(21.0) == []


@pytest.mark.parametrize("token", [None, "", "sb_publishable_x", 5])
def test_what_is_no_token_changes_nothing(token: Any) -> None:
    session = Session(Vsn.V2, 0.0)
    joined(session)
    assert session.receive(frame("access_token", {"access_token": token}), 1.0) == []


def test_the_same_topic_joined_twice_closes_the_old_one() -> None:
    session = Session(Vsn.V2, 0.0)
    old = joined(session)
    actions = session.receive(joining(ref="9"), 0.0)
    assert actions[0] == Detach(old)
    assert said(actions)[0][:4] == ["6", "6", TOPIC, "phx_close"]
    assert asked(actions) is not old
    assert session.admitted(old, EDITOR, EPOCH, 1) == []  # a verdict that comes late opens nothing


def test_leaving_is_answered_and_then_closed() -> None:
    session = Session(Vsn.V2, 0.0)
    join = joined(session)
    actions = session.receive(frame("phx_leave"), 0.0)
    assert actions[0] == Detach(join)
    assert [each[3] for each in said(actions)] == ["phx_reply", "phx_close"]
    assert not session.joins


def test_what_is_said_to_a_topic_that_is_not_joined_is_refused() -> None:
    (told,) = said(Session(Vsn.V2, 0.0).receive(frame("presence", {"event": "track"}), 0.0))
    assert told[4] == {"status": "error", "response": {"reason": "unmatched topic"}}


def broadcast(event: str, payload: Any) -> str:
    return frame("broadcast", {"type": "broadcast", "event": event, "payload": payload})


def test_a_broadcast_is_handed_on_as_it_came_and_acknowledged_if_wished() -> None:
    session = Session(Vsn.V2, 0.0)
    join = joined(session, config={"broadcast": {"ack": True}})
    publish, ack = session.receive(broadcast("cur", {"x": 1}), 0.0)
    assert publish == Publish(join, "cur", b'{"x": 1}', True)
    assert said([ack])[0][4] == {"status": "ok", "response": {}}
    quiet = Session(Vsn.V2, 0.0)
    joined(quiet)
    assert [type(each) for each in quiet.receive(broadcast("cur", {}), 0.0)] == [Publish]


@pytest.mark.parametrize(
    ("grant", "event", "size", "reason"),
    [
        (VIEWER, "cur", 10, "Unauthorized"), (EDITOR, "change", 10, "ReservedEvent"), (EDITOR, "HEAD", 10, "Reserved"),
        (EDITOR, "task-update", 10, "Reserved"), (SERVER, "gap", 10, "Reserved"),
        (SERVER, "cur", rules.BROADCAST_BYTES_MAX, "payload_size_exceeded"),
    ],
)  # fmt: skip
def test_a_broadcast_that_is_not_allowed_goes_nowhere(grant: Grant, event: str, size: int, reason: str) -> None:
    session = Session(Vsn.V2, 0.0)
    joined(session, grant=grant, config={"broadcast": {"ack": True}})
    (told,) = session.receive(broadcast(event, {"x": "y" * size}), 0.0)
    response = said([told])[0][4]
    assert response["status"] == "error"
    assert reason in response["response"]["error"]
    assert session.refusals.broadcasts == 1


def test_an_apps_own_server_may_say_what_became_of_a_task() -> None:
    session = Session(Vsn.V2, 0.0)
    join = joined(session, grant=SERVER)
    assert session.receive(broadcast("task-update", {}), 0.0) == [Publish(join, "task-update", b"{}", True)]


def test_presence_is_tracked_and_untracked() -> None:
    session = Session(Vsn.V2, 0.0)
    join = joined(session, config={"presence": {"key": "ua", "enabled": True}})
    track = session.receive(frame("presence", {"type": "presence", "event": "track", "payload": {"u": 1}}), 0.0)
    assert track[0] == Track(join, {"u": 1})
    assert session.receive(frame("presence", {"event": "untrack"}), 0.0)[0] == Untrack(join)


def test_presence_that_is_too_large_or_too_often_is_refused() -> None:
    session = Session(Vsn.V2, 0.0)
    joined(session)
    large = frame("presence", {"event": "track", "payload": {"x": "y" * rules.PRESENCE_BYTES_MAX}})
    assert [type(each) for each in session.receive(large, 0.0)] == [Send]
    small = frame("presence", {"event": "track", "payload": {}})
    kinds = [type(session.receive(small, 0.0)[0]) for _ in range(40)]
    assert kinds[0] is Track
    assert kinds[-1] is Send


def test_a_malformed_frame_closes_the_socket() -> None:
    (close,) = Session(Vsn.V2, 0.0).receive("{", 0.0)
    assert isinstance(close, Close)
    assert close.code == 1007
    assert len(close.reason.encode()) <= 123


def test_a_silent_socket_is_closed() -> None:
    session = Session(Vsn.V2, 0.0)
    session.receive(frame("heartbeat", topic="phoenix", join_ref=None), 30.0)
    assert session.tick(89.0) == []
    assert session.tick(91.0) == [Close(1000, "heartbeat timeout")]


def test_a_socket_has_so_many_channels_and_no_more() -> None:
    session = Session(Vsn.V2, 0.0)
    for number in range(rules.CHANNELS_MAX):
        session.receive(joining(topic=f"realtime:{number}:{P}"), float(number))
    (told,) = said(session.receive(joining(topic=f"realtime:more:{P}"), 1000.0))
    assert told[4]["response"]["reason"].startswith("ChannelRateLimitReached")


def test_a_flood_of_joins_is_refused_with_the_reason_clients_know() -> None:
    session = Session(Vsn.V2, 0.0)
    told = [each for _ in range(150) for each in said(session.receive(joining(), 0.0))]
    assert told[-1][4]["response"]["reason"].startswith("ClientJoinRateLimitReached")


def test_a_flood_of_frames_is_read_more_slowly() -> None:
    session = Session(Vsn.V2, 0.0)
    beat = frame("heartbeat", topic="phoenix", join_ref=None)
    for _ in range(1000):
        session.receive(beat, 0.0)
    assert session.pause_s > 5
    session.receive(beat, 20.0)
    assert session.pause_s == 0


def test_a_join_that_is_too_large_to_keep_is_refused() -> None:
    session = Session(Vsn.V2, 0.0)
    (told,) = said(session.receive(joining({"x": "y" * rules.JOIN_BYTES_MAX}), 0.0))
    assert told[4]["response"]["reason"].startswith("MalformedJoinPayload")
    assert not session.joins


def test_a_binding_that_cannot_be_served_refuses_the_join() -> None:
    session = Session(Vsn.V2, 0.0)
    (told,) = said(session.receive(joining({"postgres_changes": [{"event": "*", "table": "api_keys"}]}), 0.0))
    assert told[4]["status"] == "error"
    assert "api_keys" in told[4]["response"]["reason"]


NOISE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.just("public") | st.just("true"),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["config", "broadcast", "presence", "postgres_changes", "replay", "since", "limit", "key", "enabled", "ack",
             "self", "event", "payload", "access_token", "cursor", "events", "table", "filter", "private"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
EVENTS = st.sampled_from(["phx_join", "phx_leave", "access_token", "broadcast", "presence", "heartbeat", "other"])
TOPICS = st.sampled_from([TOPIC, "realtime:", "phoenix", "realtime:room1", f"realtime:cursors:{P}"])
REFS = st.none() | st.sampled_from(["1", "6", "7"])


class Conversation(RuleBasedStateMachine):
    """Whatever comes in, in whatever order: no exception, bounded state, one Detach for each Attach."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(Vsn.V2, 0.0)
        self.now = 0.0
        self.waiting: list[Join] = []
        self.attached: set[int] = set()

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Ask(join):
                    self.waiting.append(join)
                case Attach(join):
                    assert join.number not in self.attached
                    self.attached.add(join.number)
                case Detach(join):
                    self.attached.remove(join.number)
                case Publish(join) | Track(join) | Untrack(join):
                    assert join.number in self.attached
                case Send(data):
                    assert isinstance(json.loads(data)[4], dict)
                case _:
                    pass

    @rule(event=EVENTS, topic=TOPICS, payload=NOISE, ref=REFS, join_ref=REFS)
    def frame(self, event: str, topic: str, payload: Any, ref: str | None, join_ref: str | None) -> None:
        self.carry_out(self.session.receive(json.dumps([join_ref, ref, topic, event, payload]), self.now))

    @rule(data=st.binary(max_size=60) | st.text(max_size=60))
    def bytes(self, data: Any) -> None:
        self.carry_out(self.session.receive(data, self.now))

    @rule(verdict=st.sampled_from(["yes", "soon", "no", "wait"]))
    def verdict(self, verdict: str) -> None:
        if not self.waiting:
            return
        join = self.waiting.pop(0)
        if verdict in ("yes", "soon"):
            grant = Grant(P, may_write=True, is_server=False, expires_at=self.now + 1 if verdict == "soon" else None)
            self.carry_out(self.session.admitted(join, grant, EPOCH, 1))
        else:
            self.carry_out(self.session.refused(join, "no", self.now, may_wait=verdict == "wait"))

    @rule(seconds=st.floats(0, 30))
    def time(self, seconds: float) -> None:
        self.now += seconds
        self.carry_out(self.session.tick(self.now))

    @rule()
    def revoked(self) -> None:
        for join in list(self.session.joins.values()):
            self.carry_out(self.session.ended(join, "gone"))

    @invariant()
    def is_bounded_and_true(self) -> None:
        assert len(self.session.joins) <= rules.CHANNELS_MAX
        joined = {join.number for join in self.session.joins.values() if join.state is State.JOINED}
        assert joined == self.attached


Conversation.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestConversation = Conversation.TestCase


@given(st.lists(st.one_of(st.binary(max_size=40), st.text(max_size=40)), max_size=20), st.sampled_from(list(Vsn)))
def test_any_bytes_never_raise(frames: list[Any], vsn: Vsn) -> None:
    session = Session(vsn, 0.0)
    for data in frames:
        session.receive(data, 0.0)
    assert not session.joins


def test_one_question_of_a_join_is_open_at_a_time_however_many_tokens_come() -> None:
    session = Session(Vsn.V2, 0.0)
    join = asked(session.receive(joining(), 0.0))
    for number in range(50):
        assert session.receive(frame("access_token", {"access_token": f"t{number}"}), 0.1) == []
    (again,) = session.refused(join, "Unauthorized: no", 0.2, may_wait=True)
    assert again == Ask(join, "t49")  # the newest, before the client hears of a refusal
    session.receive(frame("access_token", {"access_token": "later"}), 0.3)
    (renew,) = [each for each in session.admitted(join, EDITOR, EPOCH, 41) if isinstance(each, Renew)]
    assert renew == Renew(join, "later")
    assert session.receive(frame("access_token", {"access_token": "x"}), 0.4) == []
    assert session.receive(frame("access_token", {"access_token": "y"}), 0.5) == []
    assert session.settled(join) == [Renew(join, "y")]
    assert session.settled(join) == []
    assert session.receive(frame("access_token", {"access_token": "z"}), 0.6) == [Renew(join, "z")]


def test_a_question_answered_after_the_end_asks_no_more() -> None:
    session = Session(Vsn.V2, 0.0)
    join = joined(session)
    session.receive(frame("access_token", {"access_token": "x"}), 0.1)
    session.receive(frame("access_token", {"access_token": "y"}), 0.1)
    session.ended(join, "gone")
    assert session.settled(join) == []


def test_joins_that_cannot_be_served_are_refused_ever_more_slowly_too() -> None:
    session = Session(Vsn.V2, 0.0)
    wrong = {"postgres_changes": [{"event": "*", "schema": "public", "table": "jobs", "filter": "nothing=eq.1"}]}
    for _ in range(rules.REFUSALS_FREE):
        (answer,) = said(session.receive(joining(wrong), 0.0))
        assert answer[4]["response"]["reason"].startswith("InvalidPostgresChanges: there is no column nothing")
    assert session.receive(joining(wrong), 0.0) == []
    assert session.tick(rules.REFUSAL_DELAY_S - 0.1) == []
    assert said(session.tick(rules.REFUSAL_DELAY_S))[0][4]["status"] == "error"
    assert session.refusals.joins == rules.REFUSALS_FREE + 1
    assert session.joins == {}


def test_who_waits_for_the_replication_is_told_that_it_stands() -> None:
    session = Session(Vsn.V2, 0.0)
    join = asked(session.receive(joining({"broadcast": {"replication_ready": True}}), 0.0))
    told = [each[4] for each in said(session.admitted(join, EDITOR, EPOCH, 41)) if each[3] == "system"]
    assert [each["message"] for each in told] == ["Subscribed to PostgreSQL", "Replication connection established"]
    assert all(each["status"] == "ok" for each in told)
