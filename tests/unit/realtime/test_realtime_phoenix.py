"""The wire protocol: what clients send is understood, what they could send breaks nothing."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from safelight.realtime.phoenix import (
    Malformed,
    Push,
    UserBroadcast,
    Vsn,
    beat_answer,
    broadcast_binary,
    broadcast_json,
    decode,
    envelope,
    reply,
)

VSNS = st.sampled_from(list(Vsn))
DEEP = "[" * 5000 + "]" * 5000


def test_a_version_1_frame_is_an_object() -> None:
    frame = '{"topic":"realtime:a","event":"phx_join","payload":{"config":{}},"ref":"1","join_ref":"1"}'
    assert decode(Vsn.V1, frame) == Push("1", "1", "realtime:a", "phx_join", {"config": {}})


def test_a_version_1_heartbeat_of_the_python_client_has_no_ref() -> None:
    frame = '{"topic":"phoenix","event":"heartbeat","payload":{},"ref":null}'
    assert decode(Vsn.V1, frame) == Push(None, None, "phoenix", "heartbeat", {})


@given(VSNS, st.text("abcXYZ019-", min_size=1, max_size=70), st.booleans())
def test_the_usual_beat_is_answered_as_any_beat_is(vsn: Vsn, ref: str, is_spaced: bool) -> None:
    beat: object = [None, ref, "phoenix", "heartbeat", {}]
    if vsn is Vsn.V1:
        beat = {"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": ref}
    data = json.dumps(beat, separators=None if is_spaced else (",", ":"))
    if len(ref) > 64:
        assert beat_answer(vsn, data) is None, "the parser says what is wrong with it"
    else:
        assert beat_answer(vsn, data) == reply(vsn, decode(vsn, data), "ok", {})


@given(VSNS, st.text())
@example(Vsn.V2, '[null,"1","phoenix","heartbeat",{}]\n')
@example(Vsn.V2, '["1","1","phoenix","heartbeat",{}]')
@example(Vsn.V2, '[null,"\\u0031","phoenix","heartbeat",{}]')
def test_nothing_else_is_answered_without_being_read(vsn: Vsn, data: str) -> None:
    assert beat_answer(vsn, data) is None


def test_a_version_2_frame_is_an_array() -> None:
    assert decode(Vsn.V2, '["6","7","realtime:a","access_token",{"access_token":"x"}]') == Push(
        "6", "7", "realtime:a", "access_token", {"access_token": "x"}
    )


def test_the_binary_broadcast_of_the_facts_page_is_understood() -> None:
    frame = bytes.fromhex("0301010e030001") + b"67realtime:room1cur" + b'{"x":1}'
    assert decode(Vsn.V2, frame) == UserBroadcast("6", "7", "realtime:room1", "cur", b'{"x":1}', True)


def test_a_binary_body_need_not_be_json() -> None:
    frame = bytes((3, 1, 1, 10, 1, 0, 0)) + b"12realtime:re" + b"\xff\x00\xfe"
    assert decode(Vsn.V2, frame) == UserBroadcast("1", "2", "realtime:r", "e", b"\xff\x00\xfe", False)


def test_a_text_broadcast_keeps_its_body_as_it_came() -> None:
    frame = '["1","2","realtime:r","broadcast",{"type":"broadcast","event":"e","payload":{"a": [1,  2]}}]'
    assert decode(Vsn.V2, frame) == UserBroadcast("1", "2", "realtime:r", "e", b'{"a": [1,  2]}', True)


@pytest.mark.parametrize(
    "data",
    [
        "", "{}", "[]", "null", "[1,2,3,4,5]", '["1","1","other:a","x",{}]', '["1","1","realtime:a","x"]',
        '["' + "r" * 65 + '","1","realtime:a","x",{}]', f'["1","1","realtime:a","x",{{"a":{DEEP}}}]',
        f'["1","1","realtime:{"a" * 255}","x",{{}}]', '["1","1","realtime:a","broadcast",{"payload":{}}]',
        b"", b"\x03", b"\x04\x00\x00\x00\x00\x00\x00", b"\x03\xff\x00\x00\x00\x00\x01",
        bytes((3, 1, 1, 10, 1, 0, 1)) + b"12realtime:re" + b"{not json", b"\x03\x01\x00\x00\x00\x00\x00\xff",
        "x" * (1024 * 1024 + 1),
    ],
)  # fmt: skip
def test_what_is_not_of_the_protocol_is_malformed(data: str | bytes) -> None:
    with pytest.raises(Malformed):
        decode(Vsn.V2, data)


def test_binary_frames_are_not_of_version_1() -> None:
    with pytest.raises(Malformed):
        decode(Vsn.V1, bytes((3, 1, 1, 10, 1, 0, 1)) + b"12realtime:re{}")


@given(VSNS, st.one_of(st.text(), st.binary()))
@example(Vsn.V1, DEEP)
@example(Vsn.V2, f'["1","1","realtime:a","broadcast",{{"event":"e","payload":{DEEP}}}]')
@example(Vsn.V2, '["1","1","realtime:a","x",{"a":"\\ud800"}]')
def test_no_bytes_raise_anything_but_malformed(vsn: Vsn, data: str | bytes) -> None:
    with contextlib.suppress(Malformed):
        decode(vsn, data)


@given(st.binary(min_size=7, max_size=80))
@settings(max_examples=300)
def test_no_binary_frame_raises_anything_but_malformed(rest: bytes) -> None:
    with contextlib.suppress(Malformed):
        decode(Vsn.V2, b"\x03" + rest)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(VSNS, TEXT, TEXT, st.none() | TEXT, st.none() | TEXT)
def test_what_we_send_is_json_of_its_version(
    vsn: Vsn, topic: str, event: str, ref: str | None, join_ref: str | None
) -> None:
    sent: Any = json.loads(envelope(vsn, topic, event, b'{"a":1}', join_ref, ref))
    if vsn is Vsn.V1:
        assert sent == {"ref": ref, "join_ref": join_ref, "topic": topic, "event": event, "payload": {"a": 1}}
    else:
        assert sent == [join_ref, ref, topic, event, {"a": 1}]


def test_every_reply_has_status_and_response() -> None:
    sent = json.loads(reply(Vsn.V2, Push(None, "26", "phoenix", "heartbeat", {}), "ok", {}))
    assert sent == [None, "26", "phoenix", "phx_reply", {"status": "ok", "response": {}}]


def test_a_binary_broadcast_to_the_client_is_of_kind_4() -> None:
    assert broadcast_binary("realtime:ä", "e", b"\x01\x02", b"{}") == (
        bytes((4, 11, 1, 2, 0)) + "realtime:äe{}".encode() + b"\x01\x02"
    )


def test_a_broadcast_in_text_carries_its_meta() -> None:
    assert json.loads(broadcast_json("e", b"{}", b'{"id":"1"}')) == {
        "type": "broadcast", "event": "e", "payload": {}, "meta": {"id": "1"},
    }  # fmt: skip
