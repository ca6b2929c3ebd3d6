"""Bytes on their way to a file: counted, hashed, and looked at before too many of them are taken (M4).

Every way in uses it - download, data URI, bytes of an inline answer, file of the local provider - so the limits
and the judgement of the type are the same for all.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from safelight.media.errors import NotMedia, ResultTooLarge, StorageUnavailable, WrongType
from safelight.media.mediatype import GENERIC, SNIFF_BYTES, MediaType, canonical, sniff

FLUSH_BYTES: Final = 256 * 1024  # one trip to a thread per this many bytes


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """Bytes taken per kind. A picture of 100 MB is 8k x 8k without compression; a video of 2 GB is an hour."""

    image: int = 100_000_000
    video: int = 2_000_000_000
    audio: int = 200_000_000

    def of(self, kind: str) -> int:
        return {"image": self.image, "video": self.video, "audio": self.audio}[kind]

    def most(self, kinds: frozenset[str] | None) -> int:
        return max(self.of(kind) for kind in (kinds or ("image", "video", "audio")))

    def capped(self, bytes_max: int) -> SizeLimits:
        return replace(
            self,
            image=min(self.image, bytes_max),
            video=min(self.video, bytes_max),
            audio=min(self.audio, bytes_max),
        )


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that passed the door. `mime` is what the bytes say; `declared_mime` what the sender said."""

    path: Path
    bytes: int
    sha256: bytes
    mime: str
    declared_mime: str | None


def judge(head: bytes, declared: str | None, kinds: frozenset[str] | None) -> MediaType:
    """What the file is, if it may pass. Raises NotMedia or WrongType.

    A declared type of the same kind may be wrong (hosts call JPEGs PNG all day): the bytes decide. A declared
    type of another kind, or of none, is a lie or an error page.
    """
    said = canonical(declared)
    found = sniff(head)
    if found is None:
        looks = "an HTML page" if head[:512].lstrip().lower().startswith((b"<!doctype", b"<html")) else "not media"
        raise NotMedia(f"The result is {looks}, though it was declared as {said or 'nothing'}.")
    if said not in GENERIC and said.split("/")[0] != found.kind:
        raise WrongType(f"The result was declared as {said}, but it is {found.mime}.")
    if kinds is not None and found.kind not in kinds:
        raise WrongType(f"The result is {found.mime}; expected {' or '.join(sorted(kinds))}.")
    return found


class Intake:
    """Writes to `dest`. Call `write` for each chunk, then `finish`; after any exception `discard`."""

    def __init__(self, dest: Path, *, kinds: frozenset[str] | None, declared: str | None, limits: SizeLimits) -> None:
        self.received = 0
        self._dest = dest
        self._kinds = kinds
        self._declared = declared
        self._limits = limits
        self._bytes_max = limits.most(kinds)
        self._pending = bytearray()
        self._hash = hashlib.sha256()
        self._type: MediaType | None = None
        try:
            self._file = dest.open("wb")
        except OSError as error:
            raise StorageUnavailable(f"Cannot write to the scratch folder: {error.strerror}.") from error

    def expect(self, length: int | None) -> None:
        """Refuse at once what announces itself as too large."""
        if length is not None and length > self._bytes_max:
            raise ResultTooLarge(f"The result has {length:,} bytes; the limit is {self._bytes_max:,}.")

    async def write(self, chunk: bytes) -> None:
        """Raises ResultTooLarge, NotMedia, WrongType, StorageUnavailable."""
        self.received += len(chunk)
        if self.received > self._bytes_max:
            raise ResultTooLarge(f"The result has more than {self._bytes_max:,} bytes.")
        self._pending += chunk
        if self._type is None and len(self._pending) >= SNIFF_BYTES:
            self._look()
        if len(self._pending) >= FLUSH_BYTES:
            await self._flush()

    async def finish(self) -> Fetched:
        if self._type is None:
            self._look()
        await self._flush()
        self._file.close()
        assert self._type is not None
        return Fetched(self._dest, self.received, self._hash.digest(), self._type.mime, self._declared)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._dest.unlink(missing_ok=True)

    def _look(self) -> None:
        self._type = judge(bytes(self._pending[:SNIFF_BYTES]), self._declared, self._kinds)
        self._bytes_max = self._limits.of(self._type.kind)
        if self.received > self._bytes_max:
            raise ResultTooLarge(f"The result has more than {self._bytes_max:,} bytes.")

    async def _flush(self) -> None:
        if self._pending:
            block, self._pending = bytes(self._pending), bytearray()
            await asyncio.to_thread(self._take, block)

    def _take(self, block: bytes) -> None:
        self._hash.update(block)
        try:
            self._file.write(block)
            self._file.flush()
        except OSError as error:
            raise StorageUnavailable(f"Cannot write to the scratch folder: {error.strerror}.") from error
