"""Scenes without a horizon: silk, petals, bokeh."""

from __future__ import annotations

from typing import Final

import numpy as np

from safelight.media.art.canvas import Canvas, Paint, Scene, lay, shine, smoothstep
from safelight.media.art.palette import F32

TURN: Final = 4096  # steps of the tables over the angle: below a pixel at the largest size


def silk(c: Canvas) -> Scene:
    """Domain-warped folds, lit from the side like cloth."""
    rng = c.rng
    scale = float(rng.uniform(1.5, 2.4))
    bends = [(rng.uniform(1.1, 2.4), rng.uniform(0, 6.3), rng.uniform(0, 6.3), rng.uniform(0.5, 0.8)) for _ in range(5)]
    angle = float(rng.uniform(0, 6.3))
    speed = float(rng.uniform(0.25, 0.45))

    def scene(t: float) -> Paint:
        gx, gy, _ = c.grid()
        x = gx * np.float32(scale) + gy * 0
        y = gy * np.float32(scale) + gx * 0
        for i, (frequency, px, py, amount) in enumerate(bends):
            move = np.float32(t * speed * (1 if i % 2 else -0.7))
            x, y = (
                x + np.float32(amount) * np.sin(y * np.float32(frequency) + np.float32(px) + move),
                y + np.float32(amount) * np.sin(x * np.float32(frequency) + np.float32(py) - move),
            )
        field = np.sin(x * np.float32(1.3) + y * np.float32(0.6)) * np.float32(0.5) + np.float32(0.5)
        dy, dx = np.gradient(x * np.float32(0.6) + y * np.float32(0.8))
        steep = np.float32(0.4 * min(field.shape) / 2)
        nx, ny = dx * steep, dy * steep
        length = np.sqrt(nx * nx + ny * ny + 1)
        light = (nx * np.float32(np.cos(angle)) + ny * np.float32(np.sin(angle)) + np.float32(0.55)) / (
            length * np.float32(1.142)
        )
        tone = np.float32(0.02) + np.float32(0.62) * field + np.float32(0.36) * light
        gloss = np.clip(light, 0, 1) ** 12 * np.float32(0.45)
        tone, gloss = tone.astype(np.float32), gloss.astype(np.float32)

        def paint(y0: int, y1: int) -> F32:
            image = c.palette.map(c.enlarge(tone, y0, y1))
            shine(image, c.palette.light, c.enlarge(gloss, y0, y1))
            return image

        return paint

    return scene


def petals(c: Canvas) -> Scene:
    """A blossom of many whorls, opening slowly."""
    rng = c.rng
    count = int(rng.integers(5, 9))
    whorls = int(rng.integers(7, 10))
    cx, cy = float(rng.uniform(-0.16, 0.16)), float(rng.uniform(-0.12, 0.12))
    turns = rng.uniform(0, 6.3) + np.arange(whorls) * (np.pi / count * rng.uniform(0.85, 1.15))
    wobble = rng.uniform(0.85, 1.15, (whorls, count)).astype(np.float32)
    dark_ground = bool(rng.random() < 0.6 or c.palette.is_night)
    theta = np.arange(TURN, dtype=np.float32) * np.float32(2 * np.pi / TURN)
    size = float(rng.uniform(0.86, 1.08))
    reach = [size * (1 - i / whorls) ** 0.82 + 0.04 for i in range(whorls)]

    def scene(t: float) -> Paint:
        edges: list[F32] = []
        seams: list[F32] = []
        for i in range(whorls):
            turn = theta * np.float32(count) + np.float32(turns[i] * count + t * 0.1 * (1 if i % 2 else -0.6))
            turn = turn / np.float32(2 * np.pi)
            number = np.floor(turn).astype(np.int32) % count
            across = np.abs(turn % 1 - np.float32(0.5)) * 2
            breath = 1 + 0.035 * np.sin(t * 0.9 + i * 0.5)
            edge = (1 - across**2.6 * np.float32(0.42)) * wobble[i][number] * np.float32(reach[i] * breath)
            edges.append(edge.astype(np.float32))
            seams.append(((1 - across) ** 0.35 * np.float32(0.5) + np.float32(0.5)).astype(np.float32))
        gx, gy, _ = c.grid()
        ground = c.clouds(gx * np.float32(0.13) + np.float32(t * 0.006), gy * np.float32(0.13), 0.2)
        base = np.float32(0.1 if dark_ground else 0.8) + ground * np.float32(0.09)

        def paint(y0: int, y1: int) -> F32:
            dx, dy = c.x[None, :] - np.float32(cx), c.y[y0:y1, None] - np.float32(cy)
            r = np.hypot(dx, dy)
            step = ((np.arctan2(dy, dx) * np.float32(TURN / 2 / np.pi)).astype(np.int32)) & (TURN - 1)
            tone = c.enlarge(base, y0, y1)
            for i in range(whorls):
                edge = edges[i].take(step)
                inside = edge - r
                shade = np.clip(inside * np.float32(1 / 0.13) + 1, 0, 1)  # the shadow it throws outside itself
                tone *= 1 - np.float32(0.3) * shade * shade * (inside < 0)
                along = r / np.maximum(edge, np.float32(1e-4))
                depth = i / whorls
                colour = np.float32(0.3 + 0.12 * depth) + np.float32(0.5) * along * along * seams[i].take(step)
                colour += np.clip(along * np.float32(1.4) - np.float32(1.3), 0, np.float32(0.1))
                alpha = np.clip(inside * np.float32(c.unit) + np.float32(0.5), 0, 1)
                tone += (colour - tone) * alpha
            heart = np.clip(1 - r / np.float32(0.16 * size), 0, 1)
            image = c.palette.map(tone)
            lay(image, c.palette.light, smoothstep(0, 0.9, heart) * np.float32(0.85))
            shine(image, c.palette.light, np.exp(r * np.float32(-2.6)) * np.float32(0.22))
            return image

        return paint

    return scene


