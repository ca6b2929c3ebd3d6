"""S2, S5: the push is an accelerator; without it everything still arrives."""

from __future__ import annotations

from demo_server import Demo
from playwright.sync_api import expect
from studio_page import RESULT_MS, SMALL_LOCAL_CLIP, OpenStudio, no_realtime, no_socket


def test_the_socket_of_supabases_own_client_is_the_first_choice(open_studio: OpenStudio) -> None:
    studio = open_studio()
    studio.expect_mode("live")
    studio.expect_transport("socket")


def test_with_the_socket_blocked_the_event_stream_delivers(demo: Demo, open_studio: OpenStudio) -> None:
    studio = open_studio(no_socket)
    studio.expect_mode("live")
    studio.expect_transport("stream")
    studio.expect_ready(demo.submit(demo.model("local", "image")["id"], "Past a proxy without sockets"))


def test_with_every_line_blocked_polling_delivers(demo: Demo, open_studio: OpenStudio) -> None:
    studio = open_studio(no_realtime)
    studio.expect_mode("polling")
    studio.expect_transport("poll")

    elsewhere = demo.submit(demo.model("local", "image")["id"], "Sent by another program")
    studio.expect_ready(elsewhere)
    here = studio.submit(demo.model("fal", "image")["id"], "Sent from here")
    studio.expect_ready(here)
    studio.expect_mode("polling")


def test_the_page_says_offline_and_comes_back_by_itself(demo: Demo, open_studio: OpenStudio) -> None:
    studio = open_studio()
    studio.expect_mode("live")
    context = studio.page.context
    context.set_offline(True)
    studio.expect_mode("offline")
    job = demo.submit(demo.model("local", "image")["id"], "Made while this window was away")
    context.set_offline(False)
    studio.expect_ready(job)
    studio.expect_mode("live")


def test_what_one_window_submits_appears_in_the_other(demo: Demo, open_studio: OpenStudio) -> None:
    one, other = open_studio(), open_studio()
    one.adding(SMALL_LOCAL_CLIP)
    job = one.submit(demo.model("local", "video")["id"], "Seen from two windows")
    expect(other.tiles(job=job)).to_have_count(1, timeout=RESULT_MS)
    one.expect_ready(job)
    tile = other.expect_ready(job)
    assert tile.get_attribute("data-tile") == one.tiles(job=job).get_attribute("data-tile")

    one.tiles(job=job).locator(".tile-open").press("s")
    star = other.tiles(job=job).locator(".tile-star")
    expect(star).to_have_attribute("aria-pressed", "true", timeout=RESULT_MS)
