"""The page as a person meets it, in words of the product. Only the stable hooks of api.md are used to find things."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

RESULT_MS = 180_000
"""A job through a whole chain on a busy two-core machine, where an emulated clip alone may take 20 s to make."""
SOON_MS = 30_000

# Whether anything can be seen in a tile, for one frame.
SEEN = """
(tile) => {
  const shown = (element) => element && element.getBoundingClientRect().width > 0;
  const drawn = (media) =>
    media instanceof HTMLImageElement ? media.complete && media.naturalWidth > 0 : media.readyState >= 2;
  const placeholder = [...tile.querySelectorAll('.developing, .ended')].some(shown);
  const media = () => [...tile.querySelectorAll('.media')].some(
    (layer) =>
      Number(getComputedStyle(layer).opacity) > 0.99 &&
      [...layer.querySelectorAll('img, video:not(.preview)')].some((each) => shown(each) && drawn(each)),
  );
  return shown(tile) && (placeholder || media());
}
"""

DRAWN = "tile => [...tile.querySelectorAll('.media img')].every((img) => img.complete && img.naturalWidth > 0)"

# Looks at every animation frame, from now on. What is wrong is kept with the frame's number; when a result was first
# seen (ms since 1970), with its id. Tiles that nobody asks about are only counted: looking itself must cost little.
WATCH = f"""
() => {{
  const seen = {SEEN};
  if (window.__watch) cancelAnimationFrame(window.__watch.timer);
  const watch = {{ frames: 0, faults: [], expected: new Set(), first: {{}} }};
  window.__watch = watch;
  const fault = (what) => watch.faults.length < 20 && watch.faults.push(`frame ${{watch.frames}}: ${{what}}`);
  const frame = () => {{
    watch.frames += 1;
    const tiles = [...document.querySelectorAll('[data-tile]')];
    if (new Set(tiles.map((tile) => tile.dataset.tile)).size !== tiles.length) fault('a tile twice');
    for (const job of watch.expected) {{
      const own = tiles.filter((tile) => tile.dataset.job === job);
      if (own.length !== 1) fault(`${{own.length}} tiles of ${{job}}`);
      else if (!seen(own[0])) fault(`nothing to see in ${{own[0].dataset.state}} ${{job}}`);
      else if (own[0].dataset.state === 'ready') watch.first[own[0].dataset.tile] ??= Date.now();
    }}
    watch.timer = requestAnimationFrame(frame);
  }};
  frame();
}}
"""

# In every window from its beginning: what a test adds to the input of the jobs that this window submits. An emulated
# provider takes its faults there, and makes a clip as small as it is asked to. It also keeps which jobs this window
# sent: others may come into view in the moment of a click.
ADDING = """
const plain = window.fetch;
const added = {};
window.fetch = (to, init) => {
  if (init?.method !== 'POST' || !/[/]v1[/]projects[/][^/]+[/]jobs$/.test(String(to))) return plain(to, init);
  const body = JSON.parse(init.body);
  if (!(body.id in added)) (window.__sent ??= []).push(body.id);
  added[body.id] ??= window.__adding ?? {};
  return plain(to, { ...init, body: JSON.stringify({ ...body, input: { ...body.input, ...added[body.id] } }) });
};
"""

SMALL_CLIP: dict[str, Any] = {"video_size": {"width": 128, "height": 72}, "duration": 0.5}
"""For an emulated provider: a clip of the usual size takes a core eight seconds to make."""
SMALL_LOCAL_CLIP: dict[str, Any] = {"width": 128, "height": 72, "duration": 0.5}

OpenStudio = Callable[..., "Studio"]
"""The fixture `open_studio`: opens a signed-in window, prepared by a function of its context if one is given."""


def no_socket(context: BrowserContext) -> None:
    """As behind a proxy that lets none through."""
    context.route_web_socket("**/realtime/v1/**", lambda socket: socket.close())


def no_realtime(context: BrowserContext) -> None:
    """Nothing pushes: a window can only ask."""
    no_socket(context)
    context.route("**/changes/stream**", lambda route: route.abort())


def sign_in(browser: Browser, link: str) -> Any:
    """Uses a one-time link; answers with what a window needs to be signed in."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(link)
    page.wait_for_selector('[data-testid="prompt"]', timeout=SOON_MS)
    state = context.storage_state()
    context.close()
    return state


