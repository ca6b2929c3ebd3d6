"""KIE: what its codes, states and callbacks mean. The wire itself is met in tests/integration/providers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from safelight.providers.base import (
    AccountProblem,
    Ambiguous,
    Failed,
    Missing,
    Refused,
    Rejected,
    Running,
    SubmitRequest,
    Succeeded,
    TaskRef,
    Transient,
    Unchanged,
    Waiting,
    WebhookForged,
    WebhookRequest,
)
from safelight.providers.http import Answer
from safelight.providers.kie import KieProvider, KieSettings, code_of, create_body, submit_error, task_failure

JOB, VEO = TaskRef("t1", "google/nano-banana", {"kind": "image"}), TaskRef("t2", "veo3", {"kind": "video"})


def answer(code: int | None, data: object = None, msg: str = "said so", status: int = 200, **headers: str) -> Answer:
    body = {"msg": msg, "data": data} | ({} if code is None else {"code": code})
    return Answer(status, {n.replace("_", "-"): v for n, v in headers.items()}, body, json.dumps(body))


def provider(*answers: Answer, hmac_key: str | None = None) -> KieProvider:
    made = KieProvider(KieSettings(key="k", webhook_hmac_key=hmac_key))
    script = list(answers)

    class Scripted:
        async def read(self, method, url, **_):
            return script.pop(0)

    made._api = Scripted()
    return made


# --- submit -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "ours"),
    [
        (400, Rejected, "invalid_input"),
        (401, AccountProblem, "provider_key"),
        (402, AccountProblem, "provider_balance"),
        (404, Rejected, "provider_refused"),
        (408, Ambiguous, "submit_unknown"),
        (422, Rejected, "invalid_input"),
        (429, Refused, "provider_busy"),
        (433, AccountProblem, "provider_limit"),
        (451, Rejected, "input_unreachable"),
        (455, Refused, "provider_maintenance"),
        (500, Ambiguous, "submit_unknown"),
        (501, Ambiguous, "submit_unknown"),
        (502, Ambiguous, "submit_unknown"),
        (505, Rejected, "provider_refused"),
        (777, Ambiguous, "submit_unknown"),
        (0, Ambiguous, "submit_unknown"),
    ],
)
def test_a_code_on_submit_tells_whether_the_task_was_taken(code, kind, ours):
    raised = submit_error(code, answer(code))
    assert type(raised) is kind
    assert raised.failure.code == ours


def test_refused_content_is_told_from_bad_input_by_its_text():
    raised = submit_error(400, answer(400, msg="Your prompt was flagged as violating our content policies."))
    assert isinstance(raised, Rejected)
    assert raised.failure.code == "content_policy"


def test_kies_rate_window_is_waited_for():
    raised = submit_error(429, answer(429))
    assert isinstance(raised, Refused)
    assert raised.retry_after_s == 10
    told = submit_error(429, answer(429, retry_after="30"))
    assert isinstance(told, Refused)
    assert told.retry_after_s == 30


def test_the_vendors_words_about_our_account_are_not_shown():
    raised = submit_error(402, answer(402, msg="top up at kie.ai"))
    assert "kie.ai" not in raised.failure.message
    assert raised.failure.body is None


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (answer(200), 200),
        (answer(None, status=503), 503),
        (answer(402, status=402), 402),
        (Answer(200, {}, None, "<html>"), 0),
        (Answer(200, {}, {"code": "200"}, ""), 200),
        (Answer(200, {}, {"code": True}, ""), 0),
        (Answer(200, {}, {"code": -5}, ""), 0),
        (Answer(404, {}, {"detail": "Not Found"}, ""), 404),
    ],
)
def test_the_envelopes_code_counts_before_http(said, code):
    assert code_of(said) == code


def ask(endpoint: str, given: dict, webhook: str | None = "https://us/hook") -> dict:
    return create_body(SubmitRequest("a", endpoint, "image", given, 1, webhook))


def test_market_jobs_and_veo_are_written_as_each_wants():
    assert ask("google/nano-banana", {"prompt": "x"}) == {
        "model": "google/nano-banana",
        "input": {"prompt": "x"},
        "callBackUrl": "https://us/hook",
    }
    assert ask("veo3_fast", {"prompt": "x"}) == {
        "model": "veo3_fast",
        "prompt": "x",
        "callBackUrl": "https://us/hook",
    }


def test_an_input_cannot_send_the_result_to_a_stranger_nor_name_another_model():
    stolen = {"prompt": "x", "callBackUrl": "https://evil", "model": "veo9"}
    assert ask("veo3", stolen) == {"model": "veo3", "prompt": "x", "callBackUrl": "https://us/hook"}
    assert ask("veo3", stolen, None) == {"model": "veo3", "prompt": "x"}


# --- inspect ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "means"),
    [
        ("waiting", Waiting()),
        ("queuing", Waiting()),
        ("generating", Running()),
        ("reviewing", Unchanged("reviewing")),
        (None, Unchanged("None")),
    ],
)
async def test_a_state_becomes_an_observation(state, means):
    assert await provider(answer(200, {"state": state, "resultJson": ""})).inspect(JOB) == means


@pytest.mark.parametrize(
    "result",
    [
        '{"resultUrls":["https://tempfile.aiquickdraw.com/a.png"]}',
        {"resultUrls": ["https://tempfile.aiquickdraw.com/a.png"]},
        '{"resultObject":{"file":{"url":"https://tempfile.aiquickdraw.com/a.png"}}}',
    ],
)
async def test_a_success_has_its_urls_wherever_kie_put_them(result):
    done = await provider(answer(200, {"state": "success", "resultJson": result, "creditsConsumed": 4})).inspect(JOB)
    assert isinstance(done, Succeeded)
    assert [output.url for output in done.outputs] == ["https://tempfile.aiquickdraw.com/a.png"]
    assert done.cost == {"credits": 4}


@pytest.mark.parametrize("result", ["", None, "{", '{"resultUrls":[]}', '{"resultUrls":["file:///etc/passwd"]}'])
async def test_a_success_without_media_is_a_failure(result):
    ended = await provider(answer(200, {"state": "success", "resultJson": result})).inspect(JOB)
    assert isinstance(ended, Failed)
    assert ended.failure.code == "no_output"


@pytest.mark.parametrize(
    ("code", "message", "ours", "transient"),
    [
        ("400", "Bad parameter", "invalid_input", False),
        ("400", "Your prompt was flagged by Website as violating our content policies.", "content_policy", False),
        ("501", "The input may contain sensitive information", "content_policy", False),
        ("408", "no result", "provider_timeout", True),
        ("422", "Invalid parameter", "invalid_input", False),
        ("451", "Failed to fetch the image", "input_unreachable", False),
        ("455", "maintenance", "provider_maintenance", True),
        ("500", "Internal server error", "provider_failed", True),
        (500, "Internal server error", "provider_failed", True),
        ("501", "Generation failed", "provider_failed", True),
        ("505", "disabled", "provider_refused", False),
        ("", "Who knows", "provider_failed", False),
        (None, None, "provider_failed", False),
        ("E-17", None, "provider_failed", False),
    ],
)
def test_a_fail_code_gets_our_code(code, message, ours, transient):
    failed = task_failure(code, message)
    assert (failed.code, failed.transient) == (ours, transient)


async def test_a_failed_job_keeps_what_kie_said_but_not_our_request():
    data = {"state": "fail", "failCode": "500", "failMsg": "Internal server error", "param": '{"input":"secret"}'}
    ended = await provider(answer(200, data)).inspect(JOB)
    assert isinstance(ended, Failed)
    assert ended.failure.body == {"state": "fail", "failCode": "500", "failMsg": "Internal server error"}
    assert ended.failure.message == "The provider could not make this: Internal server error"


@pytest.mark.parametrize(("flag", "means"), [(0, Running()), (7, Unchanged("7")), (None, Unchanged("None"))])
async def test_a_veo_flag_becomes_an_observation(flag, means):
    assert await provider(answer(200, {"successFlag": flag, "response": None})).inspect(VEO) == means


@pytest.mark.parametrize("urls", [["http://kie/v.mp4"], '["http://kie/v.mp4"]'])
async def test_a_veo_success_yields_the_clip_and_not_its_uncropped_twin(urls):
    response = {"taskId": "t2", "originUrls": ["http://kie/origin.mp4"], "resultUrls": urls, "resolution": "1080p"}
    done = await provider(answer(200, {"successFlag": 1, "response": response})).inspect(VEO)
    assert isinstance(done, Succeeded)
    assert [output.url for output in done.outputs] == ["http://kie/v.mp4"]


@pytest.mark.parametrize("flag", [2, 3])
async def test_a_veo_failure_says_why(flag):
    data = {"successFlag": flag, "errorCode": 400, "errorMessage": "unsafe image"}
    ended = await provider(answer(200, data)).inspect(VEO)
    assert isinstance(ended, Failed)
    assert ended.failure.code == "content_policy"


async def test_a_task_kie_does_not_know_is_missing():
    assert await provider(answer(422, msg="recordInfo is null")).inspect(JOB) == Missing()
    assert await provider(answer(404)).inspect(JOB) == Missing()


async def test_a_wrong_path_or_another_complaint_is_no_word_about_the_task():
    assert isinstance(await provider(Answer(404, {}, {"detail": "Not Found"}, "")).inspect(JOB), Unchanged)
    assert isinstance(await provider(answer(422, msg="taskId is required")).inspect(JOB), Unchanged)


@pytest.mark.parametrize(
    "said", [answer(429), answer(500), answer(455), answer(None, status=503), Answer(200, {}, None, "")]
)
async def test_a_record_that_cannot_be_read_just_now_is_asked_for_again(said):
    with pytest.raises(Transient):
        await provider(said).inspect(JOB)


@pytest.mark.parametrize("code", [401, 402, 433])
async def test_trouble_with_our_account_is_the_operators(code):
    with pytest.raises(AccountProblem):
        await provider(answer(code)).inspect(JOB)


async def test_a_refused_result_url_is_renewed_where_kie_made_the_file():
    assert await provider(answer(200, "https://kie/signed")).renew_url(JOB, "https://kie/a") == "https://kie/signed"
    assert await provider(answer(422)).renew_url(JOB, "https://kie/a") is None
    assert await provider(answer(200, "file:///etc/passwd")).renew_url(JOB, "https://kie/a") is None


async def test_kie_cannot_cancel():
    made = provider()
    assert not made.capabilities.cancel
    assert (await made.cancel(JOB)).outcome == "unsupported"


# --- webhook ----------------------------------------------------------------------------------------------------

SIGNED_AT = datetime.fromtimestamp(1_700_000_000, UTC)
SIGNATURE = "Lvq864pP9WO4Osf9yYM1/ju5Kd5jn27GBa8Ls9nx1r4="
BODY = {"code": 200, "msg": "ok", "data": {"taskId": "task_12345678", "state": "success"}}


def hook(body: object = BODY, at: datetime = SIGNED_AT, **headers: str) -> WebhookRequest:
    named = {"x-webhook-timestamp": "1700000000", "x-webhook-signature": SIGNATURE}
    named |= {f"x-webhook-{name}": value for name, value in headers.items()}
    return WebhookRequest(named, json.dumps(body).encode(), at)


@pytest.mark.parametrize("name", ["taskId", "task_id"])
async def test_the_published_vector_is_proven_and_is_only_a_hint(name):
    note = await provider(hmac_key="test_hmac_key").verify_webhook(hook({"code": 200, "data": {name: "task_12345678"}}))
    assert (note.task_id, note.observation) == ("task_12345678", None)
    assert note.event_key == "task_12345678:200"


@pytest.mark.parametrize(
    "forged",
    [
        hook(signature="AAAA"),
        hook(signature=""),
        hook(signature="ü"),
        hook(timestamp="1700000001"),
        hook(timestamp=""),
        hook(timestamp="٣"),
        hook(at=SIGNED_AT + timedelta(seconds=301)),
        hook(at=SIGNED_AT - timedelta(seconds=301)),
        hook({"code": 200, "data": {"taskId": "task_other"}}),
        hook({"code": 200, "data": None}),
        hook([]),
        hook({"data": {"taskId": "x" * 500}}),
    ],
)
async def test_a_callback_that_was_touched_is_forged(forged):
    with pytest.raises(WebhookForged):
        await provider(hmac_key="test_hmac_key").verify_webhook(forged)


async def test_without_a_key_the_secret_url_is_the_proof_but_a_task_must_be_named():
    unsigned = WebhookRequest({}, json.dumps(BODY).encode(), SIGNED_AT)
    assert (await provider().verify_webhook(unsigned)).task_id == "task_12345678"
    with pytest.raises(WebhookForged):
        await provider().verify_webhook(WebhookRequest({}, b"not json", SIGNED_AT))
