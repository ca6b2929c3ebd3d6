"""What the page shows before and instead of the original: thumbnail, poster, ThumbHash (M2). Synchronous.

`look_at` makes what a tile needs at once and is part of storing; `derive_large` makes the rest and runs after the
job is done, reaching open windows like any other change.
"""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from safelight.media.errors import MediaError, ResultTruncated
from safelight.media.mediatype import TYPES
from safelight.media.probe import ORIENTATION_TAG, Probed, decode_picture, probe
from safelight.media.thumbhash import thumbhash_of

if TYPE_CHECKING:
    from PIL.Image import Image

SMALL: Final = 256  # longest side in px: a tile at normal density
LARGE: Final = 1024  # a tile at double density, or the lightbox while the original loads
LIGHT_BYTES: Final = 400_000  # about what the large thumbnail of a detailed picture weighs
LIGHT_TYPES: Final = frozenset({"image/jpeg", "image/webp", "image/avif"})
POSTER: Final = 1280
QUALITY: Final = 80
AVIF_QUALITY: Final = 60
AVIF_SPEED: Final = 8
GAP: Final = 1.5  # to so many times a thumbnail's side by whole numbers, the rest smoothly: no visible difference
DARK: Final = 14  # mean luma of a frame that says nothing: fades begin with such
DARK_FRAMES_MAX: Final = 36


@dataclass(frozen=True, slots=True)
class Derived:
    """`thumbs`: WebP files by longest side. `poster`: WebP, for videos. `thumbhash`: base64, None for sound."""

    thumbs: dict[int, bytes]
    poster: bytes | None
    thumbhash: str | None


@dataclass(frozen=True, slots=True)
class DerivedLarge:
    """`thumbs`: WebP, `avif`: AVIF, both by longest side. A side above the original's means the original's."""

    thumbs: dict[int, bytes]
    avif: dict[int, bytes]


def look_at(path: Path, mime: str) -> tuple[Probed, Derived]:
    """What the file of this (sniffed) type is, and what a tile needs of it. A picture is decoded once.

    Raises what `probe` raises.
    """
    media = TYPES.get(mime)
    if media is not None and media.kind == "image":
        probed, image = decode_picture(path, mime, _enough(SMALL))
        with _decoding(probed.kind):
            return probed, _for_a_tile(probed, _upright(image))
    probed = probe(path, mime)
    if probed.kind == "audio":
        return probed, Derived({}, None, None)
    return probed, _for_a_tile(probed, _open(path, probed, SMALL))


def _for_a_tile(probed: Probed, image: Image) -> Derived:
    poster = None
    if probed.kind == "video":
        poster = _webp(_shrunk(image, POSTER), method=2)
    small = _shrunk(image, SMALL)
    return Derived({SMALL: _webp(small, method=1)}, poster, thumbhash_of(small))


def derive_large(path: Path, probed: Probed) -> DerivedLarge:
    """The files that may come later. Raises ResultTruncated."""
    if probed.kind == "audio":
        return DerivedLarge({}, {})
    large = _shrunk(_open(path, probed, LARGE), LARGE)
    small = _shrunk(large, SMALL)
    return DerivedLarge({LARGE: _webp(large, method=4)}, {SMALL: _avif(small), LARGE: _avif(large)})


def is_light(probed: Probed, size: int) -> bool:
    """The original is as good to look at as its large thumbnail would be: making one would only cost."""
    side = max(probed.width or LARGE + 1, probed.height or LARGE + 1)
    return probed.mime in LIGHT_TYPES and side <= LARGE and size <= LIGHT_BYTES


def _open(path: Path, probed: Probed, side: int) -> Image:
    """The picture or the video's telling frame, upright, RGB or RGBA, perhaps already reduced towards `side`."""
    with _decoding(probed.kind):
        if probed.kind == "video":
            return _frame(path)
        return _upright(decode_picture(path, probed.mime, _enough(side))[1])


@contextmanager
def _decoding(kind: str) -> Generator[None]:
    try:
        yield
    except MediaError:
        raise
    except (OSError, ValueError, SyntaxError) as error:  # PyAV's errors are OSErrors or ValueErrors
        raise ResultTruncated(f"The {kind} cannot be decoded ({str(error)[:200]}).") from error


def _enough(side: int) -> int:
    """Pixels from which a thumbnail of this side is made."""
    return round(side * GAP)


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    profile = image.info.get("icc_profile")
    upright = ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION_TAG, 1) != 1 else image
    plain = _plain(upright)
    if profile:
        plain.info["icc_profile"] = profile  # wide-gamut pictures look washed out without it
    return plain


def _plain(image: Image) -> Image:
    """RGB, or RGBA where there is transparency."""
    if image.mode in ("RGB", "RGBA"):
        return image
    if image.mode.startswith("I"):  # 16 bits: PNG has no other integers
        return image.convert("F").point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    if image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("RGB")


def _frame(path: Path) -> Image:
    """The first frame that is not black, else the first of all."""
    import av
    from PIL import ImageStat

    best: Image | None = None
    brightest = -1.0
    with av.open(path, metadata_errors="replace") as opened:
        container = cast(Any, opened)
        for number, frame in enumerate(container.decode(video=0)):
            image: Image = frame.to_image()
            if frame.rotation % 360:
                image = image.rotate(frame.rotation, expand=True)
            light = ImageStat.Stat(image.resize((32, 32)).convert("L")).mean[0]
            if light > brightest + (2 if best else 0):
                best, brightest = image, light
            if brightest > DARK or number >= DARK_FRAMES_MAX:
                break
    if best is None:
        raise ResultTruncated("The video has no frame that can be decoded.")
    return best


def _shrunk(image: Image, side: int) -> Image:
    """The longest side at most `side`; never enlarged."""
    from PIL import Image as Pillow

    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    shrunk = image.resize(size, Pillow.Resampling.BICUBIC, reducing_gap=GAP)
    if "icc_profile" in image.info:
        shrunk.info["icc_profile"] = image.info["icc_profile"]
    return shrunk


def _webp(image: Image, *, method: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=QUALITY, method=method, icc_profile=image.info.get("icc_profile") or b"")
    return out.getvalue()


def _avif(image: Image) -> bytes:
    out = io.BytesIO()
    profile = image.info.get("icc_profile")
    extra = {"icc_profile": profile} if profile else {}
    image.save(out, "AVIF", quality=AVIF_QUALITY, speed=AVIF_SPEED, max_threads=1, **extra)
    return out.getvalue()
