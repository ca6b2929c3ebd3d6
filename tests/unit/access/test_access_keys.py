"""How API keys look: a typo is told apart from a foreign key without asking anybody (S6)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.access.errors import Unauthorized
from safelight.access.keys import KeyKind, generate, is_key, kind_of

KEY = generate("secret")


@pytest.mark.parametrize(("kind", "prefix"), [("secret", "sk_"), ("publishable", "pk_")])
def test_a_new_key_says_what_it_is(kind: KeyKind, prefix: str) -> None:
    made = {generate(kind) for _ in range(200)}
    assert len(made) == 200
    for plaintext in made:
        assert re.fullmatch(prefix + "[0-9A-Za-z]{49}", plaintext)
        assert is_key(plaintext)
        assert kind_of(plaintext) == kind


@given(st.integers(3, len(KEY) - 1), st.sampled_from("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))
def test_one_mistyped_character_is_noticed(place: int, typed: str) -> None:
    if KEY[place] == typed:
        assert kind_of(KEY) == "secret"
        return
    with pytest.raises(Unauthorized) as caught:
        kind_of(KEY[:place] + typed + KEY[place + 1 :])
    assert caught.value.reason == "malformed"


@given(st.integers(0, len(KEY) - 1))
def test_a_cut_off_key_is_noticed(length: int) -> None:
    with pytest.raises(Unauthorized):
        kind_of(KEY[:length])


@given(st.text())
def test_whatever_is_pasted_is_malformed_and_not_repeated(text: str) -> None:
    for plaintext in ("sk_" + text, KEY + text + ".", "pk_" + KEY[3:]):
        with pytest.raises(Unauthorized) as caught:
            kind_of(plaintext)
        assert caught.value.reason == "malformed"
        assert plaintext not in caught.value.detail


def test_a_token_is_not_taken_for_a_key() -> None:
    assert not is_key("eyJhbGciOiJIUzI1NiJ9.e30.x")
