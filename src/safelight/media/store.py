"""Where files stay for good: a folder, or a bucket named by URL (M1). One small surface over `obstore`.

Writes are atomic (a reader sees the whole file or none) and idempotent (the same key always gets the same
bytes), so a crash between write and commit costs nothing but a second write.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit
from uuid import UUID

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store, from_url

from safelight.media.errors import ObjectMissing, StorageUnavailable
from safelight.media.mediatype import BY_EXTENSION, MediaType

if TYPE_CHECKING:
    from collections.abc import Generator

    from obstore.store import ObjectStore

__all__ = ["ObjectInfo", "Store", "generation_key", "mime_of", "open_store", "upload_key"]

PART_BYTES: Final = 8 * 1024 * 1024  # of a multi-part upload; 10,000 parts allow 80 GB
PARTS_AT_ONCE: Final = 3  # so an upload holds at most 24 MB
WINDOW_LOCAL: Final = 512 * 1024
WINDOW_REMOTE: Final = 4 * 1024 * 1024  # a round trip each, held in memory by each reader
REQUEST_TIMEOUT: Final = timedelta(seconds=60)  # of one request, and no request moves more than a part
RETRY_TIMEOUT: Final = timedelta(seconds=20)
RETRIES_MAX: Final = 3
KEY_MAX: Final = 512
FOLDERS_KNOWN_MAX: Final = 10_000  # about 2 MB of paths

_KEY = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    size: int
    etag: str
    """Quoted, strong."""
    mime: str | None
    """From the key's extension, which we chose after probing; None if it is none of ours."""


def generation_key(project_id: UUID, generation_id: UUID, name: str) -> str:
    """`name`: `original.png`, `thumb-256.webp`, `poster.webp`, …"""
    return f"p/{project_id}/{generation_id}/{name}"


def upload_key(project_id: UUID, sha256: bytes, media: MediaType) -> str:
    return f"p/{project_id}/uploads/{sha256.hex()}.{media.extension}"


def mime_of(key: str) -> str | None:
    """The media type of a stored file, from the extension that we gave it."""
    media = BY_EXTENSION.get(key.rpartition(".")[2])
    return media.mime if media else None


def check_key(key: str) -> str:
    """Raises ObjectMissing for anything that is no key of ours: it cannot exist, and must not reach a path."""
    if len(key) > KEY_MAX or not _KEY.fullmatch(key):
        raise ObjectMissing("There is no such file.")
    return key


