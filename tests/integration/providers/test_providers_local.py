"""The local provider draws for real."""

from __future__ import annotations

import asyncio
import io

import av
import pytest
from PIL import Image

from safelight.providers.base import Canceled, Missing, Rejected, Running, SubmitRequest, Succeeded, TaskRef
from safelight.providers.local import LocalProvider


@pytest.fixture
async def local():
    provider = LocalProvider()
    yield provider
    await provider.close()


def request(kind: str = "image", n: int = 1, attempt: str = "a1", **given) -> SubmitRequest:
    size = {"width": 96, "height": 64} if kind == "image" else {"width": 96, "height": 64, "duration": 0.5, "fps": 8}
    return SubmitRequest(attempt, "aurora", kind, {"prompt": "a red fox", **size, **given}, n, None)


async def ignore(_: Running) -> None:
    pass


async def outputs(provider: LocalProvider, asked: SubmitRequest):
    accepted = await provider.submit(asked, ignore)
    assert isinstance(accepted.observation, Succeeded)
    return accepted.observation.outputs


async def test_each_picture_of_a_batch_is_its_own_and_repeats_by_seed(local):
    made = await outputs(local, request(n=3, seed=7))

    assert [output.meta["seed"] for output in made] == [7, 8, 9]
    assert len({output.data for output in made}) == 3
    for output in made:
        picture = Image.open(io.BytesIO(output.data))
        assert picture.size == (96, 64)
        assert output.mime == "image/png"
    assert (await outputs(local, request(seed=8, attempt="a2")))[0].data == made[1].data


async def test_an_attempt_cut_short_by_a_crash_gives_the_same_picture_when_it_is_run_again(local):
    first, again, other = [await outputs(local, request(attempt=attempt)) for attempt in ("a1", "a1", "a2")]
    assert first[0].data == again[0].data
    assert first[0].data != other[0].data


async def test_a_clip_is_a_playable_film_of_the_asked_length(local):
    (clip,) = await outputs(local, request("video", duration=1, fps=8))

    assert clip.mime == "video/mp4"
    with av.open(io.BytesIO(clip.data)) as film:
        stream = film.streams.video[0]
        assert (stream.width, stream.height) == (96, 64)
        assert sum(1 for _ in film.decode(stream)) == 8


@pytest.mark.parametrize(("ratio", "shape"), [("16:9", 16 / 9), ("9:16", 9 / 16), (None, 1)])
async def test_the_shape_may_be_named_instead_of_the_size(local, ratio, shape):
    (made,) = await outputs(local, request(width=None, height=None, aspect_ratio=ratio, output_format="jpeg"))
    width, height = Image.open(io.BytesIO(made.data)).size
    assert width / height == pytest.approx(shape, rel=0.02)
    assert made.mime == "image/jpeg"


async def test_progress_only_grows_and_is_never_invented(local):
    told: list[float | None] = []

    async def sink(running: Running) -> None:
        told.append(running.percent)

    await local.submit(request("video", width=320, height=180, duration=8, fps=24), sink)
    known = [percent for percent in told if percent is not None]
    assert known
    assert known == sorted(known)
    assert known[0] >= 0
    assert known[-1] <= 100


async def test_a_sink_that_fails_does_not_cost_the_picture(local):
    told = 0

    async def sink(_: Running) -> None:
        nonlocal told
        told += 1
        raise RuntimeError("no database")

    accepted = await local.submit(request("video", width=320, height=180, duration=8, fps=24), sink)
    assert isinstance(accepted.observation, Succeeded)
    assert told > 0


async def test_canceling_stops_between_two_frames(local):
    begun = asyncio.Event()

    async def sink(_: Running) -> None:
        begun.set()

    ref = TaskRef("long", "drift")
    task = asyncio.create_task(local.submit(request("video", attempt="long", width=640, height=360, duration=20), sink))
    async with asyncio.timeout(60):
        await begun.wait()
        assert isinstance(await local.inspect(ref), Running)
        assert (await local.cancel(ref)).outcome == "requested"
        accepted = await task

    assert accepted.observation == Canceled()
    assert await local.inspect(ref) == Missing()
    assert (await local.cancel(ref)).outcome == "too_late"


async def test_a_worker_that_is_stopped_leaves_no_thread_drawing():
    provider = LocalProvider(workers=1)
    begun = asyncio.Event()

    async def sink(_: Running) -> None:
        begun.set()

    task = asyncio.create_task(provider.submit(request("video", width=640, height=360, duration=20), sink))
    async with asyncio.timeout(60):
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await provider.close()  # would wait minutes for an unstopped thread


async def test_waiting_for_a_free_thread_is_not_progress():
    provider = LocalProvider(workers=1)
    begun = asyncio.Event()

    async def sink(_: Running) -> None:
        begun.set()

    first = asyncio.create_task(
        provider.submit(request("video", attempt="1", width=640, height=360, duration=20), sink)
    )
    second = asyncio.create_task(provider.submit(request(attempt="2"), ignore))
    async with asyncio.timeout(60):
        await begun.wait()
        assert await provider.inspect(TaskRef("2", "aurora")) == Running(percent=None)
        await provider.cancel(TaskRef("1", "drift"))
        assert (await first).observation == Canceled()
        assert isinstance((await second).observation, Succeeded)
        await provider.close()


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": ""},
        {"width": 100_000},
        {"width": "wide"},
        {"width": None, "height": None, "aspect_ratio": "round"},
        {"output_format": "gif"},
        {"seed": "x"},
    ],
)
async def test_input_that_cannot_be_drawn_is_rejected_for_good(local, given):
    with pytest.raises(Rejected) as caught:
        await local.submit(request(**given), ignore)
    assert caught.value.failure.code == "invalid_input"
    assert not caught.value.failure.transient


async def test_nothing_but_pictures_and_clips_is_made_here(local):
    with pytest.raises(Rejected):
        await local.submit(request("audio"), ignore)
