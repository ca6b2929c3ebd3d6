"""The providers' file hosts: generated files by recipe, so that 60,000 of them cost nothing."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from uuid import uuid4

from starlette.responses import RedirectResponse, Response, StreamingResponse

from safelight.emulators.drop import Dropped
from safelight.emulators.faults import PRIVATE_URL, ResultFault
from safelight.emulators.media import MediaSpec, Studio
from safelight.emulators.settings import FILES_MAX
from safelight.emulators.wire import json_answer

CHUNK_BYTES = 256 * 1024
TRICKLES = 20


@dataclass(frozen=True, slots=True)
class Item:
    """One generated file and how it misbehaves."""

    spec: MediaSpec
    fault: ResultFault | None
    slow_s: float
    expires_at: float | None


class Shelf:
    """Generated files by token. The oldest are forgotten first."""

    def __init__(self, studio: Studio, huge_bytes: int, clock: Callable[[], float]) -> None:
        self._studio = studio
        self._huge_bytes = huge_bytes
        self._clock = clock
        self._items: OrderedDict[str, Item] = OrderedDict()

    def put(self, item: Item) -> str:
        """The file's name, unguessable, e.g. `3f2a….png`."""
        name = f"{uuid4().hex}.{item.spec.format}"
        self._items[name] = item
        while len(self._items) > FILES_MAX:
            self._items.popitem(last=False)
        return name

    def has(self, name: str) -> bool:
        return name in self._items

    async def data(self, name: str) -> bytes:
        """The file's bytes, for an answer that carries them itself; empty where it is forgotten."""
        item = self._items.get(name)
        return b"" if item is None else await self._studio.make(item.spec)

    async def serve(self, name: str, *, signed: bool = False) -> Response:
        """The answer to `GET …/files/{name}`. `signed`: by a URL that KIE's download-url made."""
        item = self._items.get(name)
        if item is None or item.fault == "expired":
            return json_answer({"detail": "File not found"}, 404)
        expired = item.expires_at is not None and item.expires_at < self._clock()
        if not signed and (expired or item.fault == "forbidden"):
            return json_answer({"detail": "Forbidden"}, 403)
        data = await self._studio.make(item.spec)
        mime = item.spec.mime
        match item.fault:
            case "truncated":
                return Response(data[: len(data) // 2], media_type=mime)
            case "cut":
                return Dropped(data, media_type=mime)
            case "wrong_type":
                return Response("<!doctype html><title>Sign in</title><p>Please sign in.", media_type=mime)
            case "mislabeled":
                return Response(data, media_type="application/octet-stream")
            case "huge":
                return StreamingResponse(self._swell(data), media_type=mime)
            case "slow":
                return StreamingResponse(_trickle(data, item.slow_s), media_type=mime)
            case "redirect_private":
                return RedirectResponse(PRIVATE_URL, 302)
            case "redirect":
                return RedirectResponse(f"./{self.put(Item(item.spec, None, 0.0, item.expires_at))}", 302)
            case _:
                return Response(data, media_type=mime, headers={"Cache-Control": "max-age=86400"})

    async def _swell(self, data: bytes) -> AsyncIterator[bytes]:
        yield data
        filler = bytes(CHUNK_BYTES)
        for _ in range(self._huge_bytes // CHUNK_BYTES):
            yield filler


async def _trickle(data: bytes, seconds: float) -> AsyncIterator[bytes]:
    step = max(1, len(data) // TRICKLES)
    for start in range(0, len(data), step):
        await asyncio.sleep(seconds / TRICKLES)
        yield data[start : start + step]
