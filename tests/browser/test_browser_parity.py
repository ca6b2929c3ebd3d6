"""The parity matrix, rows 1 to 5 and 8 to 10: what happens in one window is seen in the other, with realtime and
without, webhooks or not. docs/parity.md is made of what these tests measure."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from demo_server import Demo
from parity_table import CONDITIONS, Parity, faults_of
from playwright.sync_api import Locator, expect
from studio_page import RESULT_MS, SMALL_CLIP, SOON_MS, OpenStudio, Studio, no_realtime

ALL_OF = "ids => ids.every((id) => document.querySelector(`[data-tile='${id}'][data-state=ready]`))"
GONE = "id => document.querySelector(`[data-tile='${id}']`) === null"
STARRED = (
    "([id, on]) => document.querySelector(`[data-tile='${id}'] .tile-star`)?.getAttribute('aria-pressed') === `${on}`"
)
CARD = (
    "([name, text]) => [...document.querySelectorAll('.card')].some((card) => card.textContent.includes(text)"
    " && [...card.querySelectorAll('*')].some((each) => each.textContent === name))"
)
ORDER = (
    "wanted => JSON.stringify([...document.querySelectorAll('[data-testid=shot-grid] [data-tile]')]"
    ".map((tile) => tile.dataset.tile)) === JSON.stringify(wanted)"
)


def two_windows(open_studio: OpenStudio, condition: str, *, motion: bool = False) -> tuple[Studio, Studio]:
    prepare = no_realtime if condition == "realtime dead" else None
    one, other = open_studio(prepare, motion=motion), open_studio(prepare)
    for studio in (one, other):
        studio.expect_mode("polling" if prepare else "live")
    return one, other


def pictures(demo: Demo, studio: Studio, count: int) -> dict[str, str]:
    """New pictures, all of them on the screen: jobs by the ids of their tiles."""
    model = demo.model("local", "image")["id"]
    jobs = [demo.submit(model, f"Parity {uuid.uuid4().hex[:6]}") for _ in range(count)]
    found: dict[str, str] = {}
    for job in jobs:
        identity = studio.expect_ready(job).get_attribute("data-tile")
        assert identity
        found[identity] = job
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
    demo: Demo, open_studio: OpenStudio, parity: Parity, condition: str
) -> None:
    one, other = two_windows(open_studio, condition)
    made = pictures(demo, one, 3)
    first, second, third = made
    other.look_for(ALL_OF, list(made))()

    # Star, and again not.
    with parity.watched(3, condition, one, other) as cell:
        for studio in (one, other):
            for job in made.values():
                studio.expect_in_every_frame(job)
        for starred in (True, False):
            mark, seen = demo.head(), other.look_for(STARRED, [first, starred])
            one.tiles(tile=first).hover()
            one.tiles(tile=first).locator(".tile-star").click()
            cell.took(seen(), demo.committed(mark, "generations", lambda entry, on=starred: is_starred(entry, on)))

    # Delete and undo: back, in its place.
    before = one.page.eval_on_selector_all("[data-tile]", "all => all.map((tile) => tile.dataset.tile)")
    with parity.watched(2, condition, one, other) as cell:
        for studio in (one, other):
            for identity in (first, third):
                studio.expect_in_every_frame(made[identity])
        chosen(one, second)
        mark, gone = demo.head(), other.look_for(GONE, second)
        one.page.get_by_role("button", name="Delete", exact=True).click()
        expect(one.tiles(tile=second)).to_have_count(0)
        cell.took(gone(), demo.committed(mark, "generations", lambda entry: entry["id"] == second))
        mark, back = demo.head(), other.look_for(ALL_OF, [second])
        one.page.get_by_role("button", name="Undo").click()
        cell.took(back(), demo.committed(mark, "generations", lambda entry: entry["id"] == second))
        expect(one.tiles(tile=second)).to_have_count(1, timeout=SOON_MS)
    assert one.page.eval_on_selector_all("[data-tile]", "all => all.map((tile) => tile.dataset.tile)") == before

    # A new shot with outputs: counted, and in it.
    go(other, "#/shots")
    existing = demo.get(f"/v1/projects/{demo.project_id}/shots")["items"]
    name = f"Shot {len(existing) + 1}"
    with parity.watched(5, condition, one, other) as cell:
        for job in made.values():
            one.expect_in_every_frame(job)
        for identity in (first, second):
            chosen(one, identity)
        mark, counted = demo.head(), other.look_for(CARD, [name, "2 results"])
        one.page.get_by_role("button", name="Add to shot").click()
        one.page.get_by_role("menuitem", name="New shot").click()
        cell.took(counted(), demo.committed(mark, "shot_generations"))
        card(other, name).last.click()
        expect(other.page.locator('[data-testid="shot-grid"] [data-tile]')).to_have_count(2, timeout=SOON_MS)

    # One more joins it.
    with parity.watched(4, condition, one, other) as cell:
        for identity in (first, second):
            other.expect_in_every_frame(made[identity])
        chosen(one, third)
        mark, joined = demo.head(), other.look_for(ALL_OF, [third])
        one.page.get_by_role("button", name="Add to shot").click()
        one.page.get_by_role("menuitem").filter(has=one.page.get_by_text(name, exact=True)).last.click()
        cell.took(joined(), demo.committed(mark, "shot_generations"))

    # The order is changed by keyboard, and is the same everywhere.
    go(one, other.page.evaluate("() => location.hash"))
    expect(one.page.locator('[data-testid="shot-grid"] [data-tile]')).to_have_count(3, timeout=SOON_MS)
    was = order_of(one)
    wanted = [was[1], was[0], was[2]]
    with parity.watched(8, condition, one, other) as cell:
        for job in made.values():
            other.expect_in_every_frame(job)
        mark, ordered = demo.head(), other.look_for(ORDER, wanted)
        grip = one.tiles(tile=was[0]).locator(".tile-grip")
        grip.focus()
        grip.press("Space")
        said = one.page.locator("[role=status]", has_text=f"over droppable area {was[0]}")
        expect(said).to_have_count(1, timeout=SOON_MS)
        # dnd-kit hears the keys that follow from its next timer on: sooner than any hand, later than a test.
        one.page.evaluate("() => new Promise((resolve) => setTimeout(resolve))")
        one.page.keyboard.press("ArrowRight")
        said = one.page.locator("[role=status]", has_text=f"over droppable area {was[1]}")
        expect(said).to_have_count(1, timeout=SOON_MS)
        one.page.keyboard.press("Space")
        cell.took(ordered(), demo.committed(mark, "shot_generations"))
        one.page.wait_for_function(ORDER, arg=wanted, timeout=SOON_MS)


def is_starred(entry: dict[str, Any], on: bool) -> bool:
    return entry["row"] is not None and entry["row"]["starred"] is on


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_result_lands_in_the_shot_it_was_made_for_and_is_seen_in_every_frame(
    demo: Demo, open_studio: OpenStudio, parity: Parity, condition: str
) -> None:
    shot = make_shot(demo)
    one, other = two_windows(open_studio, condition)
    for studio in (one, other):
        go(studio, f"#/shots/{shot['id']}")
        expect(studio.page.get_by_label("Name of the shot")).to_have_value(shot["name"], timeout=SOON_MS)
    one.adding(SMALL_CLIP, **faults_of(condition))
    with parity.watched(1, condition, one, other) as cell:
        mark = demo.head()
        job = one.submit(demo.video_by_webhook()["id"], "Into the shot")
        one.expect_in_every_frame(job)
        expect(other.tiles(job=job)).to_have_count(1, timeout=RESULT_MS)
        other.expect_in_every_frame(job)
        for studio in (one, other):
            tile = studio.expect_ready(job).get_attribute("data-tile")
            assert tile
            cell.took(studio.first_seen(tile), demo.result_committed(mark, tile))
    go(other, "#/shots")
    expect(card(other, shot["name"])).to_contain_text("1 result", timeout=SOON_MS)
    expect(card(other, shot["name"])).to_contain_text("1 video", timeout=SOON_MS)
