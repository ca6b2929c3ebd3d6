"""Real pictures and clips made by procedure: what the `local` provider and the emulators deliver (P2, P7).

The prompt's words choose the palette and the motif, the seed everything else. The same prompt, seed and size
give the same bytes; another prompt or seed gives a clearly different picture. Everything here is synchronous
and bound to the CPU: call it in a thread. There are no globals, so threads do not meet.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    import numpy as np

    from safelight.media.art.canvas import Canvas, Scene
    from safelight.media.art.palette import F32

__all__ = ["CLIP_MIME", "PICTURE_MIMES", "clip", "picture"]

SIDE_MIN, SIDE_MAX = 16, 2048  # px; above it a picture costs seconds and megabytes nobody asked a demo for
DURATION_MIN_S, DURATION_MAX_S = 0.5, 20.0
FPS_MIN, FPS_MAX = 1, 60
PROMPT_MAX: Final = 4000  # characters looked at; the rest still counts for the seed

BAND_ROWS: Final = 64  # fits the cache, and is the grain of progress
ENCODE_SHARE: Final = 0.08  # of a picture's time, measured; the rest is rows

PICTURE_MIMES: Final = {"png": "image/png", "jpeg": "image/jpeg", "jpg": "image/jpeg", "webp": "image/webp"}
CLIP_MIME: Final = "video/mp4"

Progress = Callable[[float], None]

# What the words ask to see. The first word that names a motif wins.
MOTIFS: Final[dict[str, str]] = {
    "hills": "mountain hill valley landscape snow winter fox wolf lion castle horse bear alps sunset sunrise"
    " dawn dusk dragon canyon",
    "forest": "forest tree jungle woods wood pine deer moss bamboo owl autumn path bird",
    "dunes": "desert dune sand camel egypt pyramid savanna mars clay",
    "sea": "sea ocean lake water wave boat ship beach coast island whale dolphin river shore sail harbor",
    "aurora": "aurora northern arctic space galaxy cosmos nebula star magic astronaut planet midnight ice",
    "city": "city skyline street tokyo york london building neon cyberpunk urban tower robot future car",
    "petals": "flower petal rose blossom bloom garden lotus peony cherry butterfly mandala heart cat",
    "bokeh": "bokeh light party rain christmas candle festival glitter firefly fireflies dance jazz music"
    " portrait woman man person face girl boy",
    "silk": "abstract silk fabric liquid marble smoke fluid paint ribbon energy flow pattern logo dress",
}


def picture(
    prompt: str,
    seed: int,
    width: int,
    height: int,
    fmt: str = "png",
    on_progress: Progress | None = None,
) -> bytes:
    """One picture as an encoded file (`png`, `jpeg`, `webp`); sides in pixels, 16..2048.

    `on_progress` gets the share done, 0..1, after every band of rows; what it raises ends the work.
    Raises ValueError for sizes and formats outside the bounds.
    """
    _check_size(width, height)
    if fmt not in PICTURE_MIMES:
        raise ValueError(f"fmt must be one of {', '.join(PICTURE_MIMES)}, not {fmt!r}")
    import numpy as np
    from PIL import Image

    canvas, scene = _compose(prompt, seed, width, height, fine=1.0)
    paint = scene(0.0)
    finish = _Finish(canvas, np.random.default_rng(canvas.rng.integers(1 << 62)))
    pixels = np.empty((height, width, 3), np.uint8)
    for y0 in range(0, height, BAND_ROWS):
        y1 = min(y0 + BAND_ROWS, height)
        pixels[y0:y1] = finish(paint(y0, y1), y0, y1, 0)
        if on_progress:
            on_progress((1 - ENCODE_SHARE) * y1 / height)
    out = io.BytesIO()
    image = Image.fromarray(pixels)
    match fmt:
        case "png":
            image.save(out, "PNG", compress_level=1)  # grain does not compress; level 6 costs 4x the time for 4 %
        case "webp":
            image.save(out, "WEBP", quality=88, method=2)
        case _:
            image.save(out, "JPEG", quality=91, subsampling=0)
    if on_progress:
        on_progress(1.0)
    return out.getvalue()


def clip(
    prompt: str,
    seed: int,
    width: int,
    height: int,
    duration_s: float,
    fps: int = 24,
    on_progress: Progress | None = None,
) -> bytes:
    """One MP4 (H.264, yuv420p, index first): sides in pixels 16..2048 (odd ones are rounded down), 0.5..20 s.

    `on_progress` gets the share of frames done, 0..1, after every frame; what it raises ends the work.
    Raises ValueError outside the bounds.
    """
    _check_size(width, height)
    if not DURATION_MIN_S <= duration_s <= DURATION_MAX_S:
        raise ValueError(f"duration_s must be {DURATION_MIN_S}..{DURATION_MAX_S}, not {duration_s}")
    if not FPS_MIN <= fps <= FPS_MAX:
        raise ValueError(f"fps must be {FPS_MIN}..{FPS_MAX}, not {fps}")
    import av
    import numpy as np

    width, height = width & ~1, height & ~1  # 4:2:0 has no odd sides
    canvas, scene = _compose(prompt, seed, width, height, fine=0.5)
    finish = _Finish(canvas, np.random.default_rng(canvas.rng.integers(1 << 62)))
    frames = max(1, round(duration_s * fps))
    pixels = np.empty((height, width, 3), np.uint8)
    # +faststart moves the index to the front by reading the file again, so it needs a real one.
    with tempfile.TemporaryDirectory(prefix="safelight-clip-") as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as opened:
            container = cast("Any", opened)  # PyAV's stubs leave Packet's parameter open
            stream = container.add_stream("libx264", rate=fps)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            # One thread: the same bytes on every machine, and no more than the one core this call was given.
            stream.codec_context.thread_count = 1
            stream.options = {"preset": "veryfast", "crf": "24"}
            for number in range(frames):
                paint = scene(number / fps)
                for y0 in range(0, height, BAND_ROWS):
                    y1 = min(y0 + BAND_ROWS, height)
                    pixels[y0:y1] = finish(paint(y0, y1), y0, y1, number)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                if on_progress:
                    on_progress((number + 1) / (frames + 1))
            container.mux(stream.encode(None))
        data = path.read_bytes()
    if on_progress:
        on_progress(1.0)
    return data


def _check_size(width: int, height: int) -> None:
    for name, side in (("width", width), ("height", height)):
        if not SIDE_MIN <= side <= SIDE_MAX:
            raise ValueError(f"{name} must be {SIDE_MIN}..{SIDE_MAX} px, not {side}")


def _compose(prompt: str, seed: int, width: int, height: int, fine: float) -> tuple[Canvas, Scene]:
    import numpy as np

    from safelight.media.art import abstract, city, landscape
    from safelight.media.art.canvas import make_canvas
    from safelight.media.art.palette import choose

    digest = blake2b(f"{seed}\0{prompt}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "big"))
    words = re.findall(r"[a-z]+", prompt[:PROMPT_MAX].lower())
    words = [word for known in words for word in (known, known.removesuffix("s"))]
    canvas = make_canvas(width, height, choose(words, rng), rng, fine)
    scenes: dict[str, Callable[[Canvas], Scene]] = {
        "hills": landscape.hills,
        "forest": landscape.forest,
        "dunes": landscape.dunes,
        "sea": landscape.sea,
        "aurora": landscape.aurora,
        "city": city.city,
        "petals": abstract.petals,
        "bokeh": abstract.bokeh,
        "silk": abstract.silk,
    }
    named = {word: motif for motif, text in MOTIFS.items() for word in text.split()}
    motif = next((named[word] for word in words if word in named), None)
    if motif is None:
        motif = sorted(scenes)[int(rng.integers(len(scenes)))]
    return canvas, scenes[motif](canvas)


class _Finish:
    """The darkroom: tone curve, vignette, film grain, 8 bits."""

    def __init__(self, canvas: Canvas, rng: np.random.Generator) -> None:
        import numpy as np

        side = 512
        grain = rng.standard_normal((side, side)).astype(np.float32)
        grain = (grain + np.roll(grain, 1, 0) * np.float32(0.5) + np.roll(grain, 1, 1) * np.float32(0.5)) * np.float32(
            0.8
        )
        self._grain = np.tile(grain * np.float32(1.5), (1, -(-(canvas.width + side) // side)))
        self._offsets = rng.integers(0, side, (1024, 2))
        self._x2 = (canvas.x / canvas.x[-1]) ** 2 * np.float32(0.5)
        self._y2 = (canvas.y / canvas.y[-1]) ** 2 * np.float32(0.5)
        self._width = canvas.width

    def __call__(self, image: F32, y0: int, y1: int, frame: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        import numpy as np

        np.clip(image, 0, 1, out=image)
        image += image * (1 - image) * (image - np.float32(0.5)) * np.float32(0.7)  # a gentle S
        far = self._x2[None, :] + self._y2[y0:y1, None]
        shade = np.float32(255) * (1 - np.float32(0.3) * far * far)
        image *= shade[..., None]
        dx, dy = self._offsets[frame % 1024]
        rows = (np.arange(y0, y1) + dy) % 512
        image += self._grain[rows, dx : dx + self._width][..., None] + np.float32(0.5)
        np.clip(image, 0, 255, out=image)
        return image.astype(np.uint8)
