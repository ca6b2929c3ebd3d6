"""Emulators on a real port, and a receiver of webhooks beside them."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from emulator_desk import Desk, Inbox, open_desk, open_inbox

from safelight.emulators.settings import EmulatorSettings


@pytest.fixture
async def inbox() -> AsyncGenerator[Inbox]:
    async with open_inbox() as opened:
        yield opened


@pytest.fixture
async def desk() -> AsyncGenerator[Desk]:
    async with open_desk(EmulatorSettings(webhook_retry_scale=0.0005, late_s=0.3, slow_s=0.2)) as opened:
        yield opened
