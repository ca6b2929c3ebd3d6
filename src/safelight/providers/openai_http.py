"""One POST to OpenAI's image endpoints, which is held open for minutes and answers with the pictures themselves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx

from safelight.providers.base import Rejected
from safelight.providers.failures import failure
from safelight.providers.http import (
    KEPT_BODY_MAX,
    Answer,
    AnswerTooLarge,
    Api,
    raise_submit_failure,
)
from safelight.providers.loose_json import as_object, decode, readable

READ_S: Final = 300.0
"""Between two bytes: without previews the first byte is the result."""
TOTAL_S: Final = 600.0
"""The official client's timeout."""
ANSWER_MAX: Final = 96_000_000
"""Bytes of an answer: ten large pictures as base64."""
ERROR_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Picture:
    """A file to be uploaded with an edit."""

    name: str
    data: bytes
    mime: str


@dataclass(frozen=True, slots=True)
class Call:
    """One request, ready to be sent. With pictures it goes as multipart, else as JSON."""

    path: str
    fields: Mapping[str, Any]
    pictures: Sequence[tuple[str, Picture]] = ()
    """Field name and file."""

    def encoded(self) -> dict[str, Any]:
        """httpx's arguments. Raises Rejected."""
        try:
            if not self.pictures:
                body = json.dumps(self.fields, ensure_ascii=False, allow_nan=False).encode()
                return {"content": body, "headers": {"content-type": "application/json"}}
            return {
                "data": {name: _text(value) for name, value in self.fields.items() if value is not None},
                "files": [(name, (each.name, each.data, each.mime)) for name, each in self.pictures],
            }
        except (ValueError, TypeError) as error:
            raise Rejected(failure("invalid_input", "it cannot be written as JSON")) from error


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer whose body has not been read. Exactly one of the two readers may be used, once."""

    response: httpx.Response

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def is_stream(self) -> bool:
        return self.response.headers.get("content-type", "").startswith("text/event-stream")

    async def read(self) -> Answer:
        """The whole body. Raises AnswerTooLarge, or what httpx raises."""
        limit = ANSWER_MAX if self.response.is_success else ERROR_MAX
        body = bytearray()
        async for chunk in self.response.aiter_bytes():
            body += chunk
            if len(body) > limit:
                raise AnswerTooLarge(f"more than {limit} bytes")
        said = {name.lower(): value for name, value in self.response.headers.items()}
        return Answer(self.status, said, decode(body), readable(body, KEPT_BODY_MAX))

    async def events(self) -> AsyncIterator[Mapping[str, Any]]:
        """The JSON objects of a stream of server-sent events. Raises AnswerTooLarge, or what httpx raises."""
        held, total = bytearray(), 0
        async for chunk in self.response.aiter_bytes():
            total += len(chunk)
            if total > ANSWER_MAX:
                raise AnswerTooLarge(f"more than {ANSWER_MAX} bytes")
            seen = max(len(held) - 1, 0)
            held += chunk.replace(b"\r", b"")
            while (end := held.find(b"\n\n", seen)) >= 0:
                event, seen = bytes(held[:end]), 0
                del held[: end + 2]
                yield _event(event)


def _event(raw: bytes) -> Mapping[str, Any]:
    data = b"\n".join(
        line.removeprefix(b"data:").removeprefix(b" ") for line in raw.split(b"\n") if line.startswith(b"data:")
    )
    return as_object(decode(data))


class OpenAIApi(Api):
    """Adds the long call. Its errors are a submit's: what may have been taken is Ambiguous."""

    @asynccontextmanager
    async def call(self, url: str, call: Call, *, request_id: str) -> AsyncGenerator[Reply]:
        """Exactly one request. Raises Refused, Ambiguous, AccountProblem or Rejected, also while it is read."""
        arguments = call.encoded()
        headers = {**arguments.pop("headers", {}), "x-client-request-id": request_id, "accept": "*/*"}
        request = self._client.build_request("POST", url + call.path, headers=headers, **arguments)
        try:
            async with asyncio.timeout(TOTAL_S):
                response = await self._client.send(request, stream=True)
                try:
                    yield Reply(response)
                finally:
                    await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, AnswerTooLarge) as error:
            raise_submit_failure(error)


def _text(value: Any) -> str:
    """As a form has it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
