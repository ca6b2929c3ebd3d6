"""Which server, key and project are used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safelight.sdk import NotConfigured
from safelight.sdk.connection import Connection, discover
from safelight.sdk.session import Session

DEMO = {"url": "http://127.0.0.1:8080", "secret_key": "sk_demo", "project_id": "p-demo"}


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    (tmp_path / ".safelight").mkdir()
    (tmp_path / ".safelight" / "demo.json").write_text(json.dumps(DEMO))
    return tmp_path


def test_a_demo_that_runs_here_is_found_also_from_a_folder_below(demo: Path) -> None:
    below = demo / "a" / "b"
    below.mkdir(parents=True)
    assert discover(environ={}, folder=below) == Connection(DEMO["url"], "sk_demo", "p-demo")


def test_arguments_come_before_the_environment_before_the_demo(demo: Path) -> None:
    environ = {"SAFELIGHT_URL": "http://127.0.0.1:8080/", "SAFELIGHT_KEY": "sk_env"}
    assert discover(environ=environ, folder=demo) == Connection(DEMO["url"], "sk_env", "p-demo")
    assert discover(key="sk_arg", environ=environ, folder=demo).key == "sk_arg"


def test_the_demos_key_is_never_sent_to_another_server(demo: Path) -> None:
    found = discover(environ={"SAFELIGHT_URL": "https://elsewhere.example"}, folder=demo)
    assert found == Connection("https://elsewhere.example", None, None)


def test_nothing_known_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured) as caught:
        discover(environ={}, folder=tmp_path)
    assert "safelight demo" in caught.value.hint


@pytest.mark.parametrize("content", ["", "{", "[]", '{"url": 7}', "null"])
def test_a_demo_file_that_cannot_be_read_is_passed_over(tmp_path: Path, content: str) -> None:
    (tmp_path / ".safelight").mkdir()
    (tmp_path / ".safelight" / "demo.json").write_text(content)
    with pytest.raises(NotConfigured):
        discover(environ={}, folder=tmp_path)


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "//x", "http://"])
def test_an_address_that_is_not_http_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="not an http address"):
        discover(url, environ={}, folder=tmp_path)


def test_a_key_does_not_show_in_a_log() -> None:
    assert "sk_secret" not in repr(Connection("http://x", "sk_secret", None))


def test_a_call_that_needs_a_project_asks_for_one() -> None:
    session = Session(Connection("http://x", None, None))
    with pytest.raises(NotConfigured, match="SAFELIGHT_PROJECT"):
        session.project(None)
    assert session.project("p") == "p"
