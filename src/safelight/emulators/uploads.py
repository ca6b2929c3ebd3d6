"""Files that callers upload: kept on disk while the emulator runs, bounded, oldest out first."""

from __future__ import annotations

import hashlib
import tempfile
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from uuid import uuid4

import anyio
from starlette.requests import Request

from safelight.emulators.settings import UPLOAD_BYTES_MAX, UPLOADS_BYTES_MAX
from safelight.emulators.wire import BadBody

PARTS_MAX = 10_000
UPLOADS_MAX = 10_000


@dataclass(slots=True)
class Upload:
    """One file, begun or whole. `name` is the last part of its URL."""

    name: str
    mime: str
    bytes: int = 0
    whole: bool = False
    parts: dict[int, str] = field(default_factory=dict[int, str])
    """Etag of each part that has arrived."""


class UploadStore:
    """Uploads by name. Nothing touches the disk before the first byte arrives."""

    def __init__(self) -> None:
        self._uploads: OrderedDict[str, Upload] = OrderedDict()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def begin(self, file_name: str, mime: str) -> Upload:
        """A place for a file; its name is unguessable and ends like `file_name`."""
        suffix = PurePosixPath(file_name).suffix
        tail = suffix if suffix[1:].isalnum() and len(suffix) <= 8 else ""
        upload = Upload(f"{uuid4().hex}{tail}", mime or "application/octet-stream")
        self._uploads[upload.name] = upload
        self._make_room()
        return upload

    def find(self, name: str) -> Upload | None:
        return self._uploads.get(name)

    async def write(self, upload: Upload, request: Request, part: int | None = None) -> str:
        """Store the request's body as the file, or as its part number `part`. Returns the etag.

        Raises BadBody if it grows too large.
        """
        if part is not None and not 1 <= part <= PARTS_MAX:
            raise BadBody(400, "no such part")
        digest = hashlib.sha256()
        size = 0
        async with await anyio.open_file(self._path(upload, part), "wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if upload.bytes + size > UPLOAD_BYTES_MAX:
                    raise BadBody(413, f"the file is larger than {UPLOAD_BYTES_MAX} bytes")
                digest.update(chunk)
                await file.write(chunk)
        etag = digest.hexdigest()[:32]
        if part is None:
            upload.bytes, upload.whole = size, True
        else:
            upload.bytes += size
            upload.parts[part] = etag
        self._make_room()
        return etag

    async def join(self, upload: Upload, parts: list[int]) -> None:
        """Make the file of its parts. Raises BadBody if one has not arrived."""
        if not parts or any(part not in upload.parts for part in parts):
            raise BadBody(400, "a part is missing")
        async with await anyio.open_file(self.path(upload), "wb") as whole:
            for part in sorted(parts):
                path = anyio.Path(self._path(upload, part))
                await whole.write(await path.read_bytes())
                await path.unlink()
        upload.parts.clear()
        upload.whole = True

    def path(self, upload: Upload) -> Path:
        return self._path(upload, None)

    def _path(self, upload: Upload, part: int | None) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="safelight-emulator-")
        return Path(self._folder.name) / (upload.name if part is None else f"{upload.name}.{part}")

    def _make_room(self) -> None:
        total = sum(upload.bytes for upload in self._uploads.values())
        while len(self._uploads) > 1 and (total > UPLOADS_BYTES_MAX or len(self._uploads) > UPLOADS_MAX):
            _, oldest = self._uploads.popitem(last=False)
            total -= oldest.bytes
            for part in (None, *oldest.parts):
                self._path(oldest, part).unlink(missing_ok=True)

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
