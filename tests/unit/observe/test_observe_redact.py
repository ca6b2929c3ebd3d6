"""What is secret is in no line, wherever it was put, and what is not secret is left as it was (O4)."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.observe.redact import SECRET_FIELDS, redact

KEY = "sk_7QmXbq2FvT0cJ8yWk3NdZr5LhPs1GaUe9oIxBt4VwMzC6fKjYnR"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"key {KEY} given", "key sk_[redacted] given"),
        (f"pk_{KEY[3:]}", "pk_[redacted]"),
        (f"Authorization: Bearer {KEY}", "Authorization: Bearer [redacted]"),
        (f"authorization: bearer   {TOKEN}", "authorization: bearer [redacted]"),
        ("Authorization: Basic YWRhOnBhc3N3b3Jk", "Authorization: Basic [redacted]"),
        ("Authorization: Key 9c2f0b3e-77aa-4b1d-8d6f-0123456789ab:0123456789abcdef", "Authorization: Key [redacted]"),
        ("OpenAI says sk-proj-0123456789abcdefghij is wrong", "OpenAI says sk-[redacted] is wrong"),
        ("r8_0123456789abcdefghij", "r8_[redacted]"),
        (f"token={TOKEN}", "token=[redacted]"),
        ("POST /hooks/fal/0197-ab/s3cr3t-t0ken?x=1", "POST /hooks/fal/0197-ab/[redacted]?x=1"),
        ("https://h.example/hooks/kie/a1/t0k", "https://h.example/hooks/kie/a1/[redacted]"),
        (
            "GET /realtime/v1/websocket?apikey=pk_abc&vsn=1.0.0",
            "GET /realtime/v1/websocket?apikey=[redacted]&vsn=1.0.0",
        ),
        ("/media/p/x.webp?e=1900000000&s=AbC-_9", "/media/p/x.webp?e=1900000000&s=[redacted]"),
        ("https://b.s3.example/x?X-Amz-Signature=ab12&v=1", "https://b.s3.example/x?X-Amz-Signature=[redacted]&v=1"),
        ("postgresql://me:p4ss@db:5432/x", "postgresql://me:[redacted]@db:5432/x"),
        ("postgresql://:p4ss@db/x", "postgresql://:[redacted]@db/x"),
        ("{'Cookie': 'safelight_session=abc.def'}", "{'Cookie': \"[redacted]\"}"),
    ],
)
def test_a_secret_is_hidden_where_it_stands(said: str, shown: str) -> None:
    assert redact(said.encode()).decode() == shown


@pytest.mark.parametrize(
    "said",
    [
        "sk_7QmXbq2F",  # as lists show a key
        "task sk_ip was skipped",
        "the key is missing and the token has expired",
        "postgresql://db:5432/x",
        "https://studio.example:8443/p?e=1&status=done&keys=2",
        "/hooks/fal",
        "job 0197a2b4-0000-7000-8000-000000000000 took 3.2 s",
        "bearer of news",
        '{"tokens_used": 12, "event": "job.ended"}',
        "reyJk.a.b",
    ],
)
def test_what_is_no_secret_is_left_alone(said: str) -> None:
    assert redact(said.encode()).decode() == said


@given(st.text(min_size=1), st.sampled_from(sorted(SECRET_FIELDS)))
def test_a_field_that_is_called_like_a_secret_is_hidden_at_any_depth(value: str, name: str) -> None:
    line = json.dumps({"event": "x", "request": {"headers": {name.title(): value, "accept": "a/b"}}})
    shown = json.loads(redact(line.encode()))
    assert shown == {"event": "x", "request": {"headers": {name.title(): "[redacted]", "accept": "a/b"}}}


def test_a_secret_in_a_body_that_was_logged_as_text_is_hidden() -> None:
    line = json.dumps({"body": json.dumps({"token": "hush-hush", "n": 1})})
    shown = json.loads(redact(line.encode()))
    assert json.loads(shown["body"]) == {"token": "[redacted]", "n": 1}


@given(st.dictionaries(st.text(max_size=20), st.one_of(st.text(), st.integers(), st.lists(st.text()))))
def test_a_line_of_json_stays_json(event: dict[str, object]) -> None:
    json.loads(redact(json.dumps(event | {"authorization": 'a"b\\'}).encode()))


@pytest.mark.parametrize(
    "piece",
    ["eyJa-", "eyJaaaa.", "sk_", "://a:", '"token": "', '\\"token\\":\\"', "Bearer ", "/hooks/a/", "?s=&s=", "Key 0"],
)
def test_a_hostile_line_costs_no_more_than_its_length(piece: str) -> None:
    def cost(bytes_long: int) -> float:
        line = (piece * (bytes_long // len(piece))).encode()
        started = time.process_time()
        redact(line)
        return time.process_time() - started

    # Quadratic would be 256 times as much; the bound only has to tell the two apart.
    small = min(cost(4_000) for _ in range(3))
    assert min(cost(64_000) for _ in range(3)) < 100 * small + 0.05
