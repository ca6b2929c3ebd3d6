"""The parity matrix: what happens in one window is seen in the other, with realtime and without, webhooks or not."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from demo_server import Demo
from playwright.sync_api import BrowserContext, Locator, expect
from studio_page import RESULT_MS, SOON_MS, OpenStudio, Studio

CONDITIONS = ("realtime up", "realtime dead", "webhook lost")


def dead(context: BrowserContext) -> None:
    context.route_web_socket("**/realtime/v1/**", lambda socket: socket.close())
    context.route("**/changes/stream**", lambda route: route.abort())


def two_windows(open_studio: OpenStudio, condition: str, *, motion: bool = False) -> tuple[Studio, Studio]:
    prepare = dead if condition == "realtime dead" else None
    one, other = open_studio(prepare, motion=motion), open_studio(prepare)
    for studio in (one, other):
        studio.expect_mode("polling" if prepare else "live")
    return one, other


def pictures(demo: Demo, studio: Studio, count: int) -> list[str]:
    """Ids of new pictures, newest last, all of them on the screen."""
    model = demo.model("local", "image")["id"]
    jobs = [demo.submit(model, f"Parity {uuid.uuid4().hex[:6]}") for _ in range(count)]
    found: list[str] = []
    for job in jobs:
        identity = studio.expect_ready(job).get_attribute("data-tile")
        assert identity
        found.append(identity)
    return found


def go(studio: Studio, place: str) -> None:
    studio.page.evaluate("place => { location.hash = place; }", place)


def chosen(studio: Studio, identity: str) -> None:
    tile = studio.tiles(tile=identity)
    tile.hover()
    tile.locator(".tile-check").click()


def order_of(studio: Studio) -> list[str]:
    return studio.page.eval_on_selector_all(
        '[data-testid="shot-grid"] [data-tile]', "all => all.map((tile) => tile.dataset.tile)"
    )


def card(studio: Studio, name: str) -> Locator:
    return studio.page.locator(".card", has=studio.page.get_by_text(name, exact=True))


def make_shot(demo: Demo, *generations: str) -> dict[str, Any]:
    body = {"name": f"Shot {uuid.uuid4().hex[:8]}", "generation_ids": list(generations)}
    return demo.http.post(f"/v1/projects/{demo.project_id}/shots", json=body).raise_for_status().json()


@pytest.mark.parametrize("condition", CONDITIONS[:2])
def test_what_one_window_does_to_results_and_shots_the_other_shows(
    demo: Demo, open_studio: OpenStudio, condition: str
) -> None:
    one, other = two_windows(open_studio, condition)
    first, second, third = pictures(demo, one, 3)
    expect(other.tiles(tile=third, state="ready")).to_have_count(1, timeout=RESULT_MS)

    # Star, and again not.
    one.tiles(tile=first).hover()
    one.tiles(tile=first).locator(".tile-star").click()
    star = other.tiles(tile=first).locator(".tile-star")
    expect(star).to_have_attribute("aria-pressed", "true", timeout=SOON_MS)
    one.tiles(tile=first).locator(".tile-star").click()
    expect(star).to_have_attribute("aria-pressed", "false", timeout=SOON_MS)

    # Delete and undo: back, in its place.
    before = one.page.eval_on_selector_all("[data-tile]", "all => all.map((tile) => tile.dataset.tile)")
    chosen(one, second)
    one.page.get_by_role("button", name="Delete", exact=True).click()
    expect(one.tiles(tile=second)).to_have_count(0)
    expect(other.tiles(tile=second)).to_have_count(0, timeout=SOON_MS)
    one.page.get_by_role("button", name="Undo").click()
    expect(other.tiles(tile=second)).to_have_count(1, timeout=SOON_MS)
    expect(one.tiles(tile=second)).to_have_count(1, timeout=SOON_MS)
    assert one.page.eval_on_selector_all("[data-tile]", "all => all.map((tile) => tile.dataset.tile)") == before

    # A new shot with outputs: counted, and in it.
    go(other, "#/shots")
    existing = demo.get(f"/v1/projects/{demo.project_id}/shots")["items"]
    for identity in (first, second):
        chosen(one, identity)
    one.page.get_by_role("button", name="Add to shot").click()
    one.page.get_by_role("menuitem", name="New shot").click()
    name = f"Shot {len(existing) + 1}"
    expect(card(other, name).last).to_contain_text("2 results", timeout=SOON_MS)
    card(other, name).last.click()
    expect(other.page.locator('[data-testid="shot-grid"] [data-tile]')).to_have_count(2, timeout=SOON_MS)

    # One more joins it; then the order is changed by keyboard, and is the same everywhere.
    chosen(one, third)
    one.page.get_by_role("button", name="Add to shot").click()
    one.page.get_by_role("menuitem").filter(has=one.page.get_by_text(name, exact=True)).last.click()
    expect(other.page.locator('[data-testid="shot-grid"] [data-tile]')).to_have_count(3, timeout=SOON_MS)
    one.page.goto(f"{demo.url}/{other.page.evaluate('() => location.hash')}")
    expect(one.page.locator('[data-testid="shot-grid"] [data-tile]')).to_have_count(3, timeout=SOON_MS)
    was = order_of(one)
    grip = one.tiles(tile=was[0]).locator(".tile-grip")
    grip.focus()
    grip.press("Space")
    said = one.page.locator("[role=status]", has_text=f"over droppable area {was[0]}")
    expect(said).to_have_count(1, timeout=SOON_MS)
    one.page.keyboard.press("ArrowRight")
    said = one.page.locator("[role=status]", has_text=f"over droppable area {was[1]}")
    expect(said).to_have_count(1, timeout=SOON_MS)
    one.page.keyboard.press("Space")
    wanted = [was[1], was[0], was[2]]
    for studio in (one, other):
        studio.page.wait_for_function(
            "wanted => JSON.stringify([...document.querySelectorAll('[data-testid=shot-grid] [data-tile]')]"
            ".map((tile) => tile.dataset.tile)) === JSON.stringify(wanted)",
            arg=wanted,
            timeout=SOON_MS,
        )


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_result_lands_in_the_shot_it_was_made_for_and_is_seen_in_every_frame(
    demo: Demo, open_studio: OpenStudio, condition: str
) -> None:
    shot = make_shot(demo)
    one, other = two_windows(open_studio, condition)
    # An emulated clip takes the machine longer to make than all else here together: one is enough.
    is_lost = condition == "webhook lost"
    model = demo.video_by_webhook() if is_lost else demo.model("fal", "image")
    if is_lost:
        demo.faults(webhook="lost")
    for studio in (one, other):
        go(studio, f"#/shots/{shot['id']}")
        expect(studio.page.get_by_label("Name of the shot")).to_have_value(shot["name"], timeout=SOON_MS)
    one.watch()
    job = one.submit(model["id"], "Into the shot")
    one.expect_in_every_frame(job)
    one.expect_ready(job)
    other.expect_ready(job)
    assert one.watched()["faults"] == []
    go(other, "#/shots")
    expect(card(other, shot["name"])).to_contain_text("1 result", timeout=SOON_MS)
    if is_lost:
        expect(card(other, shot["name"])).to_contain_text("1 video", timeout=SOON_MS)
