"""Large results of pull workers come in parts, and no request is long (P3, J1)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from api_world import Build, Json, World, assert_problem, ok, until
from pull_world import charged, claim, lease_ends, model_file, painting, picture, tell, upload

from safelight.media.synth import clip
from safelight.sdk.worker import Worker

PART = 1_000


@pytest.fixture
async def world(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("safelight.jobs.pull_parts.PART_BYTES_MIN", 100)
    return await build(models=model_file(tmp_path))


async def part(client: httpx.AsyncClient, job: Json, whole: bytes, begins: int, ends: int, **sent: str) -> Any:
    span = f"bytes {begins}-{ends - 1}/{len(whole)}"
    return await upload(client, job, 0, whole[begins:ends], **{"Content-Range": span, **sent})


async def asks(client: httpx.AsyncClient, job: Json, total: int) -> Any:
    return await upload(client, job, 0, b"", **{"Content-Range": f"bytes */{total}"})


async def all_parts(client: httpx.AsyncClient, job: Json, whole: bytes, begins: int = 0) -> Json:
    for at in range(begins, len(whole), PART):
        answer = await part(client, job, whole, at, min(at + PART, len(whole)))
        if answer.status_code == 200:
            assert at + PART >= len(whole)
            return answer.json()
        assert ok(answer, 202)["offset"] == at + PART
    raise AssertionError("it was not stored")


async def kept(world: World) -> list[str]:
    """Every file in the storage."""
    folder = world.settings.data / "media"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_a_result_in_parts_is_put_together_shown_and_leaves_nothing_else(world: World):
    job = await world.submit(painting())
    mine = await claim(world.api)
    assert mine is not None
    whole = picture(size=(300, 200)) + b"\0" * 4_321
    assert ok(await asks(world.api, mine, len(whole)), 202) == {
        "index": 0, "offset": 0, "total": len(whole), "max_part": 8 * 2**20,
    }  # fmt: skip
    made = await all_parts(world.api, mine, whole)
    assert (made["mime"], made["bytes"], made["width"], made["height"]) == ("image/png", len(whole), 300, 200)
    # Its answer was lost: whoever asks hears it again, and whoever begins anew replaces it.
    assert ok(await asks(world.api, mine, len(whole))) == made
    assert await all_parts(world.api, mine, whole) == made
    done = ok(await tell(world.api, mine, "complete"))
    assert (done["status"], await charged(world, job)) == ("completed", [100])
    (tile,) = ok(await world.api.get(f"{world.p}/generations"))["items"]
    assert (await world.client().get(tile["urls"]["original"])).content == whole
    assert await world.value("select count(*) from pull_parts") == 0
    assert not [name for name in await kept(world) if "part" in name or tile["id"] not in name]
    assert len([name for name in await kept(world) if "original" in name]) == 1  # the replaced one is gone


async def test_a_part_that_leaves_a_gap_is_told_where_to_go_on(world: World):
    await world.submit(painting())
    mine = await claim(world.api)
    assert mine is not None
    whole = picture(size=(300, 200)) + b"\0" * 4_321
    ok(await part(world.api, mine, whole, 0, 1_000), 202)
    ok(await part(world.api, mine, whole, 1_000, 2_000), 202)
    for begins in (3_000, 1_500):  # beyond what there is, and in the middle of a part
        refused = await part(world.api, mine, whole, begins, begins + 1_000)
        assert assert_problem(refused, 409, "conflict", "go on from there")["offset"] == 2_000
    other = await part(world.api, mine, whole + b"longer", 2_000, 3_000)
    assert assert_problem(other, 409, "conflict")["offset"] == 0
    # The same part again, because its answer was lost.
    assert ok(await part(world.api, mine, whole, 1_000, 2_000), 202)["offset"] == 2_000
    assert await world.value("select count(*) from pull_parts") == 2
    assert (await all_parts(world.api, mine, whole, 2_000))["bytes"] == len(whole)


async def test_what_is_no_result_is_refused_at_its_first_part(world: World):
    await world.submit(painting())
    mine = await claim(world.api)
    assert mine is not None
    page, film = b"<html>sorry</html>" * 900, clip("x", 1, 64, 64, 0.5, 10)
    assert_problem(await part(world.api, mine, page, 0, 5_000), 422, "invalid_input", "HTML")
    assert_problem(await part(world.api, mine, film, 0, 1_000, **{"Content-Type": "video/mp4"}), 422, "invalid_input")
    broken = picture(size=(600, 400))[:-40]
    refused = await part(world.api, mine, broken, 0, len(broken))
    assert_problem(refused, 422, "invalid_input")
    assert ok(await asks(world.api, mine, len(broken)), 202)["offset"] == 0  # nobody should go on with that
    for wrong in ("bytes 5-4/10", "bytes 0-100/100", "items 0-1/2", "bytes -/5", "bytes 0-98/1000", "bytes 0-49/1000"):
        answer = await upload(world.api, mine, 0, b"x" * 100, **{"Content-Range": wrong})
        assert_problem(answer, 422, "invalid_input", "Content-Range" if wrong != "bytes 0-49/1000" else "bytes")
    large = await upload(world.api, mine, 0, _many(), **{"Content-Range": f"bytes 0-{20 * 2**20 - 1}/{50 * 2**20}"})
    assert_problem(large, 413, "too_large", "A part")
    assert_problem(await asks(world.api, mine, 10**12), 413, "too_large")
    assert await world.value("select count(*) from pull_parts") == 0
    assert await kept(world) == []


async def test_parts_of_a_lost_lease_count_for_nobody_and_are_removed(world: World):
    job = await world.submit(painting())
    zombie = await claim(world.api)
    assert zombie is not None
    whole = picture(size=(300, 200)) + b"\0" * 4_321
    ok(await part(world.api, zombie, whole, 0, 1_000), 202)
    await lease_ends(world, job)
    second = await claim(world.api)
    assert second is not None
    assert_problem(await part(world.api, zombie, whole, 1_000, 2_000), 409, "conflict", "lease")
    assert ok(await asks(world.api, second, len(whole)), 202)["offset"] == 0
    await all_parts(world.api, second, whole)
    assert (await world.value("select count(*) from pull_parts")) == 1
    outputs = world.system.context.pull.outputs
    # A process that was killed in the middle of a copy leaves its folder.
    left, young = (world.settings.data / "scratch" / name for name in ("left", "young"))
    for folder in (left, young):
        folder.mkdir(parents=True)
        (folder / "original").write_bytes(whole)
    os.utime(left, (0, 0))
    await outputs.sweep()
    assert (left.exists(), young.exists()) == (False, True)
    assert (await world.value("select count(*) from pull_parts")) == 1  # it is young
    async with world.system.db.connection() as conn:
        await conn.execute("update pull_parts set created_at = now() - interval '1 day'")
    await outputs.sweep()
    assert (await world.value("select count(*) from pull_parts")) == 0
    assert not [name for name in await kept(world) if name.endswith(".part")]
    assert ok(await tell(world.api, second, "complete"))["status"] in ("completed", "processing")
    await world.reaches(job["id"], "completed")


async def test_another_process_puts_together_what_a_dead_one_took(build: Build, world: World, tmp_path: Path):
    await world.submit(painting())
    mine = await claim(world.api)
    assert mine is not None
    whole = picture(size=(300, 200))
    ok(await part(world.api, mine, whole, 0, 500), 202)

    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    outputs = world.system.context.pull.outputs
    outputs._request_s = 0.0
    outputs._put_together = never  # type: ignore[method-assign]
    assert ok(await part(world.api, mine, whole, 500, len(whole)), 202)["offset"] == len(whole)
    for storing in outputs._storing.values():
        storing.cancel()
    other = await build(models=model_file(tmp_path), roles=("api",), bare=True)
    async with httpx.AsyncClient(base_url=other.url, headers=world.api.headers, timeout=60, trust_env=False) as client:
        assert ok(await asks(client, mine, len(whole)))["bytes"] == len(whole)
        ok(await tell(client, mine, "complete"))
    await world.reaches(mine["id"], "completed")


async def test_no_request_is_long_neither_for_a_body_that_drips_nor_for_storing(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    job = await world.submit(painting())
    mine = await claim(world.api)
    assert mine is not None
    with monkeypatch.context() as patched:
        patched.setattr("safelight.jobs.pull_outputs.BODY_S", 0.3)
        address = httpx.URL(world.url)
        reader, line = await asyncio.open_connection(address.host, address.port)
        head = [f"PUT /v1/worker/jobs/{mine['id']}/outputs/0 HTTP/1.1", f"Host: {address.netloc.decode()}"]
        head += [f"Authorization: {world.api.headers['authorization']}", f"Safelight-Lease: {mine['lease']}"]
        line.write(("\r\n".join([*head, "Content-Length: 5000"]) + "\r\n\r\n").encode() + picture()[:100])
        async with asyncio.timeout(60):
            said = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert said.startswith("http/1.1 503")
        assert "retry-after: 1" in said
        line.close()
    # What takes long to store goes on without the request.
    outputs = world.system.context.pull.outputs
    go, put = asyncio.Event(), outputs._media.store.put_file
    outputs._request_s = 0.0

    async def slow(*args: Any) -> None:
        await go.wait()
        await put(*args)

    outputs._media.store.put_file = slow  # type: ignore[method-assign]
    whole = picture()
    told = ok(await upload(world.api, mine, 0, whole), 202)
    assert (told["offset"], told["total"]) == (len(whole), len(whole))
    go.set()

    async def is_stored() -> bool:
        return (await asks(world.api, mine, len(whole))).status_code == 200

    await until(is_stored, "it to be stored")
    ok(await tell(world.api, mine, "complete"))
    await world.reaches(job["id"], "completed")


async def test_a_workers_large_result_goes_in_parts_by_itself(world: World):
    job = await world.submit(painting(n=2))
    whole = picture(size=(500, 300)) + b"\0" * 9_999
    key = world.api.headers["authorization"].removeprefix("Bearer ")
    path = world.settings.data / "made.png"
    path.write_bytes(whole)
    worker = Worker(lambda _: [whole, path], ["my/painter"], url=world.url, key=key)
    worker._part_bytes = 2_000
    running = asyncio.create_task(worker.run())
    await world.reaches(job["id"], "completed")
    worker.stop()
    worker.stop()
    async with asyncio.timeout(60):
        await running
    files = await world.rows("select bytes, files from generations where job_id = $1", UUID(job["id"]))
    assert [row["bytes"] for row in files] == [len(whole)] * 2
    tiles = ok(await world.api.get(f"{world.p}/generations"))["items"]
    for tile in tiles:
        assert (await world.client().get(tile["urls"]["original"])).content == whole


async def _many() -> AsyncIterator[bytes]:
    for _ in range(20):
        yield b"x" * 2**20
