"""Short messages that may go past the WebSocket parser: exactly those that it would have given whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from safelight.realtime.transport import short_text

MASKS = st.binary(min_size=4, max_size=4)


def of_the_parser(data: bytes) -> list[bytes]:
    """What the library makes of these bytes on an open connection."""
    protocol = ServerProtocol(state=State.OPEN)
    protocol.receive_data(data)
    return [bytes(event.data) for event in protocol.events_received() if isinstance(event, Frame)]


def frame(opcode: int, payload: bytes, mask: bytes, first: int = 0x80) -> bytes:
    hidden = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes((first | opcode, 0x80 | len(payload))) + mask + hidden


@given(st.text(max_size=125).filter(lambda text: len(text.encode()) <= 125), MASKS)
def test_a_whole_short_text_is_read(text: str, mask: bytes) -> None:
    data = frame(Opcode.TEXT, text.encode(), mask)
    assert short_text(data) == text
    assert of_the_parser(data) == [text.encode()]


@given(st.text(max_size=40), MASKS, st.binary(max_size=3), st.integers(0, 12))
def test_more_or_less_than_one_frame_is_left_to_the_parser(text: str, mask: bytes, more: bytes, less: int) -> None:
    data = frame(Opcode.TEXT, text.encode()[:100], mask)
    changed = data + more if more else data[: len(data) - 1 - less]
    assert short_text(changed) is None


@given(st.binary(max_size=140))
def test_whatever_the_bytes_it_reads_only_what_the_parser_would_read(data: bytes) -> None:
    text = short_text(data)
    assert text is None or of_the_parser(data) == [text.encode()]


@given(st.sampled_from([0, 2, 8, 9, 10]), st.booleans(), MASKS)
def test_other_kinds_of_frames_and_fragments_are_left_to_the_parser(opcode: int, is_last: bool, mask: bytes) -> None:
    assert short_text(frame(opcode, b"x", mask, 0x80 if is_last else 0)) is None
    assert short_text(frame(Opcode.TEXT, b"x", mask, 0)) is None


@given(MASKS)
def test_what_is_no_utf8_is_left_to_the_parser(mask: bytes) -> None:
    assert short_text(frame(Opcode.TEXT, b"\xff\xfe", mask)) is None
