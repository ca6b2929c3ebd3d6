"""The media types Safelight keeps: nothing else is stored, and nothing else is ever named in a Content-Type.

SVG is missing on purpose: it carries script.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import filetype  # pyright: ignore[reportMissingTypeStubs]

SNIFF_BYTES: Final = 4096  # what `filetype` looks at is within it

GENERIC: Final = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/binary"})
"""Declared types that say nothing."""


@dataclass(frozen=True, slots=True)
class MediaType:
    mime: str
    kind: str
    """`image`, `video` or `audio`."""
    extension: str


def _table(*rows: tuple[str, str]) -> Mapping[str, MediaType]:
    return MappingProxyType({mime: MediaType(mime, mime.split("/")[0], extension) for mime, extension in rows})


TYPES: Final = _table(
    ("image/png", "png"),
    ("image/jpeg", "jpg"),
    ("image/webp", "webp"),
    ("image/gif", "gif"),
    ("image/avif", "avif"),
    ("video/mp4", "mp4"),
    ("video/webm", "webm"),
    ("video/quicktime", "mov"),
    ("audio/mpeg", "mp3"),
    ("audio/wav", "wav"),
    ("audio/ogg", "ogg"),
    ("audio/flac", "flac"),
    ("audio/mp4", "m4a"),
)
BY_EXTENSION: Final[Mapping[str, MediaType]] = MappingProxyType({t.extension: t for t in TYPES.values()})

_SAME: Final = {
    "image/jpg": "image/jpeg",
    "image/apng": "image/png",
    "video/x-m4v": "video/mp4",
    "audio/x-wav": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/mp3": "audio/mpeg",
    "audio/x-m4a": "audio/mp4",
    "audio/m4a": "audio/mp4",
}
_STILL_BRANDS: Final = frozenset({b"heic", b"heix", b"heif", b"mif1", b"msf1", b"hevc", b"avis"})


def canonical(mime: str | None) -> str:
    """A Content-Type as declared, without parameters, in lower case, under its usual name."""
    plain = (mime or "").split(";")[0].strip().lower()
    return _SAME.get(plain, plain)


def sniff(head: bytes) -> MediaType | None:
    """What the first `SNIFF_BYTES` say the file is; None if it is nothing we keep."""
    if not head:
        return None
    guessed = filetype.guess(head)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    known = TYPES.get(canonical(getattr(guessed, "mime", None)))  # pyright: ignore[reportUnknownArgumentType]
    if known is None and head[4:8] == b"ftyp" and head[8:12] not in _STILL_BRANDS:
        # `filetype` knows a few major brands only; encoders write iso4, iso5, MSNV and others as well.
        return TYPES["video/quicktime" if head[8:12] == b"qt  " else "video/mp4"]
    return known
