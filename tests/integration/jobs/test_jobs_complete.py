"""The main path: submitted, made, stored, charged, shown (J1, J4, M1, C1)."""

from __future__ import annotations

import pytest
from jobs_promises import books_balance
from jobs_world import CREDITS, Build


@pytest.mark.parametrize("what", ["local", "local clip", "fal", "fal clip", "kie", "kie clip"])
async def test_a_job_is_made_stored_and_charged_once(build: Build, what: str):
    world = await build()
    job_id = await world.submit(what)
    job = await world.reaches(job_id, "completed")

    assert job["charged"] == job["quoted"] > 0
    (made,) = await world.rows("select * from generations where job_id = $1", job_id)
    assert made["kind"] == job["kind"]
    assert made["width"] > 0
    assert made["thumbhash"]
    assert (await world.wallet()).balance == CREDITS - job["quoted"]
    assert (await world.wallet()).held == 0
    assert [row["state"] for row in await world.attempts(job_id)] == ["succeeded"]
    await books_balance(world)
