"""Structured logs: events with fields, one component each, one line each, without secrets (D3, O4).

`structlog.get_logger("jobs")` anywhere gives component `jobs`; other libraries' logging comes out the same way. A log
line can fail, but never the code that wrote it.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final, Literal, cast
from uuid import uuid4

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

from safelight.observe.redact import HIDDEN, SECRET_FIELDS, redact

Format = Literal["json", "console"]
Event = MutableMapping[str, Any]

TEXT_MAX: Final = 4_000
"""Characters of one field: a provider's whole answer belongs into the inbox, not into the log."""
TRACE_MAX: Final = 16_000
"""Characters of a traceback, its end."""
LINE_MAX: Final = 64_000
"""Bytes; collectors cut or drop longer ones."""
REQUEST_ID_HEADER: Final = "x-request-id"

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_QUIET: Final = ("httpx", "httpcore", "asyncio", "hpack", "PIL", "multipart", "python_multipart", "websockets")
_REQUEST_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{7,63}")


def get_logger(component: str) -> FilteringBoundLogger:
    """A logger whose lines carry `component`."""
    return structlog.get_logger(component)


def configure(format: Format = "json", level: str = "info", *, stream: BinaryIO | None = None) -> None:
    """Send all logging of this process, ours and libraries', to `stream` (stderr). Call once, before anything logs.

    Raises ValueError for a level that is none.
    """
    threshold = _LEVELS.get(level.lower())
    if threshold is None:
        raise ValueError(f"a log level is one of {', '.join(_LEVELS)}")
    out = stream or sys.stderr.buffer
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _head,
            _trim,
            structlog.processors.format_exc_info,
            _json_line if format == "json" else _console_line(is_coloured=out.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_LineFactory(out),
        cache_logger_on_first_use=True,
    )
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers = [_IntoStructlog()]
    root.setLevel(threshold)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        theirs = logging.getLogger(name)
        theirs.handlers, theirs.propagate, theirs.disabled = [], True, False
        theirs.setLevel(logging.NOTSET)


def request_id(offered: str | None) -> str:
    """The id that a proxy or client gave the request if it is a decent one, else a new one."""
    return offered if offered and _REQUEST_ID.fullmatch(offered) else uuid4().hex


@contextmanager
def request_scope(identity: str) -> Generator[None]:
    """All that is logged inside, also by tasks started there, carries `request_id`."""
    with structlog.contextvars.bound_contextvars(request_id=identity):
        yield


class _Line:
    """Writes finished lines. What cannot be written (a closed terminal, a full disk) is lost, and nothing with it."""

    def __init__(self, out: BinaryIO, lock: threading.Lock, name: str | None) -> None:
        self.name = name
        self._out = out
        self._lock = lock

    def msg(self, line: bytes) -> None:
        try:
            with self._lock:
                self._out.write(line + b"\n")
                self._out.flush()
        except (OSError, ValueError):
            pass

    debug = info = warning = error = critical = msg


class _LineFactory:
    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def __call__(self, *args: Any) -> _Line:
        return _Line(self._out, self._lock, args[0] if args else None)


def _head(logger: _Line, level: str, event: Event) -> Event:
    """What every line begins with."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
    component = event.pop("component", None) or logger.name or "safelight"
    return {"at": at, "level": level, "component": component, "event": event.pop("event", ""), **event}


def _trim(logger: Any, level: str, event: Event) -> Event:
    for name, value in event.items():
        if name.lower() in SECRET_FIELDS:
            event[name] = HIDDEN.decode()
        elif isinstance(value, str) and len(value) > TEXT_MAX:
            event[name] = f"{value[:TEXT_MAX]}… ({len(value)} characters)"
    return event


_encoder: Final = msgspec.json.Encoder(enc_hook=repr)


def _json_line(logger: Any, level: str, event: Event) -> bytes:
    trace = event.get("exception")
    if isinstance(trace, str) and len(trace) > TRACE_MAX:
        event["exception"] = "…" + trace[-TRACE_MAX:]
    try:
        line = _encoder.encode(event)
    except Exception:  # a key that is no text, half a surrogate, a number without end: shown as Python shows it
        line = _encoder.encode({_shown(name): _shown(value) for name, value in event.items()})
    if len(line) > LINE_MAX:
        kept = {name: _shown(event[name])[:TEXT_MAX] for name in ("at", "level", "component", "event")}
        line = _encoder.encode(kept | {"cut_bytes": len(line), "start": line[:TEXT_MAX].decode(errors="replace")})
    return redact(line)


def _shown(value: Any) -> str:
    try:
        text = value if isinstance(value, str) and value.isprintable() else repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text.encode(errors="backslashreplace").decode()[:TEXT_MAX]


def _console_line(*, is_coloured: bool) -> Any:
    renderer = structlog.dev.ConsoleRenderer(colors=is_coloured, timestamp_key="at", pad_event_to=28)

    def render(logger: Any, level: str, event: Event) -> bytes:
        event["logger"] = event.pop("component")
        line = renderer(logger, level, event)
        return redact(line.encode(errors="backslashreplace"))[:LINE_MAX]

    return render


class _IntoStructlog(logging.Handler):
    """Libraries' records, as events of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "uvicorn.access" and isinstance(record.args, tuple) and len(record.args) == 5:
            self._access(record.args)
            return
        fields: dict[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
        level = max((known for known in _LEVELS.values() if known <= record.levelno), default=10)
        get_logger(record.name.removesuffix(".error")).log(level, _message(record), **fields)

    def _access(self, args: tuple[Any, ...]) -> None:
        """One line a request is for debugging; a failure of ours is for everybody."""
        client, method, path, _, status = cast(tuple[str, str, str, str, int], args)
        log = get_logger("http")
        say = log.warning if status >= 500 else log.debug
        say("request", client=client, method=method, path=path, status=status)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # logging itself would print it to stderr, with the secrets in it
        return f"{_shown(record.msg)} % {_shown(record.args)}"
