"""Webhooks come as the providers send them, and go wrong as asked."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from emulator_desk import Desk, Inbox, open_desk
from starlette.requests import Request

from safelight.emulators.settings import EmulatorSettings


async def verify(desk: Desk, request: Request, body: bytes) -> None:
    """As providers.md §1.10 tells a receiver to. Raises InvalidSignature."""
    [jwk] = (await desk.fal.get("/rest/.well-known/jwks.json")).json()["keys"]
    key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(jwk["x"] + "="))
    parts = [request.headers[f"x-fal-webhook-{name}"] for name in ("request-id", "user-id", "timestamp")]
    message = "\n".join([*parts, hashlib.sha256(body).hexdigest()])
    key.verify(bytes.fromhex(request.headers["x-fal-webhook-signature"]), message.encode())


async def test_fal_reports_a_result_with_a_signature_that_verifies(desk: Desk, inbox: Inbox):
    submitted = await desk.fal_submit(inbox.url)
    await inbox.holds(1)
    body = json.loads(inbox.bodies[0])
    await verify(desk, inbox.received[0], inbox.bodies[0])
    assert body["request_id"] == body["gateway_request_id"] == submitted.json()["request_id"]
    assert body["status"] == "OK"
    assert body["payload"] == (await desk.fal_result(submitted)).json()
    assert abs(time.time() - int(inbox.received[0].headers["x-fal-webhook-timestamp"])) < 60


async def test_fal_reports_a_failure_with_what_the_model_said(desk: Desk, inbox: Inbox):
    await desk.fal_submit(inbox.url, faults={"fail": "content_policy"})
    await inbox.holds(1)
    body = json.loads(inbox.bodies[0])
    assert (body["status"], body["error"]) == ("ERROR", "Invalid status code: 422")
    assert body["payload"]["detail"][0]["type"] == "content_policy_violation"


async def test_a_webhook_that_is_not_taken_is_sent_again_and_signed_anew(desk: Desk, inbox: Inbox):
    inbox.answers = [500, 409]
    await desk.fal_submit(inbox.url)
    await inbox.holds(3)
    for request, body in zip(inbox.received, inbox.bodies, strict=True):
        await verify(desk, request, body)
    deliveries = await desk.deliveries()
    assert [each["status"] for each in deliveries] == [500, 409, 200]
    assert [each["kind"] for each in deliveries] == ["normal", "retry", "retry"]
    assert {each["attempt"] for each in deliveries} == {"attempt-1"}


async def test_a_redirect_is_a_refusal_for_good(desk: Desk, inbox: Inbox):
    inbox.answers = [302]
    first = await desk.fal_submit(inbox.url)
    second = await desk.fal_submit(inbox.url)
    await inbox.holds(2)
    await desk.fal_ended(first)
    await desk.fal_ended(second)
    assert len(inbox.received) == 2


async def test_a_receiver_that_cannot_be_reached_is_on_record(desk: Desk):
    await desk.fal_submit("http://127.0.0.1:1/hooks/fal/a/t")
    while not (deliveries := await desk.deliveries()):
        pass
    assert deliveries[0]["status"] is None
    assert "ConnectError" in deliveries[0]["error"]


async def test_no_webhook_is_sent_when_none_was_asked_for(desk: Desk, inbox: Inbox):
    await desk.fal_result(await desk.fal_submit())
    await desk.fal_submit(inbox.url)
    await inbox.holds(1)
    assert len(await desk.deliveries()) == 1


# --- faults ---------------------------------------------------------------------------------------------------------


async def test_a_lost_webhook_never_comes_and_the_result_is_there(desk: Desk, inbox: Inbox):
    lost = await desk.fal_submit(inbox.url, faults={"webhook": "lost"})
    assert (await desk.fal_result(lost)).status_code == 200
    await desk.fal_submit(inbox.url)
    await inbox.holds(1)
    assert json.loads(inbox.bodies[0])["request_id"] != lost.json()["request_id"]


async def test_a_late_webhook_comes_after_the_result_was_there(desk: Desk, inbox: Inbox):
    submitted = await desk.fal_submit(inbox.url, faults={"webhook": "late"})
    await desk.fal_ended(submitted)
    assert not inbox.received
    await inbox.holds(1)


async def test_a_doubled_webhook_comes_twice_with_the_same_bytes(desk: Desk, inbox: Inbox):
    await desk.fal_submit(inbox.url, faults={"webhook": "double"})
    await inbox.holds(2)
    assert inbox.bodies[0] == inbox.bodies[1]
    assert inbox.received[0].headers["x-fal-webhook-signature"] == inbox.received[1].headers["x-fal-webhook-signature"]


async def test_a_forged_webhook_comes_in_place_of_the_true_one_and_lies(desk: Desk, inbox: Inbox):
    submitted = await desk.fal_submit(inbox.url, faults={"webhook": "forged"})
    await inbox.holds(1)
    with pytest.raises(InvalidSignature):
        await verify(desk, inbox.received[0], inbox.bodies[0])
    assert json.loads(inbox.bodies[0])["status"] == "ERROR"
    assert (await desk.fal_result(submitted)).status_code == 200


async def test_a_stale_webhook_is_signed_well_but_an_hour_ago(desk: Desk, inbox: Inbox):
    await desk.fal_submit(inbox.url, faults={"webhook": "stale"})
    await inbox.holds(1)
    await verify(desk, inbox.received[0], inbox.bodies[0])
    assert time.time() - int(inbox.received[0].headers["x-fal-webhook-timestamp"]) > 3000


async def test_a_reordered_webhook_comes_after_that_of_a_later_request(inbox: Inbox):
    async with open_desk(EmulatorSettings(late_s=30.0)) as desk:
        first = await desk.fal_submit(inbox.url, faults={"webhook": "reordered"})
        await desk.fal_ended(first)
        second = await desk.fal_submit(inbox.url)
        await inbox.holds(2)
    ids = [json.loads(body)["request_id"] for body in inbox.bodies]
    assert ids == [second.json()["request_id"], first.json()["request_id"]]


async def test_a_webhook_can_come_before_the_submit_is_answered(desk: Desk, inbox: Inbox):
    submitted = await desk.fal_submit(inbox.url, faults={"webhook": "before_answer"})
    assert len(inbox.received) == 1, "it was there when the answer came"
    assert json.loads(inbox.bodies[0])["request_id"] == submitted.json()["request_id"]


async def test_a_canceled_request_sends_a_webhook_only_if_asked_to(desk: Desk, inbox: Inbox):
    silent = await desk.fal_submit(inbox.url, faults={"latency_s": 30})
    await desk.fal.put(silent.json()["cancel_url"])
    await desk.fal_ended(silent)
    loud = await desk.fal_submit(inbox.url, faults={"latency_s": 30, "cancel": "webhook"})
    await desk.fal.put(loud.json()["cancel_url"])
    await inbox.holds(1)
    assert json.loads(inbox.bodies[0])["request_id"] == loud.json()["request_id"]
    assert json.loads(inbox.bodies[0])["status"] == "ERROR"


async def test_a_webhook_may_say_that_the_result_must_be_fetched(desk: Desk, inbox: Inbox):
    submitted = await desk.fal_submit(inbox.url, faults={"webhook": "payload_error"})
    await inbox.holds(1)
    body = json.loads(inbox.bodies[0])
    assert (body["status"], body["payload"]) == ("OK", None)
    assert body["payload_error"]
    assert (await desk.fal_result(submitted)).json()["images"]


async def test_after_a_platform_retry_the_gateways_id_is_another(desk: Desk, inbox: Inbox):
    submitted = await desk.fal_submit(inbox.url, faults={"requeue": True})
    await inbox.holds(1)
    body = json.loads(inbox.bodies[0])
    assert body["request_id"] == submitted.json()["request_id"] != body["gateway_request_id"]


# --- KIE ------------------------------------------------------------------------------------------------------------


async def test_kie_signs_its_callbacks_when_there_is_a_key(inbox: Inbox):
    async with open_desk(EmulatorSettings(kie_webhook_hmac_key="hush")) as desk:
        task_id = (await desk.kie_create(inbox.url)).json()["data"]["taskId"]
        await inbox.holds(1)
    headers = inbox.received[0].headers
    digest = hmac.digest(b"hush", f"{task_id}.{headers['x-webhook-timestamp']}".encode(), "sha256")
    assert headers["x-webhook-signature"] == base64.b64encode(digest).decode()


async def test_kie_does_not_try_again(desk: Desk, inbox: Inbox):
    inbox.answers = [500]
    await desk.kie_create(inbox.url)
    await desk.kie_create(inbox.url)
    await inbox.holds(2)
    assert [each["kind"] for each in await desk.deliveries()] == ["normal", "normal"]


async def test_kie_callbacks_tell_success_and_failure(desk: Desk, inbox: Inbox):
    await desk.kie_create(inbox.url)
    await inbox.holds(1)
    await desk.kie_create(inbox.url, faults={"fail": "transient"})
    await inbox.holds(2)
    done, failed = map(json.loads, inbox.bodies)
    assert (done["code"], done["data"]["state"], failed["code"], failed["data"]["state"]) == (
        200,
        "success",
        501,
        "fail",
    )
    async with httpx.AsyncClient() as client:
        file = await client.get(json.loads(done["data"]["resultJson"])["resultUrls"][0])
    assert file.content.startswith(b"\x89PNG")
    assert (failed["data"]["failCode"], failed["data"]["resultJson"]) == ("500", None)


async def test_a_forged_kie_callback_has_a_wrong_signature_and_lies(inbox: Inbox):
    async with open_desk(EmulatorSettings(kie_webhook_hmac_key="hush")) as desk:
        created = await desk.kie_create(inbox.url, faults={"webhook": "forged"})
        await inbox.holds(1)
        assert (await desk.kie_ended(created))["state"] == "success"
    headers = inbox.received[0].headers
    task_id = created.json()["data"]["taskId"]
    digest = hmac.digest(b"hush", f"{task_id}.{headers['x-webhook-timestamp']}".encode(), "sha256")
    assert headers["x-webhook-signature"] != base64.b64encode(digest).decode()
    assert json.loads(inbox.bodies[0])["data"]["state"] == "fail"
