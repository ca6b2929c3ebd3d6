"""What a client asks for when it joins a channel. Pure.

What is malformed falls back to the default, as with the original server; but never to fewer changes than were asked
for: a binding that cannot be served refuses the join (realtime-protocol.md §2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import UUID

from safelight.realtime.filters import BadBinding, Binding, binding

__all__ = ["JoinConfig", "join_config", "project_of"]

BINDINGS_MAX: Final = 100
PATTERNS_MAX: Final = 10
"""Of all bindings of a channel: each costs up to some milliseconds a change, if it was made to."""
EVENTS_MAX: Final = 20
KEY_MAX: Final = 200
REPLAY_MAX: Final = 1000
"""Entries; the original server stops at 25."""
TOKEN_MAX: Final = 8_192
SEQ_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class JoinConfig:
    """`cursor` and `events` are ours: unmodified clients pass them along inside `config.broadcast`."""

    ack: bool = False
    echo: bool = False
    """Broadcasts come back to their sender."""
    replay_since_ms: int | None = None
    replay_limit: int = REPLAY_MAX
    presence_key: str | None = None
    has_presence: bool = False
    wants_ready: bool = False
    bindings: tuple[Binding, ...] = ()
    echoed: tuple[Mapping[str, Any], ...] = ()
    """The bindings as they were asked for, each with its id: clients compare them byte by byte."""
    token: str | None = None
    cursor: tuple[UUID | None, int] | None = None
    """`{epoch}:{seq}` or `{seq}`: everything after it comes first."""
    events: frozenset[str] | None = None
    """Only these of our own broadcasts; None: all."""

    @property
    def named_project(self) -> UUID | None:
        """The one project that every binding's filter names."""
        named: set[UUID | None] = set()
        for asked in self.echoed:
            found = None
            for part in str(asked.get("filter") or "").split(","):
                column, _, value = part.strip().partition("=eq.")
                if column == "project_id":
                    found = _uuid(value)
            named.add(found)
        return named.pop() if len(named) == 1 else None


def join_config(payload: Mapping[str, Any]) -> JoinConfig:
    """Read a `phx_join`. Raises BadBinding."""
    config = _dict(payload.get("config"))
    broadcast, presence = _dict(config.get("broadcast")), _dict(config.get("presence"))
    replay = _dict(broadcast.get("replay"))
    asked = config.get("postgres_changes")
    listed = [each for each in cast(list[Any], asked) if each is not None] if isinstance(asked, list) else []
    if len(listed) > BINDINGS_MAX:
        raise BadBinding(f"a channel has at most {BINDINGS_MAX} bindings")
    bindings = tuple(binding(each) for each in listed)
    if sum(each.patterns for each in bindings) > PATTERNS_MAX:
        raise BadBinding(f"a channel has at most {PATTERNS_MAX} patterns")
    since, limit = _int(replay.get("since")), _int(replay.get("limit"))
    key = presence.get("key")
    return JoinConfig(
        ack=_flag(broadcast.get("ack")),
        echo=_flag(broadcast.get("self")),
        replay_since_ms=since,
        replay_limit=REPLAY_MAX if limit is None else max(0, min(limit, REPLAY_MAX)),
        presence_key=key if isinstance(key, str) and 0 < len(key) <= KEY_MAX else None,
        has_presence=_flag(presence.get("enabled")),
        wants_ready=_flag(broadcast.get("replication_ready")),
        bindings=bindings,
        echoed=tuple({**each, "id": made.id} for each, made in zip(listed, bindings, strict=True)),
        token=token_of(payload),
        cursor=_cursor(broadcast.get("cursor")),
        events=_events(broadcast.get("events")),
    )


def token_of(payload: Mapping[str, Any]) -> str | None:
    """The `access_token`, if it is one: `sb_…` is another product's key and means nothing (facts, §1.3)."""
    token = payload.get("access_token")
    if not isinstance(token, str) or not token or token.startswith("sb_") or len(token) > TOKEN_MAX:
        return None
    return token


def project_of(name: str) -> UUID | None:
    """The project that a topic's name names: `task-updates:{project}`, or any other that ends in its id."""
    return _uuid(name.rpartition(":")[2])


def _uuid(text: str) -> UUID | None:
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None


def _dict(value: Any) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _flag(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _int(value: Any) -> int | None:
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return value if is_int and 0 <= value <= SEQ_MAX else None


def _cursor(value: Any) -> tuple[UUID | None, int] | None:
    if not isinstance(value, str) or len(value) > 60:
        return None
    epoch, _, seq = value.rpartition(":")
    after = int(seq) if seq.isascii() and seq.isdigit() else -1
    named = _uuid(epoch) if epoch else None
    if not 0 <= after <= SEQ_MAX or (epoch and named is None):
        return None
    return named, after


def _events(value: Any) -> frozenset[str] | None:
    if not isinstance(value, list):
        return None
    return frozenset(each for each in cast(list[Any], value)[:EVENTS_MAX] if isinstance(each, str))
