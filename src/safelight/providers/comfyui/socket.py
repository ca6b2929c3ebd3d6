"""ComfyUI's WebSocket: open while something of ours is being made, and never needed for anything but progress."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from random import random
from time import monotonic
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import structlog

from safelight.providers.base import Running
from safelight.providers.comfyui.progress import Track
from safelight.providers.http import CONNECT_S, is_private_host
from safelight.providers.loose_json import as_object, decode
from safelight.stopping import end

log: Final = structlog.get_logger("providers.comfyui")

TRACKS_MAX: Final = 1_000
"""Prompts followed at once; the oldest are let go and show no percent any more."""
FRAME_BYTES_MAX: Final = 32_000_000
"""Previews come as binary frames of some megabytes; they are skipped."""
FRAMES_MAX: Final = 4
RETRY_MIN_S: Final = 1.0
RETRY_MAX_S: Final = 30.0
LOOK_S: Final = 5.0
"""How often a silent socket is asked whether it is still needed."""
AGE_MAX_S: Final = 6 * 3600.0
"""A prompt whose end was missed is followed no longer."""


class Socket:
    """One per process and server: a second socket with the same client id would take the first one's place."""

    def __init__(self, api: str, client_id: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(api)
        scheme = "wss" if parts.scheme == "https" else "ws"
        self._url = f"{scheme}://{parts.netloc}{parts.path}/ws?{urlencode({'clientId': client_id})}"
        self._headers = dict(headers)
        self._is_direct = is_private_host(parts.hostname or "")
        self._tracks: OrderedDict[str, tuple[float, Track]] = OrderedDict()
        self._listening: asyncio.Task[None] | None = None

    def follow(self, prompt_id: str, graph: Mapping[str, Any]) -> None:
        """Listen for this prompt from now on."""
        if prompt_id not in self._tracks:
            self._tracks[prompt_id] = (monotonic(), Track(graph))
        while len(self._tracks) > TRACKS_MAX:
            self._tracks.popitem(last=False)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen(), name="comfyui-socket")

    def running(self, prompt_id: str) -> Running:
        """What is known of a prompt that runs; nothing, where the socket is not reachable."""
        followed = self._tracks.get(prompt_id)
        return followed[1].running() if followed is not None else Running()

    def forget(self, prompt_id: str) -> None:
        self._tracks.pop(prompt_id, None)

    async def close(self) -> None:
        await end(self._listening)

    async def _listen(self) -> None:
        """Until nothing is left to follow. A server that cannot be reached costs a try now and then."""
        from websockets.exceptions import WebSocketException

        pause_s = RETRY_MIN_S
        while self._is_needed():
            try:
                await self._hear()
                pause_s = RETRY_MIN_S
            except (OSError, TimeoutError, WebSocketException, ValueError) as error:
                log.info("comfyui.socket_away", error=type(error).__name__, pause_s=pause_s)
                await asyncio.sleep(pause_s * (0.5 + random()))
                pause_s = min(2 * pause_s, RETRY_MAX_S)

    def _is_needed(self) -> bool:
        while self._tracks and next(iter(self._tracks.values()))[0] < monotonic() - AGE_MAX_S:
            self._tracks.popitem(last=False)
        return bool(self._tracks)

    async def _hear(self) -> None:
        from websockets.asyncio.client import connect

        async with connect(
            self._url,
            additional_headers=self._headers,
            open_timeout=CONNECT_S,
            close_timeout=1.0,
            max_size=FRAME_BYTES_MAX,
            max_queue=FRAMES_MAX,
            # A proxy of the environment is for the outside, as in `http.Api`.
            proxy=None if self._is_direct else True,
        ) as socket:
            while self._is_needed():
                try:
                    async with asyncio.timeout(LOOK_S):
                        frame = await socket.recv()
                except TimeoutError:
                    continue  # silence is fine while something waits in the queue
                if isinstance(frame, str):
                    self._take(frame)

    def _take(self, frame: str) -> None:
        message = as_object(decode(frame.encode(errors="replace")))
        data = as_object(message.get("data"))
        _, track = self._tracks.get(str(data.get("prompt_id")), (0.0, None))
        if track is not None and isinstance(message.get("type"), str):
            track.take(message["type"], data)
            if track.is_over:
                self.forget(str(data["prompt_id"]))
