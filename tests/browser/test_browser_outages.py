"""The machine sleeps while the token expires; server and database die while jobs run (parity rows 11 and 12)."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from house import House, a_house
from own_browser import OpenOwn
from parity_table import Parity
from playwright.sync_api import Browser, Page
from small_apps import build, served
from studio_page import RESULT_MS, SOON_MS, OpenStudio, Studio, no_realtime, sign_in

HERE = Path(__file__).resolve().parent
SHORT_S, LONG_S = 6, 3600
IS_ON = "mode => window.__SAFELIGHT__?.mode === mode"


@dataclass(slots=True)
class SignIn:
    """The app's own: it issues tokens that hold as long as is said here."""

    house: House | None = None
    lifetime_s: int = LONG_S
    issued: list[str] = field(default_factory=list)

    def __call__(self) -> str:
        assert self.house is not None
        self.issued.append(self.house.token(self.lifetime_s))
        return self.issued[-1]


@pytest.fixture(scope="module")
def sign_in_server() -> SignIn:
    return SignIn()


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, sign_in_server: SignIn) -> Iterator[str]:
    """Where the app is that has a sign-in of its own."""
    files = tmp_path_factory.mktemp("token-app")
    build(HERE / "token_app", files)
    with served(files, {"/token": sign_in_server}) as origin:
        yield origin


@pytest.fixture(scope="module")
def house(origin: str, sign_in_server: SignIn) -> Iterator[House]:
    with a_house(origin) as house:
        sign_in_server.house = house
        yield house


@pytest.fixture(scope="module")
def at_home(browser: Browser, house: House) -> tuple[str, Any]:
    return house.demo.url, sign_in(browser, house.demo.studio_url)


def begin(house: House, studio: Studio, prompt: str, **faults: Any) -> str:
    """A job that its provider has and that is not done yet: its tile is seen in every frame from now on."""
    studio.adding(latency_s=4.0, **faults)
    job = studio.submit(house.demo.model("fal", "image")["id"], prompt)
    studio.expect_in_every_frame(job)
    studio.expect_sent(job)
    return job


def test_a_machine_that_slept_until_its_token_was_expired_shows_what_was_made_meanwhile(
    house: House, origin: str, sign_in_server: SignIn, open_own: OpenOwn, parity: Parity
) -> None:
    model = house.demo.model("fal", "image")["id"]
    about = {"server": house.demo.url, "project": house.demo.project_id}
    sign_in_server.lifetime_s = LONG_S
    # One app asks its sign-in for every token; the other keeps one until it is told that it is refused (F10).
    live, asking = open_own(), open_own(no_realtime)
    live.page.goto(f"{origin}/?{urlencode(about)}")
    asking.page.goto(f"{origin}/?{urlencode({**about, 'keeps': ''})}")
    up, dead = Studio(live.page), Studio(asking.page)
    live.page.wait_for_function(IS_ON, arg="live", timeout=SOON_MS)
    asking.page.wait_for_function(IS_ON, arg="polling", timeout=SOON_MS)
    with (
        parity.watched(11, "realtime up", up, also=("webhook lost",)) as with_line,
        parity.watched(11, "realtime dead", dead) as without,
    ):
        mark, made = house.demo.head(), dict[Page, list[str]]()
        for studio, all_faults in ((up, [{}, {"webhook": "lost"}]), (dead, [{}])):
            for faults in all_faults:
                job = studio.page.evaluate(
                    "([model, faults]) => make(model, 'Made while the lid was closed', faults)",
                    [model, {"latency_s": 5.0, **faults}],
                )
                made.setdefault(studio.page, []).append(job)
                studio.expect_sent(job)
                studio.expect_in_every_frame(job)
        # Both join anew with a token that soon expires; then the lid is closed.
        sign_in_server.lifetime_s = SHORT_S
        for browser in (live, asking):
            browser.page.evaluate(
                "async () => { await signIn(); dispatchEvent(new CustomEvent('realtime:auth-heal', { detail: {} })); }"
            )
        live.page.wait_for_function(IS_ON, arg="live", timeout=SOON_MS)
        asking.page.wait_for_function(IS_ON, arg="polling", timeout=SOON_MS)
        tokens = {browser.page: browser.page.evaluate("() => app.tokens") for browser in (live, asking)}
        slept = {browser.page: browser.sleep() for browser in (live, asking)}
        sign_in_server.lifetime_s = LONG_S
        house.expect_refused(sign_in_server.issued[-1])
        for job in (job for jobs in made.values() for job in jobs):
            house.demo.expect_completed(job)
        cells = {up: [with_line, parity.cell(11, "webhook lost")], dead: [without]}
        for browser, studio in ((live, up), (asking, dead)):
            woken = browser.wake()
            assert browser.slept_ms() > woken - slept[browser.page] - 1_000, "nothing of it ran"
            for job, cell in zip(made[studio.page], cells[studio], strict=True):
                tile = studio.expect_ready(job).get_attribute("data-tile")
                assert tile
                if (seen_at := studio.first_seen(tile)) >= woken:  # else it was done before the lid was closed
                    cell.took(seen_at, house.demo.result_committed(mark, tile), woken)
    for browser in (live, asking):
        browser.page.wait_for_function("before => app.tokens > before", arg=tokens[browser.page], timeout=RESULT_MS)
    live.page.wait_for_function(IS_ON, arg="live", timeout=RESULT_MS)
    asking.page.wait_for_function("() => app.refused > 0", timeout=RESULT_MS)
    refused = live.page.evaluate("() => app.refused")
    assert refused <= 1, f"who asks for its token each time sends no old one, but for what was on its way: {refused}"


def restarted(house: House) -> float:
    house.end(signal.SIGTERM)
    return house.begin()


def killed(house: House) -> float:
    house.end(signal.SIGKILL)
    return house.begin()


def without_database(house: House) -> float:
    return house.kill_database()


@pytest.mark.parametrize("outage", [restarted, killed, without_database], ids=lambda outage: outage.__name__)
def test_jobs_that_run_while_server_or_database_go_are_seen_in_every_frame_and_end(
    house: House,
    at_home: tuple[str, Any],
    open_studio: OpenStudio,
    parity: Parity,
    outage: Callable[[House], float],
) -> None:
    up, dead = open_studio(at=at_home), open_studio(no_realtime, at=at_home)
    up.expect_mode("live")
    dead.expect_mode("polling")
    with (
        parity.watched(12, "realtime up", up, also=("webhook lost",)) as with_line,
        parity.watched(12, "realtime dead", dead) as without,
    ):
        mark = house.demo.head()
        told = begin(house, up, "Made across an outage")
        untold = begin(house, up, "Made across an outage, and nobody told", webhook="lost")
        asked = begin(house, dead, "Made across an outage, and asked for")
        back = outage(house)
        for studio, job, cell in (
            (up, told, with_line),
            (up, untold, parity.cell(12, "webhook lost")),
            (dead, asked, without),
        ):
            tile = studio.expect_ready(job).get_attribute("data-tile")
            assert tile
            if (seen_at := studio.first_seen(tile)) >= back:  # else it was done before the outage
                cell.took(seen_at, house.demo.result_committed(mark, tile), back)
    up.page.wait_for_function(IS_ON, arg="live", timeout=RESULT_MS)
    for job in (told, untold, asked):
        assert house.demo.get(f"/v1/jobs/{job}")["status"] == "completed"
