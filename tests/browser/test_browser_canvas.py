"""U5: the canvas. A result lands on its node (parity row 10), and two windows see each other's hands."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from demo_server import Demo
from parity_table import CONDITIONS, Parity, faults_of
from playwright.sync_api import Locator, Page, expect
from studio_page import RESULT_MS, SOON_MS, OpenStudio, Studio, no_realtime

AXE = Path(__file__).resolve().parents[2] / "js/node_modules/axe-core/axe.min.js"
SERIOUS = """
async () => {
  const found = await axe.run(document, { resultTypes: ['violations'] });
  return found.violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html }) => html).join(' | ')}`);
}
"""


def clear(demo: Demo) -> None:
    for each in demo.get(f"/v1/projects/{demo.project_id}/nodes")["items"]:
        demo.http.delete(f"/v1/nodes/{each['id']}").raise_for_status()


@pytest.fixture
def clean_canvas(demo: Demo) -> Iterator[None]:
    """The project is every test's: each begins with an empty canvas, and leaves none of its own."""
    clear(demo)
    yield
    clear(demo)


def put_node(demo: Demo, kind: str, x: float, y: float, **data: Any) -> str:
    body = {"id": str(uuid.uuid4()), "type": kind, "x": x, "y": y, "data": data}
    made = demo.http.post(f"/v1/projects/{demo.project_id}/nodes", json=body).raise_for_status()
    return made.json()["id"]


def put_edge(demo: Demo, source: str, target: str) -> None:
    body = {"source": source, "target": target}
    demo.http.post(f"/v1/projects/{demo.project_id}/edges", json=body).raise_for_status()


def node(page: Page, identity: str) -> Locator:
    return page.locator(f'[data-node="{identity}"]')


def open_canvas(studio: Studio, mode: str = "live") -> Page:
    studio.expect_mode(mode)
    studio.page.evaluate("() => { location.hash = '#/canvas'; }")
    expect(studio.page.locator('.canvas[aria-busy="false"]')).to_be_visible(timeout=SOON_MS)
    return studio.page


def row_of(demo: Demo, identity: str) -> dict[str, Any]:
    items = demo.get(f"/v1/projects/{demo.project_id}/nodes")["items"]
    return next(each for each in items if each["id"] == identity)


def place_in(page: Page, identity: str) -> tuple[float, float]:
    """Where a window draws a node, in the canvas's own units."""
    return tuple(
        page.evaluate(
            "id => { const { m41, m42 } = new DOMMatrix(getComputedStyle(document.querySelector("
            "`.react-flow__node[data-id='${id}']`)).transform); return [m41, m42]; }",
            identity,
        )
    )


def held_at(page: Page, identity: str) -> tuple[float, float]:
    """Where the hand brought it: the last of its moves is drawn once nothing changes from frame to frame."""
    return tuple(
        page.evaluate(
            "id => new Promise((resolve) => { let last = ''; let same = 0; const look = () => {"
            " const now = getComputedStyle(document.querySelector(`.react-flow__node[data-id='${id}']`)).transform;"
            " same = now === last ? same + 1 : 0; last = now;"
            " if (same < 15) { requestAnimationFrame(look); return; }"
            " const { m41, m42 } = new DOMMatrix(now); resolve([m41, m42]); }; look(); })",
            identity,
        )
    )


def expect_place(page: Page, identity: str, x: float, y: float) -> None:
    page.wait_for_function(
        "([id, x, y]) => { const node = document.querySelector(`.react-flow__node[data-id='${id}']`);"
        " if (!node) return false; const { m41, m42 } = new DOMMatrix(getComputedStyle(node).transform);"
        " return Math.abs(m41 - x) < 1 && Math.abs(m42 - y) < 1; }",
        arg=[identity, x, y],
        timeout=SOON_MS,
    )


def test_a_result_lands_on_its_canvas_node_in_every_window(
    demo: Demo, open_studio: OpenStudio, parity: Parity, clean_canvas: None
) -> None:
    one, other = open_studio(), open_studio()
    page, there = open_canvas(one), open_canvas(other)

    # A prompt and a picture, joined, by the page's own controls; the words go where the hands are.
    page.get_by_test_id("begin").click()
    prompt = page.locator('.node[data-kind="prompt"]')
    picture = page.locator('.node[data-kind="picture"]')
    expect(prompt.get_by_role("textbox", name="Prompt")).to_be_focused(timeout=SOON_MS)
    page.keyboard.type("A lighthouse on a cliff")
    expect(there.get_by_role("textbox", name="Prompt")).to_have_value("A lighthouse on a cliff", timeout=SOON_MS)
    expect(there.locator(".react-flow__edge")).to_have_count(1, timeout=SOON_MS)
    picture.get_by_test_id("node-model").select_option(demo.model("local", "image")["id"])

    # The placeholder is in the node at once, and becomes the result in its place.
    with parity.watched(10, "realtime up", one, other) as cell:
        mark = demo.head()
        page.keyboard.press("Escape")
        prompt.get_by_test_id("node-generate").click()
        expect(picture.locator("[data-tile]")).to_have_count(1, timeout=SOON_MS)
        job = picture.locator("[data-tile]").get_attribute("data-job")
        assert job
        one.expect_in_every_frame(job)
        expect(other.tiles(job=job)).to_have_count(1, timeout=RESULT_MS)
        other.expect_in_every_frame(job)
        tile = one.expect_ready(job)
        other.expect_ready(job)
        shown = tile.get_attribute("data-tile")
        assert shown
        for studio in (one, other):
            cell.took(studio.first_seen(shown), demo.result_committed(mark, shown))
    identity = picture.get_attribute("data-node")
    assert identity
    assert there.locator(f'[data-node="{identity}"] [data-tile="{shown}"]').count() == 1
    assert row_of(demo, identity)["data"]["generation_id"] == shown
    said = demo.get(f"/v1/jobs/{job}")
    assert said["target"] == {"node_id": identity}
    assert said["input"]["prompt"] == "A lighthouse on a cliff"

    page.evaluate(AXE.read_text())
    assert page.evaluate(SERIOUS) == []


@pytest.mark.parametrize("condition", CONDITIONS[1:])
def test_a_result_lands_on_its_canvas_node_without_realtime_and_without_its_webhook(
    demo: Demo, open_studio: OpenStudio, parity: Parity, clean_canvas: None, condition: str
) -> None:
    prompt = put_node(demo, "prompt", 0, 0, text="A harbour in the fog")
    picture = put_node(demo, "picture", 340, 0, model=demo.model("fal", "image")["id"])
    put_edge(demo, prompt, picture)
    is_dead = condition == "realtime dead"
    studio = open_studio(no_realtime if is_dead else None)
    page = open_canvas(studio, "polling" if is_dead else "live")
    studio.adding(**faults_of(condition))
    with parity.watched(10, condition, studio) as cell:
        mark = demo.head()
        node(page, prompt).get_by_test_id("node-generate").click()
        tile = node(page, picture).locator("[data-tile]")
        expect(tile).to_have_count(1, timeout=SOON_MS)
        job = tile.get_attribute("data-job")
        assert job
        studio.expect_in_every_frame(job)
        shown = studio.expect_ready(job).get_attribute("data-tile")
        assert shown
        cell.took(studio.first_seen(shown), demo.result_committed(mark, shown))
    assert node(page, picture).locator(f'[data-tile="{shown}"]').count() == 1
    assert row_of(demo, picture)["data"]["generation_id"] == shown


def test_two_windows_see_each_others_moves_and_what_i_hold_stays_in_my_hand(
    demo: Demo, open_studio: OpenStudio, clean_canvas: None
) -> None:
    left = put_node(demo, "prompt", 0, 0, text="Left")
    right = put_node(demo, "picture", 400, 0)
    page, there = open_canvas(open_studio()), open_canvas(open_studio())
    for window in (page, there):
        expect(node(window, left)).to_be_visible(timeout=SOON_MS)
        expect(node(window, right)).to_be_visible(timeout=SOON_MS)

    # Held in one window while it is moved from elsewhere: nothing jumps, and the hand has the last word.
    head = node(page, left).locator(".node-head")
    box = head.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 30, y + 70, steps=5)
    expect(node(page, left)).to_have_attribute("data-held", "true", timeout=SOON_MS)
    held = held_at(page, left)
    assert held[1] > 0
    demo.http.patch(f"/v1/nodes/{left}", json={"x": -500, "y": -500}).raise_for_status()
    demo.http.patch(f"/v1/nodes/{right}", json={"x": 400, "y": 160}).raise_for_status()
    expect_place(there, left, -500, -500)
    expect_place(page, right, 400, 160)  # later in the log: what came before it is here, too
    assert place_in(page, left) == held
    page.mouse.up()
    expect_place(there, left, *held)
    expect_place(page, left, *held)
    expect_place(there, right, 400, 160)
    saved = row_of(demo, left)
    assert (abs(saved["x"] - held[0]) < 1, abs(saved["y"] - held[1]) < 1) == (True, True)

    # The other window joins the two by hand, and moves one with the keyboard.
    from_handle = node(there, left).locator(".react-flow__handle.source")
    from_handle.drag_to(node(there, right).locator(".react-flow__handle.target"))
    expect(page.locator(".react-flow__edge")).to_have_count(1, timeout=SOON_MS)
    there.locator(f'.react-flow__node[data-id="{right}"]').focus()
    there.keyboard.press("Enter")
    expect(node(there, right)).to_have_attribute("data-selected", "true", timeout=SOON_MS)
    there.keyboard.press("ArrowDown")
    there.keyboard.press("ArrowDown")
    expect_place(page, right, 400, 170)

    # Deleted with its edge, and brought back with it.
    there.keyboard.press("Delete")
    expect(node(page, right)).to_have_count(0, timeout=SOON_MS)
    there.keyboard.press("Control+z")
    expect(node(page, right)).to_be_visible(timeout=SOON_MS)
    expect(page.locator(".react-flow__edge")).to_have_count(1, timeout=SOON_MS)
    expect_place(page, right, 400, 170)
