"""The examples are apps that work: built as their README says, served from an origin of their own, and looked at."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from demo_server import Demo
from playwright.sync_api import Browser, expect
from small_apps import build, previewed, served
from studio_page import RESULT_MS, SOON_MS
from supabase_page import BUNDLE, installed

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_page_with_only_supabase_js_shows_a_job_and_its_picture_as_they_come(
    demo: Demo, browser: Browser, tmp_path: Path
) -> None:
    installed()
    wanted = json.loads((EXAMPLES / "supabase-js" / "package.json").read_text())["dependencies"][
        "@supabase/supabase-js"
    ]
    assert json.loads((BUNDLE.parents[2] / "package.json").read_text())["version"] == wanted
    about = {"SAFELIGHT": demo.url, "KEY": demo.publishable_key, "PROJECT": demo.project_id, "TOKEN": demo.user_token}
    build(EXAMPLES / "supabase-js", tmp_path, {f"VITE_{name}": value for name, value in about.items()})
    with served(tmp_path) as origin:
        context = browser.new_context()
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(origin)
        expect(page.locator("#status")).to_have_text("SUBSCRIBED", timeout=SOON_MS)
        demo.submit(demo.model("local", "image")["id"], "A lighthouse, told by Supabase's client")
        line = page.locator("#jobs li", has_text="A lighthouse, told by Supabase's client")
        expect(line).to_contain_text("completed", timeout=RESULT_MS)
        picture = page.get_by_alt_text("A lighthouse, told by Supabase's client")
        expect(picture).to_have_count(1, timeout=SOON_MS)
        page.wait_for_function(
            "() => [...document.images].every((image) => image.complete && image.naturalWidth > 0)", timeout=SOON_MS
        )
        context.close()
    assert errors == []


def test_the_react_app_of_hooks_alone_makes_a_picture_stars_it_and_lets_it_go(
    demo: Demo, browser: Browser, tmp_path: Path
) -> None:
    app = EXAMPLES / "react-app"
    wanted = json.loads((app / "package.json").read_text())["dependencies"]
    for name in ("react", "react-dom", "@tanstack/react-query"):
        found = json.loads((EXAMPLES.parent / "js" / "node_modules" / name / "package.json").read_text())
        assert found["version"] == wanted[name], "what is tested is what the example installs"
    build(app, tmp_path, {"VITE_PROJECT": demo.project_id, "VITE_TOKEN": demo.user_token})
    with previewed(app, tmp_path, demo.url) as origin:
        context = browser.new_context()
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(origin)
        expect(page.locator("main p")).to_contain_text("credits", timeout=SOON_MS)
        prompt = f"a fox from the hooks {uuid.uuid4().hex[:6]}"
        page.locator("input").fill(prompt)
        page.get_by_role("button", name="Generate").click()
        picture = page.get_by_alt_text(prompt)
        expect(picture).to_have_count(1, timeout=RESULT_MS)
        tile = page.locator("li", has=picture)
        tile.get_by_role("button", name="☆").click()
        expect(tile.get_by_role("button", name="★")).to_have_count(1, timeout=SOON_MS)
        tile.get_by_role("button", name="delete").click()
        expect(picture).to_have_count(0, timeout=SOON_MS)
        context.close()
    assert errors == []
