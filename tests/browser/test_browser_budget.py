"""What the studio may cost a browser: script before the first look, and elements however long the gallery is."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
import secrets
import threading
import uuid
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from demo_server import Demo
from playwright.sync_api import Browser, expect
from studio_page import RESULT_MS, SOON_MS, OpenStudio, sign_in

import safelight

DIST = Path(safelight.__file__).parent / "studio_dist"
SCRIPT_MAX_KB = 250
"""Packed, for the gallery (issue 5)."""
MANY = 2_500
TILES_MAX = 120
"""In the page at once: what is seen, and a few rows above and below it."""
STATIC_IMPORT = re.compile(r"""(?:^|[;}\s])(?:import|export)\s*(?:[\w*{}\s,$]+?from\s*)?["'](\./[^"']+\.js)["']""")


def first_load_scripts(dist: Path) -> list[Path]:
    """What the page asks for before it can show the gallery: its entry, and all that the entry imports at once."""
    page = (dist / "index.html").read_text()
    named = re.findall(r"""<(?:script[^>]+src|link[^>]+rel="modulepreload"[^>]+href)="/([^"]+\.js)\"""", page)
    waiting, found = [dist / name for name in named], dict[Path, None]()
    while waiting:
        script = waiting.pop()
        if script in found:
            continue
        found[script] = None
        waiting += [script.parent / name for name in STATIC_IMPORT.findall(script.read_text())]
    return list(found)


def packed_kb(scripts: list[Path]) -> float:
    return sum(len(gzip.compress(script.read_bytes(), 9)) for script in scripts) / 1000


def test_the_gallery_is_there_for_at_most_250_kb_of_script(open_studio: OpenStudio) -> None:
    counted = first_load_scripts(DIST)
    assert packed_kb(counted) <= SCRIPT_MAX_KB, [(script.name, packed_kb([script])) for script in counted]
    page = open_studio().page
    asked = page.evaluate("() => performance.getEntriesByType('resource').map(({ name }) => name)")
    loaded = {url.rsplit("/", 1)[-1] for url in asked if url.endswith(".js")}
    assert loaded == {script.name for script in counted}, "what was counted is what a browser asks for"


# --- a long gallery ---

IN_VIEW = """
() => [...document.querySelectorAll('[data-tile]')]
  .map((tile) => [tile.dataset.tile, Math.round(tile.getBoundingClientRect().top)])
  .filter(([, top]) => top > 0 && top < innerHeight)
"""


def sql(demo: Demo, query: str, *args: Any) -> list[Any]:
    """In a thread of its own: Playwright holds this one's event loop."""
    rows: list[Any] = []

    async def ask() -> None:
        conn = await asyncpg.connect(demo.database_url)
        try:
            rows.extend(await conn.fetch(query, *args))
        finally:
            await conn.close()

    asking = threading.Thread(target=lambda: asyncio.run(ask()))
    asking.start()
    asking.join()
    return rows


@pytest.fixture
def long_gallery(demo: Demo, browser: Browser) -> tuple[str, Any]:
    """A project of its own with thousands of results, which are the rows of one; answers with it and a session."""
    project = demo.http.post("/v1/projects", json={"name": "Long"}).raise_for_status().json()["id"]
    demo.http.put(f"/v1/projects/{project}/members/reader", json={"role": "editor"}).raise_for_status()
    grant = {"amount": 10_000, "key": str(uuid.uuid4())}
    demo.http.post(f"/v1/projects/{project}/credits/grants", json=grant).raise_for_status()
    job = submit(demo, project, "The one that all are copies of")
    sql(
        demo,
        """
        insert into generations (id, project_id, job_id, output_index, kind, mime, width, height, bytes, thumbhash,
                                 files, meta, prompt, model, created_at)
        select gen_random_uuid(), project_id, job_id, 1000 + i, kind, mime, 400 + 100 * (i % 5), 500, bytes, thumbhash,
               files, meta, 'number ' || i, model, now() - interval '1 hour' - i * interval '1 minute'
        from generations, generate_series(1, $2::int) i where job_id = $1::uuid
        returning id
        """,
        job,
        MANY,
    )
    key = secrets.token_urlsafe(32)
    sql(
        demo,
        "insert into studio_links (hash, user_id, project_id, expires_at)"
        " values ($1, 'reader', $2::uuid, now() + interval '1 hour') returning user_id",
        hashlib.sha256(key.encode()).digest(),
        project,
    )
    return project, sign_in(browser, f"{demo.url}/?key={key}")


def submit(demo: Demo, project: str, prompt: str) -> str:
    """A small real picture, made and stored."""
    body = {"model": "local/aurora", "input": {"prompt": prompt, "width": 256, "height": 256}, "n": 1}
    job = demo.http.post(f"/v1/projects/{project}/jobs", json=body).raise_for_status().json()["id"]
    with demo.http.stream("GET", f"/v1/jobs/{job}/events", timeout=RESULT_MS / 1000) as events:
        for _ in events.iter_lines():
            pass
    assert demo.get(f"/v1/jobs/{job}")["status"] == "completed"
    return job


def test_a_long_gallery_keeps_the_page_small_and_a_new_result_never_moves_what_is_looked_at(
    demo: Demo, open_studio: OpenStudio, long_gallery: tuple[str, Any]
) -> None:
    project, session = long_gallery
    studio = open_studio(at=(demo.url, session))
    page = studio.page
    most = 0
    for screens in range(12, 121, 12):
        page.wait_for_function(
            "screens => { scrollTo(0, document.body.scrollHeight);"
            " return document.querySelector('.grid').getBoundingClientRect().height > screens * innerHeight; }",
            arg=screens,
            timeout=SOON_MS,
        )
        most = max(most, studio.tiles().count())
    assert 0 < most <= TILES_MAX, "only what is near the eye is in the page"

    page.evaluate("() => scrollTo(0, 20 * innerHeight)")
    page.wait_for_function(
        f"() => scrollY > 18 * innerHeight && scrollY < 22 * innerHeight && ({IN_VIEW})().length > 5"
    )
    before = dict(page.evaluate(IN_VIEW))
    submit(demo, project, "Landed above, while somebody looks elsewhere")
    expect(page.locator(".new-pill")).to_have_text("1 new", timeout=SOON_MS)
    assert dict(page.evaluate(IN_VIEW)) == before, "nothing moved under the eye"
    page.locator(".new-pill").click()
    expect(page.get_by_role("button", name="Open: Landed above, while somebody looks elsewhere")).to_be_visible(
        timeout=SOON_MS
    )
    expect(page.locator(".new-pill")).to_have_count(0)
