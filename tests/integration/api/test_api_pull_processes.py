"""A user's function as a worker (P3): `safelight worker run` as a process, killed and drained; and the SDK."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from api_world import Build, World, ok, until
from PIL import Image
from pull_world import attempts, charged, claim, model_file, on_the_desk, painting

from safelight.sdk import Forbidden, NotConfigured
from safelight.sdk.worker import EMPTY_S, Failed, Progress, Stopped, Worker

SAFELIGHT = str(Path(sys.executable).with_name("safelight"))
MODULE = """
import os, pathlib, time
from PIL import Image

def generate(input, progress):
    progress(50, "half of it")
    pathlib.Path(f"begun-{os.environ['WHO']}").touch()
    while os.environ["WHO"] == "slow" and not pathlib.Path("go").exists():
        time.sleep(0.05)
    return Image.new("RGB", (64, 48), "teal")
"""


@pytest.fixture
async def world(build: Build, tmp_path: Path) -> AsyncIterator[World]:
    return await build(models=model_file(tmp_path))


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(world: World, tmp_path: Path) -> Iterator[Start]:
    """`process = start("slow", "--lease", "1")`: the command, with this name; ended with the test."""
    (tmp_path / "my_module.py").write_text(MODULE)
    started: list[subprocess.Popen[bytes]] = []

    def run(who: str, *options: str) -> subprocess.Popen[bytes]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SAFELIGHT_")}
        key = world.api.headers["authorization"].removeprefix("Bearer ")
        command = [SAFELIGHT, "worker", "run", "my_module:generate", "--models", "my/painter", "--name", who]
        with (tmp_path / f"{who}.log").open("wb") as said:
            process = subprocess.Popen(
                [*command, *options, "--url", world.url],
                env={**environ, "WHO": who, "SAFELIGHT_KEY": key},
                cwd=tmp_path,
                stdout=said,
                stderr=said,
            )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


async def is_there(path: Path) -> None:
    async def look() -> bool:
        return path.exists()

    await until(look, f"{path.name} to be there")


async def ended(process: subprocess.Popen[bytes]) -> int:
    async def look() -> bool:
        return process.poll() is not None

    await until(look, "the worker to end")
    return process.returncode


async def test_a_worker_killed_in_the_middle_is_followed_by_another_and_the_job_is_charged_once(
    world: World, start: Start, tmp_path: Path
):
    job = await world.submit(painting())
    doomed = start("slow", "--lease", "1")
    await is_there(tmp_path / "begun-slow")
    doomed.send_signal(signal.SIGKILL)
    second = start("second")
    done = await world.reaches(job["id"], "completed")
    assert done["attempt"] == 2, (tmp_path / "second.log").read_text()
    assert await attempts(world, job) == [(1, "abandoned"), (2, "succeeded")]
    assert await charged(world, job) == [100]
    steps = ok(await world.api.get(f"/v1/jobs/{job['id']}/trace"))["steps"]
    told = [(step["step"], step["detail"]["worker"]) for step in steps if "worker" in (step["detail"] or {})]
    assert told == [("claimed", "slow"), ("lease_ended", "slow"), ("claimed", "second"), ("reported", "second")]
    second.terminate()
    assert await ended(second) == 0


async def test_a_worker_told_to_stop_finishes_or_gives_its_job_back_at_once(world: World, start: Start, tmp_path: Path):
    given_back, finished = await world.submit(painting()), await world.submit(painting())
    await on_the_desk(world, 2)
    hasty = start("slow", "--drain", "0")
    await is_there(tmp_path / "begun-slow")
    hasty.terminate()
    assert await ended(hasty) == 0
    (tmp_path / "begun-slow").unlink()
    # Nobody waits for a lease: the first job is there again, and not as another attempt.
    mine = await claim(world.api)
    assert mine is not None
    assert (mine["id"], mine["attempt"]) == (given_back["id"], 1)
    patient = start("slow")
    await is_there(tmp_path / "begun-slow")
    patient.terminate()
    (tmp_path / "go").touch()
    assert await ended(patient) == 0
    assert (await world.reaches(finished["id"], "completed"))["attempt"] == 1


# --- the SDK, in this process -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def working(world: World, function: Callable[..., Any], **given: Any) -> AsyncIterator[Worker]:
    """A worker with this function, drained at the end."""
    key = world.api.headers["authorization"].removeprefix("Bearer ")
    worker = Worker(function, given.pop("models", ("my/painter",)), url=world.url, key=key, **given)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        worker.stop()
        async with asyncio.timeout(60):
            await running


async def test_a_function_may_return_bytes_paths_pictures_or_a_list_and_may_be_async(world: World, tmp_path: Path):
    path = tmp_path / "made.webp"
    Image.new("RGB", (80, 40), "olive").save(path)
    threads = set()

    async def generate(input: dict[str, Any], progress: Progress) -> list[Any]:
        threads.add(threading.current_thread().name)
        progress(10.0, f"making {progress.job.n}")
        await asyncio.sleep(0)
        return [path.read_bytes(), path, str(path), Image.new("CMYK", (20, 20))]

    async with working(world, generate, models=()) as worker:
        job = await world.submit(painting(n=4))
        done = await world.reaches(job["id"], "completed")
        assert len(done["generations"]) == 4
        assert worker.completed == 1
    assert threads == {"safelight-worker"}
    mimes = await world.rows("select mime from generations where job_id = $1 order by output_index", UUID(job["id"]))
    assert [row["mime"] for row in mimes] == ["image/webp", "image/webp", "image/webp", "image/png"]


async def test_what_a_function_raises_is_what_the_user_reads(world: World):
    def generate(input: dict[str, Any]) -> Any:
        match input["prompt"]:
            case "own words":
                raise Failed("There is no such style.", code="invalid_input")
            case "mistake":
                raise KeyError("seed")
            case "nothing":
                return None
            case "no picture":
                return b"hello"
            case "too many":
                return [b"a", b"b"]
            case _:
                raise SystemExit("enough")

    expected = {
        "own words": ("invalid_input", "There is no such style"),
        "mistake": ("provider_failed", "KeyError: 'seed'"),
        "nothing": ("provider_failed", "returned nothing"),
        "no picture": ("provider_failed", "not media"),
        "too many": ("provider_failed", "2 results for a job of 1"),
        "exit": ("provider_failed", "SystemExit: enough"),
    }
    async with working(world, generate):
        jobs = {words: await world.submit(painting(input={"prompt": words})) for words in expected}
        for words, (code, message) in expected.items():
            failed = await world.reaches(jobs[words]["id"], "failed")
            assert failed["error"]["code"] == code
            assert message in failed["error"]["message"]
            assert failed["attempt"] == 1


async def test_a_canceled_job_stops_its_function_and_the_worker_goes_on(world: World):
    began, ended_by = threading.Event(), []

    def generate(input: dict[str, Any], progress: Progress) -> Any:
        if input["prompt"] == "quick":
            return Image.new("RGB", (16, 16))
        began.set()
        try:
            while True:
                progress.log("still at it")
                progress(1)
                threading.Event().wait(0.02)
        except Stopped as error:
            ended_by.append(error)
            raise

    async with working(world, generate, lease_s=2.0):
        job = await world.submit(painting())

        async def has_begun() -> bool:
            return began.is_set()

        await until(has_begun, "the function to begin")
        ok(await world.api.post(f"/v1/jobs/{job['id']}/cancel"))
        await world.reaches(job["id"], "canceled")
        after = await world.submit(painting(input={"prompt": "quick"}))
        await world.reaches(after["id"], "completed")
    assert len(ended_by) == 1


async def test_a_long_function_keeps_its_lease(world: World):
    """Longer than the lease, which heartbeats extend: it is one attempt."""
    done = threading.Event()

    def generate(input: dict[str, Any], progress: Progress) -> Any:
        done.wait(60)
        return Image.new("RGB", (16, 16))

    async with working(world, generate, lease_s=3.0):
        job = await world.submit(painting())

        async def was_extended() -> bool:
            return await world.value(
                "select t.leased_until > a.accepted_at + interval '4 seconds' from pull_tasks t"
                " join attempts a on a.id = t.attempt_id where t.job_id = $1 and t.state = 'leased'",
                UUID(job["id"]),
            )

        await until(was_extended, "the lease to be extended beyond its first length")
        done.set()
        assert (await world.reaches(job["id"], "completed"))["attempt"] == 1


async def test_what_no_waiting_cures_ends_the_worker_with_the_reason(world: World, tmp_path: Path, monkeypatch: Any):
    key = await world.new_key(kind="publishable")
    with pytest.raises(Forbidden):
        await Worker(print, ["my/painter"], url=world.url, key=key).run()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAFELIGHT_KEY", raising=False)
    with pytest.raises(NotConfigured):
        Worker(print, ["my/painter"], url=world.url)


async def test_a_claim_that_a_stopping_server_answers_at_once_is_not_made_again_at_once(world: World):
    world.system.desk.close()
    key = world.api.headers["authorization"].removeprefix("Bearer ")
    worker = Worker(print, ["my/painter"], url=world.url, key=key)
    pauses: list[float] = []

    async def rest(pause_s: float) -> None:
        pauses.append(pause_s)
        worker.stop()
        await worker._draining.wait()

    worker._rest = rest  # type: ignore[method-assign]
    async with asyncio.timeout(60):
        await worker.run()
    assert pauses == [EMPTY_S]
