"""Issue 5, bad input: whatever is missing or wrong around the page, it stays usable and says what is wrong."""

from __future__ import annotations

import re

import pytest
from demo_server import Demo
from playwright.sync_api import BrowserContext, Route, expect
from studio_page import SOON_MS, OpenStudio

NOTHING_AROUND = """
for (const name of ['localStorage', 'sessionStorage']) {
  Object.defineProperty(window, name, { get() { throw new DOMException('denied', 'SecurityError'); } });
}
Object.defineProperty(window, 'BroadcastChannel', { value: undefined });
Object.defineProperty(navigator, 'locks', { value: undefined });
"""
HOURS_BEHIND = """
const Real = Date;
const behind = 5 * 3600e3;
window.Date = class extends Real {
  constructor(...given) { given.length === 0 ? super(Real.now() - behind) : super(...given); }
  static now() { return Real.now() - behind; }
};
"""


def test_a_browser_without_storage_channels_and_locks_is_alone_and_shows_results(
    demo: Demo, open_studio: OpenStudio
) -> None:
    studio = open_studio(lambda context: context.add_init_script(NOTHING_AROUND))
    studio.expect_mode("live")
    assert studio.snapshot()["role"] == "alone"
    studio.expect_ready(studio.submit(demo.model("local", "image")["id"], "With nothing around"))


def test_with_a_clock_that_is_hours_behind_a_new_tile_is_first_and_counts_seconds(
    demo: Demo, open_studio: OpenStudio
) -> None:
    studio = open_studio(lambda context: context.add_init_script(HOURS_BEHIND))
    page = studio.page
    page.wait_for_function("() => Math.abs(window.__SAFELIGHT__.clockOffsetMs - 5 * 3600e3) < 60e3", timeout=SOON_MS)
    demo.faults(latency_s=30.0)
    try:
        job = studio.submit(demo.model("fal", "image")["id"], "By a clock that is wrong")
        first = studio.tiles().first
        expect(first).to_have_attribute("data-job", job)
        expect(first.locator("time")).to_have_text(re.compile(r"^[0-4]:\d\d$"), timeout=SOON_MS)
        page.evaluate("() => { location.hash = '#/diagnostics'; }")
        expect(page.locator(".facts-list", has_text="Clock")).to_contain_text("off by 1", timeout=SOON_MS)
    finally:
        demo.faults()
        demo.http.post(f"/v1/jobs/{job}/cancel").raise_for_status()


def test_a_page_that_is_opened_before_its_server_is_there_comes_up_by_itself(
    demo: Demo, open_studio: OpenStudio
) -> None:
    turned_away: list[str] = []

    def away(route: Route) -> None:
        turned_away.append(route.request.url)
        if len(turned_away) <= 2:
            route.abort("connectionrefused")
        else:
            route.continue_()

    def prepare(context: BrowserContext) -> None:
        context.route("**/v1/session", away)

    studio = open_studio(prepare)  # it waits for the prompt
    assert len(turned_away) >= 3
    studio.expect_mode("live")


@pytest.mark.parametrize(("version", "said"), [("999.0.0", "The server was updated"), ("0.0.1", "is older")])
def test_a_server_of_another_version_is_said_and_a_reload_offered(
    demo: Demo, open_studio: OpenStudio, version: str, said: str
) -> None:
    def other(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "version": version})

    studio = open_studio(lambda context: context.route("**/v1/client-config", other))
    banner = studio.page.get_by_test_id("other-version")
    expect(banner).to_contain_text(said, timeout=SOON_MS)
    expect(banner.get_by_role("button", name="Reload")).to_be_visible()
    expect(studio.page.get_by_test_id("prompt")).to_be_enabled()


def test_a_part_of_the_page_that_does_not_come_breaks_alone(demo: Demo, open_studio: OpenStudio) -> None:
    def prepare(context: BrowserContext) -> None:
        context.route(re.compile(r"/assets/CanvasPage-.*\.js"), lambda route: route.abort("connectionreset"))

    studio = open_studio(prepare)
    page = studio.page
    # React says on the console what a boundary caught: that is what this test brings about.
    page.evaluate("() => { console.error = () => undefined; }")
    page.evaluate("() => { location.hash = '#/canvas'; }")
    expect(page.get_by_test_id("broken")).to_contain_text("did not come", timeout=SOON_MS)
    page.get_by_role("link", name="Gallery").click()
    expect(page.get_by_test_id("prompt")).to_be_visible(timeout=SOON_MS)


def test_a_page_without_its_script_says_so(demo: Demo, open_studio: OpenStudio) -> None:
    page = open_studio().page.context.new_page()
    page.route(re.compile(r"/assets/index-.*\.js"), lambda route: route.abort("connectionreset"))
    page.goto(demo.url)
    expect(page.get_by_role("heading", name="This page did not come whole")).to_be_visible(timeout=SOON_MS)


def test_the_kill_switch_is_worked_in_one_window_and_seen_in_another(demo: Demo, open_studio: OpenStudio) -> None:
    here, there = open_studio(), open_studio()
    page = here.page
    there.expect_mode("live")
    page.keyboard.press("g")
    page.keyboard.press(",")
    flag = page.locator('[data-flag="REALTIME_ENABLED"]')
    expect(flag).to_have_attribute("data-value", "true", timeout=SOON_MS)
    try:
        flag.get_by_text("Off", exact=True).click()
        page.get_by_test_id("confirm-flag").click()
        expect(flag).to_have_attribute("data-value", "false", timeout=SOON_MS)
        there.expect_mode("paused")
        flag.get_by_text("On", exact=True).click()
        page.get_by_test_id("confirm-flag").click()
        there.expect_mode("live")
        expect(flag).to_contain_text("the default", timeout=SOON_MS)
    finally:
        demo.http.put("/v1/admin/flags", json={"REALTIME_ENABLED": None}).raise_for_status()


def test_who_may_not_set_the_flags_does_not_see_them(demo: Demo, open_studio: OpenStudio) -> None:
    def nobody(route: Route) -> None:
        answer = route.fetch()
        told = answer.json()
        route.fulfill(response=answer, json={**told, "user": {**told["user"], "may_set_flags": False}})

    page = open_studio(lambda context: context.route("**/v1/session", nobody)).page
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_text("As little as can be").click()
    expect(page.locator("html")).to_have_attribute("data-motion", "less")
    expect(page.get_by_test_id("flags")).to_have_count(0)
    page.get_by_text("Light", exact=True).click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
