"""Colours from words: `fox` is orange, `sea` is blue, `night` darkens whatever else was said.

A palette is six stops from dark to light, mixed in OKLab (so that a blend of orange and blue does not turn to
mud), plus the colour of the light that falls on the scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.floating[Any]]
"""Float32 everywhere that costs time; numpy's stubs widen too eagerly to promise more."""

LUT_SIZE: Final = 1024  # finer than 8 bits, so that slow gradients do not band before the dither

# name: (words, six stops dark to light, light)
PALETTES: Final[dict[str, tuple[str, str, str]]] = {
    "ember": (
        "fox red orange autumn fire flame ember tiger pumpkin copper lava dragon phoenix maple",
        "1c0b14 5a1420 a8321c e2691f f7a541 fde6b8",
        "ffd9a0",
    ),
    "sea": (
        "sea ocean water lake river wave blue whale dolphin fish coral boat ship rain ice beach coast shore",
        "06142b 0b3a63 14739b 3fb3c2 9fe0d6 f3f7e6",
        "fff1cf",
    ),
    "forest": (
        "forest green tree jungle leaf moss bamboo frog fern meadow grass pine woods wood spring garden",
        "07170f 12382a 2f6b45 7ba654 cfd68a f6f3d2",
        "fff0b8",
    ),
    "night": (
        "night midnight star stars galaxy space cosmos nebula moon dream owl wolf astronaut planet",
        "060714 141a3f 34307a 6d57b5 b79adf f1e6ff",
        "e9ecff",
    ),
    "neon": (
        "neon cyber cyberpunk robot synthwave arcade future futuristic electric laser hologram tokyo city",
        "0a0618 2b0b52 7a1390 e02a9a 3ad6e8 e8fbff",
        "ff5cc8",
    ),
    "sunset": (
        "sunset dusk dawn sunrise evening golden gold honey lion desert savanna horizon sun sunny summer",
        "1d1038 552060 b03a6a ef6d5a fbb26a ffefc4",
        "ffe2a6",
    ),
    "rose": (
        "rose pink flower petal blossom cherry love heart ballet candy cat kitten peony bloom sakura",
        "2a0d24 6d1f4a b9446f e98298 f8bfc0 fff1ea",
        "ffe6e0",
    ),
    "snow": (
        "snow winter white frost glacier arctic bear penguin mountain alps cloud fog mist swan silver",
        "13202f 35506b 6f90a8 a9c3cf dbe6ea fdfbf6",
        "fff3e2",
    ),
    "sand": (
        "sand dune dunes camel clay earth brown coffee bread dog horse egypt canyon wheat lioness vintage",
        "21130f 5b3323 a2683c d69e5f efcf97 fdf3da",
        "fff0cf",
    ),
    "aurora": (
        "aurora magic fairy crystal emerald teal turquoise peacock alien mermaid jade enchanted northern",
        "04101c 0a2f45 0f6b6a 2fbf8f a6ecb0 f2ffe8",
        "c9ffe6",
    ),
    "violet": (
        "violet purple lavender lilac wizard amethyst grape orchid royal mystic butterfly iris music jazz",
        "140a2b 3a1a66 6f3aa6 a873d1 dcb4ea fff2f6",
        "ffe3f3",
    ),
    "citrus": (
        "lemon citrus yellow lime fruit bee banana parrot toy happy joy party pop juice food breakfast",
        "123035 17706a 59b36b c9d94a ffd84d fff7cf",
        "fff6c2",
    ),
}

NIGHT_WORDS: Final = frozenset(
    ("night", "midnight", "moon", "moonlit", "moonlight", "dark", "stars", "starry", "nocturnal")
)


@dataclass(frozen=True, slots=True)
class Palette:
    """`lut`: LUT_SIZE colours dark to light, display values 0..1. `light`: colour of sun, moon or lamps."""

    name: str
    lut: F32
    light: F32
    is_night: bool

    def at(self, position: float) -> F32:
        """The colour at 0 (darkest) .. 1 (lightest)."""
        return self.lut[round(min(max(position, 0.0), 1.0) * (LUT_SIZE - 1))]

    def map(self, tone: F32) -> F32:
        """Colours of a field of positions; values outside 0..1 are clamped."""
        index = np.clip(tone * np.float32(LUT_SIZE - 1), 0, LUT_SIZE - 1).astype(np.int16)
        return np.take(self.lut, index, axis=0)


def choose(words: list[str], rng: np.random.Generator) -> Palette:
    """The palette the words ask for (the first that says something wins), else one by chance."""
    known = {word: name for name, (text, _, _) in PALETTES.items() for word in text.split()}
    named = [known[word] for word in words if word in known]
    is_night = any(word in NIGHT_WORDS for word in words)
    colourful = [name for name in named if name != "night"] or named
    name = colourful[0] if colourful else sorted(PALETTES)[int(rng.integers(len(PALETTES)))]
    _, stops, light = PALETTES[name]
    lab = _oklab(np.array([_rgb(stop) for stop in stops.split()], dtype=np.float64))
    if len(set(colourful)) > 1:  # "fox in the snow": the second subject lends its light half
        other = next(found for found in colourful if found != name)
        second = _oklab(np.array([_rgb(stop) for stop in PALETTES[other][1].split()], dtype=np.float64))
        weight = np.array([0.0, 0.05, 0.25, 0.6, 0.8, 0.8])[:, None]
        lab = lab * (1 - weight) + second * weight
    lab = _turn(lab, rng.normal(0.0, 0.12))
    lab[:, 0] = np.clip(lab[:, 0] + rng.normal(0.0, 0.012), 0.05, 0.99)
    if is_night and name != "neon":
        lab[:, 0] = lab[:, 0] * np.linspace(0.75, 0.84, 6)
        lab[:, 1:] = lab[:, 1:] * 0.85 + np.array([0.0, -0.022])
    knots = np.linspace(0.0, 1.0, 6)
    steps = np.linspace(0.0, 1.0, LUT_SIZE)
    lut = _display(np.stack([_smooth(steps, knots, lab[:, i]) for i in range(3)], axis=1))
    glow = np.array(_rgb("dfe6ff" if is_night else light), dtype=np.float32)
    return Palette(name, np.ascontiguousarray(lut, dtype=np.float32), glow, is_night)


def _rgb(hexed: str) -> tuple[float, float, float]:
    return int(hexed[0:2], 16) / 255, int(hexed[2:4], 16) / 255, int(hexed[4:6], 16) / 255


def _smooth(x: F32, knots: F32, y: F32) -> F32:
    """Catmull-Rom through the stops: no visible corner at a stop."""
    slope = np.gradient(y, knots)
    i = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, len(knots) - 2)
    h = knots[1] - knots[0]
    s = (x - knots[i]) / h
    return (
        (2 * s**3 - 3 * s**2 + 1) * y[i]
        + (s**3 - 2 * s**2 + s) * h * slope[i]
        + (3 * s**2 - 2 * s**3) * y[i + 1]
        + (s**3 - s**2) * h * slope[i + 1]
    )


# OKLab, https://bottosson.github.io/posts/oklab/
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def _oklab(rgb: F32) -> F32:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T


def _display(lab: F32) -> F32:
    linear = np.clip((lab @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_LMS).T, 0.0, 1.0)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _turn(lab: F32, angle: float) -> F32:
    """Turn the hue: two seeds of one prompt are cousins, not twins."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([lab[:, 0], lab[:, 1] * c - lab[:, 2] * s, lab[:, 1] * s + lab[:, 2] * c], axis=1)
