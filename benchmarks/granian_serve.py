"""`safelight serve` on granian in place of uvicorn: the same installation in the same process and event loop.

Run by figures/servers.py with granian on PYTHONPATH: it is measured, not depended on.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path
from typing import Any

import uvloop
from granian.constants import HTTPModes  # type: ignore[import-not-found]
from granian.server.embed import Server  # type: ignore[import-not-found]

from safelight.observe.logging import configure
from safelight.server.settings import Settings
from safelight.server.system import system


async def main(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with system(settings, base_url=f"http://{settings.host}:{settings.port}") as whole:
        background = asyncio.create_task(whole.run_background())
        server: Any = Server(
            whole.app,
            address=settings.host,
            port=settings.port,
            interface="asginl",
            http=HTTPModes.http1,
            log_enabled=False,
            backlog=2048,
        )
        serving = asyncio.create_task(server.serve())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({background, serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        whole.feed.drain()
        server.stop()
        for task in (background, serving, stopping):
            task.cancel()
        await asyncio.gather(background, serving, stopping, return_exceptions=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    settings = Settings(**vars(given))
    configure(settings.log_format, settings.log_level)
    uvloop.run(main(settings))
