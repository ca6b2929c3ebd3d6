"""fal's webhook signature: the vector of providers.md §1.10, freshness, and the cache of keys."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from safelight.providers.base import Transient, WebhookForged, WebhookNote, WebhookRequest
from safelight.providers.failures import failure
from safelight.providers.fal_webhook import FalKeys, parse_keys, verify
from safelight.providers.http import Answer

X = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
ID = "764cabcf-b745-4b3e-ae38-1200304cf45b"
BODY = f'{{"request_id":"{ID}","gateway_request_id":"{ID}","status":"OK","payload":{{"images":[]}}}}'.encode()
SIGNATURE = (
    "d09e959bc0a8e7a019f071fcc996b2c48355250d4b960a38bb3e7523e6e963a9"
    "e3a04a570a5d61b12254542bdeec1cf41c5bc2256eb4a4b90425c68379c10605"
)
SIGNED_AT = datetime.fromtimestamp(1_700_000_000, UTC)
HEADERS = {
    "x-fal-webhook-request-id": ID,
    "x-fal-webhook-user-id": "user_1",
    "x-fal-webhook-timestamp": "1700000000",
    "x-fal-webhook-signature": SIGNATURE,
}
JWKS = {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": X}]}
OTHER = {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}]}


class KeyHost:
    """Where fal publishes its keys."""

    def __init__(self, *served: object) -> None:
        self.served = list(served)
        self.asked = 0
        self.with_key: list[bool] = []

    async def read(self, method, url, *, with_key, **_):
        self.asked += 1
        self.with_key.append(with_key)
        await asyncio.sleep(0)
        now = self.served.pop(0) if len(self.served) > 1 else self.served[0]
        if now is None:
            raise Transient(failure("provider_unreachable"))
        return Answer(200, {}, now, "")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def keys(*served: object) -> tuple[FalKeys, KeyHost, Clock]:
    host, clock = KeyHost(*served), Clock()
    return FalKeys(host, "https://keys.example", clock), host, clock


def request(body: bytes = BODY, at: datetime = SIGNED_AT, **headers: str | None) -> WebhookRequest:
    named = HEADERS | {f"x-fal-webhook-{name.replace('_', '-')}": value for name, value in headers.items()}
    return WebhookRequest({name: value for name, value in named.items() if value is not None}, body, at)


def signed_at(timestamp: int, body: bytes = BODY) -> dict[str, str]:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    message = f"{ID}\nuser_1\n{timestamp}\n{hashlib.sha256(body).hexdigest()}".encode()
    return {"timestamp": str(timestamp), "signature": key.sign(message).hex()}


async def test_the_published_vector_is_proven_and_is_only_a_hint():
    book, host, _ = keys(JWKS)
    assert await verify(request(), book) == WebhookNote(event_key=ID, task_id=ID, observation=None)
    assert host.with_key == [False]  # our key is not for the host of keys


async def test_a_second_delivery_is_the_same_event():
    book, _, _ = keys(JWKS)
    later = await verify(request(at=SIGNED_AT + timedelta(seconds=120), **signed_at(1_700_000_120)), book)
    assert later.event_key == (await verify(request(), book)).event_key


@pytest.mark.parametrize(
    "forged",
    [
        request(body=BODY.replace(b"OK", b"NO")),
        request(user_id="user_2"),
        request(request_id="other"),
        request(timestamp="1700000001"),
        request(signature="00" * 64),
        request(signature=SIGNATURE[:-2]),
        request(signature="no hex"),
        request(signature=None),
        request(timestamp=None),
        request(timestamp="soon"),
        request(user_id="x" * 300),
        request(request_id=""),
    ],
)
async def test_a_webhook_that_was_touched_is_forged(forged):
    book, _, _ = keys(JWKS)
    with pytest.raises(WebhookForged):
        await verify(forged, book)


@pytest.mark.parametrize("seconds", [301, -301, 86_400])
async def test_a_signature_of_another_time_is_stale(seconds):
    book, host, _ = keys(JWKS)
    with pytest.raises(WebhookForged):
        await verify(request(at=SIGNED_AT + timedelta(seconds=seconds)), book)
    assert host.asked == 0


@pytest.mark.parametrize("seconds", [299, -299])
async def test_a_clock_a_little_off_is_fine(seconds):
    book, _, _ = keys(JWKS)
    await verify(request(at=SIGNED_AT + timedelta(seconds=seconds)), book)


async def test_the_id_of_the_submits_answer_counts_not_that_of_the_platforms_retry():
    body = json.dumps({"request_id": "ours", "gateway_request_id": ID, "status": "OK"}).encode()
    book, _, _ = keys(JWKS)
    assert (await verify(request(body=body, **signed_at(1_700_000_000, body)), book)).task_id == "ours"


async def test_a_signed_body_that_is_no_json_still_names_its_task():
    book, _, _ = keys(JWKS)
    assert (await verify(request(body=b"\xff", **signed_at(1_700_000_000, b"\xff")), book)).task_id == ID


async def test_keys_are_fetched_once_for_many_webhooks_at_once():
    book, host, _ = keys(JWKS)
    await asyncio.gather(*(verify(request(), book) for _ in range(20)))
    assert host.asked == 1


async def test_keys_are_not_kept_longer_than_a_day():
    book, host, clock = keys(JWKS)
    await verify(request(), book)
    clock.now += 24 * 3600 + 1
    await verify(request(), book)
    assert host.asked == 2


async def test_a_new_key_of_fals_is_found_at_the_first_webhook_it_signs():
    book, host, clock = keys(OTHER, JWKS)
    await book.current()
    clock.now += 61
    await verify(request(), book)
    assert host.asked == 2


async def test_forgers_make_us_ask_for_keys_once_a_minute_at_most():
    book, host, clock = keys(JWKS)
    for _ in range(10):
        with pytest.raises(WebhookForged):
            await verify(request(user_id="evil"), book)
    assert host.asked == 1
    clock.now += 61
    forgeries = (verify(request(user_id="evil"), book) for _ in range(10))
    told = await asyncio.gather(*forgeries, return_exceptions=True)
    assert all(isinstance(each, WebhookForged) for each in told)
    assert host.asked == 2


async def test_without_keys_fal_is_asked_to_come_again_and_no_webhook_is_called_forged():
    book, host, clock = keys(None, JWKS)
    for _ in range(3):
        with pytest.raises(Transient):
            await verify(request(), book)
    assert host.asked == 1
    clock.now += 61
    assert (await verify(request(), book)).task_id == ID


async def test_a_key_host_that_fails_does_not_cost_us_the_keys_we_have():
    book, _, clock = keys(JWKS, None)
    await book.current()
    clock.now += 61
    with pytest.raises(WebhookForged):
        await verify(request(user_id="evil"), book)
    assert (await verify(request(), book)).task_id == ID


@pytest.mark.parametrize(
    "jwks",
    [
        None,
        [],
        {},
        {"keys": None},
        {"keys": [5, {}, {"crv": "P-256", "x": X}, {"crv": "Ed25519", "x": "short"}, {"crv": "Ed25519", "x": 5}]},
    ],
)
def test_what_is_no_key_is_passed_over(jwks):
    assert parse_keys(jwks) == ()


def test_no_more_keys_are_taken_than_one_would_ever_try():
    assert len(parse_keys({"keys": JWKS["keys"] * 1000})) == 16
