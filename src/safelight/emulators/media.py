"""The media an emulator makes: real pictures and clips, made once, kept in a bounded cache."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from safelight.emulators.settings import MEDIA_CACHE_BYTES_MAX

MediaKind = Literal["image", "video"]
MIME = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "mp4": "video/mp4"}
PROMPT_CHARACTERS_MAX = 1000  # of a prompt, for the picture: a longer one is told apart by its hash


@dataclass(frozen=True, slots=True)
class MediaSpec:
    """Everything that decides the bytes: the same spec gives the same file."""

    kind: MediaKind
    prompt: str
    seed: int
    width: int
    height: int
    duration_s: float
    format: str
    """`png`, `jpeg`, `webp`, `mp4`."""

    @property
    def mime(self) -> str:
        return MIME[self.format]


def seed_for(*parts: object) -> int:
    """A 32-bit seed that follows from `parts`."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4])


class Studio:
    """Makes media in threads, each spec once at a time."""

    def __init__(self, threads: int, cache_bytes_max: int = MEDIA_CACHE_BYTES_MAX) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="emulator-media")
        self._cache: OrderedDict[MediaSpec, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._cache_bytes_max = cache_bytes_max
        self._making: dict[MediaSpec, asyncio.Future[bytes]] = {}

    async def make(self, spec: MediaSpec) -> bytes:
        """The file of `spec`. A caller that goes away does not stop the others who wait for it."""
        cached = self._cache.get(spec)
        if cached is not None:
            self._cache.move_to_end(spec)
            return cached
        making = self._making.get(spec)
        if making is None:
            making = asyncio.get_running_loop().run_in_executor(self._pool, render, spec)
            self._making[spec] = making
            making.add_done_callback(lambda done: self._made(spec, done))
        return await asyncio.shield(making)

    def _made(self, spec: MediaSpec, done: asyncio.Future[bytes]) -> None:
        del self._making[spec]
        if done.cancelled() or done.exception() is not None:
            return
        self._cache[spec] = done.result()
        self._cached_bytes += len(done.result())
        while self._cached_bytes > self._cache_bytes_max:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= len(dropped)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def render(spec: MediaSpec) -> bytes:
    """Blocking; numpy, Pillow and PyAV are imported here and not before."""
    from safelight.media.synth import clip, picture

    if spec.kind == "video":
        return clip(spec.prompt, spec.seed, spec.width, spec.height, spec.duration_s)
    return picture(spec.prompt, spec.seed, spec.width, spec.height, spec.format)


def short_prompt(prompt: str) -> str:
    """What a spec keeps of a prompt: specs live as long as their files do."""
    if len(prompt) <= PROMPT_CHARACTERS_MAX:
        return prompt
    return f"{prompt[:PROMPT_CHARACTERS_MAX]} {hashlib.sha256(prompt.encode()).hexdigest()[:12]}"
