"""The wire protocol of Phoenix channels as Supabase's clients speak it, in both versions (realtime-protocol.md). Pure.

Version 1.0.0 sends objects, 2.0.0 arrays; 2.0.0 clients also send broadcasts as binary frames (kind 3) and take
them (kind 4, and no other kind: their decoder dies of it).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, cast

import msgspec

__all__ = [
    "FRAME_BYTES_MAX", "Malformed", "Push", "UserBroadcast", "Vsn", "beat_answer", "broadcast_binary", "decode",
    "envelope",
]  # fmt: skip

FRAME_BYTES_MAX: Final = 1024 * 1024
"""A join with a hundred filtered bindings has 30 kB; a broadcast's own limit is lower."""
REF_MAX: Final = 64
TOPIC_MAX: Final = 255
"""The binary form has one byte for its length."""
EVENT_MAX: Final = 255
DEPTH_MAX: Final = 64
"""Nesting that every client's parser is sure to take."""

TOPIC_PREFIX: Final = "realtime:"
PHOENIX: Final = "phoenix"

_KIND_PUSH: Final = 3
_KIND_BROADCAST: Final = 4
_HEADER: Final = 7


class Vsn(StrEnum):
    """The serialiser that the client named in `vsn`; absent means the first."""

    V1 = "1.0.0"
    V2 = "2.0.0"


class Malformed(ValueError):
    """A frame that is not of this protocol."""


@dataclass(frozen=True, slots=True)
class Push:
    """A message from the client."""

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class UserBroadcast:
    """A broadcast from the client, its body as it came: valid JSON, or bytes (`is_json` false)."""

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    body: bytes
    is_json: bool


Frame = Push | UserBroadcast


class _V1(msgspec.Struct, gc=False):
    topic: str
    event: str
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    ref: str | None = None
    join_ref: str | None = None


class _V2(msgspec.Struct, array_like=True, gc=False):
    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: msgspec.Raw


class _Broadcast(msgspec.Struct, gc=False):
    event: str
    payload: msgspec.Raw = msgspec.Raw(b"{}")


_v1: Final = msgspec.json.Decoder(_V1)
_v2: Final = msgspec.json.Decoder(_V2)
_broadcast: Final = msgspec.json.Decoder(_Broadcast)
_encode: Final = msgspec.json.Encoder().encode


def decode(vsn: Vsn, data: str | bytes) -> Frame:
    """One frame from the client. Raises Malformed, and nothing else, whatever the bytes."""
    try:
        if len(data) > FRAME_BYTES_MAX:
            raise Malformed("too large")
        if isinstance(data, bytes):
            if vsn is not Vsn.V2:
                raise Malformed("binary frames are of version 2.0.0")
            return _binary(data)
        return _text(_v1.decode(data) if vsn is Vsn.V1 else _v2.decode(data))
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise Malformed(str(error)[:200]) from None


def _text(frame: _V1 | _V2) -> Frame:
    _check(frame.join_ref, frame.ref, frame.topic, frame.event)
    if frame.event == "broadcast":
        sent = _broadcast.decode(frame.payload)
        if len(sent.event.encode()) > EVENT_MAX:
            raise Malformed("the event's name is too long")
        body = bytes(sent.payload)
        json_value(body)
        return UserBroadcast(frame.join_ref, frame.ref, frame.topic, sent.event, body, True)
    payload = json_value(bytes(frame.payload))
    return Push(frame.join_ref, frame.ref, frame.topic, frame.event, cast(dict[str, Any], payload)
                if isinstance(payload, dict) else {})  # fmt: skip


def _binary(data: bytes) -> Frame:
    if len(data) < _HEADER or data[0] != _KIND_PUSH:
        raise Malformed("a binary frame begins with 3 and six lengths")
    parts: list[str] = []
    at = _HEADER
    for length in data[1:6]:
        part = data[at : at + length]
        if len(part) != length:
            raise Malformed("cut off")
        parts.append(part.decode())
        at += length
    join_ref, ref, topic, event, _meta = parts
    _check(join_ref, ref, topic, event)
    body = data[at:]
    is_json = data[6] == 1
    if is_json:
        json_value(body)
    return UserBroadcast(join_ref or None, ref or None, topic, event, body, is_json)


