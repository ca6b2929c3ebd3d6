"""What a file really is: decoded, not believed (M2, M4). Synchronous; run it in `workers`.

A result is paid for and kept for good, so "it has a PNG's first bytes" is not enough: pictures are decoded
whole, videos are read to their last packet.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from safelight.media.errors import MediaError, NotMedia, ResultTooLarge, ResultTruncated, WrongType
from safelight.media.mediatype import TYPES

if TYPE_CHECKING:
    from PIL.Image import Image

PIXELS_MAX: Final = 64_000_000  # 8k x 8k: 256 MB decoded, the most one of two workers may hold
SIDE_MAX: Final = 16_384
VIDEO_PIXELS_MAX: Final = 8192 * 4352
DURATION_MAX_S: Final = 24 * 3600.0

PIL_FORMATS: Final = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/avif": "AVIF",
}
ORIENTATION_TAG: Final = 0x0112
_BOX_MAX: Final = 10_000  # boxes at the top of an MP4: fragmented ones have two per second


@dataclass(frozen=True, slots=True)
class Probed:
    """Width and height as shown, after rotation; None for sound. `duration_s` None for pictures."""

    kind: str
    mime: str
    width: int | None
    height: int | None
    duration_s: float | None


def probe(path: Path, mime: str) -> Probed:
    """Decode the file of this (sniffed) type. Raises NotMedia, WrongType, ResultTruncated, ResultTooLarge."""
    media = TYPES.get(mime)
    if media is None:
        raise NotMedia(f"{mime} is no type that is kept.")
    if media.kind == "image":
        return decode_picture(path, mime)[0]
    return _probe_stream(path, mime, media.kind)


# --- pictures -------------------------------------------------------------------------------------------------


def open_image(path: Path, mime: str) -> Image:
    """The picture, header read and size checked, not yet decoded. Raises NotMedia, ResultTooLarge."""
    from PIL import Image

    try:
        image = Image.open(path, formats=[PIL_FORMATS[mime]])
    except Image.DecompressionBombError as error:
        raise ResultTooLarge("The picture has more pixels than are taken.") from error
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise NotMedia(f"The file begins like {mime} but cannot be read as it.") from error
    if image.width * image.height > PIXELS_MAX or max(image.size) > SIDE_MAX:
        image.close()
        raise ResultTooLarge(f"The picture has {image.width} x {image.height} pixels; {PIXELS_MAX:,} are taken.")
    return image


def decode_picture(path: Path, mime: str, side: int | None = None) -> tuple[Probed, Image]:
    """What the picture is, and its pixels as stored, decoded to the file's end.

    Where `side` px on the longest side are enough, a JPEG is decoded at 1/2, 1/4 or 1/8: it is read as far, and costs
    less. Raises NotMedia, ResultTruncated, ResultTooLarge.
    """
    try:
        with open_image(path, mime) as image:
            image.verify()  # checksums to the end of the file (PNG); it cannot be decoded afterwards
        with open_image(path, mime) as image:
            turned = image.getexif().get(ORIENTATION_TAG, 1) in (5, 6, 7, 8)
            width, height = image.size
            if side is not None:
                part = side / max(width, height)
                image.draft("RGB", (math.ceil(width * part), math.ceil(height * part)))
            image.load()
    except MediaError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error) as error:
        raise ResultTruncated(f"The picture is damaged or ends too early ({_said(error)}).") from error
    if turned:
        width, height = height, width
    return Probed("image", mime, width, height, None), image


# --- video and sound ------------------------------------------------------------------------------------------


def _probe_stream(path: Path, mime: str, kind: str) -> Probed:
    import av
    from av.error import FFmpegError

    if mime in ("video/mp4", "video/quicktime", "audio/mp4"):
        _check_boxes(path)
    try:
        with av.open(path, metadata_errors="replace") as opened:
            return _read_through(cast(Any, opened), mime, kind)
    except MediaError:
        raise
    except (FFmpegError, ValueError, IndexError) as error:
        raise NotMedia(f"The {kind} cannot be read ({_said(error)}).") from error


def _read_through(container: Any, mime: str, kind: str) -> Probed:
    streams = [stream for stream in container.streams if stream.type == kind]
    if not streams:
        raise WrongType(f"The file is {mime}, but there is no {kind} in it.")
    stream = streams[0]
    width = height = None
    if stream.codec_context is None:
        raise NotMedia(f"The {kind} uses a codec that nothing here can read.")
    if kind == "video":
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > VIDEO_PIXELS_MAX or max(width, height) > SIDE_MAX:
            raise ResultTooLarge(f"The video has {width} x {height} pixels a frame.")
    frame = next(iter(container.decode(stream)), None)
    if frame is None:
        raise ResultTruncated(f"The {kind} has no frame that can be decoded.")
    if kind == "video":
        width, height = frame.width, frame.height
        if frame.rotation % 180:
            width, height = height, width
    # From the start again, without decoding: is everything there that the index promises?
    container.seek(0)
    packets, end = 0, 0.0
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        if packet.is_corrupt:
            raise ResultTruncated(f"The {kind} breaks off in the middle.")
        packets += 1
        if packet.pts is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    if packets < (stream.frames or 0):
        raise ResultTruncated(f"The {kind} has {packets} of {stream.frames} packets.")
    promised = _promised_s(container, stream)
    if promised is not None and end < promised * 0.9 - 0.5:
        raise ResultTruncated(f"The {kind} ends at {end:.1f} s of {promised:.1f} s.")
    duration_s = promised if promised is not None else end
    if not 0 < duration_s <= DURATION_MAX_S:
        raise NotMedia(f"The {kind} has an impossible length ({duration_s:g} s).")
    return Probed(kind, mime, width, height, round(duration_s, 3))


def _promised_s(container: Any, stream: Any) -> float | None:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / 1_000_000 if container.duration else None


def _check_boxes(path: Path) -> None:
    """An MP4 is a row of boxes that say their size: the last one must end where the file does.

    This finds a cut file at once, where FFmpeg would play what there is. Raises ResultTruncated.
    """
    size = path.stat().st_size
    names: set[bytes] = set()
    with path.open("rb") as file:
        at = 0
        for _ in range(_BOX_MAX):
            if at >= size:
                break
            file.seek(at)
            head = file.read(16)
            if len(head) < 8:
                raise ResultTruncated("The file ends in the middle of a box.")
            length, name = struct.unpack(">I4s", head[:8])
            if length == 1:
                if len(head) < 16:
                    raise ResultTruncated("The file ends in the middle of a box.")
                length = struct.unpack(">Q", head[8:])[0]
            elif length == 0:
                length = size - at  # "to the end of the file"
            if length < 8:
                raise NotMedia("The file's boxes make no sense.")
            if at + length > size:
                raise ResultTruncated(f"The file has {size:,} bytes; its index counts on {at + length:,}.")
            names.add(name)
            at += length
    if b"moov" not in names:
        raise ResultTruncated("The file's index is missing.")


def _said(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
