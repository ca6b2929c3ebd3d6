"""F7: however many tabs, one socket and one poller; whoever leads may go at any time."""

from __future__ import annotations

from demo_server import Demo
from playwright.sync_api import Page, expect
from studio_page import RESULT_MS, SOON_MS, OpenStudio

TABS = 10
LEADERS_GONE = 2


def role(page: Page) -> str:
    return page.evaluate("() => window.__SAFELIGHT__.role")


def expect_done(page: Page, job: str) -> None:
    """Once, and done, in the queue: the page that costs ten tabs the least to draw."""
    expect(page.locator(f'[data-row="{job}"]')).to_have_attribute("data-status", "completed", timeout=RESULT_MS)


def test_ten_tabs_have_one_socket_and_one_poller_and_lose_nothing_when_the_leader_goes(
    demo: Demo, open_studio: OpenStudio
) -> None:
    first = open_studio()
    first.page.evaluate("() => { location.hash = '#/queue'; }")
    context = first.page.context
    pages = [first.page]
    looks: list[str] = []
    context.on("request", lambda request: looks.append(request.url) if "/changes?" in request.url else None)
    for _ in range(TABS - 1):
        page = context.new_page()
        page.goto(f"{demo.url}/#/queue")
        pages.append(page)
    for page in pages:
        page.wait_for_function("() => window.__SAFELIGHT__?.mode === 'live'", timeout=SOON_MS)

    transports = [page.evaluate("() => window.__SAFELIGHT__.transport") for page in pages]
    assert sorted(transports) == ["socket", *["tab"] * (TABS - 1)]

    looks.clear()
    job = demo.submit(demo.model("local", "image")["id"], "Seen in ten tabs")
    for page in pages:
        expect_done(page, job)
    assert len(looks) <= 3, f"one tab looks for all, not {len(looks)} times"

    for gone in range(LEADERS_GONE):
        leader = next(page for page in pages if role(page) == "leader")
        pages.remove(leader)
        job = demo.submit(demo.model("local", "image")["id"], f"While a leader goes, {gone}")
        leader.close()
        for page in pages:
            expect_done(page, job)
        assert [role(page) for page in pages].count("leader") == 1


def test_a_tab_that_was_frozen_is_up_to_date_when_it_thaws(demo: Demo, open_studio: OpenStudio) -> None:
    studio = open_studio()
    session = studio.page.context.new_cdp_session(studio.page)
    session.send("Page.enable")
    session.send("Page.setWebLifecycleState", {"state": "frozen"})
    job = demo.submit(demo.model("local", "image")["id"], "Made while a tab was frozen")
    session.send("Page.setWebLifecycleState", {"state": "active"})
    studio.expect_ready(job)
    studio.expect_mode("live")
