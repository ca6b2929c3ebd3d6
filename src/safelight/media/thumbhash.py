"""ThumbHash (evanw.github.io/thumbhash): a picture in about 25 bytes, for the tile before its thumbnail (M2).

The encoder of the package `thumbhash` fails on every picture with transparency (0.1.2: a missing pair of
brackets) and takes 5 ms in pure Python; these lines take 0.2 ms. Its decoder checks them in the tests.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

    Channel = npt.NDArray[np.floating[Any]]

SIDE: Final = 64  # the format allows 100; its finest wave has seven crests


def thumbhash_of(image: Image) -> str:
    """The hash of an RGB or RGBA picture in base64."""
    import numpy as np
    from PIL import Image as Pillow

    tiny = image.copy()
    tiny.thumbnail((SIDE, SIDE), Pillow.Resampling.BOX)
    pixels: Channel = np.asarray(tiny.convert("RGBA"), dtype=np.float64) / 255
    height, width = pixels.shape[:2]
    alpha = pixels[..., 3]
    weight = alpha.sum()
    average = (pixels[..., :3] * alpha[..., None]).sum(axis=(0, 1)) / (weight or 1)
    has_alpha = bool(weight < width * height)
    # What is transparent takes the average colour, so that it pulls no wave towards black.
    r, g, b = np.moveaxis(average * (1 - alpha[..., None]) + pixels[..., :3] * alpha[..., None], 2, 0)

    limit = 5 if has_alpha else 7  # waves of light along the longer side
    lx = max(1, round(limit * width / max(width, height)))
    ly = max(1, round(limit * height / max(width, height)))
    l_dc, l_ac, l_scale = _waves((r + g + b) / 3, max(3, lx), max(3, ly))
    p_dc, p_ac, p_scale = _waves((r + g) / 2 - b, 3, 3)
    q_dc, q_ac, q_scale = _waves(r - g, 3, 3)

    is_landscape = width > height
    header24 = (
        _level(l_dc, 63)
        | _level(0.5 + 0.5 * p_dc, 63) << 6
        | _level(0.5 + 0.5 * q_dc, 63) << 12
        | _level(l_scale, 31) << 18
        | has_alpha << 23
    )
    header16 = (ly if is_landscape else lx) | _level(p_scale, 63) << 3 | _level(q_scale, 63) << 9 | is_landscape << 15
    code = bytearray(header24.to_bytes(3, "little") + header16.to_bytes(2, "little"))
    nibbles = l_ac + p_ac + q_ac
    if has_alpha:
        a_dc, a_ac, a_scale = _waves(alpha, 5, 5)
        code.append(_level(a_dc, 15) | _level(a_scale, 15) << 4)
        nibbles += a_ac
    nibbles += [0] * (len(nibbles) % 2)
    code += bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))
    return b64encode(code).decode()


def _waves(channel: Channel, nx: int, ny: int) -> tuple[float, list[int], float]:
    """The mean, the waves (0..15 each, the triangle of low frequencies), and the largest one's size."""
    import numpy as np

    height, width = channel.shape
    across = np.cos(np.outer(_centres(width), np.arange(nx, dtype=np.float64)))
    down = np.cos(np.outer(np.arange(ny, dtype=np.float64), _centres(height)))
    table = (down @ channel @ across) / (width * height)
    found = [float(table[cy, cx]) for cy in range(ny) for cx in range(nx) if cx * ny < nx * (ny - cy) and (cx or cy)]
    scale = max((abs(value) for value in found), default=0.0)
    # Waves below a rounding error are none; the decoder multiplies them by a scale of zero.
    levels = [_level(0.5 + 0.5 * value / scale, 15) if scale > 1e-9 else 8 for value in found]
    return float(table[0, 0]), levels, scale


def _centres(count: int) -> Channel:
    """The middle of each pixel on half a turn."""
    import numpy as np

    return (np.arange(count, dtype=np.float64) + 0.5) * (np.pi / count)


def _level(value: float, top: int) -> int:
    return int(min(max(value, 0.0), 1.0) * top + 0.5)
