"""Find a Chromium for the browser tests, or get one; prints its path.

Looked for in this order: `SAFELIGHT_CHROMIUM`, the usual names on PATH, the usual places, Playwright's own. If there
is none: Playwright's download is tried, then, as root with apt, Debian's package. `--find` only looks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome", "microsoft-edge")
PLACES = (
    "/usr/bin/chromium",
    "/snap/bin/chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
DOWNLOAD_S = 300.0
"""A closed network often says nothing at all: then Debian's package is next."""
INSTALL_S = 600.0


def runs(path: str | None) -> bool:
    """Whether it is there and starts: a half-installed or foreign binary is none."""
    if not path or not Path(path).is_file():
        return False
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def playwrights_own() -> str | None:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        return playwright.chromium.executable_path


def find() -> str | None:
    named = os.environ.get("SAFELIGHT_CHROMIUM")
    if named:
        # A wish is not overruled in silence.
        return named if runs(named) else None
    for candidate in (*map(shutil.which, NAMES), *PLACES):
        if runs(candidate):
            return candidate
    own = playwrights_own()
    return own if runs(own) else None


def attempt(command: list[str], timeout_s: float) -> bool:
    print(f"ensure_chromium: {' '.join(command)}", file=sys.stderr)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            timeout=timeout_s,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"ensure_chromium: {error}", file=sys.stderr)
        return False
    return done.returncode == 0


def install() -> None:
    if attempt([sys.executable, "-m", "playwright", "install", "chromium"], DOWNLOAD_S) and find():
        return
    apt = shutil.which("apt-get")
    if apt and hasattr(os, "geteuid") and os.geteuid() == 0:
        attempt([apt, "-qq", "update"], INSTALL_S)
        attempt([apt, "-qq", "-y", "install", "--no-install-recommends", "chromium"], INSTALL_S)


def main() -> int:
    found = find()
    if found is None and "--find" not in sys.argv[1:] and not os.environ.get("SAFELIGHT_CHROMIUM"):
        install()
        found = find()
    if found is None:
        print(
            "No Chromium was found. Install one (Debian: apt-get install chromium), or name one in SAFELIGHT_CHROMIUM.",
            file=sys.stderr,
        )
        return 1
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
