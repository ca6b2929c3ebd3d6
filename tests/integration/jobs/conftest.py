"""Emulated providers for the whole room, and for each test a world of its own around a fresh database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from jobs_world import Build, World, a_world

from safelight.db.pool import Database
from safelight.emulators.serve import Address, running
from safelight.emulators.settings import EmulatorSettings


@pytest.fixture(scope="session")
def emulators() -> Iterator[Address]:
    settings = EmulatorSettings(
        seed=5,
        kie_webhook_hmac_key="hmac of ours",
        image_latency_s=0.2,
        video_latency_s=0.3,
        webhook_retry_scale=0.001,
        late_s=1.0,
        slow_s=1.0,
        media_threads=1,
    )
    with running(settings) as address:
        yield address


@pytest.fixture
async def build(db: Database, emulators: Address, tmp_path: Path) -> AsyncIterator[Build]:
    """`world = await build(...)`; every world is taken down at the end of its test."""
    worlds: list[World] = []

    async def make(**settings: object) -> World:
        world = await a_world(db, emulators, tmp_path / f"world{len(worlds)}", **settings)
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        await world.close()
