"""Replicate's files: inputs too large for a `data:` URI, kept for a day (providers.md §3.1)."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from safelight.emulators.openai_form import read_form
from safelight.emulators.replicate_bodies import REFUSED, problem
from safelight.emulators.settings import BODY_BYTES_MAX
from safelight.emulators.task import JSON
from safelight.emulators.uploads import Upload, UploadStore
from safelight.emulators.wire import BadBody, json_answer, read_bytes

if TYPE_CHECKING:
    from safelight.emulators.replicate import Replicate

LIFETIME = timedelta(hours=24)


class ReplicateFiles:
    """The handlers of `/v1/files`."""

    def __init__(self, replicate: Replicate, uploads: UploadStore) -> None:
        self._replicate = replicate
        self._uploads = uploads

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/files", self.create, methods=["POST"]),
            Route("/v1/files/{name}", self.get, methods=["GET"]),
            Route("/v1/files/{name}/download", self.download, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """Multipart `content`, and `metadata` as JSON."""
        if (stranger := self._replicate.refuse_stranger(request)) is not None:
            return stranger
        try:
            parts = read_form(request.headers.get("content-type", ""), await read_bytes(request, BODY_BYTES_MAX))
            content = next((part for part in parts if part.name == "content"), None)
            if content is None:
                raise BadBody(422, "content is required")
            said = next((part.data for part in parts if part.name == "metadata"), b"{}")
            metadata = msgspec.json.decode(said, type=dict[str, object])
        except BadBody as bad:
            return json_answer(problem(bad.status, {"title": "Invalid request", "detail": str(bad)}), bad.status)
        except msgspec.DecodeError as error:
            return json_answer(problem(422, {"title": "Invalid request", "detail": f"metadata: {error}"}), 422)
        upload = self._uploads.begin(content.file_name or "file", content.mime or "application/octet-stream")
        await anyio.Path(self._uploads.path(upload)).write_bytes(content.data)
        upload.bytes, upload.whole = len(content.data), True
        digest = hashlib.sha256(content.data).hexdigest()
        return json_answer(self._shown(request, upload, content.file_name or "file", digest, metadata), 201)

    async def get(self, request: Request) -> Response:
        upload = self._find(request)
        if isinstance(upload, Response):
            return upload
        data = await anyio.Path(self._uploads.path(upload)).read_bytes()
        return json_answer(self._shown(request, upload, upload.name, hashlib.sha256(data).hexdigest(), {}))

    async def download(self, request: Request) -> Response:
        """As a model fetches it. The address is its own permission here; theirs is signed."""
        upload = self._uploads.find(request.path_params["name"])
        if upload is None or not upload.whole:
            return json_answer(problem(404, REFUSED["404"][1]), 404)
        return FileResponse(self._uploads.path(upload), media_type=upload.mime)

    def _find(self, request: Request) -> Upload | Response:
        if (stranger := self._replicate.refuse_stranger(request)) is not None:
            return stranger
        upload = self._uploads.find(request.path_params["name"])
        if upload is None or not upload.whole:
            return json_answer(problem(404, REFUSED["404"][1]), 404)
        return upload

    def _shown(self, request: Request, upload: Upload, name: str, digest: str, metadata: dict[str, object]) -> JSON:
        now = datetime.now(UTC)
        return {
            "id": upload.name,
            "name": name,
            "content_type": upload.mime,
            "size": upload.bytes,
            "etag": digest[:32],
            "checksums": {"sha256": digest},
            "metadata": metadata,
            "created_at": now.isoformat(),
            "expires_at": (now + LIFETIME).isoformat(),
            "urls": {"get": f"{self._replicate.public_url(request)}/v1/files/{upload.name}/download"},
        }
