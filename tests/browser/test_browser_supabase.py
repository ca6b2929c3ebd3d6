"""Unmodified `@supabase/supabase-js` in real Chromium, on a page of another origin, against our socket (S4)."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from urllib.parse import urlsplit, urlunsplit

import httpx
import jwt
import pytest
from demo_server import START_S, STOP_S, Demo
from playwright.sync_api import Browser, Page
from studio_page import SOON_MS
from supabase_page import App, Files, Tab, a_project, execute, free_port, in_thread, installed


@pytest.fixture(scope="module")
def page_url() -> Iterator[str]:
    installed()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def app(demo: Demo, page_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("socket")
    name = f"safelight_browser_{uuid.uuid4().hex[:12]}"
    in_thread(execute(demo.database_url, f"create database {name}"))
    dsn = urlunsplit(urlsplit(demo.database_url)._replace(path=f"/{name}"))
    project, secret_key, publishable_key = in_thread(a_project(dsn))
    port, jwt_secret = free_port(), secrets.token_hex(32)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SAFELIGHT_")},
        "SAFELIGHT_DATABASE_URL": dsn,
        "SAFELIGHT_DATA": str(folder),
        "SAFELIGHT_PORT": str(port),
        "SAFELIGHT_ROLES": "api,realtime",
        "SAFELIGHT_JWT_SECRET": jwt_secret,
    }
    url = f"http://127.0.0.1:{port}"
    http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {secret_key}"}, timeout=30, trust_env=False)

    def start() -> subprocess.Popen[bytes]:
        with (folder / "output.txt").open("ab") as said:
            command = [sys.executable, "-c", "from safelight.cli.main import app; app()", "serve"]
            process = subprocess.Popen(command, env=environment, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if http.get("/readyz").is_success:
                    return process
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        process.kill()
        raise AssertionError((folder / "output.txt").read_text(errors="replace")[-4000:])

    made = App(url, page_url, project, secret_key, publishable_key, dsn, jwt_secret, start, start(), http)
    yield made
    http.close()
    made.process.send_signal(signal.SIGTERM)
    try:
        made.process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        made.process.kill()
        made.process.wait()
    in_thread(execute(demo.database_url, f"drop database {name} with (force)"))


OpenTab = Callable[[], Tab]


@pytest.fixture
def open_tab(browser: Browser, app: App) -> Iterator[OpenTab]:
    """Opens pages; each is a browser profile of its own. No page may raise an error of its own."""
    pages: list[Page] = []
    errors: list[str] = []

    def open_one() -> Tab:
        page = browser.new_context().new_page()
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(app.page_url)
        page.wait_for_function("() => window.lab !== undefined", timeout=SOON_MS)
        return Tab(page, app)

    yield open_one
    for page in pages:
        page.context.close()
    assert errors == []


CHANGE = [["broadcast", {"event": "change"}]]


def test_the_seed_apps_pattern_works_as_it_is_in_a_browser(app: App, open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.open(app.member())
    where = f"project_id=eq.{app.project}"
    tab.page.evaluate(
        """([projectId, filter]) => {
          const heard = (on) => (payload) => lab.say({ channel: 't', on, payload })
          lab.clients.c.channel('task-updates:' + projectId)
            .on('broadcast', { event: 'task-update' }, heard('broadcast'))
            .on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'tasks', filter }, heard('row'))
            .subscribe((status) => lab.say({ channel: 't', status }))
        }""",
        [app.project, where],
    )
    tab.wait("said.status === 'SUBSCRIBED'", "t")
    job = app.add_job()
    row = tab.event("row", f"p.new.id === '{job}'", "t")
    assert (row["eventType"], row["table"], row["new"]["status"], row["errors"]) == ("INSERT", "tasks", "pending", None)
    assert row["new"]["input"]["prompt"] == "a red fox"
    update = tab.event("broadcast", f"p.payload.id === '{job}'", "t")
    assert update["payload"]["status"] == "pending"


def test_two_pages_see_each_other_and_talk_in_text_and_bytes(app: App, open_tab: OpenTab) -> None:
    topic = f"room:{app.project}"
    tabs = {"ann": open_tab(), "bob": open_tab()}
    on = [["broadcast", {"event": "cur"}], *(["presence", {"event": each}] for each in ("sync", "join", "leave"))]
    for name, tab in tabs.items():
        tab.open(app.member())
        config = {"presence": {"key": name}, "broadcast": {"ack": True, "self": False}}
        tab.subscribed(name, on, topic, config=config)
        assert tab.do(f"channels.{name}.track", {"at": name}) == "ok"
    ann, bob = tabs["ann"], tabs["bob"]
    ann.event("presence", "p.event === 'join' && p.key === 'bob'", "ann")
    bob.wait("Object.keys(lab.channels.bob.presenceState()).length === 2", "bob")

    assert ann.do("send", "ann", "cur", {"x": 1}) == "ok"
    assert bob.event("broadcast", "true", "bob")["payload"] == {"x": 1}
    assert bob.do("sendBytes", "bob", "cur", [0, 255, 7]) == "ok"
    assert ann.event("broadcast", "true", "ann")["payload"] == {"bytes": [0, 255, 7]}
    assert bob.do("httpSend", "bob", "cur", {"x": 3})["success"] is True  # another origin: the browser asks first
    ann.event("broadcast", "p.payload.x === 3", "ann")
    own = ann.page.evaluate("() => lab.said.filter((said) => said.on === 'broadcast' && said.payload.payload.x === 1)")
    assert own == []

    bob.page.close()  # nobody says goodbye
    ann.event("presence", "p.event === 'leave' && p.key === 'bob'", "ann")


def test_a_fresh_token_keeps_the_channel_and_one_that_does_not_hold_ends_in_a_rejoin(
    app: App, open_tab: OpenTab
) -> None:
    tab, good = open_tab(), app.member("viewer")
    tab.open(good)
    tab.subscribed("t", CHANGE)
    mark = tab.mark()
    tab.do("setToken", app.token(jwt.decode(good, options={"verify_signature": False})["sub"]))
    first = app.add_shot()
    tab.event("broadcast", f"p.payload.id === '{first}'", "t", mark)
    assert tab.statuses("t", mark) == []

    tab.do("setToken", app.token("a-stranger"))
    tab.wait("said.status === 'CHANNEL_ERROR'", "t", mark)
    missed = app.add_shot("while nobody listened")
    tab.do("setToken", good)
    tab.wait("said.status === 'SUBSCRIBED'", "t", mark)
    after = app.add_shot("again")
    tab.event("broadcast", f"p.payload.id === '{after}'", "t", mark)
    assert missed != after


def test_a_page_without_a_token_is_refused_and_let_in_when_it_has_one(app: App, open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.open(None)
    tab.channel("t", CHANGE)
    refused = tab.wait("said.status === 'CHANNEL_ERROR'", "t")
    assert "Unauthorized" in refused["error"]
    tab.do("clients.c.realtime.setAuth", app.member("viewer"))
    tab.wait("said.status === 'SUBSCRIBED'", "t")
    shot = app.add_shot()
    tab.event("broadcast", f"p.payload.id === '{shot}'", "t")


def test_an_effect_that_runs_twice_as_in_strict_mode_ends_with_one_channel_that_works(
    app: App, open_tab: OpenTab
) -> None:
    tab = open_tab()
    tab.open(app.member())
    tab.page.evaluate(
        """(topic) => {
          const effect = (name) => {
            const channel = lab.clients.c.channel(topic)
            const heard = (payload) => lab.say({ channel: name, on: 'broadcast', payload })
            channel.on('broadcast', { event: 'change' }, heard)
            channel.subscribe((status) => lab.say({ channel: name, status }))
            return () => lab.clients.c.removeChannel(channel)
          }
          effect('first')()
          effect('second')
        }""",
        app.topic,
    )
    tab.wait("said.status === 'SUBSCRIBED'", "second")
    mark, shot = tab.mark(), app.add_shot()
    tab.event("broadcast", f"p.payload.id === '{shot}'", "second")
    later = app.add_shot()
    tab.event("broadcast", f"p.payload.id === '{later}'", "second")
    of_both = "([mark, ...ids]) => lab.said.slice(mark).filter((said) => ids.includes(said.payload?.payload.id))"
    heard = tab.page.evaluate(f"{of_both}.map((said) => said.channel)", [mark, shot, later])
    assert heard == ["second", "second"]
    assert tab.statuses("second", mark) == []


def test_leaving_ends_it_and_the_same_page_can_come_back(app: App, open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.open(app.member())
    tab.subscribed("t", CHANGE)
    app.expect_channels(1)  # those of other tests' pages are gone
    assert tab.do("channels.t.unsubscribe") == "ok"
    tab.wait("said.status === 'CLOSED'", "t")
    app.expect_channels(0)
    mark = tab.mark()
    tab.subscribed("again", CHANGE)
    shot = app.add_shot()
    tab.event("broadcast", f"p.payload.id === '{shot}'", "again")
    said_by = set(tab.page.evaluate("(mark) => lab.said.slice(mark).map((said) => said.channel)", mark))
    assert said_by == {"again"}


def test_a_page_outlives_the_server_that_it_was_connected_to(app: App, open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.open(app.member())
    tab.subscribed("t", [*CHANGE, ["postgres_changes", {"event": "*", "schema": "public", "table": "shots"}]])
    mark = tab.mark()
    app.process.kill()  # nothing is said to anybody
    app.process.wait()
    app.process = app.start()
    tab.wait("said.status === 'SUBSCRIBED'", "t", mark)
    shot = app.add_shot("after")
    tab.event("broadcast", f"p.payload.id === '{shot}'", "t", mark)
    assert tab.event("postgres_changes", f"p.new.id === '{shot}'", "t", mark)["new"]["name"] == "after"
