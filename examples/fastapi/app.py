"""Safelight inside a FastAPI app of your own: `uvicorn app:app --port 8000`, from this folder.

Your routes come first, Safelight answers the rest (`/v1`, `/realtime`, `/media`, the studio at `/`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from safelight.server.settings import Settings
from safelight.server.system import system

BASE_URL = "http://127.0.0.1:8000"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    settings = Settings(data=Path(".safelight"))
    async with system(settings, base_url=BASE_URL) as safelight:
        background = asyncio.create_task(safelight.run_background())
        app.mount("/", safelight.app)
        yield
        background.cancel()
        await asyncio.gather(background, return_exceptions=True)


app = FastAPI(lifespan=lifespan)


@app.get("/hello")
async def hello() -> dict[str, str]:
    return {"hello": "from the app around it"}
