"""A Chromium of one's own: Playwright's windows are always seen and focused, and never sleep."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, CDPSession, Page, Playwright
from studio_page import SOON_MS

START_S = 60.0
TICKS = """
document.addEventListener('freeze', () => { window.__frozen = (window.__frozen ?? 0) + 1; });
let tick = Date.now();
window.__longestGapMs = 0;
setInterval(() => {
  window.__longestGapMs = Math.max(window.__longestGapMs, Date.now() - tick);
  window.__lastTick = tick = Date.now();
}, 100);
"""


@dataclass(frozen=True, slots=True)
class OwnBrowser:
    """One browser with one tab that is looked at, and an empty one to put before it."""

    context: BrowserContext
    page: Page
    empty: Page
    lifecycle: CDPSession
    group: int
    """Of its processes."""

    def put_behind(self) -> None:
        """Another tab is shown; then the browser freezes the one that is not."""
        self.empty.bring_to_front()
        self.page.wait_for_function("() => document.visibilityState === 'hidden'", polling=50, timeout=SOON_MS)
        self.lifecycle.send("Page.setWebLifecycleState", {"state": "frozen"})

    def put_before(self) -> float:
        """As a person does who comes back to it; the moment is told in ms since 1970."""
        self.lifecycle.send("Page.setWebLifecycleState", {"state": "active"})
        now = time.time() * 1000
        self.page.bring_to_front()
        assert self.page.evaluate("() => window.__frozen") == 1, "it was never frozen"
        return now

    def sleep(self) -> float:
        """As when the lid is closed: nothing of it runs. Ask nothing of it before `wake`. Told as `wake` tells."""
        os.killpg(self.group, signal.SIGSTOP)
        return time.time() * 1000

    def wake(self) -> float:
        """The moment is told in ms since 1970."""
        now = time.time() * 1000
        os.killpg(self.group, signal.SIGCONT)
        return now

    def slept_ms(self) -> float:
        """The longest time in which no timer of the page ran, once one has run again."""
        self.page.wait_for_function("from => window.__lastTick > from", arg=time.time() * 1000, polling=50)
        return self.page.evaluate("() => window.__longestGapMs")


OpenOwn = Callable[..., OwnBrowser]
"""The fixture `open_own`: starts one, prepared by a function of its context, with what `sign_in` answered."""


@contextmanager
def own_browser(
    driver: Playwright,
    executable: str,
    folder: Path,
    flags: list[str],
    *,
    state: Any = None,
    prepare: Callable[[BrowserContext], None] | None = None,
) -> Iterator[OwnBrowser]:
    """Its page is empty yet; `state` is what `sign_in` answered with."""
    told = folder / "DevToolsActivePort"
    command = [
        executable,
        "--headless",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        *flags,
        "about:blank",
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + START_S
        while not told.exists() or len(told.read_text().splitlines()) < 2:
            assert process.poll() is None, "Chromium ended"
            assert time.monotonic() < deadline, "Chromium does not say where it listens"
            time.sleep(0.05)
        port, path = told.read_text().splitlines()[:2]
        browser = driver.chromium.connect_over_cdp(f"ws://127.0.0.1:{port}{path}", no_defaults=True)
        context = browser.contexts[0]
        if state is not None:
            context.add_cookies(state["cookies"])
        context.add_init_script(TICKS)
        if prepare is not None:
            prepare(context)
        empty, page = context.pages[0], context.new_page()
        yield OwnBrowser(context, page, empty, context.new_cdp_session(page), process.pid)
        browser.close()
    finally:
        for number in (signal.SIGCONT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        process.wait()
