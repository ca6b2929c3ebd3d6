"""Log lines: one a happening, one component each, and never a reason for the code to fail (D3)."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from safelight.observe.logging import LINE_MAX, configure, get_logger, request_id, request_scope


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Other tests find logging as they left it."""
    root = logging.getLogger()
    kept = {name: (log.level, list(log.handlers), log.propagate) for name, log in _loggers().items()}
    structlog_before = structlog.get_config()
    root_before = (root.level, list(root.handlers))
    yield
    structlog.configure(**structlog_before)
    logging.captureWarnings(False)
    root.setLevel(root_before[0])
    root.handlers = root_before[1]
    for name, log in _loggers().items():
        level, handlers, propagate = kept.get(name, (logging.NOTSET, [], True))
        log.setLevel(level)
        log.handlers, log.propagate = handlers, propagate


def _loggers() -> dict[str, logging.Logger]:
    return {name: log for name, log in logging.Logger.manager.loggerDict.items() if isinstance(log, logging.Logger)}


class Out(io.BytesIO):
    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def out() -> Out:
    stream = Out()
    configure("json", "info", stream=stream)
    return stream


def test_a_line_says_when_how_grave_who_and_what(out: Out) -> None:
    get_logger("jobs").info("job.ended", job="j1", took_s=1.5, none=None)
    structlog.get_logger("realtime").warning("socket.slow")
    first, second = out.lines
    assert list(first) == ["at", "level", "component", "event", "job", "took_s", "none"]
    assert first["at"].endswith("Z")
    assert (first["level"], first["component"], first["event"]) == ("info", "jobs", "job.ended")
    assert (second["level"], second["component"]) == ("warning", "realtime")


def test_what_is_below_the_level_is_not_written(out: Out) -> None:
    get_logger("jobs").debug("noise")
    logging.getLogger("some.library").debug("noise")
    logging.getLogger("httpx").info("HTTP Request: GET https://queue.fal.run/…")
    assert out.getvalue() == b""
    with pytest.raises(ValueError):
        configure("json", "loud")


def test_an_exception_comes_with_its_traceback_and_without_its_secrets(out: Out) -> None:
    try:
        raise RuntimeError("cannot reach postgresql://me:p4ss@db/x")
    except RuntimeError:
        get_logger("db").exception("pool.lost", dsn="postgresql://me:p4ss@db/x")
    line = out.lines[0]
    assert "Traceback" in line["exception"]
    assert "RuntimeError: cannot reach" in line["exception"]
    assert b"p4ss" not in out.getvalue()


def test_secrets_are_hidden_however_they_are_handed_over(out: Out) -> None:
    get_logger("api").info(
        "odd", Authorization=b"Bearer raw", cookie={"a": 1}, headers={"x-api-key": "hush"}, password=5
    )
    line = out.lines[0]
    assert (line["Authorization"], line["cookie"], line["password"]) == ("[redacted]",) * 3
    assert line["headers"] == {"x-api-key": "[redacted]"}


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [object(), {1: "a", (2, 3): "b"}, "\ud800", b"\xff", 10**40, float("nan"), {1, 2}, ValueError("x"), Unspeakable()],
)
def test_nothing_that_is_logged_can_break_the_code_that_logs(out: Out, value: Any) -> None:
    get_logger("jobs").info("odd", value=value)
    assert (out.lines[0]["event"], "value" in out.lines[0]) == ("odd", True)


def test_a_line_stays_within_its_bound(out: Out) -> None:
    log = get_logger("jobs")
    log.info("huge.field", body="x" * 1_000_000)
    log.info("huge.list", items=["y" * 1000] * 1000)
    log.info("i" * 1_000_000)
    assert all(len(line) <= LINE_MAX for line in out.getvalue().splitlines())
    assert out.lines[0]["body"].endswith("(1000000 characters)")
    assert out.lines[1]["event"] == "huge.list"
    assert out.lines[1]["cut_bytes"] > 1_000_000


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("closed"), OSError(28, "disk full")])
def test_a_stream_that_takes_no_more_loses_the_line_and_nothing_else(error: Exception) -> None:
    class Full(io.BytesIO):
        def write(self, line: Any) -> int:
            raise error

    configure("json", "info", stream=Full())
    get_logger("jobs").error("lost")