def enter(page: Page, url: str) -> Studio:
    """Opens the studio in a window that is signed in."""
    page.add_init_script(ADDING)
    page.goto(url)
    page.wait_for_selector('[data-testid="prompt"]', timeout=SOON_MS)
    page.wait_for_function("() => window.__SAFELIGHT__?.cursor !== null", timeout=SOON_MS)
    page.wait_for_selector('[data-testid="model"] option:not([value=""])', state="attached", timeout=SOON_MS)
    return Studio(page)


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
            f"(job) => [...document.querySelectorAll(`[data-tile][data-job='${{job}}']`)].some({SEEN})",
            arg=job,
            timeout=SOON_MS,
        )
        assert tile.evaluate(DRAWN)
        return tile

    def expect_sent(self, job: str) -> None:
        """Waits until its provider has it (or has already done it)."""
        at_work = self.page.locator(
            f'[data-tile][data-job="{job}"]:is([data-state="processing"], [data-state="ready"])'
        )
        expect(at_work).to_have_count(1, timeout=RESULT_MS)

    def expect_mode(self, *modes: str) -> None:
        pill = self.page.locator('[data-testid="connection"]')
        self.page.wait_for_function(
            "modes => modes.includes(document.querySelector('[data-testid=connection]')?.dataset.mode)",
            arg=list(modes),
            timeout=SOON_MS,
        )
        expect(pill).to_be_visible()

    def expect_transport(self, way: str) -> None:
        """What the window's log comes by. On a busy machine it may be one less good for a moment."""
        self.page.wait_for_function("way => window.__SAFELIGHT__.transport === way", arg=way, timeout=SOON_MS)

    def snapshot(self) -> dict[str, Any]:
        return self.page.evaluate("() => ({...window.__SAFELIGHT__})")

    # --- doing ---

    def choose(self, model: str) -> None:
        self.page.locator('[data-testid="model"]').select_option(model)

    def write(self, prompt: str) -> None:
        self.page.locator('[data-testid="prompt"]').fill(prompt)

    def generate(self) -> str:
        """Presses the button; answers with the id of the job whose placeholder is there at once."""
        before, sent = self.jobs(), self.page.evaluate("() => (window.__sent ?? []).length")
        self.page.locator('[data-testid="generate"]').click()
        new = self.jobs() - before
        sending = self.page.wait_for_function("(before) => (window.__sent ?? [])[before]", arg=sent, timeout=SOON_MS)
        job = sending.json_value()
        assert job in new, "no placeholder at once"
        return job

    def submit(self, model: str, prompt: str) -> str:
        self.choose(model)
        self.write(prompt)
        return self.generate()

    def adding(self, fields: dict[str, Any] | None = None, **faults: Any) -> None:
        """To the input of every job that is submitted here from now on; faults are what its provider does to it."""
        self.page.evaluate(
            "fields => { window.__adding = fields; }", {**(fields or {}), **({"_emulator": faults} if faults else {})}
        )

    # --- watching every frame ---

    def watch(self) -> None:
        """From now on; a watch that runs is ended."""
        self.page.evaluate(WATCH)

    def first_seen(self, tile: str) -> float:
        """When the running watch first saw this result of an expected job, in ms since 1970."""
        seen = self.page.wait_for_function("id => window.__watch.first[id]", arg=tile, timeout=RESULT_MS)
        return seen.json_value()

    def look_for(self, condition: str, arg: Any = None) -> Callable[[], float]:
        """Looks from now on for the first frame in which `condition` holds for `arg`: a function of JavaScript's, about
        the document. What is returned waits for that frame, and answers with its time in ms since 1970."""
        name = uuid.uuid4().hex
        self.page.evaluate(
            f"""([name, arg]) => {{
              const holds = {condition};
              window.__sights ??= {{}};
              const look = () => {{
                if (!holds(arg)) return;
                observer.disconnect();
                requestAnimationFrame(() => {{ window.__sights[name] ??= Date.now(); }});
              }};
              const observer = new MutationObserver(look);
              const all = {{ subtree: true, childList: true, attributes: true, characterData: true }};
              observer.observe(document, all);
              look();
            }}""",
            [name, arg],
        )
        return lambda: self.page.wait_for_function(
            "name => window.__sights[name]", arg=name, timeout=RESULT_MS
        ).json_value()

    def expect_in_every_frame(self, job: str) -> None:
        self.page.evaluate("job => window.__watch.expected.add(job)", job)

    def watched(self) -> dict[str, Any]:
        """Ends the watch; raises if the page was loaded anew meanwhile, because then it is gone."""
        return self.page.evaluate(
            "() => { const { frames, faults, timer } = window.__watch; cancelAnimationFrame(timer);"
            " return { frames, faults }; }"
        )
