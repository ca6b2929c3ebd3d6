"""Workers of the operator's own: signed by the Standard Webhooks rules, trusted because the body is signed."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks

from safelight.providers.base import (
    Failed,
    Output,
    Running,
    StoredFile,
    SubmitRequest,
    Succeeded,
    Unchanged,
    WebhookForged,
    WebhookRequest,
)
from safelight.providers.signed import SignedProvider, SignedSettings, secret_bytes

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
OLD = "whsec_" + base64.b64encode(b"an older secret of ours").decode()
NOW = datetime.fromtimestamp(1_700_000_000, UTC)


def signed(body: bytes, secret: str = SECRET, at: datetime = NOW, message_id: str = "msg_1") -> dict[str, str]:
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(secret).sign(message_id, at, body.decode()),
    }


def report(body: object, **changed: str) -> WebhookRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return WebhookRequest(signed(raw) | {n.replace("_", "-"): v for n, v in changed.items()}, raw, NOW)


@pytest.fixture
def worker():
    return SignedProvider(SignedSettings([SECRET]))


async def observed(worker: SignedProvider, body: object):
    return (await worker.verify_webhook(report(body))).observation


async def test_the_published_vector_of_the_specification_is_proven(worker):
    raw = b'{"type":"job.completed","timestamp":"2026-01-01T00:00:00Z","data":{"id":"job_1"}}'
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": "1700000000",
        "webhook-signature": "v1,vQpheEtVmmABtZqMnYhjt+/Du1OclZew733oygMnPJs=",
    }
    note = await worker.verify_webhook(WebhookRequest(headers, raw, NOW))
    assert note.event_key == "msg_1"


async def test_our_verdict_is_that_of_the_library(worker):
    """The library reads the wall clock, so both are asked about now."""
    now = datetime.now(UTC)
    body = json.dumps({"task_id": "a", "status": "running"}).encode()
    good = signed(body, at=now)
    altered = [
        {},
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": str(int(now.timestamp()) + 1)},
        {"webhook-timestamp": "0"},
        {"webhook-timestamp": str(int(now.timestamp()) + 400)},
        {"webhook-signature": good["webhook-signature"] + " v1,AAAA"},
        {"webhook-signature": "v1,AAAA " + good["webhook-signature"]},
        {"webhook-signature": "v2," + good["webhook-signature"][3:]},
        {"webhook-signature": ""},
        signed(body, secret=OLD, at=now),
        signed(b"{}", at=now),
    ]
    verdicts = []
    for change in altered:
        headers = good | change
        try:
            standardwebhooks.Webhook(SECRET).verify(body, headers, json_parse=False)
            theirs = True
        except standardwebhooks.WebhookVerificationError:
            theirs = False
        try:
            await worker.verify_webhook(WebhookRequest(headers, body, now))
            ours = True
        except WebhookForged:
            ours = False
        assert ours == theirs, change
        verdicts.append(ours)
    assert verdicts == [True, False, False, False, False, True, True, False, False, False, False]


@pytest.mark.parametrize(
    "forged",
    [
        report({"task_id": "a", "status": "running"}, webhook_id=""),
        report({"task_id": "a", "status": "running"}, webhook_id="a.b"),
        report({"task_id": "a", "status": "running"}, webhook_timestamp="soon"),
        report({"task_id": "a", "status": "running"}, webhook_signature="v1,ü"),
        report({"task_id": "a", "status": "running"}, webhook_signature=" ".join(["v1,AAAA"] * 9)),
        WebhookRequest({}, b"{}", NOW),
        WebhookRequest(signed(b"{}"), b"{}", NOW + timedelta(seconds=301)),
        WebhookRequest(signed(b"{}"), b"{}", NOW - timedelta(seconds=301)),
    ],
)
async def test_a_report_that_does_not_prove_itself_is_forged(worker, forged):
    with pytest.raises(WebhookForged):
        await worker.verify_webhook(forged)


async def test_a_secret_can_be_changed_while_workers_still_sign_with_the_old_one():
    worker = SignedProvider(SignedSettings([SECRET, OLD]))
    body = json.dumps({"task_id": "a", "status": "running"}).encode()
    for secret in (SECRET, OLD):
        note = await worker.verify_webhook(WebhookRequest(signed(body, secret), body, NOW))
        assert note.task_id == "a"


async def test_a_result_already_in_our_storage_comes_with_the_report(worker):
    stored = {
        "key": "p/1/2/original.png",
        "mime": "image/png",
        "width": 8,
        "height": 9,
        "bytes": 100,
        "thumbhash": "abc",
    }
    note = await worker.verify_webhook(
        report({"task_id": "a", "status": "succeeded", "outputs": [{"stored": {**stored, "duration_s": None}}]})
    )
    assert note.task_id == "a"
    assert note.event_key == "msg_1"
    file = StoredFile("p/1/2/original.png", "image/png", 100, 8, 9, None, "abc")
    assert note.observation == Succeeded([Output(stored=file, mime="image/png")])


async def test_a_result_may_come_inline_or_by_url(worker):
    outputs = [{"data": base64.b64encode(b"bytes").decode(), "mime": "image/png"}, {"url": "https://w.example/a.png"}]
    done = await observed(worker, {"task_id": "a", "status": "succeeded", "outputs": outputs})
    assert done == Succeeded([Output(data=b"bytes", mime="image/png"), Output(url="https://w.example/a.png")])


async def test_progress_is_shown_as_it_is_told(worker):
    assert await observed(worker, {"task_id": "a", "status": "running", "percent": 40}) == Running(40.0)
    assert await observed(worker, {"task_id": "a", "status": "running", "percent": 4000}) == Running(None)


async def test_a_failure_says_why(worker):
    failed = await observed(
        worker, {"task_id": "a", "status": "failed", "error": {"code": "content_policy", "message": "no"}}
    )
    assert isinstance(failed, Failed)
    assert failed.failure.code == "content_policy"
    other = await observed(worker, {"task_id": "a", "status": "failed", "error": {"code": "E17"}, "message": "cuda"})
    assert isinstance(other, Failed)
    assert (other.failure.code, other.failure.transient) == ("provider_failed", True)
    assert other.failure.message.endswith("cuda")


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        [],
        {"status": "running"},
        {"task_id": "a", "status": "dancing"},
        {"task_id": "a", "status": "succeeded"},
        {"task_id": "a", "status": "succeeded", "outputs": []},
        {"task_id": "a", "status": "succeeded", "outputs": [{}]},
        {"task_id": "a", "status": "succeeded", "outputs": [{"url": "https://x/", "data": "AA=="}]},
        {"task_id": "a", "status": "succeeded", "outputs": [{"url": "file:///etc/passwd"}]},
        {"task_id": "a", "status": "succeeded", "outputs": [{"data": "no base64!"}]},
        {"task_id": "a", "status": "succeeded", "outputs": [{"url": "https://x/"}] * 33},
        *(
            {
                "task_id": "a",
                "status": "succeeded",
                "outputs": [{"stored": {"key": key, "mime": "image/png", "bytes": 1}}],
            }
            for key in ("../../etc/passwd", "/etc/passwd", "a/../b", "", "a b", "x" * 600, "a/./b", "a/..")
        ),
    ],
)
async def test_a_proven_report_that_makes_no_sense_changes_nothing(worker, body):
    note = await worker.verify_webhook(report(body))
    assert isinstance(note.observation, Unchanged)
    assert note.task_id is None


async def test_nothing_is_submitted_and_the_attempts_id_is_the_tasks(worker):
    async def sink(_):
        raise AssertionError("nothing runs here")

    accepted = await worker.submit(SubmitRequest("att-1", "sketch", "image", {}, 1, None), sink)
    assert accepted.ref.task_id == "att-1"
    assert accepted.observation is None
    assert isinstance(await worker.inspect(accepted.ref), Unchanged)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_AAAA", "whsec_%%%", "not base64 at all!"])
def test_a_secret_too_weak_or_malformed_is_refused_at_the_start(secret):
    with pytest.raises(ValueError, match="secret"):
        secret_bytes(secret)
