"""`GET /media/{key}`: the only way a browser gets a file. Signed, resumable, cached for good (M3)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from safelight.media.byterange import Part, Unsatisfiable, parse_range
from safelight.media.errors import MediaError, ObjectMissing
from safelight.media.sign import MediaSigner
from safelight.media.store import ObjectInfo, Store

CACHE: Final = "private, max-age=31536000, immutable"  # a key's bytes never change
# A file opened as a page can do nothing: no script, no frame, no request; only show itself.
POLICY: Final = "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"
DOWNLOAD_NAME_MAX: Final = 150

Clock = Callable[[], datetime]
Endpoint = Callable[[Request], Awaitable[Response]]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def media_endpoint(store: Store, signer: MediaSigner, clock: Clock = _utc_now) -> Endpoint:
    """The endpoint for `GET|HEAD /media/{key:path}`."""

    async def endpoint(request: Request) -> Response:
        key = request.path_params["key"]
        query = request.query_params
        if not signer.verify(key, query.get("e", ""), query.get("s", ""), clock()):
            return _problem(request, 403, "forbidden", "Forbidden", "The address is not signed, or has expired.")
        try:
            info = await store.head(key)
        except ObjectMissing:
            return _problem(request, 404, "not_found", "Not found", "There is no such file.")
        except MediaError as error:
            return _problem(request, error.status, error.code, "Storage unavailable", error.message)
        if info.mime is None:
            return _problem(request, 404, "not_found", "Not found", "There is no such file.")
        return _answer(request, store, key, info)

    return endpoint


def media_route(store: Store, signer: MediaSigner, clock: Clock = _utc_now) -> Route:
    """The endpoint at its place."""
    return Route("/media/{key:path}", media_endpoint(store, signer, clock), methods=["GET", "HEAD"])


def _answer(request: Request, store: Store, key: str, info: ObjectInfo) -> Response:
    headers = {
        "ETag": info.etag,
        "Cache-Control": CACHE,
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": POLICY,
        "Referrer-Policy": "no-referrer",
    }
    if _names(request.headers.get("if-none-match"), info.etag):
        return Response(status_code=304, headers=headers)
    headers["Content-Type"] = info.mime or ""
    if "download" in request.query_params:
        headers["Content-Disposition"] = disposition(request.query_params["download"], key)
    part: Part | Unsatisfiable | None = None
    guard = request.headers.get("if-range")
    if request.method == "GET" and (guard is None or guard == info.etag):
        part = parse_range(request.headers.get("range"), info.size)
    status = 200
    match part:
        case Unsatisfiable():
            headers["Content-Range"] = f"bytes */{info.size}"
            return _problem(request, 416, "range_not_satisfiable", "Range not satisfiable", "", headers)
        case Part(start, end):
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{info.size}"
        case None:
            start, end = 0, info.size
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    # If the storage fails midway the connection breaks: a short answer never looks whole.
    return StreamingResponse(store.get_range(key, start, end), status_code=status, headers=headers)


def _names(header: str | None, etag: str) -> bool:
    """If-None-Match, compared weakly as it is to be."""
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags


def disposition(name: str, key: str) -> str:
    """An attachment with this name (or the key's), safe in a header and in a folder."""
    name = re.sub(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|]+', "_", name).strip(". ")[:DOWNLOAD_NAME_MAX]
    name = name or key.rpartition("/")[2]
    plain = name.encode("ascii", "replace").decode().replace("?", "_").replace("%", "_")
    extended = quote(name.encode("utf-8", "replace"), safe="")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{extended}"


def _problem(
    request: Request, status: int, code: str, title: str, detail: str, headers: dict[str, str] | None = None
) -> Response:
    body = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
        "instance": request.url.path,
    }
    kept = {"Content-Range": headers["Content-Range"]} if headers else {}
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        media_type="application/problem+json",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **kept},
    )