class Store:
    """Made by `open_store`. All methods raise StorageUnavailable if the disk or bucket does not do its part."""

    def __init__(self, inner: ObjectStore, syncer: _Syncer | None, *, is_local: bool) -> None:
        self._inner = inner
        self._syncer = syncer
        self._is_local = is_local
        self._window = WINDOW_LOCAL if is_local else WINDOW_REMOTE

    async def put_file(self, key: str, path: Path, mime: str) -> None:
        """Store a local file; large ones go up in parts, so memory stays bounded."""
        await self._put(key, path, mime)

    async def put_bytes(self, key: str, data: bytes, mime: str) -> None:
        await self._put(key, data, mime)

    async def _put(self, key: str, source: Path | bytes, mime: str) -> None:
        check_key(key)
        # Only buckets keep a type; ours is in the key, so that both are alike.
        attributes = None if self._is_local else {"Content-Type": mime}
        with _translated("write", missing_is_trouble=True):
            await obstore.put_async(
                self._inner,
                key,
                source,
                attributes=attributes,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
            if self._syncer:
                await asyncio.to_thread(self._syncer.sync, key)

    async def head(self, key: str) -> ObjectInfo:
        """Raises ObjectMissing."""
        check_key(key)
        with _translated("read"):
            meta = await obstore.head_async(self._inner, key)
        tag = (meta["e_tag"] or f"{meta['size']:x}-{meta['last_modified'].timestamp():.6f}").removeprefix("W/")
        return ObjectInfo(meta["size"], '"' + tag.strip('"') + '"', mime_of(key))

    async def exists(self, key: str) -> bool:
        try:
            await self.head(key)
        except ObjectMissing:
            return False
        return True

    async def get_range(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes start..end (exclusive, at most the file's size) in blocks.

        Each block is a request of its own: a slow reader holds no connection, and one block of memory.
        Raises ObjectMissing.
        """
        check_key(key)
        while start < end:
            length = min(self._window, end - start)
            with _translated("read"):
                block = await obstore.get_range_async(self._inner, key, start=start, length=length)
            if len(block) != length:
                raise StorageUnavailable(f"The storage gave {len(block)} of {length} bytes.")
            yield bytes(block)
            start += length

    async def download(self, key: str, dest: Path) -> None:
        """The whole file to a local path, for work that needs one (derivatives made later). Raises ObjectMissing."""
        info = await self.head(key)
        with _translated("write to the scratch folder"), dest.open("wb") as file:
            async for block in self.get_range(key, 0, info.size):
                await asyncio.to_thread(file.write, block)

    async def delete(self, keys: Sequence[str]) -> None:
        """Missing ones are fine: deleting twice is deleting once."""
        for key in keys:
            check_key(key)
            if self._syncer:
                self._syncer.forget(key)
            try:
                with _translated("delete"):
                    await obstore.delete_async(self._inner, key)
            except ObjectMissing:
                continue


def open_store(url: str, *, is_durable: bool = True, **options: Any) -> Store:
    """`file:///folder` (made if missing) or `s3://bucket/prefix` (also `gs://`, `az://`, …).

    `is_durable=False` leaves a folder's files to the system's cache, for tests and benchmarks. `options` are
    obstore's configuration of the bucket, e.g. `endpoint`, `region`, `access_key_id`, `secret_access_key`; what
    is not given comes from the usual environment variables. Raises StorageUnavailable if the folder cannot be
    made or the configuration is not understood.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        if parts.netloc not in ("", "localhost") or not folder.is_absolute():
            raise StorageUnavailable(f"{url} is not an absolute folder (file:///…).", retryable=False)
        with _translated(f"open {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            return Store(
                LocalStore(folder, automatic_cleanup=True),
                _Syncer(folder.resolve()) if is_durable else None,
                is_local=True,
            )
    endpoint = str(options.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL") or "")
    client: dict[str, Any] = {"timeout": REQUEST_TIMEOUT}
    if endpoint.startswith("http://"):
        client["allow_http"] = True
    settings: dict[str, Any] = {
        "client_options": client,
        "retry_config": {"max_retries": RETRIES_MAX, "retry_timeout": RETRY_TIMEOUT},
    }
    try:
        if parts.scheme == "s3":
            inner: ObjectStore = S3Store.from_url(url, **settings, **options)
        else:
            inner = from_url(url, **settings, **options)
    except (BaseError, ValueError, TypeError) as error:
        raise StorageUnavailable(f"{parts.scheme} storage is not configured right: {error}", retryable=False) from error
    return Store(inner, None, is_local=False)


@contextmanager
def _translated(what: str, *, missing_is_trouble: bool = False) -> Generator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if missing_is_trouble:  # no bucket, or the local file is gone
            raise StorageUnavailable(f"The storage could not {what}: {str(error)[:300]}") from error
        raise ObjectMissing("There is no such file.") from error
    except (BaseError, OSError) as error:
        raise StorageUnavailable(f"The storage could not {what}: {str(error)[:300]}") from error


class _Syncer:
    """To the disk itself, file and the folders that lead to it: stored for good also where the power fails.

    A folder's own entry needs it once; it is remembered, and forgotten when a deletion may have removed it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: set[Path] = {root}

    def sync(self, key: str) -> None:
        path = self._root / key
        _fsync(path)
        for folder in path.parents:
            _fsync(folder)
            if folder in self._known:
                return
            if len(self._known) >= FOLDERS_KNOWN_MAX:
                self._known = {self._root}
            self._known.add(folder)

    def forget(self, key: str) -> None:
        self._known -= set((self._root / key).parents) - {self._root}


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
