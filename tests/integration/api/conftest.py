"""Emulated providers for the whole room, and for each test an installation of its own on a real port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from api_world import KIE_HMAC, Build, World, a_world

from safelight.emulators.serve import Address, running
from safelight.emulators.settings import EmulatorSettings


@pytest.fixture(scope="session")
def emulators() -> Iterator[Address]:
    settings = EmulatorSettings(
        seed=11,
        kie_webhook_hmac_key=KIE_HMAC,
        image_latency_s=0.1,
        video_latency_s=0.2,
        webhook_retry_scale=0.001,
        late_s=1.0,
        media_threads=1,
    )
    with running(settings) as address:
        yield address


@pytest.fixture
async def build(dsn: str, emulators: Address, tmp_path: Path) -> AsyncIterator[Build]:
    """`world = await build(roles=("api",))`: one process of an installation; several share database and files."""
    worlds: list[World] = []

    async def make(**settings: object) -> World:
        world = await a_world(dsn, emulators, tmp_path, **settings)
        worlds.append(world)
        return world

    yield make
    for world in reversed(worlds):
        await world.close()


@pytest.fixture
async def world(build: Build) -> World:
    return await build()
