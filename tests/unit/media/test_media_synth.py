"""What the local provider and the emulators deliver (P2, P7)."""

import io
import struct
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest
from PIL import Image

from safelight.media import synth

MOTIF_PROMPTS = [words.split()[0] for words in synth.MOTIFS.values()]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.float64)


def test_the_same_prompt_seed_and_size_give_the_same_bytes_in_any_thread():
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: synth.picture("a red fox", 7, 200, 120), range(4)))
    assert len(set(made)) == 1
    assert synth.clip("a red fox", 7, 64, 48, 0.5) == synth.clip("a red fox", 7, 64, 48, 0.5)


def test_another_seed_or_prompt_gives_a_clearly_different_picture():
    base = pixels(synth.picture("a red fox", 1, 160, 160))
    for prompt, seed in (("a red fox", 2), ("a blue whale", 1), ("something", 1)):
        assert np.abs(base - pixels(synth.picture(prompt, seed, 160, 160))).mean() > 8


def test_words_choose_the_colours():
    fox = pixels(synth.picture("fox", 3, 128, 128)).mean(axis=(0, 1))
    sea = pixels(synth.picture("sea", 3, 128, 128)).mean(axis=(0, 1))
    assert fox[0] > fox[2] + 20
    assert sea[2] > sea[0] + 20
    day, night = (pixels(synth.picture(p, 3, 128, 128)).mean() for p in ("forest", "forest at night"))
    assert night < day * 0.8


@pytest.mark.parametrize("prompt", MOTIF_PROMPTS)
@pytest.mark.parametrize("size", [(16, 16), (97, 333), (640, 90)])
def test_every_motif_fits_every_shape(prompt, size):
    image = Image.open(io.BytesIO(synth.picture(prompt, 5, *size)))
    image.load()
    assert image.size == size
    assert image.format == "PNG"
    assert np.asarray(image).std() > 4, "not a flat colour"


@pytest.mark.parametrize("fmt,format_name", [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_the_format_asked_for_is_the_format_made(fmt, format_name):
    assert Image.open(io.BytesIO(synth.picture("x", 1, 32, 32, fmt))).format == format_name


def test_progress_rises_from_rows_done_to_one():
    heard: list[float] = []
    synth.picture("hills", 1, 64, 512, on_progress=heard.append)
    assert heard == sorted(heard)
    assert len(heard) >= 8
    assert heard[-1] == 1.0
    assert 0 < heard[0] < 0.25


def test_what_progress_raises_ends_the_work():
    class Stop(Exception):
        pass

    def stop(_: float) -> None:
        raise Stop

    with pytest.raises(Stop):
        synth.picture("x", 1, 64, 64, on_progress=stop)
    with pytest.raises(Stop):
        synth.clip("x", 1, 64, 64, 0.5, on_progress=stop)


@pytest.mark.parametrize("prompt", MOTIF_PROMPTS)
def test_a_clip_is_h264_with_its_index_first_and_moves(prompt):
    heard: list[float] = []
    data = synth.clip(prompt, 4, 161, 90, 1.0, fps=12, on_progress=heard.append)
    assert heard[-1] == 1.0
    assert len(heard) == 13
    boxes, at = [], 0
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        boxes.append(name)
        at += size
    assert boxes.index(b"moov") < boxes.index(b"mdat")
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        frames = [f.to_ndarray(format="rgb24").astype(int) for f in container.decode(stream)]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (160, 90)
    assert len(frames) == 12
    assert np.abs(frames[0] - frames[-1]).mean() > 0.3


@pytest.mark.parametrize("size", [(15, 64), (64, 2049), (0, 0), (-5, 64)])
def test_sizes_outside_the_bounds_are_refused(size):
    with pytest.raises(ValueError, match="16"):
        synth.picture("x", 1, *size)
    with pytest.raises(ValueError, match="16"):
        synth.clip("x", 1, *size, 1.0)


def test_other_bad_requests_are_refused():
    for duration in (0.4, 20.1, float("nan")):
        with pytest.raises(ValueError, match="duration_s"):
            synth.clip("x", 1, 64, 64, duration)
    with pytest.raises(ValueError, match="fps"):
        synth.clip("x", 1, 64, 64, 1.0, fps=0)
    with pytest.raises(ValueError, match="fmt"):
        synth.picture("x", 1, 64, 64, "bmp")


def test_odd_prompts_are_fine():
    for prompt in ("", "狐狸" * 5000, "\ud800", "a" * 100_000):
        assert synth.picture(prompt, -1, 16, 16)
