"""Tokens of people: which are believed, and what is said of those that are not (S6)."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from access_world import SECRET, START, SetClock, handmade
from hypothesis import given
from hypothesis import strategies as st

from safelight.access.errors import Unauthorized
from safelight.access.tokens import LENGTH_MAX, Tokens

NOW = int(START.timestamp())


def tokens(**settings: Any) -> Tokens:
    return Tokens(**({"clock": SetClock(), "secret": SECRET} | settings))


def signed(secret: str = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    whole = {"sub": "ada", "exp": NOW + 60} | claims
    return jwt.encode({k: v for k, v in whole.items() if v is not ...}, secret, algorithm, headers)


async def refused(token: str, **settings: Any) -> str:
    with pytest.raises(Unauthorized) as caught:
        await tokens(**settings).verify(token)
    assert caught.value.code == "unauthorized"
    assert len(token) < 9 or token not in caught.value.detail
    return caught.value.reason


async def test_a_token_names_its_user_and_when_it_ends() -> None:
    claims = await tokens().verify(signed())
    assert claims.user_id == "ada"
    assert claims.expires_at == datetime.fromtimestamp(NOW + 60, UTC)


async def test_a_token_of_supabase_passes_as_it_is() -> None:
    token = signed(
        sub="8f7c4a0e-5d3b-4a55-9a35-6d1f0f3b2a11", aud="authenticated", role="authenticated",
        iss="https://x.supabase.co/auth/v1", iat=NOW, email="a@b.c", session_id="s", is_anonymous=False,
        app_metadata={"provider": "email"}, amr=[{"method": "password", "timestamp": NOW}],
    )  # fmt: skip
    assert (await tokens().verify(token)).user_id == "8f7c4a0e-5d3b-4a55-9a35-6d1f0f3b2a11"
    assert (await tokens(audience="authenticated").verify(token)).user_id is not None


async def test_what_we_issue_we_accept_until_it_ends() -> None:
    clock = SetClock()
    ours = tokens(clock=clock, audience="safelight", issuer="us")
    token = ours.issue("ada", 60)
    clock.forward(seconds=69)
    assert (await ours.verify(token)).user_id == "ada"
    clock.forward(seconds=1)
    with pytest.raises(Unauthorized) as caught:
        await ours.verify(token)
    assert caught.value.reason == "expired"


async def test_ten_seconds_of_clock_difference_are_forgiven_and_no_more() -> None:
    assert (await tokens().verify(signed(exp=NOW - 9))).user_id == "ada"
    assert await refused(signed(exp=NOW - 10)) == "expired"
    assert (await tokens().verify(signed(nbf=NOW + 10))).user_id == "ada"
    assert await refused(signed(nbf=NOW + 11)) == "malformed"


async def test_another_secrets_token_is_foreign() -> None:
    assert await refused(signed("another-secret-of-enough-length-0123456789")) == "foreign"


async def test_a_token_whose_claims_were_changed_is_foreign() -> None:
    head, _, tail = signed().split(".")
    forged = base64.urlsafe_b64encode(json.dumps({"sub": "eve", "exp": NOW + 60}).encode()).rstrip(b"=").decode()
    assert await refused(f"{head}.{forged}.{tail}") == "foreign"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 5, ["HS256"], "HS384", "HS512", "hs256"])
async def test_an_unsigned_or_otherwise_signed_token_is_refused(algorithm: Any) -> None:
    token = handmade({"alg": algorithm, "typ": "JWT"}, {"sub": "ada", "exp": NOW + 60})
    assert await refused(token) == "malformed"
    assert await refused(token.rsplit(".", 1)[0] + ".") == "malformed"


async def test_a_token_without_an_algorithm_is_refused() -> None:
    assert await refused(handmade({"typ": "JWT"}, {"sub": "ada", "exp": NOW + 60})) == "malformed"


async def test_without_a_shared_secret_no_hs256_token_is_believed() -> None:
    assert await refused(signed(), secret=None) == "foreign"
    assert await refused(handmade({"alg": "HS256"}, {"sub": "ada", "exp": NOW + 60}, b""), secret=None) == "foreign"


@pytest.mark.parametrize("exp", [..., None, "soon", True, -1, 10**20, [NOW + 60]])
async def test_a_token_that_never_ends_is_refused(exp: Any) -> None:
    claims = {"sub": "ada"} | ({} if exp is ... else {"exp": exp})
    assert await refused(handmade({"alg": "HS256"}, claims)) == "malformed"


async def test_infinity_is_no_time() -> None:
    token = handmade({"alg": "HS256"}, {"sub": "ada", "exp": float("inf")})
    assert await refused(token) == "malformed"


@pytest.mark.parametrize("sub", [..., None, "", 7, "a" * 201, "ada\0", "a\nb", "\ud800", ["ada"]])
async def test_a_token_that_names_no_possible_user_is_refused(sub: Any) -> None:
    claims = {"exp": NOW + 60} | ({} if sub is ... else {"sub": sub})
    assert await refused(handmade({"alg": "HS256"}, claims)) == "malformed"


@pytest.mark.parametrize("claims", [[], "x", 1, None])
async def test_claims_that_are_no_object_are_refused(claims: Any) -> None:
    assert await refused(handmade({"alg": "HS256"}, claims)) == "malformed"


async def test_where_an_audience_is_set_the_token_must_name_it() -> None:
    assert (await tokens(audience="us").verify(signed(aud=["them", "us"]))).user_id == "ada"
    assert await refused(signed(aud="them"), audience="us") == "foreign"
    assert await refused(signed(), audience="us") == "foreign"


async def test_where_an_issuer_is_set_the_token_must_be_its() -> None:
    assert (await tokens(issuer="us").verify(signed(iss="us"))).user_id == "ada"
    assert await refused(signed(iss="them"), issuer="us") == "foreign"
    assert await refused(signed(), issuer="us") == "foreign"


async def test_a_service_role_is_believed_only_where_that_is_configured() -> None:
    service = signed(sub=..., role="service_role")
    assert await refused(service) == "malformed"
    assert (await tokens().verify(signed(role="service_role"))).user_id == "ada"
    assert (await tokens(trusts_service_role=True).verify(service)).user_id is None
    assert (await tokens(trusts_service_role=True).verify(signed(role="authenticated"))).user_id == "ada"


async def test_an_endless_token_is_not_even_read() -> None:
    assert await refused(signed(padding="x" * LENGTH_MAX)) == "malformed"


async def test_a_header_with_demands_we_do_not_know_is_refused() -> None:
    claims = {"sub": "ada", "exp": NOW + 60}
    assert await refused(handmade({"alg": "HS256", "crit": ["exp"], "exp": 1}, claims)) == "malformed"
    assert await refused(handmade({"alg": "HS256", "kid": 7}, claims)) == "malformed"


@given(st.one_of(st.text(max_size=60), st.text(alphabet="abcEYJ.-_=", max_size=60)))
async def test_no_text_whatever_is_more_than_malformed(text: str) -> None:
    assert await refused(text + "\u2603") == "malformed"
    assert await refused(text) == "malformed"


def test_a_secret_that_could_be_guessed_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError):
        tokens(secret="short")


@pytest.mark.parametrize(
    ("settings", "user", "ttl_s"), [({"secret": None}, "ada", 60), ({}, "", 60), ({}, "ada", 0), ({}, "ada", 10**9)]
)
def test_nothing_is_issued_without_a_secret_a_user_and_an_end(settings: Any, user: str, ttl_s: int) -> None:
    with pytest.raises(ValueError):
        tokens(**settings).issue(user, ttl_s)


async def test_a_token_says_when_it_ends_even_with_fractions_of_a_second() -> None:
    claims = await tokens().verify(signed(exp=NOW + 60.5))
    assert claims.expires_at == START + timedelta(seconds=60.5)
