"""The sheet a scene is painted on: its coordinates, its noise, and the few brushes all scenes share.

Scenes are painted in bands of rows, so memory stays small at any size and progress is counted in rows that
exist. What is smooth is computed once per frame on a small grid and enlarged band by band.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from safelight.media.art.palette import F32, Palette

TEXTURE: Final = 256  # side of the tileable noise; wraps, so its size is never seen

Paint = Callable[[int, int], F32]
"""Rows y0..y1 of one frame as (rows, width, 3), display values about 0..1."""
Scene = Callable[[float], Paint]
"""The scene at a time in seconds."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """`x` and `y` are pixel centres, the shorter side spans -1..1; `v` is 0 (top) to 1 (bottom)."""

    width: int
    height: int
    palette: Palette
    rng: np.random.Generator
    texture: F32
    x: F32
    y: F32
    v: F32
    unit: float
    """Pixels per 1.0 of x and y."""
    fine: float
    """1 for a picture, less for clips: how fine the small grid is."""

    def grid(self) -> tuple[F32, F32, F32]:
        """(x, y, v) of the small grid that smooth fields are computed on."""
        longest = max(self.width, self.height)
        scale = min(1.0, 400.0 * self.fine / longest)
        cols, rows = max(8, round(self.width * scale)), max(8, round(self.height * scale))
        x = np.interp((np.arange(cols) + 0.5) / cols, (np.arange(self.width) + 0.5) / self.width, self.x)
        v = ((np.arange(rows) + 0.5) / rows).astype(np.float32)
        y = (v * 2 - 1) * np.float32(self.height / 2 / self.unit)
        return x.astype(np.float32)[None, :], y[:, None], v[:, None]

    def enlarge(self, field: F32, y0: int, y1: int) -> F32:
        """Rows y0..y1 of a small grid's field at full size, without seams between bands."""
        rows, cols = field.shape
        box = (0.0, y0 * rows / self.height, float(cols), y1 * rows / self.height)
        image = Image.fromarray(field).resize((self.width, y1 - y0), Image.Resampling.BICUBIC, box=box)
        return np.array(image, dtype=np.float32)

    def noise(self, x: F32, y: F32) -> F32:
        """The tileable noise at any coordinates (1.0 = one tile), mean 0, about -1..1."""
        fx, fy = x * np.float32(TEXTURE), y * np.float32(TEXTURE)
        bx, by = np.floor(fx), np.floor(fy)
        fx, fy = fx - bx, fy - by
        ix, iy = bx.astype(np.int32) & (TEXTURE - 1), by.astype(np.int32) & (TEXTURE - 1)
        jx, jy = (ix + 1) & (TEXTURE - 1), ((iy + 1) & (TEXTURE - 1)) * TEXTURE
        iy = iy * TEXTURE
        flat = self.texture.ravel()
        top = flat.take(iy + ix)
        top += (flat.take(iy + jx) - top) * fx
        low = flat.take(jy + ix)
        low += (flat.take(jy + jx) - low) * fx
        low -= top
        low *= fy
        low += top
        return low

    def clouds(self, x: F32, y: F32, warp: float) -> F32:
        """Noise whose coordinates are bent by noise: silk, smoke, cloud."""
        bend = self.noise(x * np.float32(0.7) + np.float32(0.31), y * np.float32(0.7) + np.float32(0.17))
        return self.noise(x + bend * np.float32(warp), y + bend * np.float32(warp * 0.6))

    def ridge(self, roughness: float, frequency: float) -> F32:
        """A mountain line over the columns, about -1..1."""
        return self.line(self.x * np.float32(frequency) + np.float32(self.rng.uniform(0, 50)), roughness)

    def line(self, at: F32, roughness: float) -> F32:
        """One-dimensional noise of six octaves."""
        total, weight, amplitude = np.zeros(at.shape, np.float32), 0.0, 1.0
        knots = self.rng.uniform(-1, 1, 256).astype(np.float32)
        for octave in range(6):
            p = at * np.float32(2**octave) + np.float32(octave * 17.3)
            i = np.floor(p).astype(np.int32)
            s = p - i
            s = s * s * (3 - 2 * s)
            a, b = knots[i & 255], knots[(i + 1) & 255]
            total += np.float32(amplitude) * (a + (b - a) * s)
            weight += amplitude
            amplitude *= roughness
        return (total / np.float32(weight * 0.6)).astype(np.float32)


def make_canvas(width: int, height: int, palette: Palette, rng: np.random.Generator, fine: float) -> Canvas:
    unit = min(width, height) / 2
    return Canvas(
        width=width,
        height=height,
        palette=palette,
        rng=rng,
        texture=_texture(rng),
        x=((np.arange(width) + 0.5 - width / 2) / unit).astype(np.float32),
        y=((np.arange(height) + 0.5 - height / 2) / unit).astype(np.float32),
        v=((np.arange(height) + 0.5) / height).astype(np.float32),
        unit=unit,
        fine=fine,
    )


def _texture(rng: np.random.Generator) -> F32:
    """Tileable noise with the spectrum of clouds, made once per picture."""
    spectrum = np.fft.rfft2(rng.standard_normal((TEXTURE, TEXTURE)))
    fy = np.fft.fftfreq(TEXTURE)[:, None] * TEXTURE
    fx = np.fft.rfftfreq(TEXTURE)[None, :] * TEXTURE
    radius = np.hypot(fx, fy)
    spectrum *= np.where(radius < 1, 0, 1 / np.maximum(radius, 2.2) ** 1.75)
    field = np.fft.irfft2(spectrum, (TEXTURE, TEXTURE))
    return np.ascontiguousarray(np.clip(field / (2.2 * field.std()), -1.3, 1.3), dtype=np.float32)


def smoothstep(low: float, high: float, value: F32) -> F32:
    s = np.clip((value - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return s * s * (3 - 2 * s)


def lay(image: F32, colour: F32, alpha: F32) -> None:
    """Lay a colour (one, or one per pixel) over the image where alpha (0..1 per pixel) says so, in place."""
    image += (colour - image) * alpha[..., None]


def shine(image: F32, colour: F32, amount: F32) -> None:
    """Add light the way film takes it (screen), so that it never burns out to a flat white, in place."""
    glow = np.clip(amount, 0, 1)[..., None] * colour
    image += glow * (1 - np.minimum(image, 1))
