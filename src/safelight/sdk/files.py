"""Saving results: names that are safe, files that are whole or not there. Knows files, not sockets."""

from __future__ import annotations

import contextlib
import hashlib
import mimetypes
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import urljoin, urlsplit

import msgspec

from safelight.sdk.errors import DownloadFailed
from safelight.sdk.resources import Generation, Page

T = TypeVar("T")

EXTENSIONS: Final[Mapping[str, str]] = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/avif": ".avif",
    "image/gif": ".gif",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/quicktime": ".mov",
    "audio/mpeg": ".mp3",
    "audio/wav": ".wav",
    "audio/ogg": ".ogg",
    "audio/flac": ".flac",
}
"""Ours, not the server's word: a file's ending decides what opens it."""
TRIES_MAX: Final = 5
PART_BYTES_MAX: Final = 8 * 2**20
"""What is held in memory, and lost when a line breaks."""
CHUNK_BYTES: Final = 256 * 1024
BYTES_MAX: Final = 8 * 2**30
"""Where the server does not say how large the file is."""


def file_name(generation: Generation) -> str:
    """`aurora-3f2a9c1b77d0.png`: the model, and the end of the generation's id; the same for the same result."""
    model = (generation.model or generation.kind).rsplit("/", 1)[-1]
    stem = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")[:40] or "result"
    return f"{stem}-{generation.id.hex[-12:]}{EXTENSIONS.get(generation.mime, '.bin')}"


def address(generation: Generation) -> str:
    """Where the original is. Raises DownloadFailed for something that is not http."""
    if generation.urls is None:
        raise DownloadFailed(f"generation {generation.id} has no file", code="download_failed")
    if urlsplit(generation.urls.original).scheme not in ("http", "https"):
        raise DownloadFailed(f"generation {generation.id} is not at an http address", code="download_failed")
    return generation.urls.original


def absolute(base_url: str, result: T) -> T:
    """Generations with whole addresses: the server may give them relative to itself."""
    if isinstance(result, Generation) and result.urls:
        urls = result.urls
        whole = msgspec.structs.replace(
            urls,
            original=urljoin(base_url, urls.original),
            poster=urljoin(base_url, urls.poster) if urls.poster else None,
            thumbs={size: urljoin(base_url, thumb) for size, thumb in urls.thumbs.items()},
        )
        return msgspec.structs.replace(result, urls=whole)
    if isinstance(result, Page):
        items = cast("Page[Any]", result).items
        items[:] = [absolute(base_url, item) for item in items]
    return cast(T, result)


@dataclass(frozen=True, slots=True)
class Source:
    """A file of ours to upload, as it was when looked at."""

    path: Path
    size: int
    sha256: str
    mime: str | None

    @classmethod
    def look(cls, path: Path) -> Source:
        """Raises OSError if it cannot be read."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(path, file.tell(), digest, mimetypes.guess_type(path.name)[0])

    def part(self, offset: int, size: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(min(size, PART_BYTES_MAX))


class Download:
    """One file on its way: goes on where it broke off, appears under its name only when whole."""

    def __init__(self, generation: Generation, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / file_name(generation)
        self._part = folder / f".{self.path.name}.{secrets.token_hex(4)}.part"
        self._file = self._part.open("xb")
        self._size = generation.bytes
        self._done = 0

    @property
    def headers(self) -> dict[str, str]:
        """For the next request."""
        return {"Range": f"bytes={self._done}-"} if self._done else {}

    def begin(self, status: int, content_range: str) -> None:
        """An answer begins. If it is not the rest, start over."""
        if status == 206 and content_range.startswith(f"bytes {self._done}-"):
            return
        if status != 200:
            raise DownloadFailed(f"the file answered HTTP {status}", code="download_failed", status=status)
        self._done = 0
        self._file.seek(0)
        self._file.truncate()

    def write(self, chunk: bytes) -> None:
        self._done += len(chunk)
        if self._done > (self._size if self._size is not None else BYTES_MAX):
            raise DownloadFailed("the file is larger than announced", code="download_failed")
        self._file.write(chunk)

    @property
    def is_whole(self) -> bool:
        return self._size is None or self._done == self._size

    def finish(self) -> Path:
        """Give it its name."""
        if not self.is_whole:
            raise DownloadFailed(f"got {self._done} of {self._size} bytes", code="download_failed")
        self._file.close()
        os.replace(self._part, self.path)
        return self.path

    def discard(self) -> None:
        """Leave nothing behind. Harmless after `finish`."""
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self._part.unlink()