def bokeh(c: Canvas) -> Scene:
    """Lights out of focus, drifting."""
    rng = c.rng
    aspect, tall = c.width / 2 / c.unit, c.height / 2 / c.unit
    count = int(rng.integers(55, 85))
    radius = rng.uniform(0.03, 1, count) ** 2.2 * 0.26 + 0.025
    order = np.argsort(-radius)
    spots = np.stack(
        [
            rng.uniform(-1.1, 1.1, count) * aspect,
            rng.uniform(-1.1, 1.1, count) * tall,
            radius,
            rng.uniform(0.42, 1.0, count),
            rng.uniform(0.1, 0.5, count),
            rng.uniform(0, 6.3, count),
        ],
        axis=1,
    )[order]

    def scene(t: float) -> Paint:
        gx, gy, gv = c.grid()
        haze = c.clouds(gx * np.float32(0.12) + np.float32(t * 0.008), gy * np.float32(0.12), 0.25)
        base = np.float32(0.06) + np.float32(0.24) * gv + haze * np.float32(0.14)

        def paint(y0: int, y1: int) -> F32:
            image = c.palette.map(c.enlarge(base, y0, y1))
            for sx, sy, r, hue, power, phase in spots:
                px = (sx + 0.05 * np.sin(t * 0.5 + phase)) * c.unit + c.width / 2
                py = (sy - 0.03 * t * (0.4 + r * 4) + 0.03 * np.cos(t * 0.6 + phase)) * c.unit + c.height / 2
                wide = r * c.unit * (1 + 0.04 * np.sin(t + phase))
                left, right = max(0, int(px - wide - 2)), min(c.width, int(px + wide + 3))
                top, low = max(y0, int(py - wide - 2)), min(y1, int(py + wide + 3))
                if left >= right or top >= low:
                    continue
                columns = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(px)
                rows = np.arange(top, low, dtype=np.float32)[:, None] - np.float32(py)
                d = np.sqrt(columns * columns + rows * rows)
                soft = np.float32(1.2 + wide * 0.05)
                body = np.clip((np.float32(wide) - d) / soft, 0, 1)
                rim = np.exp(-(((d - np.float32(wide * 0.93)) / np.float32(wide * 0.07 + 0.8)) ** 2))
                glow = body * (np.float32(0.55) + np.float32(0.25) * d / np.float32(wide)) + rim * body * np.float32(
                    0.35
                )
                flick = power * (0.85 + 0.15 * np.sin(t * 1.3 + phase))
                shine(image[top - y0 : low - y0, left:right], c.palette.at(hue), glow * np.float32(flick * 1.25))
            return image

        return paint

    return scene
