"""For each test an installation of its own on a real port; several processes of it where a test asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from realtime_world import World, a_world

Build = Callable[..., Awaitable[World]]


@pytest.fixture
async def build(dsn: str, tmp_path: Path) -> AsyncIterator[Build]:
    worlds: list[World] = []

    async def make(project: World | None = None, **given: object) -> World:
        worlds.append(await a_world(dsn, tmp_path, project, **given))
        return worlds[-1]

    yield make
    for world in reversed(worlds):
        await world.close()


@pytest.fixture
async def world(build: Build) -> World:
    return await build()
