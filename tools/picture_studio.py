"""Pictures of every page of the studio, dark and light, on a desk and on a phone: `docs/pictures/*.webp`.

python tools/picture_studio.py                 # starts a demo of its own, and ends it
python tools/picture_studio.py --demo DIR      # of a demo that runs already (its demo.json): it gets content
python tools/picture_studio.py --only queue    # one page
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "pictures"
BYTES_MAX = 80_000
"""Of one picture: all of them together are to stay a few MB of the repository."""
START_S = 120.0
SOON_MS = 30_000
LATENCY_S = 900.0
"""How long the emulated provider works on what is to be seen running."""

DESK = {"width": 1280, "height": 820}
PHONE = {"width": 390, "height": 844}

WORDS = (
    "a red fox in a birch forest at first light",
    "a lighthouse over a black sea, long exposure",
    "still life with quinces and pewter",
    "an empty swimming pool at dusk",
    "paper boats in a gutter after rain",
    "a greenhouse in the snow, lamps on",
    "the last tram of the night",
    "sand dunes, seen from straight above",
    "a brass instrument maker at his bench",
    "fog in a valley of poplars",
    "a market under awnings, noon",
    "ice on a window, a street lamp behind it",
)
SHAPES = ("4:3", "1:1", "3:4", "16:9", "9:16")


@dataclass(frozen=True, slots=True)
class Demo:
    told: Path
    url: str
    studio_url: str
    project: str
    emulator: str
    http: httpx.Client

    @classmethod
    def read(cls, path: Path) -> Demo:
        told = json.loads(path.read_text())
        http = httpx.Client(
            base_url=told["url"],
            headers={"Authorization": f"Bearer {told['secret_key']}"},
            timeout=30,
            trust_env=False,
        )
        return cls(path, told["url"], told["studio_url"], told["project_id"], told["emulators"]["fal"], http)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.http.request(method, path.replace("{p}", f"/v1/projects/{self.project}"), json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def submit(self, model: str, prompt: str, n: int = 1, **given: Any) -> str:
        body = {"id": str(uuid.uuid4()), "model": model, "input": {"prompt": prompt, **given}, "n": n}
        return self.ask("POST", "{p}/jobs", body)["id"]

    def ended(self, jobs: list[str]) -> None:
        deadline = time.monotonic() + 300
        for job in jobs:
            while self.ask("GET", f"/v1/jobs/{job}")["status"] in ("pending", "processing"):
                if time.monotonic() > deadline:
                    raise SystemExit(f"job {job} did not end")
                time.sleep(0.3)


@contextlib.contextmanager
def a_demo(given: Path | None) -> Iterator[Demo]:
    if given is not None:
        yield Demo.read(given / "demo.json")
        return
    with tempfile.TemporaryDirectory(prefix="safelight-pictures-") as folder:
        command = [sys.executable, "-c", "from safelight.cli.main import app; app()", "demo", "--port", "0"]
        process = subprocess.Popen(
            [*command, "--data", folder, "--no-browser", "--seed", "7"], stdout=subprocess.DEVNULL
        )
        try:
            told = Path(folder) / "demo.json"
            deadline = time.monotonic() + START_S
            while not told.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the demo did not start")
                time.sleep(0.2)
            yield Demo.read(told)
        finally:
            process.terminate()
            process.wait(30)


def fill(demo: Demo) -> dict[str, str]:
    """What a few days of work leave behind. Answers with the ids that pictures are about."""
    if any(shot["name"] == "Opening" for shot in demo.ask("GET", "{p}/shots")["items"]):
        return _found(demo)
    jobs = [
        demo.submit("local/aurora", words, aspect_ratio=SHAPES[n % len(SHAPES)], seed=40 + n)
        for n, words in enumerate(WORDS)
    ]
    clip = demo.submit("local/drift", "slow clouds over a harbour", duration=2, aspect_ratio="16:9")
    demo.ended([*jobs, clip])
    made = [demo.ask("GET", f"/v1/jobs/{job}")["generations"][0] for job in jobs]
    for result in made[2:9:3]:
        demo.ask("PATCH", f"/v1/generations/{result}", {"starred": True})
    for name, chosen in (("Opening", made[:5]), ("The market", made[5:8]), ("Harbour", made[8:9])):
        shot = demo.ask("POST", "{p}/shots", {"name": name})
        for place, result in enumerate(chosen):
            position = None if place == 4 else f"a{place}"
            demo.ask("PUT", f"/v1/shots/{shot['id']}/generations/{result}", {"position": position})
    for slug, name, prompt in (
        ("poster", "Poster", "a poster for {BRAND}, {COLOUR} on black, one large shape"),
        ("portrait", "Portrait of a maker", "portrait of a {TRADE} at work, window light"),
    ):
        body = {"slug": slug, "name": name, "model": "local/aurora", "input": {"prompt": prompt}}
        demo.ask("POST", "{p}/templates", body)
    _canvas(demo)
    refused = demo.submit(
        "fal-ai/flux/schnell", "something that the provider refuses", _emulator={"fail": "content_policy"}
    )
    demo.ended([refused])
    return _found(demo)


def _canvas(demo: Demo) -> None:
    def node(kind: str, x: float, y: float, **data: Any) -> str:
        return demo.ask("POST", "{p}/nodes", {"type": kind, "x": x, "y": y, "data": data})["id"]

    words = node("prompt", 0, 60, text="a lamp in a dark room, seen from the door")
    pictures = [node("picture", 420, -120 + 380 * n) for n in range(2)]
    clip = node("video", 860, 60)
    for source, target in ((words, pictures[0]), (words, pictures[1]), (pictures[0], clip)):
        demo.ask("POST", "{p}/edges", {"source": source, "target": target})
    jobs = []
    for target, model in ((pictures[0], "local/aurora"), (pictures[1], "local/aurora"), (clip, "local/drift")):
        given = {"duration": 2} if model == "local/drift" else {}
        body = {
            "id": str(uuid.uuid4()), "model": model, "n": 1, "target": {"node_id": target},
            "input": {"prompt": "a lamp in a dark room, seen from the door", **given},
        }  # fmt: skip
        jobs.append(demo.ask("POST", "{p}/jobs", body)["id"])
    demo.ended(jobs)


def _found(demo: Demo) -> dict[str, str]:
    shots = {shot["name"]: shot["id"] for shot in demo.ask("GET", "{p}/shots")["items"]}
    results = demo.ask("GET", "{p}/generations?limit=60")["items"]
    by_words = {each["prompt"]: each["id"] for each in results}
    return {
        "demo": str(demo.told),
        "shot": shots["Opening"],
        "large": by_words[WORDS[1]],
    }


def running(demo: Demo) -> list[str]:
    """Two jobs that stay under way while the pictures are taken."""
    slow = {"latency_s": LATENCY_S}
    return [
        demo.submit("fal-ai/flux/dev", "a hand-drawn map of an island, ink", _emulator=slow),
        demo.submit("fal-ai/wan-t2v", "waves against a pier, slow", _emulator=slow),
    ]


# --- the pages ---


def nothing(_page: Page, _found: dict[str, str]) -> None:
    pass


def palette(page: Page, _found: dict[str, str]) -> None:
    page.keyboard.press("Control+k")
    page.locator(".palette").wait_for(timeout=SOON_MS)


def keyboard(page: Page, _found: dict[str, str]) -> None:
    page.keyboard.press("?")
    page.locator(".keymap").wait_for(timeout=SOON_MS)


def trace(page: Page, _found: dict[str, str]) -> None:
    page.locator('[data-row][data-status="completed"] .job-open').first.click()
    page.locator(".trace li").first.wait_for(timeout=SOON_MS)


def selected(page: Page, _found: dict[str, str]) -> None:
    for number in (0, 1):
        picture = page.locator('[data-tile][data-kind="image"][data-state="ready"]').nth(number)
        picture.locator(".tile-check").dispatch_event("click")
    page.locator(".selection").wait_for(timeout=SOON_MS)


def compared(page: Page, found: dict[str, str]) -> None:
    selected(page, found)
    page.locator(".selection").get_by_role("button", name="Compare").click()
    page.locator(".compare").wait_for(timeout=SOON_MS)


def diagnosed(page: Page, found: dict[str, str]) -> None:
    """With results that were seen in this very window: the chart is drawn of them."""
    demo = Demo.read(Path(found["demo"]))
    jobs: list[str] = []
    for number in range(6):
        jobs.append(demo.submit("local/aurora", f"seen {number}", seed=number, width=256, height=256))
        page.locator(f'[data-job="{jobs[-1]}"][data-state="ready"]').wait_for(timeout=SOON_MS)
    page.evaluate("() => { location.hash = '#/diagnostics'; }")
    page.locator(".chart canvas").wait_for(timeout=SOON_MS)
    for job in jobs:
        for result in demo.ask("GET", f"/v1/jobs/{job}")["generations"]:
            demo.ask("DELETE", f"/v1/generations/{result}")
    demo.http.close()


def asked(page: Page, _found: dict[str, str]) -> None:
    page.locator('[data-flag="REALTIME_ENABLED"] label', has_text="Off").click()
    page.locator('[data-testid="confirm-flag"]').wait_for(timeout=SOON_MS)


PAGES: dict[str, tuple[str, Callable[[Page, dict[str, str]], None]]] = {
    "gallery": ("#/", nothing),
    "search": ("#/?q=light", nothing),
    "selection": ("#/", selected),
    "compare": ("#/", compared),
    "large-view": ("#/g/{large}", nothing),
    "shots": ("#/shots", nothing),
    "shot": ("#/shots/{shot}", nothing),
    "canvas": ("#/canvas", nothing),
    "queue": ("#/queue", nothing),
    "trace": ("#/queue", trace),
    "templates": ("#/templates", nothing),
    "credits": ("#/credits", nothing),
    "diagnostics": ("#/", diagnosed),
    "settings": ("#/settings", nothing),
    "flag": ("#/settings", asked),
    "palette": ("#/", palette),
    "keyboard": ("#/", keyboard),
}

SETTLED = """() => {
  const inView = (e) => { const b = e.getBoundingClientRect(); return b.bottom > 0 && b.top < innerHeight; };
  return !document.querySelector('main [aria-busy=true]:not(.tile):not(.gallery *)') &&
    [...document.images].filter(inView).every((image) => image.complete && image.naturalWidth > 0) &&
    [...document.querySelectorAll('.tile')].filter(inView).every((tile) => tile.dataset.state !== 'ready' ||
      [...tile.querySelectorAll('.media')].some((media) => Number(getComputedStyle(media).opacity) > 0.99));
}"""


def take(browser: Browser, demo: Demo, state: Any, found: dict[str, str], names: list[str]) -> list[Path]:
    taken: list[Path] = []
    for place, size in (("desk", DESK), ("phone", PHONE)):
        for scheme in ("dark", "light"):
            context = browser.new_context(
                storage_state=state,
                viewport=size,  # pyright: ignore[reportArgumentType]
                device_scale_factor=1 if place == "desk" else 2,
                has_touch=place == "phone",
                is_mobile=place == "phone",
                color_scheme=scheme,  # pyright: ignore[reportArgumentType]
                reduced_motion="reduce",
            )
            page = context.new_page()
            for name in names:
                address, prepare = PAGES[name]
                page.goto("about:blank")
                page.goto(f"{demo.url}/{address.format(**found)}")
                page.wait_for_selector('[data-testid="connection"][data-mode="live"]', timeout=SOON_MS)
                page.wait_for_load_state("networkidle")
                prepare(page, found)
                with contextlib.suppress(Exception):
                    page.wait_for_function(SETTLED, timeout=8_000)
                page.wait_for_timeout(300)
                taken.append(keep(page.screenshot(), OUT / f"{name}-{place}-{scheme}.webp"))
            context.close()
    return taken


def door(browser: Browser, demo: Demo) -> Path:
    """What somebody sees who has no session."""
    context = browser.new_context(viewport=DESK, color_scheme="dark")  # pyright: ignore[reportArgumentType]
    page = context.new_page()
    page.goto(demo.url)
    page.locator(".door h1").wait_for(timeout=SOON_MS)
    kept = keep(page.screenshot(), OUT / "door-desk-dark.webp")
    context.close()
    return kept


def keep(png: bytes, path: Path) -> Path:
    """As WebP, as good as fits. Phones are drawn at twice the density and kept at 1.5."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    if "-phone-" in path.name:
        image = image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.LANCZOS)
    for quality in (84, 76, 68, 58, 46, 32):
        packed = io.BytesIO()
        image.save(packed, "WEBP", quality=quality, method=6)
        if packed.tell() <= BYTES_MAX:
            break
    path.write_bytes(packed.getvalue())
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, help="the data folder of a demo that runs")
    parser.add_argument("--only", nargs="*", choices=[*PAGES, "door"], default=[*PAGES, "door"])
    given = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    tool = ROOT / "tools" / "ensure_chromium.py"
    chromium = subprocess.run([sys.executable, str(tool)], capture_output=True, text=True, check=True).stdout.strip()
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with a_demo(given.demo) as demo, sync_playwright() as playwright:
        found = fill(demo)
        browser = playwright.chromium.launch(
            executable_path=chromium.splitlines()[-1], args=["--disable-gpu", *(["--no-sandbox"] if as_root else [])]
        )
        jobs = running(demo)
        try:
            state_file = given.demo / "pictures-session.json" if given.demo else None
            if state_file is not None and state_file.exists():
                state = json.loads(state_file.read_text())
            else:
                context = browser.new_context()
                page = context.new_page()
                page.goto(demo.studio_url)
                page.wait_for_selector('[data-testid="prompt"]', timeout=SOON_MS)
                state = context.storage_state()
                context.close()
                if state_file is not None:
                    state_file.write_text(json.dumps(state))
            taken = take(browser, demo, state, found, [name for name in given.only if name in PAGES])
            if "door" in given.only:
                taken.append(door(browser, demo))
        finally:
            for job in jobs:
                demo.ask("POST", f"/v1/jobs/{job}/cancel")
            browser.close()
    for path in taken:
        print(f"{path.stat().st_size:>7} {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
