"""The studio's cookie: only ours holds, only for its user and project, only for its time (S6, O4)."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

import pytest
from access_world import START
from hypothesis import given
from hypothesis import strategies as st

from safelight.access.errors import Unauthorized
from safelight.access.sessions import COOKIE, LIFETIME, Session, Sessions, cookie_header, cookie_removal

SECRET = b"k" * 32
SESSION = Session("ada", UUID(int=7), START + LIFETIME)
SESSIONS = Sessions(SECRET)
VALUE = SESSIONS.sign(SESSION)
COOKIE_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def reason(value: str, sessions: Sessions = SESSIONS) -> str:
    with pytest.raises(Unauthorized) as caught:
        sessions.verify(value, START)
    return caught.value.reason


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=200))
def test_a_session_comes_back_as_it_was_signed(user: str) -> None:
    session = Session(user, UUID(int=9), START + timedelta(days=1))
    value = SESSIONS.sign(session)
    assert set(value) <= set(COOKIE_ALPHABET)
    assert SESSIONS.verify(value, START) == session


def test_a_session_ends_when_it_says() -> None:
    assert SESSIONS.verify(VALUE, START + LIFETIME - timedelta(seconds=1)) == SESSION
    with pytest.raises(Unauthorized) as caught:
        SESSIONS.verify(VALUE, START + LIFETIME)
    assert caught.value.reason == "expired"


@given(st.integers(0, len(VALUE) - 1), st.sampled_from(COOKIE_ALPHABET))
def test_a_cookie_with_one_other_character_is_no_session(place: int, other: str) -> None:
    forged = VALUE[:place] + other + VALUE[place + 1 :]
    if forged == VALUE:
        return
    assert reason(forged) in ("malformed", "foreign")


@given(st.text(max_size=300))
def test_no_text_whatever_is_a_session(text: str) -> None:
    assert reason(text) in ("malformed", "foreign")
    assert reason(VALUE + text + "x") in ("malformed", "foreign")


def test_a_cookie_signed_by_another_installation_is_foreign() -> None:
    assert reason(Sessions(b"x" * 32).sign(SESSION)) == "foreign"


def test_a_signature_that_our_secret_made_for_another_purpose_does_not_fit() -> None:
    payload = VALUE.partition(".")[0]
    for message in (payload.encode(), b"safelight-media\n" + payload.encode()):
        signature = base64.urlsafe_b64encode(hmac.digest(SECRET, message, sha256)).rstrip(b"=").decode()
        assert reason(f"{payload}.{signature}") == "foreign"


@pytest.mark.parametrize(
    "content",
    [[2, "ada", str(UUID(int=7)), 9e9], [1, "ada"], [1, "", str(UUID(int=7)), 9_999_999_999], {}, "x", [1] * 9],
)
def test_what_we_would_never_sign_is_not_believed_even_if_signed(content: object) -> None:
    payload = base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=")
    signature = hmac.digest(SECRET, b"safelight-session\n" + payload, sha256)
    value = payload + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")
    assert reason(value.decode()) == "malformed"


def test_a_changed_secret_signs_nobody_out_while_the_old_one_is_kept() -> None:
    assert Sessions(b"n" * 32, previous=[SECRET]).verify(VALUE, START) == SESSION
    assert reason(VALUE, Sessions(b"n" * 32)) == "foreign"
    assert reason(Sessions(b"n" * 32, previous=[SECRET]).sign(SESSION)) == "foreign"


def test_a_short_secret_is_refused_at_the_start() -> None:
    for make in (lambda: Sessions(b"short"), lambda: Sessions(SECRET, previous=[b"short"])):
        with pytest.raises(ValueError):
            make()


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites() -> None:
    header = cookie_header(VALUE, is_secure=True)
    assert header == f"{COOKIE}={VALUE}; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax; Secure"
    assert "Secure" not in cookie_header(VALUE, is_secure=False)
    assert "Max-Age=0" in cookie_removal(is_secure=True)
