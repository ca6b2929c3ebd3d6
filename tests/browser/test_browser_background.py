"""A window that nobody looks at is up to date when somebody comes back to it (parity row 6)."""

from __future__ import annotations

from typing import Any

from demo_server import Demo
from own_browser import OpenOwn
from parity_table import Parity
from studio_page import Studio, enter, no_realtime


def begin(demo: Demo, studio: Studio, prompt: str, **faults: Any) -> str:
    """A job that its provider has and that is not done yet: its tile is seen in every frame from now on."""
    studio.adding(latency_s=6.0, **faults)
    job = studio.submit(demo.model("fal", "image")["id"], prompt)
    studio.expect_in_every_frame(job)
    studio.expect_sent(job)
    return job


def test_a_tab_that_was_behind_another_and_frozen_is_up_to_date_when_it_is_shown(
    demo: Demo, signed_in: Any, open_own: OpenOwn, parity: Parity
) -> None:
    live, asking = open_own(state=signed_in), open_own(no_realtime, state=signed_in)
    up, dead = enter(live.page, demo.url), enter(asking.page, demo.url)
    up.expect_mode("live")
    dead.expect_mode("polling")
    with (
        parity.watched(6, "realtime up", up, also=("webhook lost",)) as with_line,
        parity.watched(6, "realtime dead", dead) as without,
    ):
        mark = demo.head()
        told = begin(demo, up, "Made while nobody looked")
        untold = begin(demo, up, "Made while nobody looked, and nobody told", webhook="lost")
        asked = begin(demo, dead, "Made while nobody asked")
        for browser in (live, asking):
            browser.put_behind()
        for job in (told, untold, asked):
            demo.expect_completed(job)
        for browser, studio, seen in (
            (live, up, {told: with_line, untold: parity.cell(6, "webhook lost")}),
            (asking, dead, {asked: without}),
        ):
            shown = browser.put_before()
            for job, cell in seen.items():
                tile = studio.expect_ready(job).get_attribute("data-tile")
                assert tile
                if (seen_at := studio.first_seen(tile)) >= shown:  # else it was done before the window went away
                    cell.took(seen_at, demo.result_committed(mark, tile), shown)
    up.expect_mode("live")
