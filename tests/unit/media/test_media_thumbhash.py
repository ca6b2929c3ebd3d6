"""The hash means to every decoder what it means to us (M2)."""

from base64 import b64decode

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from thumbhash import (
    rgba_to_thumb_hash,
    thumb_hash_to_approximate_aspect_ratio,
    thumb_hash_to_average_rgba,
)

from safelight.media.thumbhash import thumbhash_of


def light(code: str, width: int, height: int) -> np.ndarray:
    """The light of an opaque hash, decoded as the format's page says (the package's own decoder shows grey only)."""
    data = b64decode(code)
    header = int.from_bytes(data[:5], "little")
    mean, scale, short, landscape = header & 63, header >> 18 & 31, header >> 24 & 7, header >> 39
    nx, ny = (7, max(3, short)) if landscape else (max(3, short), 7)
    nibbles = [n for byte in data[5:] for n in (byte & 15, byte >> 4)]
    waves = [(cx, cy) for cy in range(ny) for cx in range(nx) if (cx or cy) and cx * ny < nx * (ny - cy)]
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height)[:, None] + 0.5) / height
    shown = np.full((height, width), mean / 63)
    for (cx, cy), level in zip(waves, nibbles, strict=False):
        wave = np.cos(np.pi * cx * x) * np.cos(np.pi * cy * y) * (2 if cx else 1) * (2 if cy else 1)
        shown += (level / 7.5 - 1) * scale / 31 * wave
    return shown


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 40), st.integers(3, 40), st.integers(0, 2**32 - 1))
def test_it_equals_the_reference_for_opaque_pictures_but_for_rounding(width, height, seed):
    smooth = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    image = Image.fromarray(smooth).resize((width, height), Image.Resampling.BICUBIC)
    ours = b64decode(thumbhash_of(image))
    theirs = bytes(rgba_to_thumb_hash(width, height, list(image.convert("RGBA").tobytes())))
    assert len(ours) == len(theirs)
    nibbles = [[n for byte in code for n in (byte & 15, byte >> 4)] for code in (ours[5:], theirs[5:])]
    assert all(abs(a - b) <= 1 for a, b in zip(*nibbles, strict=True))
    assert thumb_hash_to_average_rgba(list(ours)) == pytest.approx(thumb_hash_to_average_rgba(list(theirs)), abs=0.04)


def test_a_transparent_picture_decodes_with_its_transparency():
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((0, 0, 31, 63), fill=(220, 60, 20, 255))
    code = list(b64decode(thumbhash_of(image)))
    r, g, b, a = thumb_hash_to_average_rgba(code)
    assert (r, g, b) == pytest.approx((220 / 255, 60 / 255, 20 / 255), abs=0.06)
    assert a == pytest.approx(0.5, abs=0.05)
    assert len(code) == 6 + (14 + 5 + 5 + 14 + 1) // 2


def test_left_and_right_top_and_bottom_stay_where_they_are():
    image = Image.new("RGB", (60, 30), (10, 10, 60))
    ImageDraw.Draw(image).rectangle((30, 0, 59, 14), fill=(250, 240, 200))
    true = np.asarray(image, dtype=float).mean(axis=2) / 255
    shown = light(thumbhash_of(image), 60, 30)
    assert np.corrcoef(shown.ravel(), true.ravel())[0, 1] > 0.9
    assert shown[:10, 40:].mean() > shown[20:, :20].mean() + 0.5
    assert shown[:10, 40:].mean() > shown[:10, :20].mean() + 0.5
    assert shown[:10, 40:].mean() > shown[20:, 40:].mean() + 0.5


@given(st.integers(1, 300), st.integers(1, 300), st.tuples(*[st.integers(0, 255)] * 4))
def test_any_shape_and_colour_gives_a_short_hash(width, height, colour):
    code = b64decode(thumbhash_of(Image.new("RGBA", (width, height), colour)))
    assert 5 <= len(code) <= 25
    assert thumb_hash_to_approximate_aspect_ratio(list(code)) > 0
