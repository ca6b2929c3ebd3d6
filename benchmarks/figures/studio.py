"""The studio in a real Chromium: how soon it is there, what 100 results in 10 s cost a window, and 50,000 to scroll.

A demo of its own (emulated providers and all) and the browser share the machine; the browser draws with the processor,
because there is no graphics card. So frames a second are those of this machine, and a lower bound for others. Long
tasks are what the browser itself reports (PerformanceObserver `longtask`: over 50 ms on the page's own thread), by the
clock on the wall; where other programs use the cores meanwhile, that includes waiting for a core. So the browser's own
trace of the same tasks is read, too: the processor time that each of them took.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import sql
from benchmarks.figure import Data, Figure, Options, Sheet, ms
from benchmarks.numbers import percentile
from benchmarks.processes import ROOT, NotReady, Program, data_dir, remove

LANDING: Final = 100
LANDING_S: Final = 10.0
MANY: Final = 50_000
QUICK_MANY: Final = 5_000
LOADS: Final = 5
SCROLL_FRAMES: Final = 600
"""Ten seconds of a screen with 60 frames a second."""
STEP_PX: Final = 220
"""Each frame: 13,000 px a second, a hand that is in a hurry."""
START_S: Final = 120.0
ENOUGH_S: Final = 600.0
MODEL: Final = "fal-ai/flux/schnell"
INPUT: Final = {"prompt": "a red fox in a birch forest", "seed": 7, "_emulator": {"latency_s": 0.5}}

# In every page, before anything else: what the browser says of itself.
WATCH: Final = """
(() => {
  const bench = { long: [], frames: [], ready: null, live: null };
  window.__bench = bench;
  new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) bench.long.push([startTime, duration]);
  }).observe({ type: 'longtask', buffered: true });
  const look = (at) => {
    bench.frames.push(at);
    if (bench.ready === null && document.querySelector('[data-testid=prompt]:not(:disabled)') &&
        document.querySelector('[data-testid=model] option:not([value=""])') &&
        document.querySelector('.gallery[aria-busy=false] [data-tile]')) bench.ready = performance.now();
    if (bench.live === null && document.querySelector('[data-testid=connection][data-mode=live]')) {
      bench.live = performance.now();
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})();
"""
LOADED: Final = """() => {
  const [{ responseEnd }] = performance.getEntriesByType('navigation');
  const scripts = performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('.js'));
  const painted = performance.getEntriesByName('first-contentful-paint')[0];
  return {
    answered: responseEnd, painted: painted ? painted.startTime : null,
    ready: window.__bench.ready, live: window.__bench.live, long: window.__bench.long,
    scripts: scripts.map(({ name }) => name),
  };
}"""
SCROLL: Final = """([frames, step]) => new Promise((resolve) => {
  const begun = performance.now();
  const bench = window.__bench;
  bench.frames.length = 0;
  bench.long.length = 0;
  let left = frames;
  let tiles = 0;
  let nodes = 0;
  const next = () => {
    tiles = Math.max(tiles, document.querySelectorAll('[data-tile]').length);
    if (left % 60 === 0) nodes = Math.max(nodes, document.getElementsByTagName('*').length);
    if (left-- === 0 || performance.now() - begun > 20_000) {
      resolve({ seconds: (performance.now() - begun) / 1000, frames: bench.frames, long: bench.long, tiles, nodes,
        heap: performance.memory ? performance.memory.usedJSHeapSize : null });
      return;
    }
    window.scrollBy(0, step);
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
})"""


@dataclass(frozen=True, slots=True)
class Demo:
    url: str
    studio_url: str
    project: str
    key: str
    dsn: str

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {self.key}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def submit(self) -> str:
        body = {"id": str(uuid.uuid4()), "model": MODEL, "input": INPUT, "n": 1}
        return self.ask("POST", f"/v1/projects/{self.project}/jobs", body)["id"]

    def counts(self) -> dict[str, int]:
        return self.ask("GET", f"/v1/projects/{self.project}/jobs/counts")


@contextmanager
def _demo() -> Generator[Demo]:
    folder = data_dir()
    command = [sys.executable, "-c", "from safelight.cli.main import app; app()", "demo", "--port", "0"]
    program = Program("demo", [*command, "--data", str(folder), "--no-browser", "--seed", "7"], folder / "demo.log")
    try:
        told = folder / "demo.json"
        deadline = time.monotonic() + START_S
        while not told.exists():
            if time.monotonic() > deadline:
                raise NotReady((folder / "demo.log").read_text(errors="replace")[-2000:])
            time.sleep(0.1)
        about = json.loads(told.read_text())
        yield Demo(about["url"], about["studio_url"], about["project_id"], about["secret_key"], about["database_url"])
    finally:
        program.stop()
        remove(folder)


def _chromium() -> str:
    found = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "ensure_chromium.py"), "--find"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if found.returncode != 0:
        raise NotReady("no Chromium: " + found.stderr.strip())
    return found.stdout.strip().splitlines()[-1]


def run(options: Options) -> Data:
    from playwright.sync_api import sync_playwright

    many = QUICK_MANY if options.is_quick else MANY
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    flags = ["--disable-gpu", "--enable-precise-memory-info", *(["--no-sandbox"] if as_root else [])]
    with _demo() as demo, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=flags)
        try:
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            page = context.new_page()
            page.goto(demo.studio_url)
            page.wait_for_selector('[data-testid="prompt"]', timeout=60_000)
            state = context.storage_state()
            context.close()

            def opened() -> Any:
                fresh = browser.new_context(storage_state=state, viewport={"width": 1280, "height": 900})
                fresh.add_init_script(WATCH)
                return fresh.new_page()

            _ended(demo, [demo.submit() for _ in range(30)])
            loads = [_load(opened(), demo) for _ in range(1 if options.is_quick else LOADS)]
            packed_kb = _packed_kb(loads[0]["scripts"])
            options.say(f"first load: ready after {ms(statistics.median(each['ready'] for each in loads))} ms")
            landings: list[dict[str, Any]] = []
            for _ in range(options.runs):
                landings.append(_land(browser, opened(), demo))
                longest, spent = landings[-1]["longest"], landings[-1]["longest_cpu"]
                options.say(f"{LANDING} results: longest task {ms(longest)} ms, of processor time {ms(spent)} ms")
            _fill(demo, many)
            options.say(f"{many:,} results are in the database")
            gallery = _scroll(browser, opened(), demo, options)
        finally:
            browser.close()
    return {
        "scripts_gzip_kb": packed_kb,
        "loads": loads,
        "landings": landings,
        "many": many,
        "gallery": gallery,
    }


def _packed_kb(scripts: list[str]) -> float:
    """What those scripts weigh on a wire that packs them."""
    total = 0
    for url in scripts:
        with urllib.request.urlopen(url, timeout=30) as answer:
            total += len(gzip.compress(answer.read(), 9))
    return total / 1000


def _load(page: Any, demo: Demo) -> dict[str, Any]:
    page.goto(demo.url)
    page.wait_for_function("() => window.__bench.ready !== null && window.__bench.live !== null", timeout=60_000)
    time.sleep(1.0)
    found = page.evaluate(LOADED)
    page.context.close()
    return {**found, "longest": max((spent for _, spent in found["long"]), default=0.0)}


def _ended(demo: Demo, jobs: list[str]) -> None:
    deadline = time.monotonic() + ENOUGH_S
    left = set(jobs)
    while left and time.monotonic() < deadline:
        left = {job for job in left if demo.ask("GET", f"/v1/jobs/{job}")["status"] in ("pending", "processing")}
        time.sleep(0.5)
    if left:
        raise RuntimeError(f"{len(left)} jobs did not end")


def _tasks(trace: bytes) -> list[float]:
    """Processor time of every task of the pages' threads, ms, from the browser's trace."""
    events = json.loads(trace)["traceEvents"]
    pages = {
        (each["pid"], each["tid"])
        for each in events
        if each["name"] == "thread_name" and each["args"]["name"] == "CrRendererMain"
    }
    return [
        each["tdur"] / 1000
        for each in events
        if each["name"] == "ThreadControllerImpl::RunTask" and "tdur" in each and (each["pid"], each["tid"]) in pages
    ]


def _land(browser: Any, page: Any, demo: Demo) -> dict[str, Any]:
    """The whole chain ends `LANDING` jobs in about as many tenths of a second, while somebody looks at the gallery."""
    page.goto(demo.url)
    page.wait_for_function("() => window.__bench.ready !== null && window.__bench.live !== null", timeout=60_000)
    time.sleep(2.0)
    page.evaluate("() => { window.__bench.long.length = 0; window.__bench.frames.length = 0; }")
    browser.start_tracing(page=page, categories=["toplevel"])
    jobs: list[str] = []
    began = time.monotonic()

    def send() -> None:
        for number in range(LANDING):
            time.sleep(max(0.0, began + number * LANDING_S / LANDING - time.monotonic()))
            jobs.append(demo.submit())

    sender = threading.Thread(target=send)
    sender.start()
    # The page is asked only now and then: every question is work on the thread that is measured.
    page.wait_for_timeout(LANDING_S * 1000)
    sender.join()
    _ended(demo, jobs)
    took = time.monotonic() - began
    page.wait_for_function(
        "job => document.querySelector(`[data-job='${job}'][data-state=ready]`)", arg=jobs[-1], timeout=60_000
    )
    found = page.evaluate("() => ({ long: window.__bench.long, frames: window.__bench.frames })")
    cpu = _tasks(browser.stop_tracing())
    page.context.close()
    return {
        "took_s": took,
        **_spent(found),
        "longest_cpu": max(cpu, default=0.0),
        "over_100_cpu": sum(spent > 100 for spent in cpu),
        "busy_cpu_s": sum(cpu) / 1000,
    }


def _spent(found: dict[str, Any]) -> dict[str, Any]:
    gaps = [after - before for before, after in itertools.pairwise(found["frames"])]
    long = [spent for _, spent in found["long"]]
    return {
        "frames_per_s": 1000 * len(gaps) / sum(gaps) if gaps else 0.0,
        "frame_p50": percentile(gaps, 0.5) if gaps else None,
        "frame_p95": percentile(gaps, 0.95) if gaps else None,
        "long": len(long),
        "over_100": sum(spent > 100 for spent in long),
        "longest": max(long, default=0.0),
    }


def _fill(demo: Demo, many: int) -> None:
    """Results of one job that nobody made: rows that show the files of real ones."""
    statement = """
        with source as (select *, row_number() over (order by id) - 1 as n, count(*) over () as all_of
                        from generations where deleted_at is null)
        insert into generations (id, project_id, job_id, output_index, kind, mime, width, height, bytes, thumbhash,
                                 files, meta, prompt, model, created_at)
        select gen_random_uuid(), s.project_id, s.job_id, 1000 + i, s.kind, s.mime, s.width, s.height, s.bytes,
               s.thumbhash, s.files, s.meta, 'number ' || i, s.model,
               now() - interval '1 hour' - i * interval '1 minute'
        from generate_series(1, $1::int) i join source s on s.n = i % s.all_of
        returning id
    """
    # Playwright's loop is this thread's.
    filling = threading.Thread(target=lambda: sql.fetch(demo.dsn, statement, many))
    filling.start()
    filling.join()


def _scroll(browser: Any, page: Any, demo: Demo, options: Options) -> dict[str, Any]:
    def scrolled(frames: int, step: int) -> dict[str, Any]:
        browser.start_tracing(page=page, categories=["toplevel"])
        found = page.evaluate(SCROLL, [frames, step])
        cpu = _tasks(browser.stop_tracing())
        heap_mb = (found["heap"] or 0) / 1e6
        drawn = max(1, len(found["frames"]))
        of_cpu = {"longest_cpu": max(cpu, default=0.0), "frame_cpu": sum(cpu) / drawn}
        return {**_spent(found), **of_cpu, "tiles": found["tiles"], "nodes": found["nodes"], "heap_mb": heap_mb}

    page.goto(demo.url)
    page.wait_for_function("() => window.__bench.ready !== null && window.__bench.live !== null", timeout=60_000)
    time.sleep(1.0)
    first = scrolled(SCROLL_FRAMES, STEP_PX)
    options.say(f"scrolled while it loads: {first['frames_per_s']:.0f} frames/s")
    began = time.monotonic()
    height, same = 0, 0
    while same < 20 and time.monotonic() - began < ENOUGH_S:
        page.evaluate("() => window.scrollTo(0, document.body.scrollHeight)")
        page.wait_for_timeout(120)
        grown = page.evaluate("() => document.body.scrollHeight")
        same = same + 1 if grown == height else 0
        height = grown
    options.say(f"all loaded after {time.monotonic() - began:.0f} s, {height:,} px high")
    page.evaluate("() => window.scrollTo(0, 0)")
    time.sleep(1.0)
    full = scrolled(SCROLL_FRAMES, STEP_PX)
    options.say(f"scrolled with all of them loaded: {full['frames_per_s']:.0f} frames/s")
    far = scrolled(120, max(STEP_PX, height // 120))
    page.evaluate("() => { scrollTo(0, 0); window.__bench.long.length = 0; window.__bench.frames.length = 0; }")
    browser.start_tracing(page=page, categories=["toplevel"])
    job = demo.submit()
    _ended(demo, [job])
    page.wait_for_function(
        "job => document.querySelector(`[data-job='${job}'][data-state=ready]`)", arg=job, timeout=60_000
    )
    one = page.evaluate("() => ({ long: window.__bench.long, frames: window.__bench.frames })")
    cpu = _tasks(browser.stop_tracing())
    page.context.close()

    landed = {**_spent(one), "longest_cpu": max(cpu, default=0.0)}
    return {"height": height, "loading": first, "full": full, "far": far, "one": landed}


def sheets(data: Data) -> list[Sheet]:
    loads = data["loads"]

    def median(name: str) -> float:
        return statistics.median(each[name] for each in loads)

    load = Sheet(
        "First load of the gallery, nothing cached (ms, medians)",
        ("", "script, gzip kB", "first paint", "ready to use", "live", "longest task"),
        [
            ["Safelight's studio", f"{data['scripts_gzip_kb']:.0f}", ms(median("painted")), ms(median("ready")),
             ms(median("live")), ms(median("longest"))],
            ["*aim*", "≤ 250", "", "≤ 1,500", "", ""],
        ],
        ("Ready: the prompt takes words, the models are there, and the first tiles stand.",),
    )  # fmt: skip
    landings = data["landings"]
    took = ", ".join(f"{each['took_s']:.0f}" for each in landings)
    land = Sheet(
        f"{LANDING} results land in {LANDING_S:.0f} s in a gallery that somebody looks at",
        ("run", "frames/s", "frame P95 ms", "tasks > 100 ms", "longest ms", "of CPU", "longest CPU ms", "CPU s"),
        [
            [str(number + 1), f"{each['frames_per_s']:.0f}", ms(each["frame_p95"]), str(each["over_100"]),
             ms(each["longest"]), str(each["over_100_cpu"]), ms(each["longest_cpu"]), f"{each['busy_cpu_s']:.1f}"]
            for number, each in enumerate(landings)
        ]
        + [["*aim*", "", "", "0", "≤ 100", "0", "≤ 100", ""]],
        (f"The whole chain ran beside it on the same two cores: {took} s from the first submit to the last result.",),
    )  # fmt: skip
    gallery, one = data["gallery"], data["gallery"]["one"]
    names = (("loading", "while pages load"), ("full", "all loaded"), ("far", "all loaded, end to end in 120 frames"))
    scroll = Sheet(
        f"A gallery of {data['many']:,} results, scrolled",
        ("", "frames/s", "CPU ms a frame", "longest task ms", "of CPU", "tiles in the page", "elements", "heap MB"),
        [
            [word, f"{each['frames_per_s']:.0f}", ms(each["frame_cpu"]), ms(each["longest"]), ms(each["longest_cpu"]),
             str(each["tiles"]), f"{each['nodes']:,}", f"{each['heap_mb']:.0f}"]
            for name, word in names
            for each in [gallery[name]]
        ]
        + [["one more result lands", "", "", ms(one["longest"]), ms(one["longest_cpu"]), "", "", ""],
           ["*aim*", "60", "≤ 16.7", "", "≤ 100", "", "", ""]],
        (f"{STEP_PX} px a frame, {gallery['height']:,} px high; drawn by the processor, without a graphics card.",),
    )  # fmt: skip
    return [load, land, scroll]


FIGURE: Final = Figure("studio", "The studio in a browser", run, sheets)
