"""The first minute with Safelight."""

from __future__ import annotations

from pathlib import Path

from demo_server import Demo
from PIL import Image
from playwright.sync_api import expect
from studio_page import RESULT_MS, SOON_MS, OpenStudio


def test_the_demo_shows_a_first_picture_by_itself(open_studio: OpenStudio) -> None:
    studio = open_studio()
    expect(studio.tiles(state="ready").first).to_be_visible(timeout=RESULT_MS)
    job = studio.tiles(state="ready").first.get_attribute("data-job")
    assert job
    studio.expect_ready(job)
    studio.expect_mode("live")


def test_pictures_of_emulated_providers_and_a_local_clip_come_from_the_pages_own_controls(
    demo: Demo, open_studio: OpenStudio
) -> None:
    studio = open_studio()
    wanted = [demo.model("fal", "image"), demo.model("kie", "image"), demo.model("local", "video")]
    jobs = [studio.submit(model["id"], f"A small boat, {number}") for number, model in enumerate(wanted)]
    for job in jobs:
        studio.expect_ready(job)


def test_a_result_opens_large_is_starred_and_comes_back_after_a_delete(demo: Demo, open_studio: OpenStudio) -> None:
    studio = open_studio()
    page = studio.page
    job = studio.submit(demo.model("local", "image")["id"], "A jar of light")
    tile = studio.expect_ready(job)
    identity = tile.get_attribute("data-tile")
    assert identity

    tile.locator(".tile-open").press("Enter")
    sheet = page.locator(f'[data-open="{identity}"]')
    expect(sheet).to_be_visible()
    page.wait_for_function("() => document.querySelector('.large .original')?.naturalWidth > 0", timeout=SOON_MS)
    page.keyboard.press("s")
    expect(sheet.get_by_role("button", name="Starred")).to_have_attribute("aria-pressed", "true", timeout=SOON_MS)

    page.keyboard.press("Delete")
    expect(sheet).to_have_count(0)
    page.keyboard.press("Escape")
    expect(studio.tiles(tile=identity)).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(studio.tiles(tile=identity, state="ready")).to_have_count(1, timeout=SOON_MS)
    expect(studio.tiles(tile=identity).locator(".tile-star")).to_have_attribute("aria-pressed", "true")
    row = demo.http.get(f"/v1/projects/{demo.project_id}/generations?starred=true").raise_for_status().json()
    assert identity in {each["id"] for each in row["items"]}


def test_a_picture_from_this_computer_is_where_a_job_starts(
    demo: Demo, open_studio: OpenStudio, tmp_path: Path
) -> None:
    needing = [model for model in demo.models() if model["needs_start"] and model["enabled"]]
    assert needing, "the demo offers no model that starts from a picture"
    picture = tmp_path / "start.png"
    Image.linear_gradient("L").resize((320, 240)).convert("RGB").save(picture)

    studio = open_studio()
    page = studio.page
    studio.choose(needing[0]["id"])
    studio.write("The same, at night")
    before = studio.jobs()
    page.locator('[data-testid="generate"]').click()
    assert studio.jobs() == before, "nothing is submitted while the picture is missing"
    page.locator('[data-testid="start-file"]').set_input_files(picture)
    expect(page.locator(".start-chip[aria-busy=false]")).to_be_visible(timeout=SOON_MS)
    job = studio.generate()
    studio.expect_ready(job)
    assert demo.get(f"/v1/jobs/{job}")["start"]


def test_without_a_session_the_page_says_how_to_open_it(demo: Demo, open_studio: OpenStudio) -> None:
    studio = open_studio()
    browser = studio.page.context.browser
    assert browser is not None
    stranger = browser.new_context()
    page = stranger.new_page()
    page.goto(demo.url)
    expect(page.get_by_text("make demo")).to_be_visible(timeout=SOON_MS)
    stranger.close()
