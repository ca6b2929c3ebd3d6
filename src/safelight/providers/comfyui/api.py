"""ComfyUI's HTTP: what every provider's has, and the upload of a file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from safelight.providers.base import Transient
from safelight.providers.failures import failure
from safelight.providers.http import (
    KEPT_BODY_MAX,
    SUBMIT_ANSWER_MAX,
    TOTAL_S,
    Answer,
    AnswerTooLarge,
    Api,
)
from safelight.providers.loose_json import decode, readable


class ComfyApi(Api):
    async def upload(self, url: str, file: Path, *, name: str, mime: str, folder: str) -> Answer:
        """May be repeated: the same bytes under the same name are the same file. Raises Transient, AnswerTooLarge."""
        content = await asyncio.to_thread(file.read_bytes)
        form = {"type": "input", "subfolder": folder, "overwrite": "true"}
        try:
            async with asyncio.timeout(TOTAL_S):
                request = self._client.build_request("POST", url, data=form, files={"image": (name, content, mime)})
                response = await self._client.send(request, stream=True)
                try:
                    body = bytearray()
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > SUBMIT_ANSWER_MAX:
                            raise AnswerTooLarge(f"more than {SUBMIT_ANSWER_MAX} bytes")
                finally:
                    await response.aclose()
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            raise Transient(failure("provider_unreachable", "the picture could not be handed over")) from error
        headers = {key.lower(): value for key, value in response.headers.items()}
        return Answer(response.status_code, headers, decode(body), readable(body, KEPT_BODY_MAX))
