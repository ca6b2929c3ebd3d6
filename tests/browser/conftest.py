"""A real server, a real Chromium, and a signed-in window for each test."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from demo_server import Demo, start, stop
from own_browser import OpenOwn, OwnBrowser, own_browser
from parity_table import Parity
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, sync_playwright
from studio_page import OpenStudio, Studio, enter, sign_in

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "test-results"
QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def chromium() -> str:
    tool = ROOT / "tools" / "ensure_chromium.py"
    found = subprocess.run([sys.executable, str(tool), "--find"], capture_output=True, text=True, timeout=120)
    if found.returncode != 0:
        pytest.fail(found.stderr.strip() or "no Chromium", pytrace=False)
    return found.stdout.strip()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One installation for all browser tests. `SAFELIGHT_DEMO_JSON` names one that runs already."""
    if running := os.environ.get("SAFELIGHT_DEMO_JSON"):
        yield Demo.read(Path(running))
        return
    # A name that never was: as root the database lies elsewhere, by the folder's name, and outlives the folder.
    process, demo = start(tmp_path_factory.mktemp(f"demo-{uuid.uuid4().hex[:8]}"))
    yield demo
    demo.http.close()
    stop(process)


@pytest.fixture(scope="session")
def driver() -> Iterator[Playwright]:
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def flags() -> list[str]:
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return [*QUIET, "--no-sandbox"] if as_root else list(QUIET)


@pytest.fixture(scope="session")
def browser(driver: Playwright, chromium: str, flags: list[str]) -> Iterator[Browser]:
    browser = driver.chromium.launch(executable_path=chromium, args=flags)
    yield browser
    browser.close()


@pytest.fixture
def open_own(driver: Playwright, chromium: str, flags: list[str], tmp_path: Path) -> Iterator[OpenOwn]:
    """Starts browsers whose windows are not always seen and awake. No page may raise an error of its own."""
    errors: list[str] = []
    with contextlib.ExitStack() as stack:

        def open_one(prepare: Callable[[BrowserContext], None] | None = None, state: Any = None) -> OwnBrowser:
            folder = tmp_path / f"browser-{uuid.uuid4().hex[:8]}"
            folder.mkdir()
            own = stack.enter_context(own_browser(driver, chromium, folder, flags, state=state, prepare=prepare))
            own.page.on("pageerror", lambda error: errors.append(str(error)))
            return own

        yield open_one
    assert errors == [], "the page raised errors of its own"


@pytest.fixture(scope="session")
def signed_in(browser: Browser, demo: Demo) -> Any:
    """The one-time link is used once; what it gave is carried into every window."""
    return sign_in(browser, demo.studio_url)


@pytest.fixture(scope="session")
def parity() -> Iterator[Parity]:
    """The matrix's cells. `SAFELIGHT_PARITY_TABLE=docs/parity.md` writes them down at the end."""
    parity = Parity()
    yield parity
    if page := os.environ.get("SAFELIGHT_PARITY_TABLE"):
        parity.write(Path(page))


@pytest.fixture
def open_studio(browser: Browser, demo: Demo, signed_in: Any, request: pytest.FixtureRequest) -> Iterator[OpenStudio]:
    """Opens windows of the studio. No window may raise an error of its own during a test."""
    contexts: list[BrowserContext] = []
    pages: list[Page] = []
    errors: list[str] = []

    def open_one(
        prepare: Callable[[BrowserContext], None] | None = None,
        *,
        motion: bool = False,
        at: tuple[str, Any] = (demo.url, signed_in),
    ) -> Studio:
        url, state = at
        context = browser.new_context(
            storage_state=state,
            viewport={"width": 1280, "height": 900},
            # Without a graphics card every animated frame is the processor's work: only where motion matters.
            reduced_motion="no-preference" if motion else "reduce",
        )
        contexts.append(context)
        if prepare is not None:
            prepare(context)
        page = context.new_page()
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.extend(_of_ours(message)))
        return enter(page, url)

    yield open_one

    failed = request.node.stash.get(_FAILED, False)
    if failed:
        SHOTS.mkdir(exist_ok=True)
        for number, page in enumerate(pages):
            page.screenshot(path=str(SHOTS / f"{request.node.name}-{number}.png"))
    for context in contexts:
        context.close()
    if not failed:
        assert errors == [], "the page raised errors of its own"


def _of_ours(message: ConsoleMessage) -> list[str]:
    """Errors of the page's code; a refused or blocked request is also logged there, and is no error of the page."""
    expected = message.text.startswith(("Failed to load resource", "WebSocket connection to"))
    return [message.text] if message.type == "error" and not expected else []


@pytest.fixture
def calm(demo: Demo) -> Iterator[None]:
    """Whatever faults a test sets, the next one begins on a good day."""
    yield
    demo.faults()


_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report
