"""A function in the hands of a pull worker: what it is given, what it may return, and how it is stopped (P3)."""

from __future__ import annotations

import asyncio
import io
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from safelight.sdk.worker_calls import ClaimedJob, claim, fail
from safelight.sdk.worker_task import Failed, Progress, Result, Stopped, Thread, as_results, told


def a_job(**given: Any) -> ClaimedJob:
    soon = datetime.now(UTC)
    return ClaimedJob(
        **{
            "id": uuid4(), "project_id": uuid4(), "model": "my/painter", "kind": "image", "attempt": 1, "n": 1,
            "input": {"prompt": "a fox"}, "lease": "a secret", "lease_until": soon, "deadline_at": soon, **given,
        }
    )  # fmt: skip


def test_bytes_paths_and_pictures_alone_or_in_lists_are_results(tmp_path: Path):
    path = tmp_path / "made.png"
    path.write_bytes(b"...")
    assert as_results(bytearray(b"abc")) == [Result(b"abc", None)]
    assert as_results(path) == as_results(str(path)) == [Result(path, "image/png")]
    assert [each.size for each in as_results([b"a", (path, b"bc")])] == [1, 3, 2]
    assert as_results(each for each in (b"x",)) == [Result(b"x", None)]
    for mode in ("RGB", "RGBA", "L", "1", "P", "CMYK", "F", "YCbCr"):
        result = as_results(Image.new(mode, (8, 8)))[0]
        assert result.mime == "image/png"
        assert isinstance(result.content, bytes)
        assert Image.open(io.BytesIO(result.content)).size == (8, 8)
    jpeg = io.BytesIO()
    Image.new("RGB", (8, 8)).save(jpeg, "JPEG")
    assert as_results(Image.open(jpeg))[0].mime == "image/jpeg"


@pytest.mark.parametrize("returned", [None, [], (), "/nowhere/at/all.png", [None], [b"x"] * 101])
def test_nothing_is_no_result(returned: Any):
    with pytest.raises(Failed):
        as_results(returned)


@pytest.mark.parametrize("returned", [{"image": b"x"}, 7, object(), [7]])
def test_what_cannot_be_handed_in_is_named(returned: Any):
    with pytest.raises(TypeError, match="it may return bytes, a path, a PIL picture"):
        as_results(returned)


def test_progress_is_told_once_and_raises_when_nobody_waits():
    progress = Progress(a_job())
    progress(140, "almost")
    progress.log("line")
    assert progress.word() == {"percent": 100.0, "message": "almost", "logs": ["line"]}
    assert progress.word() == {}
    for number in range(60):
        progress.log(f"line {number}")
    assert len(progress.word()["logs"]) == 50
    progress.stop()
    assert progress.is_stopped
    with pytest.raises(Stopped):
        progress(50)


def test_an_exception_becomes_a_sentence_and_says_whether_to_try_again():
    assert str(told(KeyError("seed"))) == "KeyError: 'seed'"
    assert not told(KeyError("seed")).retryable
    assert told(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")).retryable
    assert told(OSError("disk full")).retryable
    own = Failed("no such style", code="invalid_input")
    assert told(own) is own
    assert str(told(ValueError())) == "ValueError: no reason given"


def test_calls_carry_the_lease_and_keep_it_out_of_logs():
    job = a_job()
    call = fail(job, "provider_failed", "x" * 5000, retryable=False)
    assert call.headers == {"Safelight-Lease": "a secret"}
    assert len(call.body["message"]) == 2000
    assert "a secret" not in repr(job)
    assert claim(["a"], None, "w" * 300, 60, 20, "id").body["worker"] == "w" * 100


async def test_every_job_runs_in_the_same_thread_and_may_be_async():
    async def generate(input: dict[str, Any], progress: Progress) -> bytes:
        await asyncio.sleep(0)
        return f"{threading.get_ident()}".encode()

    thread, job = Thread(generate), a_job()
    made = [(await thread.make(job, Progress(job)))[0].content for _ in range(3)]
    assert len(set(made)) == 1
    assert made[0] != f"{threading.get_ident()}".encode()


async def test_an_async_function_is_canceled_where_it_waits():
    began = threading.Event()

    async def generate(input: dict[str, Any], progress: Progress) -> bytes:
        began.set()
        await asyncio.Event().wait()
        return b""

    thread, job = Thread(generate), a_job()
    progress = Progress(job)
    making = thread.make(job, progress)
    await asyncio.to_thread(began.wait, 60)
    progress.stop()
    thread.interrupt()
    with pytest.raises(Stopped):
        await making


async def test_a_function_takes_the_input_or_also_the_progress_but_not_nothing():
    job = a_job()
    for function in (lambda input: input["prompt"].encode(), lambda *both: both[0]["prompt"].encode()):
        assert (await Thread(function).make(job, Progress(job)))[0].content == b"a fox"
    with pytest.raises(TypeError, match="takes the job's input"):
        Thread(lambda: b"")


async def test_a_function_that_changes_its_input_does_not_change_the_job():
    job = a_job()
    await Thread(lambda input: input.clear() or b"x").make(job, Progress(job))
    assert job.input == {"prompt": "a fox"}
