"""rest.fal.ai and v3.fal.media (providers.md §1.10, §1.11): keys, tokens, uploads, files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import unquote
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from safelight.emulators.fal import Fal
from safelight.emulators.uploads import Upload, UploadStore
from safelight.emulators.wire import BadBody, json_answer, read_object

TOKEN_LIFETIME = timedelta(hours=1)


class FalRest:
    """The handlers. An `upload_url` is its own permission, as a signed URL is."""

    def __init__(self, fal: Fal, uploads: UploadStore) -> None:
        self._fal = fal
        self._uploads = uploads

    async def jwks(self, request: Request) -> Response:
        return json_answer(self._fal.dialect.signer.jwks(), 200, {"Cache-Control": "max-age=86400"})

    async def initiate(self, request: Request) -> Response:
        """`POST /storage/upload/initiate[-multipart]?storage_type=…`."""
        stranger = self._fal.refuse_stranger(request)
        if stranger is not None:
            return stranger
        try:
            given = await read_object(request)
        except BadBody as bad:
            return json_answer({"detail": str(bad)}, bad.status)
        file_name, mime = given.get("file_name"), given.get("content_type")
        if not isinstance(file_name, str) or not isinstance(mime, str):
            entry = {"loc": ["body", "file_name"], "msg": "Field required", "type": "missing"}
            return json_answer({"detail": [entry]}, 422)
        upload = self._uploads.begin(file_name, mime)
        base = self._fal.public_url(request)
        return json_answer(
            {
                "upload_url": f"{base}/upload/{upload.name}?signature={uuid4().hex}",
                "file_url": f"{base}/files/{upload.name}",
            }
        )

    async def put_upload(self, request: Request) -> Response:
        """`PUT {upload_url}`, and with `/{n}` after its path a part of it."""
        upload = self._uploads.find(request.path_params["name"])
        if upload is None:
            return json_answer({"detail": "Upload not found"}, 404)
        part = request.path_params.get("part")
        return await self._take(upload, request, part)

    async def complete_upload(self, request: Request) -> Response:
        """`POST {upload_url}/complete` with `{"parts": [{"partNumber", "etag"}]}`."""
        upload = self._uploads.find(request.path_params["name"])
        if upload is None:
            return json_answer({"detail": "Upload not found"}, 404)
        try:
            given = await read_object(request)
            await self._uploads.join(upload, _part_numbers(given))
        except BadBody as bad:
            return json_answer({"detail": str(bad)}, bad.status)
        return json_answer({"file_url": f"{self._fal.public_url(request)}/files/{upload.name}"})

    async def cdn_token(self, request: Request) -> Response:
        """`POST /storage/auth/token?storage_type=fal-cdn-v3`, what the Python client asks first."""
        stranger = self._fal.refuse_stranger(request)
        if stranger is not None:
            return stranger
        return json_answer(
            {
                "token": f"cdn-{uuid4().hex}",
                "token_type": "Bearer",
                "base_url": self._fal.public_url(request),
                "expires_at": (datetime.now(UTC) + TOKEN_LIFETIME).isoformat(),
            }
        )

    async def realtime_token(self, request: Request) -> Response:
        """`POST /tokens/`."""
        stranger = self._fal.refuse_stranger(request)
        return stranger or json_answer(f"jwt-{uuid4().hex}")

    # --- v3.fal.media ------------------------------------------------------------------------------------------

    async def post_file(self, request: Request) -> Response:
        """`POST /files/upload` with the CDN token."""
        stranger = self._fal.refuse_stranger(request) if not _has_cdn_token(request) else None
        if stranger is not None:
            return stranger
        upload = self._begin(request)
        answer = await self._take(upload, request, None)
        if answer.status_code != 200:
            return answer
        return json_answer({"access_url": f"{self._fal.public_url(request)}/files/{upload.name}"})

    async def post_multipart(self, request: Request) -> Response:
        """`POST /files/upload/multipart`."""
        if not _has_cdn_token(request):
            return json_answer({"detail": "Unauthorized"}, 401)
        upload = self._begin(request)
        url = f"{self._fal.public_url(request)}/files/{upload.name}"
        return json_answer({"access_url": url, "uploadId": upload.name})

    def _begin(self, request: Request) -> Upload:
        name = unquote(request.headers.get("x-fal-file-name", "upload.bin"))
        return self._uploads.begin(name, request.headers.get("content-type", ""))

    async def _take(self, upload: Upload, request: Request, part: int | None) -> Response:
        try:
            etag = await self._uploads.write(upload, request, part)
        except BadBody as bad:
            return json_answer({"detail": str(bad)}, bad.status)
        if part is None and "content-type" in request.headers:
            upload.mime = request.headers["content-type"]
        return json_answer({"partNumber": part or 1, "etag": etag}, 200, {"ETag": etag})

    async def get_file(self, request: Request) -> Response:
        """A generated file, or an uploaded one."""
        name = request.path_params["name"]
        upload = self._uploads.find(name)
        if upload is None:
            return await self._fal.engine.shelf.serve(name)
        if not upload.whole:
            return json_answer({"detail": "File not found"}, 404)
        return FileResponse(self._uploads.path(upload), media_type=upload.mime)


def _has_cdn_token(request: Request) -> bool:
    return request.headers.get("authorization", "").startswith("Bearer cdn-")


def _part_numbers(given: dict[str, Any]) -> list[int]:
    parts = given.get("parts")
    if not isinstance(parts, list):
        raise BadBody(400, "parts is a list")
    numbers: list[int] = []
    for part in cast("list[Any]", parts):
        number = cast("dict[str, Any]", part).get("partNumber") if isinstance(part, dict) else None
        if not isinstance(number, int):
            raise BadBody(400, "partNumber is a number")
        numbers.append(number)
    return numbers
