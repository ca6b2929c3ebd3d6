"""F3: at no moment, on any path, is neither placeholder nor result shown."""

from __future__ import annotations

import pytest
from demo_server import Demo
from parity_table import CONDITIONS, Parity, faults_of
from playwright.sync_api import expect
from studio_page import RESULT_MS, SMALL_CLIP, SOON_MS, OpenStudio, no_realtime


@pytest.mark.parametrize("condition", CONDITIONS)
def test_three_videos_at_once_are_seen_in_every_frame(
    demo: Demo, open_studio: OpenStudio, parity: Parity, condition: str
) -> None:
    studio = open_studio(no_realtime if condition == "realtime dead" else None, motion=True)
    studio.expect_mode("polling" if condition == "realtime dead" else "live")
    studio.adding(SMALL_CLIP, latency_s=2.0, **faults_of(condition))
    studio.page.evaluate("() => { window.__neverReloaded = true; }")
    model = demo.video_by_webhook()["id"]
    with parity.watched(9, condition, studio) as cell:
        mark, jobs = demo.head(), []
        for number in range(3):
            job = studio.submit(model, f"Three at once, {number}")
            studio.expect_in_every_frame(job)
            jobs.append(job)
        for job in jobs:
            tile = studio.expect_ready(job).get_attribute("data-tile")
            assert tile
            cell.took(studio.first_seen(tile), demo.result_committed(mark, tile))
        frames = studio.page.evaluate("() => window.__watch.frames")
        studio.page.wait_for_function("seen => window.__watch.frames > seen + 30", arg=frames, timeout=SOON_MS)
    assert studio.page.evaluate("() => window.__neverReloaded") is True


@pytest.mark.usefixtures("calm")
def test_four_outputs_of_one_job_are_four_tiles_from_the_start(demo: Demo, open_studio: OpenStudio) -> None:
    several = [model for model in demo.models() if (model.get("max_outputs") or 1) >= 4 and model["kind"] == "image"]
    assert several, "the demo offers no model that makes four pictures at once"
    studio = open_studio()
    studio.choose(several[0]["id"])
    studio.page.locator('[data-testid="count"]').select_option("4")
    studio.write("Four of a kind")
    job = studio.generate()
    expect(studio.tiles(job=job)).to_have_count(4)
    expect(studio.tiles(job=job, state="ready")).to_have_count(4, timeout=RESULT_MS)
    expect(studio.tiles(job=job)).to_have_count(4)
    studio.page.locator('[data-testid="count"]').select_option("1")


@pytest.mark.usefixtures("calm")
def test_a_reload_in_the_middle_of_a_job_keeps_its_placeholder(demo: Demo, open_studio: OpenStudio) -> None:
    studio = open_studio()
    demo.faults(latency_s=8.0)
    job = studio.submit(demo.model("fal", "image")["id"], "Reloaded in the middle")
    tile = studio.tiles(job=job).get_attribute("data-tile")
    expect(studio.tiles(job=job, state="processing")).to_have_count(1, timeout=SOON_MS)

    studio.page.reload()
    waiting = studio.tiles(job=job)
    expect(waiting).to_have_count(1, timeout=SOON_MS)
    assert waiting.get_attribute("data-tile") == tile
    studio.expect_ready(job)


@pytest.mark.usefixtures("calm")
def test_a_submit_that_got_no_answer_is_sent_again_and_made_once(demo: Demo, open_studio: OpenStudio) -> None:
    studio = open_studio()
    lost: list[str] = []

    def lose_the_first_answer(route: object) -> None:
        if route.request.method != "POST" or lost:  # type: ignore[attr-defined]
            route.continue_()  # type: ignore[attr-defined]
            return
        lost.append(route.fetch().text())  # type: ignore[attr-defined]  # the server did take it
        route.abort("connectionreset")  # type: ignore[attr-defined]

    studio.page.route("**/v1/projects/*/jobs", lose_the_first_answer)
    job = studio.submit(demo.model("local", "image")["id"], "Asked twice, made once")
    studio.expect_ready(job)
    assert len(lost) == 1
    page = demo.get(f"/v1/projects/{demo.project_id}/generations?limit=20")
    assert [each["job_id"] for each in page["items"]].count(job) == 1


def test_a_picture_that_cannot_be_loaded_for_a_while_keeps_its_placeholder_and_comes(
    demo: Demo, open_studio: OpenStudio
) -> None:
    studio = open_studio()
    studio.page.route("**/media/**", lambda route: route.abort())
    studio.watch()
    job = studio.submit(demo.model("local", "image")["id"], "Made, and not to be had")
    studio.expect_in_every_frame(job)
    tile = studio.tiles(job=job)
    expect(tile.get_by_text("cannot be loaded just now")).to_be_visible(timeout=RESULT_MS)
    studio.page.unroute("**/media/**")
    studio.expect_ready(job)
    expect(tile.get_by_text("cannot be loaded just now")).to_have_count(0)
    assert studio.watched()["faults"] == []
