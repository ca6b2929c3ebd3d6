"""Small things both providers need to speak HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from safelight.emulators.settings import BODY_BYTES_MAX


class BadBody(Exception):
    """The request's body cannot be read. `status` is 400, 413 or 422."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


def gateway_503() -> Response:
    """nginx's own page: the request went no further."""
    said = "503 Service Temporarily Unavailable"
    page = (
        f"<html>\r\n<head><title>{said}</title></head>\r\n<body>\r\n<center><h1>{said}</h1></center>\r\n"
        "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    return Response(page, 503, media_type="text/html")


async def read_bytes(request: Request, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """Raises BadBody when there is more than `bytes_max`."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > bytes_max:
            raise BadBody(413, f"the body is larger than {bytes_max} bytes")
    return bytes(body)


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object; an empty body is an empty object. Raises BadBody."""
    raw = await read_bytes(request)
    try:
        return msgspec.json.decode(raw, type=dict[str, Any]) if raw else {}
    except msgspec.ValidationError:
        raise BadBody(422, "Input should be a valid dictionary") from None
    except msgspec.DecodeError as error:
        raise BadBody(422, f"JSON decode error: {error}") from None


def iso_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def origin_of(request: Request) -> str:
    """`http://host:port` as the client named it."""
    return f"{request.url.scheme}://{request.url.netloc}"
