"""One socket's conversation: what is joined, what waits for permission, what has run out. Pure.

In go the client's frames, verdicts about who may join, and the time; out come actions. All its state is bounded by
the limits below, whatever the client sends. Times are seconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final
from uuid import UUID

import msgspec

from safelight.realtime.filters import BadBinding
from safelight.realtime.join import JoinConfig, join_config, token_of
from safelight.realtime.pace import Pace
from safelight.realtime.phoenix import (
    PHOENIX,
    TOPIC_PREFIX,
    Frame,
    Malformed,
    Push,
    UserBroadcast,
    Vsn,
    beat_answer,
    decode,
    envelope,
    reply,
)

__all__ = [
    "Action", "Ask", "Attach", "Close", "Detach", "Grant", "Join", "Publish", "Renew", "Send", "Session", "Track",
    "Untrack",
]  # fmt: skip

CHANNELS_MAX: Final = 100
JOINS_PER_S: Final = 10.0
JOINS_BURST: Final = 100.0
FRAMES_PER_S: Final = 100.0
FRAMES_BURST: Final = 300.0
"""Past it the socket is read more slowly; nothing is lost."""
FRAME_UNIT_BYTES: Final = 16 * 1024
"""A large frame counts as several."""
PRESENCE_PER_S: Final = 5.0
PRESENCE_BURST: Final = 30.0
PRESENCE_BYTES_MAX: Final = 4 * 1024
"""It goes to the other processes as one message of the bus, which takes 7.9 kB."""
BROADCAST_BYTES_MAX: Final = 256 * 1024
JOIN_BYTES_MAX: Final = 64 * 1024
"""A hundred bindings with long filters. It is kept until the channel ends, also while nobody has said yes."""
SILENCE_S: Final = 60.0
"""Clients beat every 25 s: after two missed beats nobody is there."""
HOLD_S: Final = 0.3
"""A first join often comes before its token (realtime-protocol.md §1.3)."""
REFUSALS_FREE: Final = 3
REFUSAL_DELAY_S: Final = 2.0
"""From the fourth refused join on, the answer takes its time."""
OURS: Final = frozenset({"change", "head", "gap", "config", "progress"})
"""Broadcasts that only we send: others must not be able to claim that something is proven."""
TASK_EVENTS: Final = frozenset({"task-update", "generations_updated"})
"""These an app's own server may send as well, with a secret key."""
FEED_TOPIC: Final = "task-updates:"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a channel's holder may do, and on what that rests."""

    project: UUID
    may_write: bool
    is_server: bool
    """By a secret key: an app's own server."""
    user_id: str | None = None
    key_id: UUID | None = None
    expires_at: float | None = None


class State(Enum):
    ASKING = "asking"
    REFUSED = "refused"
    """The refusal waits a moment: for a token, or because there were many."""
    JOINED = "joined"


class Join:
    """One join of a channel; a rejoin is another."""

    __slots__ = (
        "config", "grant", "is_renewing", "name", "next_token", "number", "push", "reason", "refuse_at", "state",
        "topic",
    )  # fmt: skip

    def __init__(self, number: int, push: Push, config: JoinConfig) -> None:
        self.number = number
        self.push = replace(push, payload={})  # its refs are needed for every answer, its payload no more
        self.topic = push.topic
        self.name = push.topic.removeprefix(TOPIC_PREFIX)
        self.config = config
        self.state = State.ASKING
        self.grant: Grant | None = None
        self.reason = ""
        self.refuse_at = 0.0
        self.is_renewing = False
        self.next_token: str | None = None
        """Came while another was looked at; the newest waits, so that one question of a join is open at a time."""

    @property
    def has_feed(self) -> bool:
        """Whether our own broadcasts come here: it is a project's main topic."""
        return self.name.startswith(FEED_TOPIC)


@dataclass(frozen=True, slots=True)
class Send:
    data: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """May this be joined? Answer with `admitted` or `refused`."""

    join: Join
    token: str | None


@dataclass(frozen=True, slots=True)
class Renew:
    """A fresh token for a joined channel. Answer with `renewed`, or `ended` if it does not hold; then `settled`."""

    join: Join
    token: str


