"""A stored result can really be shown (M2, M4)."""

import contextlib
import io
import random
import struct
import wave
import zlib

import av
import numpy as np
import pytest
from PIL import Image

from safelight.media import synth
from safelight.media.errors import NotMedia, ResultTooLarge, ResultTruncated, WrongType
from safelight.media.probe import Probed, probe


def encoded(image: Image.Image, fmt: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, fmt, **options)
    return out.getvalue()


def picture(fmt: str) -> bytes:
    return encoded(Image.open(io.BytesIO(synth.picture("fox", 1, 120, 80))), fmt)


def webm() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="webm") as container:
        stream = container.add_stream("libvpx-vp9", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(20):
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 48), (n * 10, 80, 255 - n * 10)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


@pytest.fixture
def look(tmp_path):
    def look(data: bytes, mime: str) -> Probed:
        path = tmp_path / "file"
        path.write_bytes(data)
        return probe(path, mime)

    return look


PICTURES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif", "AVIF": "image/avif"}


@pytest.mark.parametrize("fmt,mime", PICTURES.items())
def test_a_whole_picture_tells_its_size(look, fmt, mime):
    assert look(picture(fmt), mime) == Probed("image", mime, 120, 80, None)


@pytest.mark.parametrize("fmt,mime", PICTURES.items())
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_cut_picture_is_found(look, fmt, mime, share):
    data = picture(fmt)
    with pytest.raises((ResultTruncated, NotMedia)):
        look(data[: int(len(data) * share)], mime)


def test_a_png_without_its_last_chunk_is_found(look):
    with pytest.raises(ResultTruncated):
        look(picture("PNG")[:-12], "image/png")


def test_a_png_with_a_flipped_bit_is_found(look):
    data = bytearray(picture("PNG"))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(ResultTruncated):
        look(bytes(data), "image/png")


def test_a_picture_of_another_format_than_sniffed_is_not_media(look):
    with pytest.raises(NotMedia):
        look(picture("JPEG"), "image/png")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(look):
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    for side in (12_000, 60_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        bomb = (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
            + chunk(b"IEND", b"")
        )
        with pytest.raises(ResultTooLarge, match="pixels"):
            look(bomb, "image/png")


def test_a_turned_photo_tells_its_size_as_shown(look):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (80, 60)), "JPEG", exif=exif)
    assert (look(data, "image/jpeg").width, look(data, "image/jpeg").height) == (60, 80)


def test_a_whole_clip_tells_size_and_length(look):
    found = look(synth.clip("sea", 1, 96, 64, 1.5), "video/mp4")
    assert found == Probed("video", "video/mp4", 96, 64, 1.5)


def test_a_webm_tells_size_and_length(look):
    found = look(webm(), "video/webm")
    assert (found.kind, found.width, found.height) == ("video", 64, 48)
    assert found.duration_s == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_clip_is_found_wherever_it_is_cut(look, share):
    data = synth.clip("sea", 1, 96, 64, 1.5)
    with pytest.raises((ResultTruncated, NotMedia)):
        look(data[: int(len(data) * share)], "video/mp4")


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_cut_webm_is_found(look, share):
    data = webm()
    with pytest.raises((ResultTruncated, NotMedia)):
        look(data[: int(len(data) * share)], "video/webm")


def test_a_sound_tells_its_length_and_a_sound_is_no_video(look):
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\1" * 8000)
    assert look(out.getvalue(), "audio/wav") == Probed("audio", "audio/wav", None, None, 1.0)
    mp4 = io.BytesIO()
    with av.open(mp4, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(WrongType, match="no video"):
        look(mp4.getvalue(), "video/mp4")


def test_damage_of_any_kind_ends_in_a_media_error_or_a_whole_file(look):
    chance = random.Random(5)
    clip, png = synth.clip("x", 1, 48, 32, 0.5), picture("PNG")
    for data, mime in ((clip, "video/mp4"), (png, "image/png"), (picture("WEBP"), "image/webp")) * 40:
        broken = bytearray(data)
        for _ in range(chance.randint(1, 20)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        with contextlib.suppress(NotMedia, WrongType, ResultTruncated, ResultTooLarge):
            assert look(bytes(broken), mime).mime == mime
