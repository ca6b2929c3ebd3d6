"""Scenes with a horizon: hills, forest, dunes, sea, aurora."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from safelight.media.art.canvas import Canvas, Paint, Scene, lay, shine, smoothstep
from safelight.media.art.palette import F32
from safelight.media.art.sky import Sky, make_sky, paint_stars

# --- hills, forest, dunes -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layer:
    """One range of hills: its line in pixels per column, its colour, and how far its mist reaches."""

    line: F32
    foot: F32
    """The line without its trees: mist gathers from here."""
    tone: float
    mist: float
    mist_px: float


def _ranges(c: Canvas, sky: Sky, count: int, roughness: float, amplitude: float, trees: bool) -> list[_Layer]:
    rng = c.rng
    layers: list[_Layer] = []
    reach = 1.0 - sky.horizon
    for i in range(count):
        near = (i + 1) / count
        base = sky.horizon + reach * (0.86 * (i / count) ** 1.25) + 0.02
        height = amplitude * (0.45 + 0.75 * near) * rng.uniform(0.8, 1.2)
        line = base - height * (0.25 + 0.5 * c.ridge(roughness, rng.uniform(0.9, 1.5) * (1.5 - 0.5 * near)))
        foot = (line * c.height).astype(np.float32)
        top = foot - _conifers(c, near) if trees and i >= count // 3 else foot
        tone = 0.66 * (1 - near) ** 1.2 + 0.03
        mist = (0.66 if trees else 0.5) * (1 - 0.55 * near)
        layers.append(_Layer(top, foot, tone, tone + mist * 0.45, c.height * 0.2))
    return layers


def _conifers(c: Canvas, near: float) -> F32:
    """Heights in pixels of a row of firs, per column."""
    rng = c.rng
    tall = 0.2 * near**1.6 * c.unit + 4
    count = int(min(260, 7 + 2.1 * c.width / tall))
    heights = np.zeros(c.width, np.float32)
    columns = np.arange(c.width, dtype=np.float32)
    for centre, size in zip(rng.uniform(-10, c.width + 10, count), rng.uniform(0.45, 1.0, count), strict=True):
        top, half = tall * size, tall * size * 0.27
        left, right = max(0, int(centre - half)), min(c.width, int(centre + half) + 1)
        if left >= right:
            continue
        slope = 1 - np.abs(columns[left:right] - np.float32(centre)) / np.float32(half)
        boughs = np.abs(slope * 5 % 1 - np.float32(0.5)) * np.float32(0.16)
        shape = np.clip(slope + boughs - np.float32(0.06), 0, 1) * np.float32(top)
        heights[left:right] = np.maximum(heights[left:right], shape)
    return heights


def _land(c: Canvas, image: F32, layers: list[_Layer], y0: int, y1: int) -> None:
    rows = np.arange(y0, y1, dtype=np.float32)[:, None]
    for layer in layers[_hidden(layers, y0) :]:
        first = int(max(y0, np.floor(layer.line.min()) - 1))
        if first >= y1:
            continue
        depth = rows[first - y0 :] - layer.line[None, :]
        alpha = np.clip(depth + np.float32(0.5), 0, 1)
        fog = np.clip((rows[first - y0 :] - layer.foot[None, :]) * np.float32(1 / layer.mist_px), 0, 1)
        tone = np.float32(layer.tone) + np.float32(layer.mist - layer.tone) * fog
        lay(image[first - y0 :], c.palette.map(tone), alpha)


def _hidden(layers: list[_Layer], y0: int) -> int:
    """How many layers are wholly behind another from row y0 down."""
    return max((i for i, layer in enumerate(layers) if layer.line.max() + 1 < y0), default=0)


def _covered(layers: list[_Layer], y0: int) -> bool:
    return any(layer.line.max() + 1 < y0 for layer in layers)


def hills(c: Canvas) -> Scene:
    """Ranges of hills fading into mist under a low sun."""
    sky = make_sky(c, float(c.rng.uniform(0.5, 0.64)))
    layers = _ranges(c, sky, int(c.rng.integers(4, 7)), c.rng.uniform(0.42, 0.54), c.rng.uniform(0.2, 0.32), False)
    return _under(c, sky, layers)


def forest(c: Canvas) -> Scene:
    """Firs on misty slopes."""
    sky = make_sky(c, float(c.rng.uniform(0.42, 0.55)))
    layers = _ranges(c, sky, int(c.rng.integers(5, 7)), 0.42, c.rng.uniform(0.14, 0.24), True)
    return _under(c, sky, layers)


def _under(c: Canvas, sky: Sky, layers: list[_Layer]) -> Scene:
    def scene(t: float) -> Paint:
        above = sky.at(t)
        gx, gy, _ = c.grid()
        haze = c.clouds(gx * np.float32(0.22) + np.float32(t * 0.02), gy * np.float32(0.7), 0.15)

        def paint(y0: int, y1: int) -> F32:
            image = np.zeros((y1 - y0, c.width, 3), np.float32) if _covered(layers, y0) else above(y0, y1)
            _land(c, image, layers, y0, y1)
            bank = smoothstep(sky.horizon - 0.1, sky.horizon + 0.12, c.v[y0:y1])
            bank = bank * (1 - smoothstep(sky.horizon + 0.12, 0.98, c.v[y0:y1]))
            wisp = smoothstep(-0.25, 0.9, c.enlarge(haze, y0, y1)) * bank[:, None]
            lay(image, c.palette.at(0.84) * np.float32(0.6) + c.palette.light * np.float32(0.4), wisp * 0.42)
            return image

        return paint

    return scene


def dunes(c: Canvas) -> Scene:
    """Sand with a lit and a shaded flank to every crest, and wind-drawn ripples."""
    rng = c.rng
    sky = make_sky(c, float(rng.uniform(0.42, 0.54)), cloudiness=-0.2)
    side = 1.0 if sky.disc[0] > 0 else -1.0
    count = int(rng.integers(4, 6))
    crests: list[tuple[F32, F32, float]] = []
    for i in range(count):
        near = (i + 1) / count
        line = sky.horizon + (1 - sky.horizon) * 0.8 * (i / count) ** 1.3 + 0.03
        wave = c.ridge(0.22, rng.uniform(0.55, 0.9) * (1.4 - 0.5 * near))
        line = line - (0.05 + 0.16 * near) * wave
        wide = max(3, round(c.unit * 0.12)) | 1  # light falls on the dune, not on each wrinkle of its crest
        edge = np.pad(np.gradient(line * c.height), wide // 2, mode="edge")
        slope = np.convolve(edge, np.ones(wide) / wide, mode="valid")
        crests.append(((line * c.height).astype(np.float32), slope.astype(np.float32), near))

    def scene(t: float) -> Paint:
        above = sky.at(t)

        def paint(y0: int, y1: int) -> F32:
            image = above(y0, y1)
            rows = np.arange(y0, y1, dtype=np.float32)[:, None]
            for line, slope, near in crests:
                depth = rows - line[None, :]
                if depth[-1].max() < 0:
                    continue
                alpha = np.clip(depth + np.float32(0.5), 0, 1)
                fall = np.clip(depth * np.float32(1 / (c.height * (0.1 + 0.3 * near))), 0, 1)
                lit = np.clip(np.float32(0.5) + np.float32(side * 1.4) * slope[None, :], 0, 1)
                bend = c.noise(c.x[None, :] * np.float32(0.3) + depth * np.float32(0.0004), rows * np.float32(0.0006))
                ripple = np.sin(
                    depth * np.float32(55 / c.unit / (0.4 + near)) + bend * 26 + np.float32(t * 0.8)
                ) * np.float32(0.012 * near)
                tone = np.float32(0.72 - 0.28 * near) + np.float32(0.22) * lit - np.float32(0.3) * fall * lit
                lay(image, c.palette.map(tone - (1 - lit) * np.float32(0.16) + ripple), alpha)
            return image

        return paint

    return scene


# --- sea ----------------------------------------------------------------------------------------------------


def sea(c: Canvas) -> Scene:
    """Water under the sky, with the sun's road on it."""
    rng = c.rng
    sky = make_sky(c, float(rng.uniform(0.46, 0.6)), disc_below=float(rng.uniform(0.12, 0.6)))
    top = round(sky.horizon * c.height)
    islands = _ranges(c, sky, 2, 0.5, 0.13, False) if rng.random() < 0.6 else []
    shore = [replace(i, line=np.minimum(i.line, top + 1), tone=0.42, mist=0.5) for i in islands[:1]]

    def scene(t: float) -> Paint:
        above = sky.at(t)

        def paint(y0: int, y1: int) -> F32:
            first = max(y0, top)
            if first == y0:
                image = np.empty((y1 - y0, c.width, 3), np.float32)
            else:
                image = above(y0, y1)
                _land(c, image, shore, y0, y1)
            if first >= y1:
                return image
            v = (c.v[first:y1, None] - np.float32(sky.horizon)) / np.float32(1 - sky.horizon)
            far = 1 / (np.maximum(v, 0) + np.float32(0.045))
            x = c.x[None, :] * far
            swell = c.noise(
                x * np.float32(0.045) + np.float32(t * 0.015), far * np.float32(0.16) - np.float32(t * 0.03)
            )
            chop = c.noise(x * np.float32(0.13) - np.float32(t * 0.03), far * np.float32(0.55) + np.float32(t * 0.05))
            ripple = c.noise(x * np.float32(0.4) + np.float32(t * 0.06), far * np.float32(2.3) + np.float32(t * 0.13))
            wave = swell * np.float32(0.45) + chop * np.float32(0.35) + ripple * np.float32(0.4) * v
            tone = np.float32(0.62) - np.float32(0.42) * np.sqrt(v) + wave * (np.float32(0.05) + np.float32(0.1) * v)
            water = c.palette.map(tone)
            road = np.exp(-(((c.x[None, :] - np.float32(sky.disc[0])) / (np.float32(0.1) + v * np.float32(0.55))) ** 2))
            glint = smoothstep(0.1, 0.7, wave + road * (np.float32(0.42) - np.float32(0.2) * v))
            shine(water, c.palette.light, road * (glint * np.float32(0.85) + np.float32(0.12)))
            image[first - y0 :] = water
            return image

        return paint

    return scene


