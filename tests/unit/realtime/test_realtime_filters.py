"""Bindings of postgres_changes: which changes they let through."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.realtime.filters import BadBinding, binding
from safelight.realtime.join import join_config
from safelight.realtime.pattern import COMPARED_MAX, PATTERN_MAX, BadPattern, expression, like

P = "0f9d6a3e-0000-4000-8000-000000000001"
ROW: dict[str, Any] = {
    "id": "0f9d6a3e-0000-4000-8000-0000000000aa", "project_id": P, "status": "completed", "model": "google/nano-banana",
    "n": 2, "charged": None, "priority": -1, "created_at": "2026-01-02T03:04:05.5+00:00", "template": 'a,b("x")',
}  # fmt: skip


def fits(filter_text: str, row: dict[str, Any] = ROW, table: str = "jobs") -> bool:
    return binding({"event": "*", "schema": "public", "table": table, "filter": filter_text}).matches(
        "jobs", "update", row
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"project_id=eq.{P}", True), (f"project_id=eq.{P.upper()}", True), ("project_id=eq." + P[:-1] + "2", False),
        ("status=eq.completed", True), ("status=neq.completed", False), ("status=neq.failed", True),
        ("n=gt.1", True), ("n=gt.2", False), ("n=gte.2", True), ("n=lt.10", True), ("n=lte.1", False),
        ("priority=lt.0", True), ("status=in.(failed,completed)", True), ("status=in.(failed)", False),
        ("status=not.in.(failed,canceled)", True), ("n=in.(1,2,3)", True),
        ("model=like.google/%", True), ("model=like.GOOGLE/%", False), ("model=ilike.GOOGLE/%", True),
        ("model=not.like.google/%", False), ("charged=is.null", True), ("status=is.null", False),
        ("status=not.is.null", True), ("charged=isdistinct.5", True), ("n=isdistinct.2", False),
        ("charged=eq.5", False), ("charged=neq.5", False), ("charged=not.eq.5", False),  # with NULL nothing is true
        ("model=match.^goo.*nan", True), ("model=match.^nano", False), ("model=imatch.^GOOGLE/", True),
        ("model=not.imatch.BANANA$", False), ("model=match.o{2}", True), ("status=match.^(failed|completed)$", True),
        ("charged=isdistinct.null", False), ("n=isdistinct.null", True), ("template=match.zz", False),
        ("created_at=gt.2026-01-01T00:00:00Z", True), ("created_at=lt.2026-01-01T00:00:00+00:00", False),
        ("n=gt.0,n=lt.3", True), ("n=gt.0,n=lt.2", False), ('template=eq."a,b(\\"x\\")"', True), ("", True),
    ],
)  # fmt: skip
def test_a_filter_lets_through_what_sql_would(text: str, expected: bool) -> None:
    assert fits(text) is expected


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"event": "TRUNCATE"}, "event"), ({"schema": "auth"}, "schema"), ({"table": "api_keys"}, "no table"),
        ({"table": "jobs", "filter": "request_hash=eq.1"}, "no column"),
        ({"table": "jobs", "filter": "webhook_url=like.%"}, "no column"),
        ({"table": "jobs", "select": ["created_by"]}, "no column"), ({"table": "jobs", "select": "id"}, "select"),
        ({"table": "jobs", "filter": "n=eq.x"}, "no int4"), ({"table": "jobs", "filter": "id=eq.x"}, "no uuid"),
        ({"table": "jobs", "filter": "n"}, "column=operator"), ({"table": "jobs", "filter": "n=eq"}, "column=operator"),
        ({"table": "jobs", "filter": "n=most.1"}, "operator"), ({"table": "jobs", "filter": "n=like.1"}, "texts"),
        ({"table": "jobs", "filter": "status=match.(?=a)"}, "match takes no such pattern"),
        ({"table": "jobs", "filter": "status=imatch.(a"}, "closed"),
        ({"table": "jobs", "filter": "n=match.1"}, "texts"),
        ({"table": "jobs", "filter": r"status=match.[a"}, "no such pattern"),
        ({"table": "jobs", "filter": "status=like." + "a" * 201}, "200 characters"),
        ({"table": "jobs", "filter": "n=in.1"}, "list"),
        ({"table": "jobs", "filter": "n=in.(1"}, "closed"), ({"table": "jobs", "filter": 'status=eq."a'}, "closed"),
        ({"table": "jobs", "filter": "input=eq.{}"}, "cannot be compared"), ({"filter": "status=eq.a"}, "no column"),
        ({"table": "jobs", "filter": "x" * 3000}, "characters"), ("jobs", "object"),
        ({"table": "jobs", "filter": ",".join(["n=gt.1"] * 21)}, "conditions"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_in_words(asked: Any, words: str) -> None:
    with pytest.raises(BadBinding, match=re.escape(words)):
        binding(asked)


def test_tasks_is_another_name_for_jobs() -> None:
    made = binding({"event": "INSERT", "schema": "public", "table": "tasks", "filter": f"project_id=eq.{P}"})
    assert made.matches("jobs", "insert", ROW)
    assert not made.matches("jobs", "update", ROW)
    assert made.tables["jobs"] == "tasks"


def test_without_a_table_every_table_is_meant() -> None:
    made = binding({"event": "*", "schema": "public"})
    assert made.matches("shots", "insert", {"id": P})
    assert made.matches("jobs", "delete", ROW)
    assert not made.matches("credits", "update", {"id": P})


def test_the_same_binding_has_the_same_id_and_another_another() -> None:
    one = {"event": "*", "schema": "public", "table": "jobs", "filter": "n=gt.1"}
    assert binding(one).id == binding(dict(one)).id
    others = [
        {**one, "event": "INSERT"},
        {**one, "table": "tasks"},
        {**one, "filter": "n=gt.2"},
        {**one, "select": ["id"]},
    ]
    assert len({binding(each).id for each in [one, *others]}) == 5
    assert all(0 < binding(each).id < 2**53 for each in others)


@given(st.text("ab%_\\", max_size=12), st.text("ab", max_size=12))
def test_like_says_what_the_same_regular_expression_says(pattern: str, text: str) -> None:
    built, escaped = "", False
    for char in pattern:
        if escaped or char not in "%_\\":
            built += re.escape(char)
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            built += ".*" if char == "%" else "."
    assert like(pattern, fold=False)(text) is (re.fullmatch(built, text, re.DOTALL) is not None)


def test_a_pattern_made_to_run_for_ever_does_not() -> None:
    for made in (
        "(a+)+$",
        "(a|a)*b",
        "(a*)*(b|a?){50}c$",
        "%".join("ab" * 50),
        ".*".join("ab" * 30),
        "(a|b)*a(a|b){30}c",
    ):
        for search in (like(made, fold=True), expression(made, fold=True)):
            assert search("a" * 100_000 + "b") in (True, False)  # Python's own engine would not come back
    assert like("%b", fold=False)("a" * COMPARED_MAX + "b") is False  # nothing is tried beyond


@given(st.text(max_size=PATTERN_MAX + 5), st.text(max_size=50), st.booleans())
def test_no_pattern_raises_anything_but_its_refusal(pattern: str, text: str, fold: bool) -> None:
    for make in (like, expression):
        with contextlib.suppress(BadPattern):
            assert make(pattern, fold=fold)(text) in (True, False)


@pytest.mark.parametrize("text", ["a.b", "a+b", "100%", "ä ö", "x\ny", "(", "[a]", "{", "^a$", "a|b", "#"])
def test_like_takes_what_is_no_wildcard_as_it_is(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    assert like(escaped, fold=False)(text)
    assert not like(escaped, fold=False)(f"{text}x")


def test_a_channel_has_few_patterns() -> None:
    def asked(count: int) -> dict[str, Any]:
        each = {"event": "*", "schema": "public", "table": "jobs", "filter": "model=like.a%,status=match.b"}
        return {"config": {"postgres_changes": [each] * count}}

    assert len(join_config(asked(5)).bindings) == 5
    with pytest.raises(BadBinding, match="patterns"):
        join_config(asked(6))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.dictionaries(st.sampled_from(["event", "schema", "table", "filter", "select", "other"]), JSON | st.just("jobs"))
    | JSON
)
def test_no_binding_raises_anything_but_its_refusal(asked: Any) -> None:
    with contextlib.suppress(BadBinding):
        binding(asked)


@given(
    st.sampled_from(["status", "n", "id", "created_at", "charged", "input", "tags"]),
    st.sampled_from(
        ["eq", "neq", "lt", "lte", "gt", "gte", "in", "like", "ilike", "is", "isdistinct", "match", "imatch"]
    ),
    st.booleans(),
    st.text(max_size=20),
    JSON,
)
def test_no_filter_raises_on_any_row(column: str, operator: str, negated: bool, value: str, held: Any) -> None:
    try:
        made = binding({"table": "jobs", "filter": f"{column}={'not.' if negated else ''}{operator}.{value}"})
    except BadBinding:
        return
    assert made.matches("jobs", "insert", {column: held}) in (True, False)
