"""U2-U7: every page of the studio works by hand and by keyboard, and for everybody."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from demo_server import Demo
from playwright.sync_api import expect
from studio_page import RESULT_MS, SOON_MS, OpenStudio

AXE = Path(__file__).resolve().parents[2] / "js/node_modules/axe-core/axe.min.js"
PAGES = ("#/", "#/shots", "#/queue", "#/canvas", "#/templates", "#/credits", "#/diagnostics", "#/settings")
SERIOUS = """
async () => {
  const found = await axe.run(document, { resultTypes: ['violations'] });
  return found.violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html }) => html).join(' | ')}`);
}
"""


@pytest.mark.usefixtures("calm")
def test_the_queue_shows_a_job_go_through_and_can_stop_it(demo: Demo, open_studio: OpenStudio) -> None:
    studio = open_studio()
    page = studio.page
    page.evaluate("() => { location.hash = '#/queue'; }")
    demo.faults(latency_s=30.0)
    job = demo.submit(demo.model("fal", "image")["id"], "Stopped from the queue")
    row = page.locator(f'[data-row="{job}"]')
    expect(row).to_have_attribute("data-status", "processing", timeout=RESULT_MS)
    expect(page.locator('[data-testid="running"]')).to_have_text("1", timeout=SOON_MS)
    expect(page).to_have_title("(1) Safelight")
    row.get_by_role("button", name="Cancel").click()
    expect(row).to_have_attribute("data-status", "canceled", timeout=RESULT_MS)
    expect(row).to_contain_text("not charged")
    row.locator(".job-open").click()
    expect(row.locator(".trace li").first).to_be_visible(timeout=SOON_MS)
    expect(page).to_have_title("Safelight")
    counts = demo.get(f"/v1/projects/{demo.project_id}/jobs/counts")
    for status in ("canceled", "completed"):
        expect(page.locator(f'[data-testid="count-{status}"] b')).to_have_text(str(counts[status]), timeout=SOON_MS)


def test_a_template_is_made_from_a_form_and_filled_in(demo: Demo, open_studio: OpenStudio) -> None:
    studio = open_studio()
    page = studio.page
    page.evaluate("() => { location.hash = '#/templates'; }")
    name = f"Poster {uuid.uuid4().hex[:6]}"
    page.get_by_role("button", name="New template").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.locator(".editor select").first.select_option(demo.model("local", "image")["id"])
    page.get_by_label("Prompt, with blanks in braces").fill("A poster for {BRAND}")
    page.get_by_role("button", name="Save template").click()
    form = page.locator(".template", has_text=name)
    expect(form.get_by_role("button", name="Generate")).to_be_disabled(timeout=SOON_MS)
    form.get_by_label("Brand").fill("Safelight")
    expect(form).to_contain_text("A poster for Safelight")
    form.get_by_role("button", name="Generate").click()
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("button", name="Open: A poster for Safelight").first).to_be_visible(timeout=RESULT_MS)


def test_search_and_filters_are_in_the_address_and_survive_a_reload(demo: Demo, open_studio: OpenStudio) -> None:
    studio = open_studio()
    page = studio.page
    word = f"zebra{uuid.uuid4().hex[:6]}"
    model = demo.model("local", "image")["id"]
    wanted = demo.submit(model, f"A {word} by night")
    other = demo.submit(model, "Something else")
    for job in (wanted, other):
        studio.expect_ready(job)
    page.locator('[data-testid="search"]').fill(word)
    expect(studio.tiles(job=other)).to_have_count(0, timeout=SOON_MS)
    expect(studio.tiles(job=wanted)).to_have_count(1, timeout=SOON_MS)
    assert word in page.url
    page.reload()
    expect(studio.tiles(job=wanted, state="ready")).to_have_count(1, timeout=SOON_MS)
    expect(studio.tiles(job=other)).to_have_count(0)
    later = demo.submit(model, f"Another {word}, found while searching")
    expect(studio.tiles(job=later, state="ready")).to_have_count(1, timeout=RESULT_MS)
    page.get_by_role("button", name="Clear").click()
    expect(studio.tiles(job=other)).to_have_count(1, timeout=SOON_MS)


def test_the_keyboard_leads_everywhere(open_studio: OpenStudio) -> None:
    studio = open_studio()
    page = studio.page
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Command palette")
    expect(palette).to_be_visible(timeout=SOON_MS)
    page.keyboard.type("diagn")
    found = palette.get_by_role("option", name="Diagnostics")
    expect(found).to_have_attribute("aria-selected", "true", timeout=SOON_MS)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Diagnostics")).to_be_visible(timeout=SOON_MS)
    page.get_by_test_id("recover").click()
    studio.expect_mode("live")
    page.keyboard.press("g")
    page.keyboard.press("q")
    expect(page.get_by_role("heading", name="Queue")).to_be_visible(timeout=SOON_MS)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_no_page_shuts_anybody_out(open_studio: OpenStudio, scheme: str) -> None:
    studio = open_studio()
    page = studio.page
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    page.evaluate(AXE.read_text())
    page.wait_for_function(
        "scheme => document.documentElement.dataset.theme === scheme && document.getAnimations().length === 0",
        arg=scheme,
        timeout=SOON_MS,
    )
    for place in PAGES:
        page.evaluate("place => { location.hash = place; }", place)
        page.wait_for_function("() => !document.querySelector('main > [aria-busy=true]')", timeout=SOON_MS)
        if place == "#/canvas":  # comes when it is first asked for
            page.wait_for_selector('.canvas[aria-busy="false"]', timeout=SOON_MS)
        assert page.evaluate(SERIOUS) == [], place
        assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth"), place


def test_a_result_is_dragged_onto_a_shot(demo: Demo, open_studio: OpenStudio) -> None:
    studio = open_studio()
    page = studio.page
    body = {"name": f"Dropped {uuid.uuid4().hex[:6]}"}
    shot = demo.http.post(f"/v1/projects/{demo.project_id}/shots", json=body).raise_for_status().json()
    job = demo.submit(demo.model("local", "image")["id"], "Dragged by hand")
    tile = studio.expect_ready(job)
    box = tile.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 30, box["y"] + box["height"] / 2 + 30, steps=4)
    place = page.locator(f'[data-drop="{shot["id"]}"]')
    expect(place).to_be_visible(timeout=SOON_MS)
    place.scroll_into_view_if_needed()
    to = place.bounding_box()
    assert to
    page.mouse.move(to["x"] + to["width"] / 2, to["y"] + to["height"] / 2, steps=6)
    expect(place).to_have_attribute("data-over", "true", timeout=SOON_MS)
    page.mouse.up()
    page.evaluate("() => { location.hash = '#/shots'; }")
    card = page.locator(".card", has=page.get_by_text(shot["name"], exact=True))
    expect(card).to_contain_text("1 result", timeout=SOON_MS)
