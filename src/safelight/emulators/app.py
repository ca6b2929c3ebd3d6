"""All emulated providers as one ASGI app.

Below `base_url`:

    /fal/queue/{endpoint id}…     https://queue.fal.run      submit, …/requests/{id}[/status[/stream]|/cancel|/response]
    /fal/run/{endpoint id}        https://fal.run            direct run, …/stream
    /fal/rest/…                   https://rest.fal.ai        .well-known/jwks.json, storage/upload/initiate[-multipart],
                                                             storage/auth/token, tokens/
    /fal/files/…                  https://v3.fal.media       results and uploads; POST /fal/files/upload[/multipart]
    /fal/upload/{name}            where `initiate` says that the bytes go (PUT)
    /fal/proxy                    what `@fal-ai/client` calls `proxyUrl`
    /kie/api/v1/…                 https://api.kie.ai         jobs/createTask, jobs/recordInfo, veo/generate,
                                                             veo/record-info, chat/credit, common/download-url
    /kie/files/…, /kie/signed/…   result files, and those that download-url signed
    /replicate/v1/…               https://api.replicate.com  predictions, models/…, deployments/…, files,
                                                             webhooks/default/secret
    /replicate/files/…, /stream/… result files, and `urls.stream`
    /runway/v1/…                  https://api.dev.runwayml.com                  text_to_image, …, tasks/{id}
    /luma/dream-machine/v1/…      https://api.lumalabs.ai/dream-machine/v1      generations[/{id}]
    /comfyui/…                    http://127.0.0.1:8188      prompt, queue, history, interrupt, view, upload/image, ws,
                                                             api/jobs/{id}/cancel
    /openai/v1/…                  https://api.openai.com     images/generations, images/edits, models
    /{provider}/_emulator/…        faults (GET, PUT, DELETE), requests (GET, DELETE), deliveries (GET, DELETE)
    /_emulator/…                  the same for all providers at once
    /                             who this is

Faults of one request go into its input field `_emulator`: see `faults.py`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from safelight.emulators.admin import Admin
from safelight.emulators.comfyui import ComfyUI
from safelight.emulators.engine import Engine
from safelight.emulators.fal import Fal
from safelight.emulators.fal_doors import FalHosts, HostKind, native_host_app
from safelight.emulators.fal_rest import FalRest
from safelight.emulators.fal_run import FalRun
from safelight.emulators.kie import Kie
from safelight.emulators.luma import Luma
from safelight.emulators.media import Studio
from safelight.emulators.openai import OpenAI
from safelight.emulators.replicate import Replicate
from safelight.emulators.runway import Runway
from safelight.emulators.settings import EmulatorSettings
from safelight.emulators.uploads import UploadStore
from safelight.emulators.wire import json_answer

PROVIDERS = ("fal", "kie", "replicate", "openai")

__all__ = ["Emulators", "create_emulator_app", "create_fal_host_app"]


class Emulators:
    """Everything that lives while the emulators do. One event loop; `close` ends it all."""

    def __init__(self, settings: EmulatorSettings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._studio = Studio(settings.media_threads)
        self._uploads = UploadStore()
        self.fal = Fal(Engine("fal", settings, self._studio, clock))
        self.kie = Kie(Engine("kie", settings, self._studio, clock))
        self.openai = OpenAI(Engine("openai", settings, self._studio, clock), self._studio)
        self.replicate = Replicate(Engine("replicate", settings, self._studio, clock), self._uploads)
        self.runway = Runway(Engine("runway", settings, self._studio, clock))
        self.luma = Luma(Engine("luma", settings, self._studio, clock))
        self.comfyui = ComfyUI(Engine("comfyui", settings, self._studio, clock))
        self.fal_hosts = FalHosts(self.fal, FalRun(self.fal), FalRest(self.fal, self._uploads))

    async def close(self) -> None:
        await self.fal.engine.close()
        await self.kie.engine.close()
        await self.openai.engine.close()
        await self.replicate.close()
        await self.replicate.engine.close()
        await self.runway.engine.close()
        await self.luma.engine.close()
        await self.comfyui.engine.close()
        self._studio.close()
        self._uploads.close()

    def app(self) -> Starlette:
        """The app of the module's docstring. Its lifespan closes the emulators."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncGenerator[None]:
            try:
                yield
            finally:
                await self.close()

        fal, kie, replicate = self.fal.engine, self.kie.engine, self.replicate.engine
        openai = self.openai.engine
        runway, luma, comfyui = self.runway.engine, self.luma.engine, self.comfyui.engine
        return Starlette(
            routes=[
                Mount("/fal", routes=[*Admin([fal]).routes(), *self.fal_hosts.mounts()]),
                Mount("/kie", routes=[*Admin([kie]).routes(), *self.kie.routes()]),
                Mount("/replicate", routes=[*Admin([replicate]).routes(), *self.replicate.routes()]),
                Mount("/runway", routes=[*Admin([runway]).routes(), *self.runway.routes()]),
                Mount("/luma", routes=[*Admin([luma]).routes(), *self.luma.routes()]),
                Mount("/comfyui", routes=[*Admin([comfyui]).routes(), *self.comfyui.routes()]),
                Mount("/openai", routes=[*Admin([openai]).routes(), *self.openai.routes()]),
                *Admin([fal, kie, replicate, openai, runway, luma, comfyui]).routes(),
                Route("/", _home, methods=["GET"]),
            ],
            exception_handlers={HTTPException: _no_route},
            lifespan=lifespan,
        )


def create_emulator_app(settings: EmulatorSettings | None = None) -> Starlette:
    """The emulators as an ASGI app; run it with its lifespan. See the module's docstring for its paths."""
    return Emulators(settings or EmulatorSettings()).app()


def create_fal_host_app(kind: HostKind, emulators: Emulators) -> ASGIApp:
    """One of fal's hosts with its paths at the root, over the tasks of `emulators`; needs no lifespan.

    For clients that only know host names. Set `EmulatorSettings.base_url`, where the files are.
    """
    return native_host_app(kind, emulators.fal_hosts)


async def _home(_: Request) -> Response:
    return json_answer({"service": "safelight emulators", "providers": {name: f"/{name}" for name in PROVIDERS}})


async def _no_route(request: Request, error: Exception) -> Response:
    """A real 404 or 405, in JSON as both providers do."""
    assert isinstance(error, HTTPException)
    body = {"detail": error.detail, "status": error.status_code, "path": request.url.path}
    return json_answer(body, error.status_code, error.headers)
