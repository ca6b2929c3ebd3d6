"""One request and how its answer is read, without any I/O: both clients are thin shells over this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from safelight.sdk.errors import BY_CODE, BY_STATUS, SafelightError, UnexpectedAnswer

T = TypeVar("T")

DETAIL_MAX: Final = 500
"""Of a body that is not ours (a proxy's page), shown to a person."""

_encoder = msgspec.json.Encoder(enc_hook=str)


class Repeat(Enum):
    """When a request may be sent again without asking anybody."""

    ALWAYS = "always"
    """A second time changes nothing: reads, and writes that carry their own id."""
    UNSENT = "unsent"
    """Only when it is certain that the server did not act on it."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """`result` is what a successful body decodes to; None for an answer without one."""

    method: str
    path: str
    result: type[T]
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    repeat: Repeat = Repeat.ALWAYS

    def content(self) -> tuple[bytes | None, str]:
        """The body and its type: bytes go as they are, the rest as JSON."""
        if isinstance(self.body, bytes):
            return self.body, "application/octet-stream"
        return (None if self.body is None else _encoder.encode(self.body)), "application/json"

    def query(self) -> list[tuple[str, str]]:
        """The parameters that were given, as text; a list is the parameter several times."""
        pairs: list[tuple[str, str]] = []
        for name, value in self.params.items():
            values: Sequence[Any] = cast("list[Any]", value) if isinstance(value, list) else (value,)
            pairs += [(name, _text(each)) for each in values if each is not None]
        return pairs


def read_answer(call: Call[T], status: int, headers: Mapping[str, str], content: bytes) -> T:
    """The typed result. Raises the SafelightError that the answer is."""
    if not 200 <= status < 300:
        raise read_error(status, headers, content)
    if call.result is type(None):
        return cast(T, None)
    try:
        result = msgspec.json.decode(content, type=call.result)
    except msgspec.DecodeError as error:
        raise UnexpectedAnswer(
            f"{call.method} {call.path} answered something else than expected: {error}",
            code="unexpected_answer",
            status=status,
        ) from error
    seq = headers.get("safelight-seq", "")
    if seq.isascii() and seq.isdigit() and hasattr(result, "seq"):
        cast(Any, result).seq = int(seq)
    return result


def read_error(status: int, headers: Mapping[str, str], content: bytes) -> SafelightError:
    """An answer that is not a success, as its error."""
    problem: dict[str, Any] = {}
    if "json" in headers.get("content-type", ""):
        try:
            problem = msgspec.json.decode(content, type=dict[str, Any])
        except msgspec.DecodeError:
            problem = {}
    code = problem.get("code")
    if not isinstance(code, str):
        words = content[:DETAIL_MAX].decode(errors="replace").strip()
        where = f" to {headers['location']}" if "location" in headers else ""
        kind = BY_STATUS.get(status, UnexpectedAnswer)
        known = next((name for name, each in BY_CODE.items() if each is kind), "unexpected_answer")
        return kind(f"HTTP {status}{where}" + (f": {words}" if words else ""), code=known, status=status)
    detail = str(problem.get("detail") or problem.get("title") or f"HTTP {status}")
    known_fields = {"type", "title", "status", "code", "detail", "instance"}
    extras = {name: value for name, value in problem.items() if name not in known_fields}
    return BY_CODE.get(code, BY_STATUS.get(status, SafelightError))(detail, code=code, status=status, extras=extras)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
