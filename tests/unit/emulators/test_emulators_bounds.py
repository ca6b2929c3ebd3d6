"""Nothing an emulator keeps grows without bound."""

from __future__ import annotations

import asyncio
import time

import pytest

from safelight.emulators import engine as engine_module
from safelight.emulators.courier import retry_delays
from safelight.emulators.engine import Engine, Overloaded
from safelight.emulators.fal import FalDialect
from safelight.emulators.faults import Faults
from safelight.emulators.media import MediaSpec, Studio
from safelight.emulators.settings import EmulatorSettings
from safelight.emulators.task import Broken, Order, abridge, attempt_of


def order(number: int, **faults: object) -> Order:
    return Order(
        id=str(number),
        model="fal-ai/flux",
        input={"prompt": "x"},
        webhook_url=None,
        faults=Faults(**faults),  # pyright: ignore[reportArgumentType]
        public_url="http://here/fal",
        wanted=None,
        complaint=Broken("missing"),
    )


async def test_only_the_newest_finished_tasks_are_remembered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_module, "TASKS_MAX", 10)
    engine = Engine("fal", EmulatorSettings(), Studio(1), time.time)
    for number in range(50):
        task = engine.accept(order(number, latency_s=0.0), FalDialect(engine.settings))
        await task.ended.wait()
        await asyncio.sleep(0)
    assert len(engine._tasks) <= 11
    assert engine.find("49") is not None
    assert engine.find("0") is None
    await engine.close()


async def test_too_many_unfinished_tasks_are_refused_and_not_accepted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_module, "UNFINISHED_MAX", 3)
    engine = Engine("fal", EmulatorSettings(), Studio(1), time.time)
    for number in range(3):
        engine.accept(order(number, latency_s=60.0), FalDialect(engine.settings))
    with pytest.raises(Overloaded):
        engine.accept(order(3, latency_s=60.0), FalDialect(engine.settings))
    assert len(engine.requests) == 3
    await engine.close()
    assert not engine._lives


async def test_media_are_made_once_for_everybody_and_the_cache_is_bounded():
    studio = Studio(1, cache_bytes_max=40_000)
    spec = MediaSpec("image", "a fox", 1, 64, 64, 0.0, "png")
    first, second = await asyncio.gather(studio.make(spec), studio.make(spec))
    assert first is second
    for seed in range(20):
        await studio.make(MediaSpec("image", "a fox", seed, 64, 64, 0.0, "png"))
    assert sum(map(len, studio._cache.values())) <= 40_000
    assert await studio.make(spec) == first, "what was dropped comes back the same"
    studio.close()


def test_long_texts_in_inputs_are_not_kept():
    kept = abridge({"prompt": "x" * 5000, "image": "data:image/png;base64," + "A" * 1_000_000, "list": [1] * 1000})
    assert kept["prompt"] == "x" * 5000
    assert len(kept["image"]) < 100
    assert len(kept["list"]) == 100


def test_retries_grow_and_end_with_the_result():
    delays = retry_delays(3600.0, 31)
    assert delays[0] == 120.0
    assert delays == sorted(delays)
    assert sum(delays) <= 3600
    assert len(retry_delays(360.0, 31)) == 2
    assert len(retry_delays(1e9, 31)) == 31


def test_the_attempt_is_read_from_the_webhooks_path():
    assert attempt_of("http://h:1/hooks/fal/0197-abc/tok?x=1") == "0197-abc"
    assert attempt_of("http://h:1/base/hooks/kie/0197-abc/tok") == "0197-abc"
    assert attempt_of("http://h:1/else") is None
    assert attempt_of(None) is None
