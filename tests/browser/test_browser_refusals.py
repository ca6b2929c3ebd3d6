"""J7, C2, F3: what does not work out says why, in the tile, and can be tried again."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from demo_server import Demo
from playwright.sync_api import expect
from studio_page import RESULT_MS, SOON_MS, OpenStudio

from safelight.credits import ledger
from safelight.db.pool import Database


@pytest.mark.usefixtures("calm")
def test_a_failed_jobs_tile_says_why_and_its_retry_works(demo: Demo, open_studio: OpenStudio) -> None:
    studio = open_studio()
    demo.faults(fail="content_policy")
    job = studio.submit(demo.model("fal", "image")["id"], "Refused at first")
    failed = studio.tiles(job=job, state="failed")
    expect(failed).to_have_count(1, timeout=RESULT_MS)
    said = demo.get(f"/v1/jobs/{job}")["error"]["message"]
    expect(failed.locator('[data-testid="reason"]')).to_have_text(said)
    expect(failed).to_contain_text("Not charged")

    studio.page.reload()
    expect(failed).to_have_count(1, timeout=SOON_MS)

    demo.faults()
    before = studio.jobs()
    failed.locator('[data-testid="retry"]').click()
    expect(failed).to_have_count(0, timeout=SOON_MS)
    retried = (studio.jobs() - before) or {job}  # a new attempt of the same job, or a new job in its place
    studio.expect_ready(retried.pop())


@pytest.mark.usefixtures("calm")
def test_a_canceled_job_can_be_put_away(demo: Demo, open_studio: OpenStudio) -> None:
    studio = open_studio()
    demo.faults(latency_s=30.0)
    job = studio.submit(demo.model("fal", "image")["id"], "Not after all")
    expect(studio.tiles(job=job, state="processing")).to_have_count(1, timeout=SOON_MS)
    tile = studio.tiles(job=job)
    tile.hover()
    tile.get_by_role("button", name="Cancel").click()
    expect(studio.tiles(job=job, state="canceled")).to_have_count(1, timeout=RESULT_MS)
    tile.get_by_role("button", name="Dismiss").click()
    expect(tile).to_have_count(0)


@pytest.fixture
def nearly_broke(demo: Demo) -> Iterator[int]:
    """The wallet holds 3 credits for the length of a test, as if an operator had corrected it."""
    left = 3
    taken = demo.available() - left
    adjust(demo, -taken)
    yield left
    adjust(demo, taken)


def adjust(demo: Demo, amount: int) -> None:
    async def work() -> None:
        database = await Database.connect(demo.database_url)
        try:
            project, key = uuid.UUID(demo.project_id), str(uuid.uuid4())
            await database.run(lambda tx: ledger.adjust(tx.conn, project, amount, key, "browser test", "operator"))
        finally:
            await database.close()

    # Playwright's own loop runs in this thread.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work()).result()


def test_too_few_credits_are_said_in_numbers_before_anything_is_sent(
    demo: Demo, nearly_broke: int, open_studio: OpenStudio
) -> None:
    studio = open_studio()
    prices = {model["id"]: model["price"]["amount"] for model in demo.models() if model.get("price")}
    dear = max((model for model in demo.models() if model["provider"] in ("fal", "kie")), key=lambda m: prices[m["id"]])
    body = {"model": dear["id"], "input": {"prompt": "Too dear"}, "n": 1}
    quoted = demo.http.post(f"/v1/projects/{demo.project_id}/quote", json=body).raise_for_status().json()["credits"]
    assert quoted > nearly_broke

    job = studio.submit(dear["id"], "Too dear")
    tile = studio.tiles(job=job, state="failed")
    expect(tile).to_have_count(1, timeout=SOON_MS)
    expect(tile.locator('[data-testid="reason"]')).to_contain_text(f"{quoted:,}")
    expect(tile.locator('[data-testid="reason"]')).to_contain_text(f"{nearly_broke:,}")
    expect(studio.page.locator('[data-testid="wallet"]')).to_contain_text(f"{nearly_broke:,}")
    assert demo.http.get(f"/v1/jobs/{job}").status_code == 404
