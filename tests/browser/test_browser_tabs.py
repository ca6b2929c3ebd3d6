"""F7: however many tabs, one socket and one poller; whoever leads may go at any time (parity row 7)."""

from __future__ import annotations

from typing import Any

from demo_server import Demo
from parity_table import Cell, Parity
from playwright.sync_api import Page, expect
from studio_page import RESULT_MS, SOON_MS, OpenStudio, Studio, no_realtime

TABS = 10
LEADERS_GONE = 2
DONE = "job => document.querySelector(`[data-row='${job}']`)?.dataset.status === 'completed'"


def role(page: Page) -> str:
    return page.evaluate("() => window.__SAFELIGHT__.role")


def expect_done(page: Page, job: str) -> None:
    """Once, and done, in the queue: the page that costs ten tabs the least to draw."""
    expect(page.locator(f'[data-row="{job}"]')).to_have_attribute("data-status", "completed", timeout=RESULT_MS)


def ten_tabs(demo: Demo, first: Studio) -> list[Page]:
    """Of one browser: the first shows the gallery, the others the queue."""
    pages = [first.page]
    for _ in range(TABS - 1):
        page = first.page.context.new_page()
        page.goto(f"{demo.url}/#/queue")
        pages.append(page)
    for page in pages:
        page.wait_for_function("() => ['live', 'polling'].includes(window.__SAFELIGHT__?.mode)", timeout=SOON_MS)
    return pages


def expect_everywhere(demo: Demo, pages: list[Page], cell: Cell, model: str, prompt: str, **faults: Any) -> None:
    """A job of another program, seen from its beginning to its end in every tab, once."""
    gallery, mark = Studio(pages[0]), demo.head()
    job = demo.submit(model, prompt, input={"prompt": prompt, **({"_emulator": faults} if faults else {})})
    seen = [Studio(page).look_for(DONE, job) for page in pages[1:]]
    expect(gallery.tiles(job=job)).to_have_count(1, timeout=RESULT_MS)
    gallery.expect_in_every_frame(job)
    tile = gallery.expect_ready(job).get_attribute("data-tile")
    assert tile
    cell.took(gallery.first_seen(tile), demo.result_committed(mark, tile))
    done = [each() for each in seen]
    committed = demo.committed(
        mark, "jobs", lambda entry: entry["id"] == job and bool(entry["row"]) and entry["row"]["status"] == "completed"
    )
    for at in done:
        cell.took(at, committed)
    for page in pages[1:]:
        expect_done(page, job)


def test_ten_tabs_have_one_socket_and_one_poller_and_lose_nothing_when_the_leader_goes(
    demo: Demo, open_studio: OpenStudio, parity: Parity
) -> None:
    first = open_studio()
    looks: list[str] = []
    first.page.context.on("request", lambda request: looks.append(request.url) if "/changes?" in request.url else None)
    pages = ten_tabs(demo, first)
    for page in pages:
        page.wait_for_function("() => window.__SAFELIGHT__.mode === 'live'", timeout=SOON_MS)
        page.wait_for_function(
            """() => {
              const { role, transport } = window.__SAFELIGHT__;
              return transport === (role === 'leader' ? 'socket' : 'tab');
            }""",
            timeout=SOON_MS,
        )
    assert [role(page) for page in pages].count("leader") == 1

    with parity.watched(7, "realtime up", first) as cell:
        looks.clear()
        expect_everywhere(demo, pages, cell, demo.model("local", "image")["id"], "Seen in ten tabs")
        assert len(looks) <= 3, f"one tab looks for all, not {len(looks)} times"
    with parity.watched(7, "webhook lost", first) as cell:
        expect_everywhere(demo, pages, cell, demo.model("fal", "image")["id"], "Heard of by looking", webhook="lost")

    for gone in range(LEADERS_GONE):
        leader = next(page for page in pages if role(page) == "leader")
        pages.remove(leader)
        job = demo.submit(demo.model("local", "image")["id"], f"While a leader goes, {gone}")
        leader.close()
        for page in pages:
            page.evaluate("() => { location.hash = '#/queue'; }")
            expect_done(page, job)
        assert [role(page) for page in pages].count("leader") == 1


def test_ten_tabs_without_realtime_have_one_poller(demo: Demo, open_studio: OpenStudio, parity: Parity) -> None:
    first = open_studio(no_realtime)
    looks: list[Page] = []
    first.page.context.on(
        "request", lambda request: looks.append(request.frame.page) if "/changes?" in request.url else None
    )
    pages = ten_tabs(demo, first)
    leader = next(page for page in pages if role(page) == "leader")
    for page in pages:
        page.wait_for_function("() => window.__SAFELIGHT__.role !== 'alone'", timeout=SOON_MS)
        if page is not leader:
            page.wait_for_function("() => window.__SAFELIGHT__.transport === 'tab'", timeout=SOON_MS)
    with parity.watched(7, "realtime dead", first) as cell:
        looks.clear()
        expect_everywhere(demo, pages, cell, demo.model("fal", "image")["id"], "Seen in ten tabs without a line")
    assert len([page for page in looks if page is not leader]) <= 3, "one tab looks for all"

    pages.remove(leader)
    job = demo.submit(demo.model("local", "image")["id"], "While the poller goes")
    leader.close()
    for page in pages:
        page.evaluate("() => { location.hash = '#/queue'; }")
        expect_done(page, job)
