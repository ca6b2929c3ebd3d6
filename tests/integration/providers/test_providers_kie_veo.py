"""KIE's Veo as its pages have it (providers.md §2.5): what is refused, and failures in either of their two places."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from safelight.emulators.serve import Address, running
from safelight.emulators.settings import EmulatorSettings
from safelight.providers.base import Failed, Missing, Observation, Rejected, Running, SubmitRequest, Succeeded, TaskRef
from safelight.providers.kie import KieProvider, KieSettings
from safelight.providers.model_input import InputInvalid, validate_input
from safelight.providers.registry import Registry

DEADLINE_S = 60.0
SMALL = {"width": 64, "height": 64, "duration": 1}
PICTURE = "https://example.com/a.png"


@pytest.fixture(scope="module", params=[False, True], ids=["in the record", "in the envelope"])
def at(request: pytest.FixtureRequest) -> Iterator[Address]:
    settings = EmulatorSettings(video_latency_s=0.1, media_threads=1, kie_veo_code_in_envelope=request.param)
    with running(settings) as address:
        yield address


async def silent(_: Running) -> None:
    pass


async def end(at: Address, model: str, faults: dict[str, Any] | None = None, **given: Any) -> Observation:
    """Submit through the model's own form, and look until it has ended."""
    found = Registry.load().get(model)
    assert found is not None
    complete = validate_input(found, {"prompt": "a dog in a park", **SMALL, **given})
    if faults:
        complete["_emulator"] = faults
    provider = KieProvider(KieSettings(key="k", api_url=at.kie_url))
    try:
        accepted = await provider.submit(SubmitRequest(str(uuid4()), model, "video", complete, 1, None), silent)
        async with asyncio.timeout(DEADLINE_S):
            while isinstance(seen := await provider.inspect(accepted.ref), Running):
                await asyncio.sleep(0.02)
        return seen
    finally:
        await provider.close()


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("veo3", {}),
        ("veo3", {"imageUrls": [PICTURE, PICTURE], "generationType": "FIRST_AND_LAST_FRAMES_2_VIDEO"}),
        ("veo3_fast", {"imageUrls": [PICTURE] * 3, "generationType": "REFERENCE_2_VIDEO", "seeds": 12345}),
        ("veo3_fast", {"enableTranslation": False, "watermark": "Brand", "aspect_ratio": "9:16"}),
    ],
)
async def test_every_way_to_ask_for_a_clip_gives_one(at: Address, model: str, given: dict[str, Any]):
    made = await end(at, model, **given)
    assert isinstance(made, Succeeded)
    assert len(made.outputs) == 1, "the clip, and not its uncropped twin"


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("veo3", {"imageUrls": [PICTURE], "generationType": "TEXT_2_VIDEO"}),
        ("veo3_fast", {"generationType": "REFERENCE_2_VIDEO"}),
        ("veo3_fast", {"imageUrls": [PICTURE] * 3}),
    ],
)
async def test_pictures_that_do_not_fit_are_refused_before_anything_is_made(
    at: Address, model: str, given: dict[str, Any]
):
    with pytest.raises(Rejected) as caught:
        await end(at, model, **given)
    assert caught.value.failure.code == "invalid_input"


def test_references_are_not_offered_where_the_model_takes_none():
    model = Registry.load().get("veo3")
    assert model is not None
    with pytest.raises(InputInvalid):
        validate_input(model, {"prompt": "x", "generationType": "REFERENCE_2_VIDEO"})


@pytest.mark.parametrize(
    ("fail", "code", "transient"),
    [
        ("content_policy", "content_policy", False),
        ("image_fetch", "input_unreachable", False),
        ("generation_failed", "provider_failed", True),
        ("transient", "provider_failed", True),
    ],
)
async def test_a_failed_clip_ends_wherever_its_failure_stands(at: Address, fail: str, code: str, transient: bool):
    ended = await end(at, "veo3_fast", {"fail": fail})
    assert isinstance(ended, Failed)
    assert (ended.failure.code, ended.failure.transient) == (code, transient)
    assert ended.failure.body


async def test_a_clip_nobody_knows_is_missing(at: Address):
    provider = KieProvider(KieSettings(key="k", api_url=at.kie_url))
    assert await provider.inspect(TaskRef("veo_task_nobody", "veo3_fast")) == Missing()
    await provider.close()
