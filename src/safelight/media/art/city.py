"""A skyline at dusk with its windows lit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from safelight.media.art.canvas import Canvas, Paint, Scene, lay, shine, smoothstep
from safelight.media.art.palette import F32
from safelight.media.art.sky import make_sky


@dataclass(frozen=True, slots=True)
class _Block:
    """One row of buildings, per column: roof in pixels, which building, which column of windows."""

    roof: F32
    building: F32
    lattice: F32
    tone: float
    pitch: float
    """Window height in pixels."""
    lit: float


def _block(c: Canvas, horizon: float, near: float) -> _Block:
    rng = c.rng
    roof = np.full(c.width, c.height + 10, np.float32)  # nothing stands in the gaps
    building = np.zeros(c.width, np.float32)
    lattice = np.full(c.width, -1, np.float32)
    pitch = max(3.0, c.unit * (0.016 + 0.016 * near))
    at, number = -int(rng.integers(0, 40)), 0
    while at < c.width:
        wide = max(4, int(c.unit * rng.uniform(0.09, 0.24) * (0.6 + 0.6 * near)))
        left, right = max(0, at), min(c.width, at + wide)
        if right > left:
            rise = rng.beta(1.6, 2.6) * (0.62 - 0.2 * near) + 0.06
            roof[left:right] = (horizon + 0.3 * near - rise) * c.height
            if rng.random() < 0.3 and wide > 14:  # a spire
                middle = min(max(at + wide // 2, 0), c.width - 1)
                roof[middle : middle + max(1, int(c.unit / 160))] -= c.unit * rng.uniform(0.06, 0.2)
            building[left:right] = number
            inside = np.arange(left - at, right - at, dtype=np.float32) / np.float32(pitch)
            opening = (inside % 1 > 0.3) & (inside > 0.6) & (inside < wide / pitch - 0.5)
            lattice[left:right] = np.where(opening, np.floor(inside), -1)
        at, number = at + wide + (int(rng.integers(0, 3)) if near > 0.5 else 0), number + 1
    return _Block(roof, building, lattice, 0.34 * (1 - near) + 0.02, pitch, float(rng.uniform(0.22, 0.5)))


def city(c: Canvas) -> Scene:
    """A skyline at dusk with its windows lit."""
    rng = c.rng
    sky = make_sky(c, float(rng.uniform(0.66, 0.76)))
    blocks = [_block(c, sky.horizon - 0.05, near) for near in (0.05, 0.4, 0.9)]
    chance = rng.uniform(0, 1, (len(blocks), 64 * 32 * 64)).astype(np.float32)
    lamps = [c.palette.light, c.palette.at(0.9), c.palette.at(0.72)]

    def scene(t: float) -> Paint:
        above = sky.at(t)

        def paint(y0: int, y1: int) -> F32:
            image = above(y0, y1)
            rows = np.arange(y0, y1, dtype=np.float32)[:, None]
            haze = smoothstep(0.35, 1.0, c.v[y0:y1, None]) * np.float32(0.35)
            for i, block in enumerate(blocks):
                first = max(y0, int(block.roof.min()))
                if first >= y1:
                    continue
                below = image[first - y0 :]
                depth = rows[first - y0 :] - block.roof[None, :]
                alpha = np.clip(depth + np.float32(0.5), 0, 1)
                fade = np.float32(block.tone) + haze[first - y0 :] * np.float32(0.5 * (1 - i / 3))
                lay(below, c.palette.map(fade), alpha)
                floor = depth * np.float32(1 / (block.pitch * 1.35))
                inside = (floor > 0.8) & (floor % 1 > 0.42) & (block.lattice[None, :] >= 0)
                story = floor.astype(np.int32) & 63
                seat = (block.building.astype(np.int32) & 63) * 32 + (block.lattice.astype(np.int32) & 31)
                luck = chance[i].take(seat[None, :] * 64 + story)
                flick = np.float32(0.02 * np.sin(t * 0.9))
                glow = inside & (luck < np.float32(block.lit) + flick)
                strength = np.where(glow, np.float32(0.5) + luck, 0) * np.float32(0.5 + 0.2 * i)
                shine(below, lamps[i], strength.astype(np.float32))
            return image

        return paint

    return scene
