"""Bindings of `postgres_changes`: which changes of which table a client asked for (S4). Pure.

A filter is `column=operator.value`, several joined by commas, all of which must hold; `not.` turns one round. Values
with commas or parentheses are quoted as PostgREST does. Comparing is SQL's: with NULL, nothing is true.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

import msgspec

from safelight.realtime.pattern import BadPattern, expression, like
from safelight.realtime.tables import ALIASES, SCHEMA, TABLES

__all__ = ["BadBinding", "Binding", "binding"]

FILTER_MAX: Final = 2_000
CONDITIONS_MAX: Final = 20
VALUES_MAX: Final = 100
"""Of one `in`, as Supabase allows."""
ID_BITS: Final = 48
"""Numbers that JavaScript holds exactly."""

OPS: Final[Mapping[str, str]] = {"INSERT": "insert", "UPDATE": "update", "DELETE": "delete"}

PATTERNS: Final = frozenset({"like", "ilike", "match", "imatch"})

Row = Mapping[str, Any]
Test = Callable[[Any], bool | None]
"""A value's test in SQL's logic: None is "unknown"."""


class BadBinding(ValueError):
    """What was asked for cannot be; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Condition:
    column: str
    test: Test = field(compare=False)
    is_pattern: bool = False

    def holds(self, row: Row) -> bool:
        return self.test(row.get(self.column)) is True


@dataclass(frozen=True, slots=True)
class Binding:
    """One subscription of a channel. The same asked twice is equal and has the same id, in every process."""

    id: int
    ops: frozenset[str]
    tables: Mapping[str, str] = field(compare=False)
    """Our table -> the name the client calls it by; one, or all."""
    conditions: tuple[Condition, ...] = field(compare=False)
    select: tuple[str, ...] | None = field(compare=False)

    def __hash__(self) -> int:
        return self.id

    @property
    def patterns(self) -> int:
        """How many of its conditions are dear."""
        return sum(condition.is_pattern for condition in self.conditions)

    def matches(self, table: str, op: str, row: Row | None) -> bool:
        """`row`: the raw one after, or for a delete the one before."""
        if op not in self.ops or table not in self.tables or row is None:
            return False
        return all(condition.holds(row) for condition in self.conditions)


def binding(asked: Any) -> Binding:
    """The binding that a client asked for. Raises BadBinding."""
    if not isinstance(asked, dict):
        raise BadBinding("a binding is an object")
    wanted = cast(dict[str, Any], asked)
    event = _text(wanted, "event", "*").upper()
    if event != "*" and event not in OPS:
        raise BadBinding("event is *, INSERT, UPDATE or DELETE")
    schema = _text(wanted, "schema", SCHEMA)
    if schema not in (SCHEMA, "*"):
        raise BadBinding(f"there is only the schema {SCHEMA}")
    name = _text(wanted, "table", "*") or "*"
    table = ALIASES.get(name, name)
    if name != "*" and table not in TABLES:
        raise BadBinding(f"there is no table {name[:64]} to follow; there are {', '.join(TABLES)}")
    tables = {table: name} if name != "*" else {each: each for each in TABLES}
    filter_text = _text(wanted, "filter", "")
    select = _select(wanted.get("select"), tables)
    return Binding(
        id=_id(event, name, filter_text, select),
        ops=frozenset(OPS.values()) if event == "*" else frozenset({OPS[event]}),
        tables=tables,
        conditions=_conditions(filter_text, tables),
        select=select,
    )


def _text(wanted: Mapping[str, Any], name: str, default: str) -> str:
    value = wanted.get(name)
    if value is None:
        return default
    if not isinstance(value, str) or len(value) > FILTER_MAX:
        raise BadBinding(f"{name} is a text of up to {FILTER_MAX} characters")
    return value


def _select(asked: Any, tables: Mapping[str, str]) -> tuple[str, ...] | None:
    if asked is None:
        return None
    if not isinstance(asked, list) or not all(isinstance(each, str) for each in cast(list[Any], asked)):
        raise BadBinding("select is a list of columns")
    columns = tuple(dict.fromkeys(cast(list[str], asked)))
    for column in columns:
        _type_of(column, tables)
    return columns or None


def _type_of(column: str, tables: Mapping[str, str]) -> str:
    types = {TABLES[table].get(column) for table in tables}
    found = next(iter(types)) if len(types) == 1 else None
    if found is None:
        raise BadBinding(f"there is no column {column[:64]} in {', '.join(tables.values())}")
    return found


