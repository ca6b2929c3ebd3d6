"""Types come from bytes (M4)."""

import io
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from safelight.media import synth
from safelight.media.errors import NotMedia, WrongType
from safelight.media.intake import judge
from safelight.media.mediatype import TYPES, canonical, sniff


def image(fmt: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(out, fmt)
    return out.getvalue()


def sound() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\1" * 4000)
    return out.getvalue()


PNG, MP4 = synth.picture("x", 1, 32, 32), synth.clip("x", 1, 32, 32, 0.5)
HTML = b"<!DOCTYPE html><html><body>Sorry</body></html>"


@pytest.mark.parametrize(
    "data,mime",
    [
        (PNG, "image/png"),
        (image("JPEG"), "image/jpeg"),
        (image("WEBP"), "image/webp"),
        (image("GIF"), "image/gif"),
        (image("AVIF"), "image/avif"),
        (MP4, "video/mp4"),
        (sound(), "audio/wav"),
        (b"\0\0\0\x20ftypiso5\0\0\2\0iso5iso6mp41", "video/mp4"),
        (b"\0\0\0\x14ftypqt  \0\0\2\0qt  ", "video/quicktime"),
    ],
)
def test_the_first_bytes_name_the_type(data, mime):
    found = sniff(data[:4096])
    assert found is not None
    assert found.mime == mime


@pytest.mark.parametrize(
    "data",
    [b"", HTML, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"PK\3\4" + b"\0" * 40, b"{}", b"\0" * 100],
)
def test_what_is_not_kept_has_no_type(data):
    assert sniff(data) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(data):
    found = sniff(data)
    assert found is None or found.mime in TYPES


def test_declared_types_are_read_without_parameters_under_their_usual_name():
    assert canonical("Image/JPG; charset=utf-8") == "image/jpeg"
    assert canonical(None) == ""


@pytest.mark.parametrize(
    "declared", ["image/png", "image/jpeg", "application/octet-stream", None, "binary/octet-stream"]
)
def test_a_vague_or_wrong_declaration_of_the_same_kind_passes_and_the_bytes_decide(declared):
    assert judge(PNG, declared, frozenset({"image"})).mime == "image/png"


def test_a_page_declared_as_a_picture_is_not_media():
    with pytest.raises(NotMedia, match="HTML page"):
        judge(HTML, "image/png", None)


@pytest.mark.parametrize("declared", ["video/mp4", "text/html", "application/json"])
def test_a_picture_declared_as_something_else_is_refused(declared):
    with pytest.raises(WrongType, match="declared"):
        judge(PNG, declared, None)


def test_a_picture_where_a_video_is_expected_is_refused():
    with pytest.raises(WrongType, match="expected video"):
        judge(PNG, None, frozenset({"video"}))