def _check(join_ref: str | None, ref: str | None, topic: str, event: str) -> None:
    if len(join_ref or "") > REF_MAX or len(ref or "") > REF_MAX:
        raise Malformed("a ref is too long")
    if len(topic.encode()) > TOPIC_MAX or len(event.encode()) > EVENT_MAX:
        raise Malformed("topic or event is too long")
    if topic != PHOENIX and not topic.startswith(TOPIC_PREFIX):
        raise Malformed("a topic begins with realtime:")


def json_value(data: bytes) -> Any:
    """The JSON value, if other parsers will take it too. Raises Malformed or what msgspec raises."""
    value: Any = msgspec.json.decode(data)
    if data.count(b"[") + data.count(b"{") > DEPTH_MAX:  # else it cannot be that deep
        _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX):
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below += cast(dict[str, Any], each).values()
            elif isinstance(each, list):
                below += cast(list[Any], each)
        if not below:
            return
        level = below
    raise Malformed("nested too deeply")


def envelope(
    vsn: Vsn, topic: str, event: str, payload: bytes, join_ref: str | None = None, ref: str | None = None
) -> bytes:
    """A text frame to the client around an encoded payload, which must be an object. `topic` is the whole one."""
    if vsn is Vsn.V1:
        return b'{"ref":%s,"join_ref":%s,"topic":%s,"event":%s,"payload":%s}' % (
            _encode(ref), _encode(join_ref), _encode(topic), _encode(event), payload,
        )  # fmt: skip
    return b"[%s,%s,%s,%s,%s]" % (_encode(join_ref), _encode(ref), _encode(topic), _encode(event), payload)


def reply(vsn: Vsn, push: Push | UserBroadcast, status: str, response: Mapping[str, Any]) -> bytes:
    """The answer to one push. Every reply carries both `status` and `response`."""
    payload = _encode({"status": status, "response": response})
    return envelope(vsn, push.topic, "phx_reply", payload, push.join_ref, push.ref)


# What `JSON.stringify` and `json.dumps` make of a beat: the one frame that quiet clients send, thousands of them.
_BEAT_V1: Final = re.compile(
    r'\{"topic": ?"phoenix", ?"event": ?"heartbeat", ?"payload": ?\{\}, ?"ref": ?"([0-9A-Za-z-]{1,64})"\}'
)
_BEAT_V2: Final = re.compile(r'\[null, ?"([0-9A-Za-z-]{1,64})", ?"phoenix", ?"heartbeat", ?\{\}\]')


def beat_answer(vsn: Vsn, data: str) -> bytes | None:
    """The `reply` to a heartbeat in one of its usual forms, without taking it apart; None for anything else."""
    if vsn is Vsn.V2:
        beat = _BEAT_V2.fullmatch(data)
        return beat and b'[null,"%s","phoenix","phx_reply",{"status":"ok","response":{}}]' % beat[1].encode()
    beat = _BEAT_V1.fullmatch(data)
    return beat and (
        b'{"ref":"%s","join_ref":null,"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}}}'
        % beat[1].encode()
    )


def broadcast_json(event: str, body: bytes, meta: bytes | None = None) -> bytes:
    """The payload of a broadcast in a text frame."""
    if meta is None:
        return b'{"type":"broadcast","event":%s,"payload":%s}' % (_encode(event), body)
    return b'{"type":"broadcast","event":%s,"payload":%s,"meta":%s}' % (_encode(event), body, meta)


def broadcast_binary(topic: str, event: str, body: bytes, meta: bytes = b"") -> bytes:
    """A kind 4 frame with a body of bytes, for version 2.0.0. Topic, event and meta have up to 255 bytes each."""
    t, e = topic.encode(), event.encode()
    return bytes((_KIND_BROADCAST, len(t), len(e), len(meta), 0)) + t + e + meta + body
