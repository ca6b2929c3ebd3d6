"""Tokens signed with a provider's published keys, against a provider that really serves them (S6)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import jwt
import pytest
from access_world import START, IdentityProvider, SetClock, SigningKey, handmade, identity_provider
from cryptography.hazmat.primitives import serialization

from safelight.access.errors import Unauthorized, Unavailable
from safelight.access.jwks import BYTES_MAX, KeySet, parse
from safelight.access.tokens import Tokens

CLAIMS = {"sub": "ada", "exp": int(START.timestamp()) + 10 * 86_400}


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as running:
        yield running


@pytest.fixture
async def tokens(provider: IdentityProvider, clock: SetClock) -> AsyncIterator[Tokens]:
    async with httpx.AsyncClient() as client:
        yield Tokens(clock=clock, keys=KeySet(provider.url, client, clock))


async def refused(tokens: Tokens, token: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        await tokens.verify(token)
    return caught.value.reason


@pytest.mark.parametrize("kind", ["rsa", "ec", "okp"])
async def test_a_token_signed_with_a_published_key_is_believed(
    kind: str, tokens: Tokens, provider: IdentityProvider
) -> None:
    key = SigningKey(kind, "k1")
    provider.keys = [SigningKey("ec", "other").jwk(), key.jwk()]
    assert (await tokens.verify(key.token(CLAIMS))).user_id == "ada"
    assert await refused(tokens, SigningKey(kind, "k1").token(CLAIMS)) == "foreign"


async def test_many_tokens_cost_one_reading_of_the_keys(tokens: Tokens, provider: IdentityProvider) -> None:
    key = SigningKey("ec", "k1")
    provider.keys = [key.jwk()]
    await asyncio.gather(*(tokens.verify(key.token(CLAIMS)) for _ in range(50)))
    assert provider.requests == 1


async def test_after_a_rotation_the_new_key_is_fetched_and_the_old_one_ends(
    tokens: Tokens, provider: IdentityProvider, clock: SetClock
) -> None:
    old, new = SigningKey("ec", "old"), SigningKey("ec", "new")
    provider.keys = [old.jwk()]
    await tokens.verify(old.token(CLAIMS))
    provider.keys = [new.jwk()]
    clock.forward(seconds=61)
    assert (await tokens.verify(new.token(CLAIMS))).user_id == "ada"
    assert await refused(tokens, old.token(CLAIMS)) == "foreign"
    assert provider.requests == 2


async def test_made_up_key_ids_cost_one_reading_a_minute(
    tokens: Tokens, provider: IdentityProvider, clock: SetClock
) -> None:
    key = SigningKey("ec", "k1")
    provider.keys = [key.jwk()]
    await tokens.verify(key.token(CLAIMS))
    for minute in range(3):
        for made_up in range(10):
            assert await refused(tokens, key.token(CLAIMS, kid=f"made-up-{minute}-{made_up}")) == "foreign"
        assert provider.requests == 1 + minute
        clock.forward(seconds=60)


async def test_a_withdrawn_key_ends_within_ten_minutes(
    tokens: Tokens, provider: IdentityProvider, clock: SetClock
) -> None:
    kept, withdrawn = SigningKey("ec", "kept"), SigningKey("rsa", "withdrawn")
    provider.keys = [kept.jwk(), withdrawn.jwk()]
    await tokens.verify(withdrawn.token(CLAIMS))
    provider.keys = [kept.jwk()]
    clock.forward(minutes=10)
    assert await refused(tokens, withdrawn.token(CLAIMS)) == "foreign"


async def test_while_the_provider_is_away_known_keys_go_on_and_unknown_ones_are_asked_to_wait(
    tokens: Tokens, provider: IdentityProvider, clock: SetClock
) -> None:
    key, other = SigningKey("ec", "k1"), SigningKey("ec", "k2")
    provider.keys = [key.jwk()]
    await tokens.verify(key.token(CLAIMS))
    provider.status = 500
    clock.forward(minutes=11)
    assert (await tokens.verify(key.token(CLAIMS))).user_id == "ada"
    with pytest.raises(Unavailable) as caught:
        await tokens.verify(other.token(CLAIMS))
    assert caught.value.retry_after_s
    clock.forward(hours=24)
    with pytest.raises(Unavailable):
        await tokens.verify(key.token(CLAIMS))
    provider.status = 200
    clock.forward(seconds=6)
    assert (await tokens.verify(key.token(CLAIMS))).user_id == "ada"


async def test_a_provider_that_hangs_holds_up_one_request_and_not_those_whose_key_is_known(
    tokens: Tokens, provider: IdentityProvider, clock: SetClock
) -> None:
    key = SigningKey("ec", "k1")
    provider.keys = [key.jwk()]
    await tokens.verify(key.token(CLAIMS))
    provider.gate.clear()
    clock.forward(minutes=11)
    first = asyncio.create_task(tokens.verify(key.token(CLAIMS)))
    async with asyncio.timeout(20):
        while provider.requests < 2:
            await asyncio.sleep(0.01)
    assert (await tokens.verify(key.token(CLAIMS))).user_id == "ada"
    assert not first.done()
    provider.gate.set()
    assert (await first).user_id == "ada"


async def test_a_request_that_is_given_up_while_the_keys_are_read_does_not_shut_the_others_out(
    tokens: Tokens, provider: IdentityProvider
) -> None:
    key = SigningKey("ec", "k1")
    provider.keys = [key.jwk()]
    provider.gate.clear()
    first = asyncio.create_task(tokens.verify(key.token(CLAIMS)))
    async with asyncio.timeout(20):
        while provider.requests < 1:
            await asyncio.sleep(0.01)
    second = asyncio.create_task(tokens.verify(key.token(CLAIMS)))
    first.cancel()
    provider.gate.set()
    assert (await second).user_id == "ada"


async def test_a_public_key_is_never_taken_for_a_shared_secret(provider: IdentityProvider, clock: SetClock) -> None:
    key = SigningKey("rsa", "k1")
    pem = key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    provider.keys = [key.jwk()]
    confused = handmade({"alg": "HS256", "kid": "k1"}, CLAIMS, pem)
    async with httpx.AsyncClient() as client:
        both = Tokens(clock=clock, secret="s" * 32, keys=KeySet(provider.url, client, clock))
        only_keys = Tokens(clock=clock, keys=KeySet(provider.url, client, clock))
        assert await refused(both, confused) == "foreign"
        assert await refused(only_keys, confused) == "foreign"
        assert (await both.verify(key.token(CLAIMS))).user_id == "ada"


async def test_a_key_serves_its_own_algorithm_only(tokens: Tokens, provider: IdentityProvider) -> None:
    key = SigningKey("rsa", "k1")
    provider.keys = [key.jwk()]
    other = jwt.encode(CLAIMS, key.private, "PS256", headers={"kid": "k1"})
    assert await refused(tokens, other) == "malformed"


async def test_without_a_key_id_there_must_be_no_choice(tokens: Tokens, provider: IdentityProvider) -> None:
    key = SigningKey("ec", "k1")
    bare = jwt.encode(CLAIMS, key.private, "ES256")
    provider.keys = [key.jwk(), SigningKey("rsa", "k2").jwk()]
    assert (await tokens.verify(bare)).user_id == "ada"


async def test_without_a_key_id_two_fitting_keys_are_a_choice(tokens: Tokens, provider: IdentityProvider) -> None:
    key = SigningKey("ec", "k1")
    provider.keys = [key.jwk(), SigningKey("ec", "k2").jwk()]
    assert await refused(tokens, jwt.encode(CLAIMS, key.private, "ES256")) == "foreign"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"keys": 5}', b'{"keys": []}', b'{"keys": [{}]}', b"x" * (BYTES_MAX + 1)]
)
async def test_a_document_that_is_none_lets_nobody_in(tokens: Tokens, provider: IdentityProvider, body: bytes) -> None:
    provider.body = body
    with pytest.raises(Unavailable):
        await tokens.verify(SigningKey("ec", "k1").token(CLAIMS))


async def test_redirects_are_not_followed(tokens: Tokens, provider: IdentityProvider) -> None:
    key = SigningKey("ec", "k1")
    provider.keys = [key.jwk()]
    provider.status, provider.headers = 302, {"Location": provider.url + "?again"}
    with pytest.raises(Unavailable):
        await tokens.verify(key.token(CLAIMS))
    assert provider.requests == 1


async def test_a_provider_that_is_not_there_is_asked_again_only_after_a_pause(clock: SetClock) -> None:
    async with httpx.AsyncClient() as client:
        tokens = Tokens(clock=clock, keys=KeySet("http://127.0.0.1:1/jwks", client, clock))
        for _ in range(3):
            with pytest.raises(Unavailable):
                await tokens.verify(SigningKey("ec", "k1").token(CLAIMS))


def test_keys_that_must_not_be_used_are_passed_over() -> None:
    good = SigningKey("ec", "good")
    secret = {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "oct"}
    entries: list[dict[str, Any]] = [
        secret, SigningKey("ec", "enc").jwk(use="enc"), SigningKey("rsa", "weak", bits=1024).jwk(),
        SigningKey("ec", "private").jwk(d="AAAA"), SigningKey("rsa", "none").jwk(alg="none"),
        SigningKey("rsa", "hmac").jwk(alg="HS256"), {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"}, good.jwk(),
    ]  # fmt: skip
    assert [key.key_id for key in parse(json.dumps({"keys": entries}).encode())] == ["good"]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "jwks.json", "https://", "ftp://x/y"])
async def test_an_address_that_is_no_web_address_is_refused_at_the_start(url: str, clock: SetClock) -> None:
    async with httpx.AsyncClient() as client:
        with pytest.raises(ValueError):
            KeySet(url, client, clock)
