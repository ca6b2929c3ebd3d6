"""A start image as a file here, for providers that cannot fetch it: a ComfyUI at home sees no URL of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from safelight.media.errors import MediaError
from safelight.media.fetch import Fetcher
from safelight.media.sign import MediaSigner
from safelight.media.store import Store, mime_of
from safelight.providers.comfyui import InputUnreadable

MEDIA: Final = "/media/"


class InputDoor:
    """Called with a URL and a file: puts the picture there and gives its media type. Raises InputUnreadable."""

    def __init__(
        self, fetcher: Fetcher, store: Store, signer: MediaSigner, own_urls: Sequence[str], now: Callable[[], datetime]
    ) -> None:
        self._fetcher = fetcher
        self._store = store
        self._signer = signer
        self._own = tuple(url.rstrip("/") + MEDIA for url in own_urls if url)
        self._now = now

    async def __call__(self, url: str, dest: Path) -> str:
        try:
            key = self._own_key(url)
            if key is None:
                # Anybody's address: the guarded way, as for results (M4).
                return (await self._fetcher.fetch(url, kinds=frozenset({"image"}), dest=dest)).mime
            await self._store.download(key, dest)
            mime = mime_of(key)
        except MediaError as error:
            raise InputUnreadable(error.message, may_repeat=error.retryable) from error
        if mime is None or not mime.startswith("image/"):
            raise InputUnreadable("It is no picture.", may_repeat=False)
        return mime

    def _own_key(self, url: str) -> str | None:
        """The key of a file of ours, where we signed its address: it is read without a detour through the network."""
        for start in self._own:
            if url.startswith(start):
                parts = urlsplit(url)
                key = parts.path[len(urlsplit(start).path) :]
                query = parse_qs(parts.query)
                e, s = query.get("e", [""])[0], query.get("s", [""])[0]
                return key if self._signer.verify(key, e, s, self._now()) else None
        return None
