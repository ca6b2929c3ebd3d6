"""Small things that every answer and every body of the door has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

BODY_MAX: Final = 16 * 1024 * 1024
"""As for every JSON body (api/app.py): a start image as a data URL, and some room."""
REQUEST_ID: Final = "x-fal-request-id"

_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


class BadRequest(Exception):
    """The request cannot be read. `status` is 4xx."""

    def __init__(self, status: int, message: str, kind: str = "bad_request") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON answer before it is sent."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def response(self, request_id: str | None = None) -> Response:
        sent = {"Cache-Control": "no-store", **self.headers}
        if request_id is not None:
            sent[REQUEST_ID] = request_id
        # The type is exactly this one: only then does the JavaScript client read what an error says.
        return Response(encode(self.body), self.status, sent, "application/json")


def encode(body: Any) -> bytes:
    return _encode(body)


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object; an empty one is an empty object. Raises BadRequest."""
    taken = bytearray()
    async for chunk in request.stream():
        taken += chunk
        if len(taken) > BODY_MAX:
            raise BadRequest(413, f"A body has at most {BODY_MAX} bytes; upload files first.", "file_too_large")
    if not taken:
        return {}
    try:
        return msgspec.json.decode(bytes(taken), type=dict[str, Any])
    except msgspec.ValidationError:
        raise BadRequest(422, "The body is a JSON object: the model's input.") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(422, f"The body is not JSON: {error}"[:300]) from None
