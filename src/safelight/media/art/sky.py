"""The sky above every horizon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from safelight.media.art.canvas import Canvas, Paint, lay, shine, smoothstep
from safelight.media.art.palette import F32


@dataclass(frozen=True, slots=True)
class Sky:
    """Gradient, drifting clouds, a sun or moon with its glow, and stars at night."""

    canvas: Canvas
    horizon: float
    dark: float
    light: float
    disc: tuple[float, float, float]
    """x, y, radius."""
    cloudiness: float
    drift: float
    stars: F32
    """Rows of x px, y px, brightness."""

    def at(self, t: float) -> Paint:
        c = self.canvas
        gx, gy, gv = c.grid()
        puff = c.clouds(gx * np.float32(0.16) + np.float32(t * self.drift), gy * np.float32(0.42), 0.22)
        down = gv / np.float32(self.horizon)
        tone = np.float32(self.dark) + np.float32(self.light - self.dark) * down**1.25
        cx, cy, radius = self.disc[0], self.disc[1] - t * 0.012, self.disc[2]
        far = np.hypot(gx - np.float32(cx), gy - np.float32(cy))
        cover = smoothstep(0.05, 0.95, puff + np.float32(self.cloudiness)) * np.float32(0.47)
        bright = np.float32(0.62) + np.float32(0.36) * np.exp(far * np.float32(-1.4))
        tone = tone + puff * np.float32(0.05)
        tone += (bright - tone) * cover
        glow = np.float32(0.48) * np.exp(far * np.float32(-1.7))
        glow += np.float32(0.25) * np.exp(far * np.float32(-5 / (radius + 0.3)))

        def paint(y0: int, y1: int) -> F32:
            image = c.palette.map(c.enlarge(tone, y0, y1))
            paint_stars(image, self.stars, y0, y1, t)
            shine(image, c.palette.light, c.enlarge(glow, y0, y1))
            x0 = max(0, int(c.width / 2 + (cx - radius) * c.unit) - 1)
            x1 = min(c.width, int(c.width / 2 + (cx + radius) * c.unit) + 2)
            if x0 < x1 and abs(float(c.y[y0:y1].mean()) - cy) < radius + (y1 - y0) / c.unit:
                distance = np.hypot(c.x[None, x0:x1] - np.float32(cx), c.y[y0:y1, None] - np.float32(cy))
                edge = np.clip((np.float32(radius) - distance) * np.float32(c.unit) + np.float32(0.5), 0, 1)
                veil = c.enlarge(cover, y0, y1)[:, x0:x1]
                lay(image[:, x0:x1], c.palette.light * np.float32(0.98), edge * (1 - veil))
            return image

        return paint


def make_sky(c: Canvas, horizon: float, *, disc_below: float | None = None, cloudiness: float | None = None) -> Sky:
    rng = c.rng
    night = c.palette.is_night
    aspect = c.width / 2 / c.unit
    tall = c.height / 2 / c.unit
    low = (horizon * 2 - 1) * tall
    cy = low - rng.uniform(0.25, 0.95) * tall if disc_below is None else low - disc_below
    disc = (float(rng.uniform(-0.6, 0.6) * aspect), float(cy), float(rng.uniform(0.11, 0.27)))
    count = int(rng.integers(300, 520)) if night else 0
    stars = np.stack(
        [
            rng.uniform(0, c.width, count),
            rng.uniform(0, c.height * horizon, count),
            rng.uniform(0, 1, count) ** 4 * 0.9 + 0.08,
        ],
        axis=1,
    )
    return Sky(
        canvas=c,
        horizon=horizon,
        dark=float(rng.uniform(0.12, 0.2) if night else rng.uniform(0.3, 0.52)),
        light=float(rng.uniform(0.5, 0.62) if night else rng.uniform(0.8, 0.95)),
        disc=disc,
        cloudiness=float(rng.uniform(-0.1, 0.4)) if cloudiness is None else cloudiness,
        drift=float(rng.choice([-1, 1]) * rng.uniform(0.006, 0.014)),
        stars=stars.astype(np.float32),
    )


def paint_stars(image: F32, stars: F32, y0: int, y1: int, t: float) -> None:
    near = stars[(stars[:, 1] >= y0) & (stars[:, 1] < y1 - 1) & (stars[:, 0] < image.shape[1] - 1)]
    if len(near) == 0:
        return
    x, y = near[:, 0].astype(np.int32), near[:, 1].astype(np.int32) - y0
    twinkle = near[:, 2] * (0.85 + 0.15 * np.sin(t * 3 + near[:, 0]))
    for dx, dy, share in ((0, 0, 1.0), (1, 0, 0.35), (0, 1, 0.35)):
        image[y + dy, x + dx] += (twinkle * np.float32(share))[:, None]