async def test_all_that_happens_for_a_request_carries_its_id(out: Out) -> None:
    async def handle(identity: str) -> None:
        with request_scope(identity):
            await asyncio.sleep(0)
            await asyncio.create_task(deeper())

    async def deeper() -> None:
        get_logger("jobs").info("done")

    await asyncio.gather(handle("first-request"), handle("other-request"))
    get_logger("jobs").info("outside")
    assert sorted(line.get("request_id", "") for line in out.lines) == ["", "first-request", "other-request"]


@pytest.mark.parametrize(
    "offered", [None, "", "short", "x" * 65, "with space", "a\nb-injected", '"quoted-id"', "-leading-dash"]
)
def test_a_request_id_that_is_none_is_replaced(offered: str | None) -> None:
    assert request_id(offered) != offered
    assert request_id(offered) != request_id(offered)


def test_a_proxys_request_id_is_kept() -> None:
    assert request_id("0197a2b4-dead.BEEF_1") == "0197a2b4-dead.BEEF_1"


def test_other_libraries_lines_look_like_ours(out: Out) -> None:
    logging.getLogger("pgqueuer.qm").warning("%d jobs for %s", 3, "sk_0123456789abcdefghijk")
    logging.getLogger("uvicorn.error").info("Started")
    logging.getLogger("other").log(25, "in between")
    try:
        raise KeyError("x")
    except KeyError:
        logging.getLogger("other").exception("failed")
    warnings.warn("old", UserWarning, stacklevel=1)
    seen = [(line["component"], line["level"], line["event"]) for line in out.lines[:4]]
    assert seen == [
        ("pgqueuer.qm", "warning", "3 jobs for sk_[redacted]"),
        ("uvicorn", "info", "Started"),
        ("other", "info", "in between"),
        ("other", "error", "failed"),
    ]
    assert "KeyError" in out.lines[3]["exception"]
    assert out.lines[4]["component"] == "py.warnings"


def test_a_record_that_cannot_be_formatted_is_shown_in_pieces(out: Out, capsys: pytest.CaptureFixture[str]) -> None:
    made = {"name": "other", "msg": "%d jobs", "args": ("sk_0123456789abcdefghijk",), "levelno": logging.WARNING}
    (ours,) = [handler for handler in logging.getLogger().handlers if type(handler).__module__.startswith("safelight")]
    ours.handle(logging.makeLogRecord(made))
    assert [line["event"] for line in out.lines] == ["%d jobs % ('sk_[redacted]',)"]
    assert capsys.readouterr().err == ""


def access(status: int) -> None:
    logging.getLogger("uvicorn.access").info(
        '%s - "%s %s HTTP/%s" %d', "10.0.0.1:5", "GET", "/x?apikey=hush", "1.1", status
    )


def test_requests_are_quiet_unless_the_fault_is_ours(out: Out) -> None:
    access(200)
    access(404)
    access(503)
    assert [(line["status"], line["path"]) for line in out.lines] == [(503, "/x?apikey=[redacted]")]


def test_at_debug_every_request_is_a_line() -> None:
    stream = Out()
    configure("json", "debug", stream=stream)
    access(200)
    line = stream.lines[-1]
    assert (line["component"], line["event"], line["method"], line["status"]) == ("http", "request", "GET", 200)


@pytest.mark.parametrize(
    "write", [lambda log: log.info("job.ended", job="j1"), lambda log: log.info("odd", x="\ud800")]
)
def test_on_a_terminal_people_read_it(write: Callable[[Any], None]) -> None:
    stream = Out()
    configure("console", "info", stream=stream)
    write(get_logger("jobs"))
    get_logger("jobs").info("key", authorization="Bearer abcdefghijkl", url="postgresql://me:p4ss@db/x")
    text = stream.getvalue().decode()
    assert "jobs" in text
    assert "p4ss" not in text
    assert "abcdefghijkl" not in text
    assert text.count("\n") == 2
