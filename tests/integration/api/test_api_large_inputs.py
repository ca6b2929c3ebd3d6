"""An input with a picture in it goes to whoever makes the job, and to nobody else unasked (S1, J6, P3)."""

from __future__ import annotations

import base64
import random
from pathlib import Path
from uuid import UUID

from api_world import Build, Json, World, fal, ok
from pull_world import claim, make, model_file, painting

PICTURE = "data:image/png;base64," + base64.b64encode(random.Random(7).randbytes(1_500_000)).decode()
NAMED = f"{PICTURE[:64]}… ({len(PICTURE):,} characters)"
REMEMBERED = f"… ({len(PICTURE)} characters)"
"""How the emulator ends what it was given."""


async def entries(world: World, job: Json) -> list[int]:
    """How large each entry of the job in the change log is, in bytes of JSON."""
    rows = await world.rows(
        "select octet_length(row::text) + octet_length(coalesce(old::text, '')) as size from changes"
        " where tbl = 'jobs' and id = $1",
        UUID(job["id"]),
    )
    return [row["size"] for row in rows]


async def test_every_attempt_has_the_picture_and_no_list_no_entry_and_no_answer_repeats_it(build: Build) -> None:
    world = await build()
    asked = fal({"fail": "content_policy"}) | {"model": "fal-ai/flux/dev/image-to-image"}
    asked["input"]["image_url"] = PICTURE
    job = await world.submit(asked)
    assert job["left_out"] == ["input"]
    assert job["input"]["image_url"] == NAMED
    assert job["input"]["prompt"] == asked["input"]["prompt"]
    await world.reaches(job["id"], "failed")
    retried = ok(await world.api.post(f"/v1/jobs/{job['id']}/retry"), 202)
    assert retried["input"] == job["input"]
    ended = await world.reaches(job["id"], "failed")

    assert ended["attempt"] == 2
    assert ended["input"]["image_url"] == PICTURE
    assert "left_out" not in ended
    sent = [each["input"]["image_url"] for each in await world.asked_of_provider() if _is_of(each, asked)]
    assert len(sent) == 2
    assert all(each.endswith(REMEMBERED) for each in sent)
    sizes = await entries(world, job)
    assert len(sizes) > 4
    assert max(sizes) < 10_000
    [listed] = ok(await world.api.get(f"{world.p}/jobs"))["items"]
    brief = ok(await world.api.get(f"/v1/jobs/{job['id']}", params={"leave_out": "input"}))
    assert (listed["left_out"], listed["input"]) == (brief["left_out"], brief["input"]) == (["input"], job["input"])


def _is_of(request: Json, asked: Json) -> bool:
    return request["input"].get("prompt") == asked["input"]["prompt"]


async def test_a_worker_of_ones_own_is_given_the_picture(build: Build, tmp_path: Path) -> None:
    world = await build(models=model_file(tmp_path))
    job = await world.submit(painting(input={"prompt": "a teal wall", "reference": PICTURE}))
    mine = await claim(world.api)
    assert mine is not None
    assert mine["input"]["reference"] == PICTURE
    done = await make(world.api, mine)
    assert (done["status"], done["left_out"]) == ("completed", ["input"])
    assert max(await entries(world, job)) < 10_000
    (made,) = ok(await world.api.get(f"{world.p}/generations"))["items"]
    assert made["prompt"] == "a teal wall"
    by_door = ok(await world.api.get(f"/compat/fal/my/painter/requests/{job['id']}"))
    assert by_door["prompt"] == "a teal wall"
