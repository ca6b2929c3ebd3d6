"""The emulated providers with one more door: `POST /finish` ends at once whatever they are at work on.

A provider that takes an hour, for whoever does not have it. Run by figures/inflight.py as a process of its own.
"""

from __future__ import annotations

import argparse

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from safelight.emulators.app import Emulators
from safelight.emulators.settings import EmulatorSettings

LATENCY_S = 3600.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    emulators = Emulators(EmulatorSettings(image_latency_s=LATENCY_S, seed=7))

    async def finish(_: Request) -> Response:
        under_way = emulators.fal.engine.unfinished()
        for task in under_way:
            task.rushed = True
            task.poked.set()
        return JSONResponse({"finished": len(under_way)})

    app = emulators.app()
    app.router.routes.append(Route("/finish", finish, methods=["POST"]))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
