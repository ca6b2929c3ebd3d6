"""The page as a person meets it, in words of the product. Only the stable hooks of api.md are used to find things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Locator, Page, expect

RESULT_MS = 180_000
"""A job through a whole chain on a busy two-core machine, where an emulated clip alone may take 20 s to make."""
SOON_MS = 30_000

# Everything in the page that says whether a tile can be seen, for one frame.
LOOK = """
() => {
  const shown = (element) => element && element.getBoundingClientRect().width > 0;
  const drawn = (media) =>
    media instanceof HTMLImageElement ? media.complete && media.naturalWidth > 0 : media.readyState >= 2;
  return [...document.querySelectorAll('[data-tile]')].map((tile) => {
    const placeholder = [...tile.querySelectorAll('.developing, .ended')].some(shown);
    const media = [...tile.querySelectorAll('.media')].some(
      (layer) =>
        Number(getComputedStyle(layer).opacity) > 0.99 &&
        [...layer.querySelectorAll('img, video:not(.preview)')].some((each) => shown(each) && drawn(each)),
    );
    return {
      id: tile.dataset.tile,
      job: tile.dataset.job,
      state: tile.dataset.state,
      seen: shown(tile) && (placeholder || media),
    };
  });
}
"""

DRAWN = "tile => [...tile.querySelectorAll('.media img')].every((img) => img.complete && img.naturalWidth > 0)"

# Looks at every animation frame, from now on. What is wrong is kept with the frame's number.
WATCH = f"""
() => {{
  const look = {LOOK};
  const watch = {{ frames: 0, faults: [], least: Infinity, expected: new Set() }};
  window.__watch = watch;
  const fault = (what) => watch.faults.length < 20 && watch.faults.push(`frame ${{watch.frames}}: ${{what}}`);
  const frame = () => {{
    watch.frames += 1;
    const tiles = look();
    watch.least = Math.min(watch.least, tiles.length);
    if (new Set(tiles.map((tile) => tile.id)).size !== tiles.length) fault('a tile twice');
    if (tiles.length < watch.expected.size) fault(`${{tiles.length}} tiles for ${{watch.expected.size}} submitted`);
    for (const job of watch.expected) {{
      const own = tiles.filter((tile) => tile.job === job);
      if (own.length !== 1) fault(`${{own.length}} tiles of ${{job}}`);
      else if (!own[0].seen) fault(`nothing to see in ${{own[0].state}} ${{job}}`);
    }}
    watch.timer = requestAnimationFrame(frame);
  }};
  frame();
}}
"""


OpenStudio = Callable[..., "Studio"]
"""The fixture `open_studio`: opens a signed-in window, prepared by a function of its context if one is given."""


@dataclass(frozen=True, slots=True)
class Studio:
    page: Page

    # --- looking ---

    def tiles(self, **data: str) -> Locator:
        """Tiles by `job=`, `state=`, `tile=`."""
        conditions = "".join(f'[data-{name}="{value}"]' for name, value in data.items())
        return self.page.locator(f"[data-tile]{conditions}")

    def jobs(self) -> set[str]:
        return set(self.page.eval_on_selector_all("[data-tile]", "all => all.map((tile) => tile.dataset.job)"))

    def expect_ready(self, job: str) -> Locator:
        """Waits until the job's one tile shows its media; answers with it."""
        tile = self.tiles(job=job, state="ready")
        expect(tile).to_have_count(1, timeout=RESULT_MS)
        self.page.wait_for_function(
            f"(job) => ({LOOK})().some((tile) => tile.job === job && tile.seen)", arg=job, timeout=SOON_MS
        )
        assert tile.evaluate(DRAWN)
        return tile

    def expect_mode(self, *modes: str) -> None:
        pill = self.page.locator('[data-testid="connection"]')
        self.page.wait_for_function(
            "modes => modes.includes(document.querySelector('[data-testid=connection]')?.dataset.mode)",
            arg=list(modes),
            timeout=SOON_MS,
        )
        expect(pill).to_be_visible()

    def snapshot(self) -> dict[str, Any]:
        return self.page.evaluate("() => ({...window.__SAFELIGHT__})")

    # --- doing ---

    def choose(self, model: str) -> None:
        self.page.locator('[data-testid="model"]').select_option(model)

    def write(self, prompt: str) -> None:
        self.page.locator('[data-testid="prompt"]').fill(prompt)

    def generate(self) -> str:
        """Presses the button; answers with the id of the job whose placeholder is there at once."""
        before = self.jobs()
        self.page.locator('[data-testid="generate"]').click()
        new = self.jobs() - before
        assert len(new) == 1, f"one new placeholder at once, not {len(new)}"
        return new.pop()

    def submit(self, model: str, prompt: str) -> str:
        self.choose(model)
        self.write(prompt)
        return self.generate()

    # --- watching every frame ---

    def watch(self) -> None:
        self.page.evaluate(WATCH)

    def expect_in_every_frame(self, job: str) -> None:
        self.page.evaluate("job => window.__watch.expected.add(job)", job)

    def watched(self) -> dict[str, Any]:
        """Ends the watch; raises if the page was loaded anew meanwhile, because then it is gone."""
        return self.page.evaluate(
            "() => { const { frames, faults, least, timer } = window.__watch; cancelAnimationFrame(timer);"
            " return { frames, faults, least }; }"
        )
