from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.library.errors import LibraryError
from safelight.library.template import FILLED_BYTES_MAX, Template, render, variables_of

AD = Template(
    "google/nano-banana",
    {"prompt": "a {MODEL} by {BRAND}, {BRAND}!", "steps": "{STEPS}", "tags": ["{BRAND}", {"deep": "x{MODEL}"}], "n": 3},
    start="{START}",
)


def test_blanks_are_filled_wherever_they_stand():
    filled = render(AD, {"BRAND": "Acme", "MODEL": "car", "STEPS": 20, "START": "0197"})
    assert filled.model == "google/nano-banana"
    assert filled.input == {
        "prompt": "a car by Acme, Acme!", "steps": 20, "tags": ["Acme", {"deep": "xcar"}], "n": 3,
    }  # fmt: skip
    assert filled.start == "0197"


def test_the_variables_of_a_template_are_known():
    assert variables_of(AD) == ["BRAND", "MODEL", "START", "STEPS"]


def test_unknown_and_missing_variables_are_named():
    with pytest.raises(LibraryError) as refused:
        render(AD, {"BRAND": "Acme", "MODEL": "car", "START": "x", "BRANDT": "typo"})
    assert refused.value.code == "invalid_input"
    assert {(error["loc"][-1], error["type"]) for error in refused.value.errors} == {
        ("STEPS", "missing"), ("BRANDT", "unexpected"),
    }  # fmt: skip
    assert "STEPS" in refused.value.detail
    assert "BRANDT" in refused.value.detail


@pytest.mark.parametrize("value", [None, ["x"], {"a": 1}, "x" * 10_001, "nul\0", float("nan"), "\ud800"])
def test_a_value_that_no_input_can_hold_is_refused(value: Any):
    with pytest.raises(LibraryError) as refused:
        render(Template("m", {"p": "{A}"}), {"A": value})
    assert refused.value.code == "invalid_input"


def test_braces_that_are_not_blanks_stay():
    text = 'style {soft} {"json": 1} {} {{lower}} {1A}'
    assert render(Template("m", {"p": text}), {}).input == {"p": text}


def test_what_is_put_in_is_not_looked_through_for_blanks_again():
    filled = render(Template("m", {"p": "{A} {B}"}), {"A": "{B}", "B": "x"})
    assert filled.input == {"p": "{B} x"}


def test_truth_values_read_as_json_writes_them_inside_a_text():
    assert render(Template("m", {"p": "is {A}", "q": "{A}"}), {"A": True}).input == {"p": "is true", "q": True}


def test_a_small_template_cannot_be_blown_up_into_a_huge_input():
    with pytest.raises(LibraryError):
        render(Template("m", {"p": "x{A}" * (FILLED_BYTES_MAX // 5000)}), {"A": "a" * 10_000})


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,5}", fullmatch=True), st.text("abc{}", max_size=5), max_size=5))
def test_the_right_variables_always_fill_a_template(variables: dict[str, str]):
    template = Template("m", {"p": " ".join(f"<{{{name}}}>" for name in variables)})
    assert render(template, variables).input["p"] == " ".join(f"<{value}>" for value in variables.values())