@dataclass(frozen=True, slots=True)
class Attach:
    """From now on this join gets everything after the head that `admitted` was told."""

    join: Join


@dataclass(frozen=True, slots=True)
class Detach:
    join: Join


@dataclass(frozen=True, slots=True)
class Publish:
    join: Join
    event: str
    body: bytes
    is_json: bool


@dataclass(frozen=True, slots=True)
class Track:
    join: Join
    meta: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Untrack:
    join: Join


@dataclass(frozen=True, slots=True)
class Close:
    code: int
    reason: str


Action = Send | Ask | Renew | Attach | Detach | Publish | Track | Untrack | Close
_encode: Final = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Refusals:
    """Counters since the start, for metrics; one for all sessions of a process."""

    malformed: int = 0
    joins: int = 0
    broadcasts: int = 0
    presence: int = 0
    silent: int = 0
    expired: int = 0
    connections: int = 0
    """Refused with an HTTP status, before there was a socket."""


class Session:
    """Feed it with `receive`, the verdicts, `tick`; carry out what it returns, in order."""

    def __init__(self, vsn: Vsn, now: float, refusals: Refusals | None = None) -> None:
        self.vsn = vsn
        self.joins: dict[str, Join] = {}
        self.refusals = refusals if refusals is not None else Refusals()
        self._heard_at = now
        self._number = 0
        self._refused = 0
        self._frames = Pace(FRAMES_PER_S, FRAMES_BURST, now)
        self._joins = Pace(JOINS_PER_S, JOINS_BURST, now)
        self._presence = Pace(PRESENCE_PER_S, PRESENCE_BURST, now)
        self.pause_s = 0.0
        """How long not to read on, after the last frame."""

    # -- in: the client

    def receive(self, data: str | bytes, now: float) -> list[Action]:
        """A frame. Never raises."""
        self._heard_at = now
        self.pause_s = self._frames.spend(now, 1 + len(data) / FRAME_UNIT_BYTES)
        if isinstance(data, str) and (answer := beat_answer(self.vsn, data)) is not None:
            return [Send(answer)]
        try:
            frame = decode(self.vsn, data)
        except Malformed as error:
            self.refusals.malformed += 1
            return [Close(1007, f"malformed frame: {error}"[:120])]
        return self._on_frame(frame, now, len(data))

    def _on_frame(self, frame: Frame, now: float, size: int) -> list[Action]:
        if isinstance(frame, UserBroadcast):
            return self._on_broadcast(frame)
        if frame.topic == PHOENIX:
            return [self._reply(frame, "ok")] if frame.event == "heartbeat" else [self._unmatched(frame)]
        if frame.event == "phx_join":
            return self._on_join(frame, now, size)
        join = self._current(frame)
        if join is None:
            # A leave of what is not joined has reached its end.
            return [self._reply(frame, "ok") if frame.event == "phx_leave" else self._unmatched(frame)]
        match frame.event:
            case "phx_leave":
                return [*self._end(join), self._reply(frame, "ok"), self._event(join, "phx_close", {})]
            case "access_token":
                return self._on_token(join, token_of(frame.payload))
            case "presence":
                return self._on_presence(join, frame, now)
            case _:
                return [self._unmatched(frame)]

    def _on_join(self, frame: Push, now: float, size: int) -> list[Action]:
        old = self.joins.get(frame.topic)
        actions: list[Action] = []
        if old is not None:  # the same topic again replaces what was
            actions += [*self._end(old), self._event(old, "phx_close", {})]
        if not self._joins.take(now):
            return [*actions, self._refuse(frame, "ClientJoinRateLimitReached: Too many joins per second")]
        if len(self.joins) >= CHANNELS_MAX:
            return [*actions, self._refuse(frame, f"ChannelRateLimitReached: A socket has {CHANNELS_MAX} channels")]
        if size > JOIN_BYTES_MAX:
            return [*actions, self._refuse(frame, f"MalformedJoinPayload: A join has up to {JOIN_BYTES_MAX} bytes")]
        if len(frame.topic) == len(TOPIC_PREFIX):
            return [*actions, self._refuse(frame, "TopicNameRequired: You must provide a topic name")]
        self._number += 1
        try:
            config = join_config(frame.payload)
        except BadBinding as error:
            join = self.joins[frame.topic] = Join(self._number, frame, JoinConfig())
            return [*actions, *self.refused(join, f"InvalidPostgresChanges: {error}", now)]
        join = self.joins[frame.topic] = Join(self._number, frame, config)
        return [*actions, Ask(join, config.token)]

    def _on_token(self, join: Join, token: str | None) -> list[Action]:
        if token is None:
            return []
        if join.state is State.ASKING or join.is_renewing:
            join.next_token = token
            return []
        if join.state is State.JOINED:
            join.is_renewing = True
            return [Renew(join, token)]
        join.state = State.ASKING
        return [Ask(join, token)]

    def _on_broadcast(self, frame: UserBroadcast) -> list[Action]:
        join = self._current(frame)
        if join is None or join.state is not State.JOINED or join.grant is None:
            return [self._unmatched(frame)]
        wants_reply = join.config.ack and frame.ref is not None
        refusal = broadcast_refusal(join.grant, join.name, frame.event, len(frame.body))
        if refusal is not None:
            self.refusals.broadcasts += 1
            return [self._reply(frame, "error", refusal)] if wants_reply else []
        acked = [self._reply(frame, "ok")] if wants_reply else []
        return [Publish(join, frame.event, frame.body, frame.is_json), *acked]

    def _on_presence(self, join: Join, frame: Push, now: float) -> list[Action]:
        if join.state is not State.JOINED:
            return [self._unmatched(frame)]
        event = str(frame.payload.get("event", "")).lower()
        meta = frame.payload.get("payload")
        if not self._presence.take(now):
            self.refusals.presence += 1
            return [self._reply(frame, "error", {"reason": "ClientPresenceRateLimitReached: Too many presence calls"})]
        if event == "untrack":
            return [Untrack(join), self._reply(frame, "ok")]
        if event != "track":
            return [self._reply(frame, "error", {"reason": "UnknownPresenceEvent: track or untrack"})]
        if meta is None:
            meta = {}
        if not isinstance(meta, dict) or len(_encode(meta)) > PRESENCE_BYTES_MAX:
            self.refusals.presence += 1
            reason = f"PresencePayloadRefused: an object of up to {PRESENCE_BYTES_MAX} bytes"
            return [self._reply(frame, "error", {"reason": reason})]
        return [Track(join, meta), self._reply(frame, "ok")]  # pyright: ignore[reportUnknownArgumentType]

    # -- in: verdicts

    def admitted(self, join: Join, grant: Grant, epoch: UUID, head: int) -> list[Action]:
        """It may be joined, and gets everything after `head`: reply, system; then the hub's presence, replay, live."""
        if not self._is_current(join) or join.state is State.JOINED:
            return []
        join.state, join.grant = State.JOINED, grant
        return [
            self._reply(join.push, "ok", {"postgres_changes": join.config.echoed}),
            self._event(
                join,
                "system",
                {
                    "extension": "postgres_changes", "status": "ok", "message": "Subscribed to PostgreSQL",
                    "channel": join.name, "epoch": str(epoch), "seq": head,
                },
                ref=None,
            ),
            *self._says_ready(join),
            Attach(join),
            *self.settled(join),
        ]  # fmt: skip

    def refused(self, join: Join, reason: str, now: float, *, may_wait: bool = False) -> list[Action]:
        """It may not. With `may_wait` a token that comes within a moment is tried before the client is told."""
        if not self._is_current(join) or join.state is not State.ASKING:
            return []
        self._refused += 0 if may_wait else 1
        if join.next_token is not None:
            token, join.next_token = join.next_token, None
            return [Ask(join, token)]
        wait_s = HOLD_S if may_wait else REFUSAL_DELAY_S if self._refused > REFUSALS_FREE else 0.0
        join.state, join.reason, join.refuse_at = State.REFUSED, reason, now + wait_s
        return self._due_refusals(now)

    def renewed(self, join: Join, grant: Grant) -> None:
        """Its new token holds: for the same project, or the channel would be another."""
        if self._is_current(join) and join.state is State.JOINED:
            join.grant = grant

    def settled(self, join: Join) -> list[Action]:
        """The question about its token is answered, whatever the answer; another may be waiting."""
        join.is_renewing = False
        token, join.next_token = join.next_token, None
        if token is None or not self._is_current(join) or join.state is not State.JOINED:
            return []
        join.is_renewing = True
        return [Renew(join, token)]

    def ended(self, join: Join, message: str) -> list[Action]:
        """The right is gone, or the stream was cut: the client is to join again. `phx_close` would be final."""
        if not self._is_current(join) or join.state is not State.JOINED:
            return []
        told = {"extension": "system", "status": "error", "message": message, "channel": join.name}
        return [
            *self._end(join),
            self._event(join, "system", told, ref=None),
            self._event(join, "phx_error", {}),
        ]

    # -- in: time

    def tick(self, now: float) -> list[Action]:
        """Call at least once a second, and at `wake_at`."""
        if now - self._heard_at > SILENCE_S:
            self.refusals.silent += 1
            return [Close(1000, "heartbeat timeout")]
        actions = self._due_refusals(now)
        for join in list(self.joins.values()):
            if join.grant is not None and join.grant.expires_at is not None and now >= join.grant.expires_at:
                self.refusals.expired += 1
                actions += self.ended(join, "Token has expired: send a fresh one")
        return actions

    @property
    def wake_at(self) -> float | None:
        """When a held refusal is due."""
        return min((join.refuse_at for join in self.joins.values() if join.state is State.REFUSED), default=None)

    def _due_refusals(self, now: float) -> list[Action]:
        due = [join for join in self.joins.values() if join.state is State.REFUSED and now >= join.refuse_at]
        for join in due:
            del self.joins[join.topic]
        return [self._refuse(join.push, join.reason) for join in due]

    # -- out

    def _says_ready(self, join: Join) -> Iterable[Action]:
        """What a client waits for that asked for `replication_ready`: our log is what the channel stands on."""
        if join.config.wants_ready:
            told = {"extension": "system", "status": "ok", "message": "Replication connection established"}
            yield self._event(join, "system", {**told, "channel": join.name}, ref=None)

    def _end(self, join: Join) -> Iterable[Action]:
        self.joins.pop(join.topic, None)
        return [Detach(join)] if join.state is State.JOINED else []

    def _current(self, frame: Frame) -> Join | None:
        join = self.joins.get(frame.topic)
        if join is None or (frame.join_ref is not None and frame.join_ref != join.push.join_ref):
            return None  # said to a channel of another life
        return join

    def _is_current(self, join: Join) -> bool:
        return self.joins.get(join.topic) is join

    def _refuse(self, push: Push, reason: str) -> Send:
        self.refusals.joins += 1
        return self._reply(push, "error", {"reason": reason})

    def _unmatched(self, frame: Frame) -> Send:
        return self._reply(frame, "error", {"reason": "unmatched topic"})

    def _reply(self, frame: Frame, status: str, response: Mapping[str, Any] | None = None) -> Send:
        return Send(reply(self.vsn, frame, status, response or {}))

    def _event(self, join: Join, event: str, payload: Mapping[str, Any], *, ref: str | None = "") -> Send:
        ref = join.push.ref if ref == "" else ref
        return Send(envelope(self.vsn, join.topic, event, _encode(payload), join.push.join_ref, ref))


def broadcast_refusal(grant: Grant, name: str, event: str, size: int) -> dict[str, str] | None:
    """Why this may not be broadcast; None if it may. The same for sockets and for REST."""
    if size > BROADCAST_BYTES_MAX:
        return {"error": "payload_size_exceeded"}
    if not grant.may_write:
        return {"error": "Unauthorized: You do not have permissions to write to this Channel topic"}
    if name.startswith(FEED_TOPIC):
        folded = event.lower()  # clients compare without case
        if folded in OURS or (folded in TASK_EVENTS and not grant.is_server):
            return {"error": f"ReservedEvent: {event[:64]} is sent by the server only"}
    return None
