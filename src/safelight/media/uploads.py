"""Start images from the user's side: resumable, checked like any result, stored once per content (M5).

The bytes gather in a staging file whose length is the truth about what has arrived: it survives a crash of ours
and a break of the client's line, and the client goes on from there. A lock on that file keeps two writers apart,
also across processes of one machine. Several machines need a staging folder that they share, or sticky routing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import AsyncIterable, AsyncIterator, Generator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final
from uuid import UUID

import asyncpg

from safelight.db.pool import Database, Transaction
from safelight.media import upload_rows as rows
from safelight.media.derive import look_at
from safelight.media.errors import (
    MediaError,
    ResultTooLarge,
    StorageUnavailable,
    UploadError,
    UploadHashMismatch,
    UploadInUse,
    UploadInvalid,
    UploadMissing,
    UploadNotMedia,
    UploadOffsetMismatch,
    UploadStalled,
    UploadTooLarge,
    UploadTooMany,
)
from safelight.media.intake import FLUSH_BYTES, judge
from safelight.media.mediatype import GENERIC, SNIFF_BYTES, TYPES, MediaType, canonical
from safelight.media.probe import Probed
from safelight.media.sign import MediaSigner
from safelight.media.store import Store, upload_key
from safelight.media.upload_rows import Upload
from safelight.media.workers import run_cpu

__all__ = ["Upload", "Uploads", "parse_offset"]

BYTES_MAX: Final = 50_000_000  # a start image or a short clip; providers take no more
CHUNK_ADVISED: Final = 8 * 1024 * 1024  # what a client loses at most when its line breaks
KINDS: Final = frozenset({"image", "video"})
TTL: Final = timedelta(hours=24)  # from the last byte received
PENDING_MAX: Final = 100  # unfinished uploads per project, so at most 5 GB of staging each
STALL_S: Final = 20.0  # silence of the client in the middle of a body
BODY_S: Final = 300.0  # of one request in all: who drips a byte now and then holds no connection for ever
NAME_MAX: Final = 255

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(?:\d{1,15}|\*)", re.ASCII)


class Uploads:
    """The service. It checks no rights: the caller does, by `Upload.project_id`."""

    def __init__(
        self,
        db: Database,
        store: Store,
        signer: MediaSigner,
        staging: Path,
        *,
        stall_s: float = STALL_S,
        body_s: float = BODY_S,
    ) -> None:
        """`staging`: a folder of our own for unfinished files; it is made if missing."""
        self._db = db
        self._store = store
        self._signer = signer
        self._staging = staging
        self._stall_s = stall_s
        self._body_s = body_s
        staging.mkdir(parents=True, exist_ok=True)

    async def begin(
        self,
        project_id: UUID,
        *,
        filename: str | None,
        mime: str | None,
        size: int,
        sha256: str | None,
        now: datetime,
    ) -> Upload:
        """Announce a file. Known bytes give the ready upload; announced and unfinished ones, the one to go on with.

        Raises UploadInvalid, UploadTooLarge, UploadTooMany, UploadMissing (no such project).
        """
        media = _accepted(mime)
        if size < 1:
            raise UploadInvalid("`bytes` must be at least 1.")
        if size > BYTES_MAX:
            raise UploadTooLarge(f"The file has {size:,} bytes; the limit is {BYTES_MAX:,}.")
        if sha256 is not None and not _SHA256.fullmatch(sha256.lower()):
            raise UploadInvalid("`sha256` must be 64 hexadecimal digits.")
        if filename is not None:
            filename = re.sub(r"[\x00-\x1f\x7f]+", "_", filename)[:NAME_MAX]
        digest = bytes.fromhex(sha256) if sha256 else None

        async def work(tx: Transaction) -> Upload:
            if digest and (known := await rows.known(tx.conn, project_id, digest, size, now)):
                return known
            if await rows.pending_count(tx.conn, project_id, now) >= PENDING_MAX:
                raise UploadTooMany(f"The project has {PENDING_MAX} unfinished uploads.", retry_after_s=60)
            return await rows.insert(
                tx.conn,
                project_id,
                filename=filename,
                mime=media.mime if media else None,
                size=size,
                sha256=digest,
                now=now,
                expires_at=now + TTL,
            )

        try:
            upload = await self._db.run(work)
        except asyncpg.ForeignKeyViolationError as error:
            raise UploadMissing("There is no such project.") from error
        return self._measured(upload)

    async def get(self, upload_id: UUID, now: datetime) -> Upload:
        """Raises UploadMissing for an unknown or expired one."""
        async with self._db.connection() as conn:
            upload = await rows.by_id(conn, upload_id)
        if upload is None or (upload.expires_at is not None and upload.expires_at <= now):
            raise UploadMissing("There is no such upload, or it has expired.")
        return self._measured(upload)

    async def receive(self, upload_id: UUID, offset: int | None, body: AsyncIterable[bytes], now: datetime) -> Upload:
        """Take the bytes from `offset` on (None = the whole file, from its start); the last one completes it.

        The answer may be another upload's id: the ready one of the same bytes. If `body` breaks, what came is
        kept. Raises UploadMissing, UploadInUse, UploadOffsetMismatch, UploadTooLarge, UploadStalled,
        UploadHashMismatch, UploadNotMedia, StorageUnavailable; after the two before the last, the upload is
        empty again.
        """
        upload = await self.get(upload_id, now)
        if upload.state == "ready":
            return upload
        with self._writing(upload_id) as file:
            upload = await self.get(upload_id, now)  # it may have become ready while we had no lock
            if upload.state == "ready":
                self._path(upload_id).unlink(missing_ok=True)
                return upload
            at = os.fstat(file.fileno()).st_size
            if offset is None:
                file.truncate(0)
                at = 0
            elif offset != at:
                raise UploadOffsetMismatch(f"{at:,} bytes have arrived; go on from there.", at)
            file.seek(at)
            try:
                await self._take(file, body, at, upload.bytes)
            finally:
                await self._note(upload_id, os.fstat(file.fileno()).st_size, now)
            if os.fstat(file.fileno()).st_size < upload.bytes:
                return await self.get(upload_id, now)
            try:
                ready = await self._complete(upload)
            except UploadError:
                file.truncate(0)
                await self._note(upload_id, 0, now)
                raise
            self._path(upload_id).unlink(missing_ok=True)
            return ready

    async def abandon(self, upload_id: UUID) -> None:
        """Forget an unfinished upload that nobody will go on with. One that is ready, or gone, is left as it is."""
        async with self._db.connection() as conn:
            await rows.drop_pending(conn, upload_id)
        self._path(upload_id).unlink(missing_ok=True)

    async def sweep(self, now: datetime) -> int:
        """Remove unfinished uploads whose time is over, and staging files that belong to none. How many went."""
        async with self._db.connection() as conn:
            expired, pending = await rows.expire(conn, now)
        expected = {f"{each}.part" for each in pending}
        gone = await asyncio.to_thread(_remove_strays, self._staging, expected, (now - TTL).timestamp())
        return max(expired, gone)

    def present(self, upload: Upload, now: datetime) -> dict[str, Any]:
        """The resource as the API shows it."""
        if upload.state != "ready" or upload.storage_key is None or upload.sha256 is None:
            return {
                "id": str(upload.id),
                "state": upload.state,
                "bytes": upload.bytes,
                "expires_at": upload.expires_at.isoformat() if upload.expires_at else None,
                "upload": {
                    "method": "PUT",
                    "url": f"/v1/uploads/{upload.id}/content",
                    "offset": upload.received,
                    "max_chunk": CHUNK_ADVISED,
                },
            }
        return {
            "id": str(upload.id),
            "state": "ready",
            "filename": upload.filename,
            "kind": upload.kind,
            "mime": upload.mime,
            "bytes": upload.bytes,
            "width": upload.width,
            "height": upload.height,
            "duration_s": upload.duration_s,
            "sha256": upload.sha256.hex(),
            "thumbhash": upload.thumbhash,
            "url": self._signer.sign(upload.storage_key, now),
        }

    # --- inside -----------------------------------------------------------------------------------------------

    def _path(self, upload_id: UUID) -> Path:
        return self._staging / f"{upload_id}.part"

    def _measured(self, upload: Upload) -> Upload:
        """With the length of the staging file, which is truer than the row after a crash."""
        if upload.state == "ready":
            return upload
        try:
            received = self._path(upload.id).stat().st_size
        except FileNotFoundError:
            received = 0
        return replace(upload, received=min(received, upload.bytes))

    @contextlib.contextmanager
    def _writing(self, upload_id: UUID) -> Generator[IO[bytes]]:
        path = self._path(upload_id)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageUnavailable(f"Cannot write to the staging folder: {error.strerror}.") from error
        with os.fdopen(handle, "r+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UploadInUse("Another request is sending this upload.", retry_after_s=1) from error
            yield file

    async def _take(self, file: IO[bytes], body: AsyncIterable[bytes], at: int, size: int) -> None:
        start, pending = at, bytearray()
        try:
            async for chunk in _unstalled(body, self._stall_s, self._body_s):
                at += len(chunk)
                if at > size:
                    pending.clear()
                    file.truncate(start)
                    raise UploadTooLarge(f"More bytes were sent than the {size:,} announced.")
                pending += chunk
                if len(pending) >= FLUSH_BYTES:
                    block, pending = bytes(pending), bytearray()
                    await asyncio.to_thread(_write_all, file, block)
        finally:
            # Also when the client went away: it goes on from what came.
            if pending:
                _write_all(file, bytes(pending))

    async def _note(self, upload_id: UUID, received: int, now: datetime) -> None:
        async with self._db.connection() as conn:
            await rows.note_received(conn, upload_id, received, now + TTL)

    async def _complete(self, upload: Upload) -> Upload:
        path = self._path(upload.id)
        found = await run_cpu(_examine, path, upload)
        key = upload_key(upload.project_id, found.sha256, found.media)
        await self._store.put_file(key, path, found.media.mime)

        ready = replace(
            upload,
            sha256=found.sha256,
            kind=found.media.kind,
            mime=found.media.mime,
            width=found.probed.width,
            height=found.probed.height,
            duration_s=found.probed.duration_s,
            thumbhash=found.thumbhash,
            storage_key=key,
        )

        async def make_ready(tx: Transaction) -> Upload:
            if (kept := await rows.make_ready(tx.conn, ready)) is None:
                raise UploadMissing("The upload expired meanwhile.")
            return kept

        async def give_way(tx: Transaction) -> Upload | None:
            return await rows.give_way(tx.conn, ready)

        if same := await self._db.run(give_way):
            return same
        try:
            return await self._db.run(make_ready)
        except asyncpg.UniqueViolationError:  # the same bytes became ready in between
            same = await self._db.run(give_way)
            if same is None:
                raise
            return same


# --- pure, and the bytes --------------------------------------------------------------------------------------


def parse_offset(upload_offset: str | None, content_range: str | None) -> int | None:
    """Where a body starts, from `Upload-Offset` or `Content-Range`; None = neither, so it is the whole file.

    Raises UploadInvalid.
    """
    if upload_offset is not None:
        if not (upload_offset.isascii() and upload_offset.isdigit() and len(upload_offset) <= 15):
            raise UploadInvalid("`Upload-Offset` must be a number of bytes.")
        return int(upload_offset)
    if content_range is not None:
        match = _CONTENT_RANGE.fullmatch(content_range.strip())
        if match is None or int(match[2]) < int(match[1]):
            raise UploadInvalid("`Content-Range` must look like `bytes 0-1023/4096`.")
        return int(match[1])
    return None


@dataclass(frozen=True, slots=True)
class _Found:
    sha256: bytes
    media: MediaType
    probed: Probed
    thumbhash: str | None


def _examine(path: Path, upload: Upload) -> _Found:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        file.seek(0)
        head = file.read(SNIFF_BYTES)
    if upload.sha256 is not None and upload.sha256 != digest:
        raise UploadHashMismatch("The bytes that arrived are not the ones announced; send them again.")
    try:
        media = judge(head, upload.mime, KINDS)
        probed, derived = look_at(path, media.mime)
        return _Found(digest, media, probed, derived.thumbhash)
    except ResultTooLarge as error:
        raise UploadTooLarge(error.message) from error
    except MediaError as error:
        raise UploadNotMedia(error.message.replace("The result", "The file")) from error


def _accepted(mime: str | None) -> MediaType | None:
    said = canonical(mime)
    if said in GENERIC:
        return None
    media = TYPES.get(said)
    if media is None or media.kind not in KINDS:
        names = ", ".join(t.mime for t in TYPES.values() if t.kind in KINDS)
        raise UploadInvalid(f"{said} cannot be uploaded; these can: {names}.")
    return media


async def _unstalled(body: AsyncIterable[bytes], stall_s: float, body_s: float) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    chunks, ends_at = aiter(body), clock() + body_s
    while True:
        left_s = max(ends_at - clock(), 0.0)
        try:
            async with asyncio.timeout(min(stall_s, left_s)):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            said = f"No bytes came for {stall_s:g} s" if left_s > stall_s else f"The request took {body_s:g} s"
            raise UploadStalled(f"{said}; go on from where they ended.") from error
        yield chunk


def _write_all(file: IO[bytes], block: bytes) -> None:
    view = memoryview(block)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise StorageUnavailable(f"Cannot write to the staging folder: {error.strerror}.") from error


def _remove_strays(staging: Path, expected: set[str], before: float) -> int:
    gone = 0
    for path in staging.glob("*.part"):
        with contextlib.suppress(FileNotFoundError):
            if path.name not in expected and path.stat().st_mtime <= before:
                path.unlink()
                gone += 1
    return gone
