"""A real server, a real Chromium, and a signed-in window for each test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from demo_server import Demo, start, stop
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright
from studio_page import SOON_MS, OpenStudio, Studio

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
    process, demo = start(tmp_path_factory.mktemp("demo"))
    yield demo
    demo.http.close()
    stop(process)


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    flags = [*QUIET, "--no-sandbox"] if as_root else list(QUIET)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def signed_in(browser: Browser, demo: Demo) -> Any:
    """The one-time link is used once; what it gave is carried into every window."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(demo.studio_url)
    page.wait_for_selector('[data-testid="prompt"]', timeout=SOON_MS)
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def open_studio(browser: Browser, demo: Demo, signed_in: Any, request: pytest.FixtureRequest) -> Iterator[OpenStudio]:
    """Opens windows of the studio. No window may raise an error of its own during a test."""
    contexts: list[BrowserContext] = []
    pages: list[Page] = []
    errors: list[str] = []

    def open_one(prepare: Callable[[BrowserContext], None] | None = None, *, motion: bool = False) -> Studio:
        context = browser.new_context(
            storage_state=signed_in,
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
        page.goto(demo.url)
        page.wait_for_selector('[data-testid="prompt"]', timeout=SOON_MS)
        page.wait_for_function("() => window.__SAFELIGHT__?.cursor !== null", timeout=SOON_MS)
        page.wait_for_selector('[data-testid="model"] option:not([value=""])', state="attached", timeout=SOON_MS)
        return Studio(page)

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
    expected = "Failed to load resource" in message.text
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