# --- aurora -------------------------------------------------------------------------------------------------


def aurora(c: Canvas) -> Scene:
    """Curtains of light over a dark ridge, stars behind them."""
    rng = c.rng
    count = 700
    stars = np.stack(
        [
            rng.uniform(0, c.width, count),
            rng.uniform(0, c.height, count),
            rng.uniform(0, 1, count) ** 4 * 0.8 + 0.06,
        ],
        axis=1,
    ).astype(np.float32)
    sky = make_sky(c, 0.8, cloudiness=-1.0)
    layers = _ranges(c, sky, 3, 0.5, 0.2, bool(rng.random() < 0.5))
    layers = [replace(layer, tone=layer.tone * 0.22, mist=layer.tone * 0.3) for layer in layers]
    curtains = [
        (
            rng.uniform(-0.15, 0.4),
            rng.uniform(0.7, 1.5),
            rng.uniform(0, 6.3),
            rng.uniform(0.45, 0.95),
            rng.uniform(0.6, 1),
        )
        for _ in range(int(rng.integers(3, 5)))
    ]

    def scene(t: float) -> Paint:
        gx, gy, gv = c.grid()
        light = np.zeros((gv.shape[0], gx.shape[1]), np.float32)
        hue = np.zeros_like(light)
        for low, frequency, phase, length, strength in curtains:
            fold = np.sin(gx * np.float32(frequency * 1.7) + np.float32(phase + t * 0.22))
            fold = fold * np.float32(0.22) + np.float32(0.1) * np.sin(
                gx * np.float32(frequency * 4.1) + np.float32(phase * 2 - t * 0.3)
            )
            up = np.float32(low) + fold - gy
            rays = c.noise(
                gx * np.float32(0.55) + fold * np.float32(0.35) + np.float32(phase + t * 0.012),
                np.full_like(gx, phase),
            )
            reach = np.float32(length) * (np.float32(0.75) + np.float32(0.55) * rays)
            body = np.exp(-np.maximum(up, 0) / np.maximum(reach, np.float32(0.12))) * smoothstep(-0.05, 0.1, up)
            body *= (np.float32(0.62) + np.float32(0.6) * np.maximum(rays, -1)) * np.float32(strength)
            body = np.clip(body, 0, 1)
            light += body * (1 - light)
            hue += body * np.clip(up / np.float32(length), 0, 1)
        tone = np.float32(0.36) + np.float32(0.55) * light - np.float32(0.2) * hue
        violet = np.clip(hue * np.float32(0.55), 0, 1)
        ground = np.float32(0.05) + np.float32(0.2) * gv + light * 0

        def paint(y0: int, y1: int) -> F32:
            image = c.palette.map(c.enlarge(ground, y0, y1))
            paint_stars(image, stars, y0, y1, t)
            glow = c.enlarge(light, y0, y1)
            shine(image, c.palette.map(c.enlarge(tone, y0, y1)), glow * np.float32(1.05))
            shine(image, np.array([0.62, 0.25, 0.72], np.float32), c.enlarge(violet, y0, y1))
            _land(c, image, layers, y0, y1)
            return image

        return paint

    return scene