def _id(event: str, table: str, filter_text: str, select: tuple[str, ...] | None) -> int:
    named = msgspec.json.encode([event, table, filter_text, select])
    return int.from_bytes(hashlib.blake2b(named, digest_size=ID_BITS // 8).digest()) or 1


# -- conditions


def _conditions(text: str, tables: Mapping[str, str]) -> tuple[Condition, ...]:
    if not text.strip():
        return ()
    parts = split(text)
    if len(parts) > CONDITIONS_MAX:
        raise BadBinding(f"a filter has at most {CONDITIONS_MAX} conditions")
    return tuple(_condition(part, tables) for part in parts)


def split(text: str, separator: str = ",") -> list[str]:
    """At commas outside quotes and parentheses. Raises BadBinding where those are not closed."""
    parts: list[str] = []
    part, depth, quoted, escaped = "", 0, False, False
    for char in text:
        if escaped:
            escaped = False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif not quoted and char in "()":
            depth += 1 if char == "(" else -1
        elif char == separator and not quoted and depth == 0:
            parts.append(part)
            part = ""
            continue
        part += char
    if quoted or escaped or depth != 0:
        raise BadBinding("a filter's quotes or parentheses are not closed")
    return [*parts, part]


def _condition(text: str, tables: Mapping[str, str]) -> Condition:
    column, equals, rest = text.strip().partition("=")
    is_negated = rest.startswith("not.")
    operator, dot, value = rest.removeprefix("not.").partition(".")
    if not equals or not dot:
        raise BadBinding(f"a filter reads column=operator.value, not {text[:64]}")
    test = _test(operator, value, _type_of(column, tables))
    return Condition(column, _negated(test) if is_negated else test, operator in PATTERNS)


def _negated(test: Test) -> Test:
    def negated(value: Any) -> bool | None:
        found = test(value)
        return None if found is None else not found

    return negated


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == '"' == text[-1]:
        plain, escaped = "", False
        for char in text[1:-1]:
            if escaped or char != "\\":
                plain += char
                escaped = False
            else:
                escaped = True
        return plain
    return text


def _test(operator: str, text: str, kind: str) -> Test:
    if operator == "is":
        return _is(text)
    if operator in PATTERNS:
        return _pattern(operator, _unquoted(text), kind)
    read = _READERS.get(kind)
    if read is None:
        raise BadBinding(f"a column of type {kind} cannot be compared, only tested with is.null")
    if operator == "in":
        if not (text.startswith("(") and text.endswith(")")):
            raise BadBinding("in takes a list: in.(a,b)")
        listed = split(text[1:-1])
        if len(listed) > VALUES_MAX:
            raise BadBinding(f"in takes at most {VALUES_MAX} values")
        values = frozenset(_read(read, _unquoted(each.strip()), kind) for each in listed)
        return lambda value: None if value is None else _taken(read, value) in values
    if operator == "isdistinct" and text == "null":  # what the clients' builder makes of null
        return lambda value: value is not None
    wanted = _read(read, _unquoted(text), kind)
    if operator == "isdistinct":
        return lambda value: value is None or _taken(read, value) != wanted
    compare = _COMPARISONS.get(operator)
    if compare is None:
        raise BadBinding(f"there is no operator {operator[:20]}")

    def compared(value: Any) -> bool | None:
        taken = None if value is None else _taken(read, value)
        try:
            return None if taken is None else compare(taken, wanted)
        except TypeError:
            return None  # the row holds something else than its column's type: not comparable

    return compared


def _pattern(operator: str, text: str, kind: str) -> Test:
    if kind != "text":
        raise BadBinding(f"{operator} compares texts")
    make = like if operator.endswith("like") else expression
    try:
        found = make(text, fold=operator.startswith("i"))
    except BadPattern as error:
        raise BadBinding(f"{operator} takes no such pattern: {error}") from None
    return lambda value: found(value) if isinstance(value, str) else None


def _is(text: str) -> Test:
    match text.lower():
        case "null" | "unknown":
            return lambda value: value is None
        case "true":
            return lambda value: value is True
        case "false":
            return lambda value: value is False
        case _:
            raise BadBinding("is takes null, true, false or unknown")


def _boolean(text: str) -> bool:
    match text.lower():
        case "true" | "t":
            return True
        case "false" | "f":
            return False
        case _:
            raise ValueError(text)


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("no time zone")
    return at


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "text": str,
    "uuid": lambda text: str(UUID(text)),
    "int4": int,
    "int8": int,
    "float4": float,
    "float8": float,
    "bool": _boolean,
    "timestamptz": _instant,
}
_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "eq": lambda value, wanted: value == wanted,
    "neq": lambda value, wanted: value != wanted,
    "lt": lambda value, wanted: value < wanted,
    "lte": lambda value, wanted: value <= wanted,
    "gt": lambda value, wanted: value > wanted,
    "gte": lambda value, wanted: value >= wanted,
}


def _read(read: Callable[[str], Any], text: str, kind: str) -> Any:
    try:
        return read(text)
    except (ValueError, OverflowError):
        raise BadBinding(f"{text[:64]} is no {kind}") from None


def _taken(read: Callable[[str], Any], value: Any) -> Any:
    """A value of the row, to be compared. JSON has numbers and booleans already; the rest is text."""
    if isinstance(value, str):
        try:
            return read(value)
        except (ValueError, OverflowError):
            return None
    return value if isinstance(value, int | float) else None
