"""The examples are apps that work: built as their README says, served from an origin of their own, and looked at."""

from __future__ import annotations

import json
from pathlib import Path

from demo_server import Demo
from playwright.sync_api import Browser, expect
from small_apps import build, served
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
