"""The Replicate adapter against its emulator, over real sockets: every answer, every fault, one submit each."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from safelight.emulators.serve import Address, running
from safelight.emulators.settings import EmulatorSettings
from safelight.providers.base import (
    AccountProblem,
    Ambiguous,
    Canceled,
    Failed,
    Missing,
    Observation,
    ProviderError,
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
from safelight.providers.replicate import ReplicateProvider, ReplicateSettings

DEADLINE_S = 60.0
LOOK_EVERY_S = 0.02
ENDS = (Succeeded, Failed, Canceled, Missing)
MODEL = "black-forest-labs/flux-schnell"
QUICK = {"latency_s": 0.1}


@pytest.fixture(scope="module")
def at() -> Iterator[Address]:
    settings = EmulatorSettings(seed=11, webhook_retry_scale=0.0005, late_s=0.2, slow_s=0.3, media_threads=1)
    with running(settings) as address:
        yield address


@pytest.fixture
async def provider(at: Address) -> AsyncIterator[ReplicateProvider]:
    built = ReplicateProvider(ReplicateSettings(token="r8_a", api_url=f"{at.replicate_url}/v1"))
    yield built
    await built.close()


class Inbox:
    """Where webhooks arrive, by the attempt in their path."""

    def __init__(self) -> None:
        self.url = ""
        self.received: dict[str, list[WebhookRequest]] = {}

    async def take(self, request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        raw = WebhookRequest(headers, await request.body(), datetime.now(UTC))
        self.received.setdefault(request.path_params["attempt"], []).append(raw)
        return Response(status_code=200)

    async def wait(self, attempt: str, count: int = 1) -> list[WebhookRequest]:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.received.get(attempt, [])) < count:
                await asyncio.sleep(LOOK_EVERY_S)
        return self.received[attempt]


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    import contextlib
    import socket

    import uvicorn

    box = Inbox()
    app = Starlette(routes=[Route("/hooks/replicate/{attempt}/{token}", box.take, methods=["POST"])])
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve([listener]))
    box.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield box
    server.should_exit = True
    await task
    listener.close()


def ask(
    faults: dict[str, Any] | None = None, *, endpoint: str = MODEL, hook: str = "http://127.0.0.1:9", **given: Any
) -> SubmitRequest:
    attempt_id = str(uuid4())
    kind = "video" if "seedance" in endpoint else "image"
    small = {"width": 64, "height": 64, "duration": 1} if kind == "video" else {"width": 64, "height": 64}
    body = {"prompt": f"a red fox {attempt_id}", **small, **given, "_emulator": {**QUICK, **(faults or {})}}
    # No one listens on port 9, yet the attempt is named in it.
    return SubmitRequest(attempt_id, endpoint, kind, body, 1, f"{hook}/hooks/replicate/{attempt_id}/token")


async def silent(_: Running) -> None:
    raise AssertionError("only inline providers report progress while submitting")


async def accepted(at: Address, request: SubmitRequest) -> int:
    """How many predictions this attempt would be billed for."""
    async with httpx.AsyncClient(trust_env=False) as client:
        listed = (await client.get(f"{at.replicate_url}/_emulator/requests")).json()
    return sum(each["attempt"] == request.attempt_id for each in listed)


async def watch(provider: ReplicateProvider, ref: TaskRef) -> list[Observation | Transient]:
    seen: list[Observation | Transient] = []
    async with asyncio.timeout(DEADLINE_S):
        while not seen or not isinstance(seen[-1], ENDS):
            try:
                seen.append(await provider.inspect(ref))
            except Transient as transient:
                seen.append(transient)
            await asyncio.sleep(LOOK_EVERY_S)
    return seen


async def end(provider: ReplicateProvider, request: SubmitRequest) -> Observation | Transient:
    return (await watch(provider, (await provider.submit(request, silent)).ref))[-1]


async def download(url: str | None) -> bytes:
    assert url is not None
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(url)).content


# --- the good day -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "endpoint",
    [
        MODEL,
        "black-forest-labs/flux-1.1-pro",
        f"somebody/something:{'0123456789abcdef' * 4}",
        "fedcba9876543210" * 4,
        "deployments/acme/my-flux",
    ],
)
async def test_every_form_of_endpoint_makes_one_picture(provider: ReplicateProvider, at: Address, endpoint: str):
    request = ask(endpoint=endpoint)
    made = await end(provider, request)
    assert isinstance(made, Succeeded)
    (output,) = made.outputs
    Image.open(io.BytesIO(await download(output.url))).verify()
    assert made.cost is not None
    assert made.cost["predict_time"] > 0
    assert await accepted(at, request) == 1


async def test_a_clip_is_one_url(provider: ReplicateProvider):
    made = await end(provider, ask(endpoint="bytedance/seedance-1-lite"))
    assert isinstance(made, Succeeded)
    (output,) = made.outputs
    assert (await download(output.url))[4:8] == b"ftyp"


async def test_several_pictures_come_in_order(provider: ReplicateProvider):
    made = await end(provider, ask(num_outputs=3))
    assert isinstance(made, Succeeded)
    assert len({output.url for output in made.outputs}) == 3


async def test_a_prediction_in_the_queue_waits(provider: ReplicateProvider):
    accepted_ = await provider.submit(ask({"latency_s": 300.0, "queue_s": 300.0}), silent)
    assert await provider.inspect(accepted_.ref) == Waiting()
    await provider.cancel(accepted_.ref)


async def test_progress_comes_from_the_logs(provider: ReplicateProvider):
    accepted_ = await provider.submit(ask({"latency_s": 20.0, "queue_s": 0.0}), silent)
    seen: Observation = Waiting()
    async with asyncio.timeout(DEADLINE_S):
        while not isinstance(seen, Running) or seen.percent is None:
            await asyncio.sleep(LOOK_EVERY_S)
            seen = await provider.inspect(accepted_.ref)
    assert 0 < seen.percent <= 100
    assert re.search(r"\d+/28", seen.logs[-1])
    await provider.cancel(accepted_.ref)


async def test_nothing_ever_asks_replicate_to_wait(provider: ReplicateProvider):
    """The emulator honours `Prefer: wait`: an answer in the state `starting` shows that it was not asked."""
    accepted_ = await provider.submit(ask({"latency_s": 300.0, "queue_s": 300.0}), silent)
    assert accepted_.observation is None
    assert isinstance(await provider.inspect(accepted_.ref), Waiting)
    await provider.cancel(accepted_.ref)


async def test_an_unknown_prediction_is_missing(provider: ReplicateProvider):
    assert await provider.inspect(TaskRef("nobody", MODEL)) == Missing()


async def test_an_input_that_replicate_refuses_costs_nothing(provider: ReplicateProvider, at: Address):
    request = ask(prompt="")
    with pytest.raises(Rejected) as caught:
        await provider.submit(request, silent)
    assert caught.value.failure.code == "invalid_input"
    assert "prompt" in caught.value.failure.message
    assert await accepted(at, request) == 0


async def test_an_endpoint_that_is_none_is_never_sent(provider: ReplicateProvider):
    for endpoint in ("flux", "a/b/c", "a//b", "a/b:latest", "../x/y"):
        with pytest.raises(Rejected):
            await provider.submit(replace(ask(), endpoint=endpoint), silent)


# --- submit: what is known of it afterwards, and what it cost ---------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "taken"),
    [("lose_answer", 1), ("garbage", 1), ("500_accepted", 1), ("lose_request", 0), ("500", 0), ("503", 0)],
)
async def test_a_submit_nobody_can_tell_about_is_found_in_the_list_if_it_was_taken(
    provider: ReplicateProvider, at: Address, fault: str, taken: int
):
    request = ask({"submit": fault})
    since = datetime.now(UTC) - timedelta(minutes=1)
    with pytest.raises(Ambiguous) as caught:
        await provider.submit(request, silent)
    assert caught.value.failure.code == "submit_unknown"
    assert await accepted(at, request) == taken
    found = await provider.find(request.attempt_id, MODEL, since)
    assert (found is not None) is bool(taken)
    if found is not None:
        assert isinstance((await watch(provider, found))[-1], Succeeded)
    assert await provider.find(str(uuid4()), MODEL, since) is None


async def test_a_lost_submit_is_found_behind_a_full_page(provider: ReplicateProvider, at: Address):
    request = ask({"submit": "lose_answer", "latency_s": 0.0, "result": "none"})
    since = datetime.now(UTC) - timedelta(minutes=1)
    with pytest.raises(Ambiguous):
        await provider.submit(request, silent)
    many = [ask({"latency_s": 0.0, "result": "none"}) for _ in range(101)]
    await asyncio.gather(*(provider.submit(each, silent) for each in many))
    found = await provider.find(request.attempt_id, MODEL, since)
    assert found is not None
    # …and the search ends where the list is older than the submit.
    assert await provider.find(request.attempt_id, MODEL, datetime.now(UTC) + timedelta(hours=1)) is None


async def test_a_refused_submit_says_how_long_to_wait_and_then_costs_once(provider: ReplicateProvider, at: Address):
    request = ask({"submit": "429", "retry_after_s": 3.0})
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            await provider.submit(request, silent)
        assert (caught.value.failure.code, caught.value.retry_after_s) == ("provider_busy", 3.0)
    assert await accepted(at, request) == 0
    await provider.submit(request, silent)
    assert await accepted(at, request) == 1


async def test_a_refusal_without_a_time_waits_a_little(provider: ReplicateProvider):
    with pytest.raises(Refused) as caught:
        await provider.submit(ask({"submit": "429", "retry_after_s": None}), silent)
    assert caught.value.retry_after_s == 5.0


@pytest.mark.parametrize(
    ("fault", "raised", "code"),
    [
        ("401", AccountProblem, "provider_key"),
        ("402", AccountProblem, "provider_balance"),
        ("404", Rejected, "provider_refused"),
        ("422", Rejected, "invalid_input"),
    ],
)
async def test_a_submit_that_was_turned_away_costs_nothing(
    provider: ReplicateProvider, at: Address, fault: str, raised: type, code: str
):
    request = ask({"submit": fault})
    with pytest.raises(ProviderError) as caught:
        await provider.submit(request, silent)
    assert type(caught.value) is raised
    assert caught.value.failure.code == code
    assert "billing" not in caught.value.failure.message
    assert await accepted(at, request) == 0


async def test_a_bad_token_is_the_operators_problem_for_every_call():
    with running(EmulatorSettings(replicate_tokens=frozenset({"right"}))) as strict:
        wrong = ReplicateProvider(ReplicateSettings(token="wrong", api_url=f"{strict.replicate_url}/v1"))
        ref = TaskRef("x", MODEL)
        for call in (
            wrong.submit(ask(), silent),
            wrong.inspect(ref),
            wrong.cancel(ref),
            wrong.find("x", MODEL, datetime.now(UTC)),
        ):
            with pytest.raises(AccountProblem) as caught:
                await call
            assert caught.value.failure.code == "provider_key"
        with pytest.raises(Transient):
            await wrong.verify_webhook(WebhookRequest({"webhook-signature": "v1,x"}, b"{}", datetime.now(UTC)))
        await wrong.close()


# --- how it ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fail", "code", "transient"),
    [
        ("content_policy", "content_policy", False),
        ("sensitive", "content_policy", False),
        ("transient", "provider_failed", True),
        ("timeout", "provider_failed", True),
        ("internal_server_error", "provider_failed", True),
        ("out_of_memory", "invalid_input", False),
        ("invalid_input", "invalid_input", False),
        ("model_error", "provider_failed", False),
        ("aborted", "provider_timeout", True),
    ],
)
async def test_a_failed_prediction_says_why_and_whether_another_try_can_help(
    provider: ReplicateProvider, fail: str, code: str, transient: bool
):
    made = await end(provider, ask({"fail": fail}))
    assert isinstance(made, Failed)
    assert (made.failure.code, made.failure.transient) == (code, transient)
    assert made.failure.body["id"]


async def test_a_state_nobody_knows_changes_nothing(provider: ReplicateProvider):
    accepted_ = await provider.submit(ask({"status": "unknown", "status_times": 2}), silent)
    seen = await watch(provider, accepted_.ref)
    assert seen[:2] == [Unchanged("reviewing")] * 2
    assert isinstance(seen[-1], Succeeded)


async def test_a_status_that_cannot_be_read_is_asked_for_again(provider: ReplicateProvider):
    accepted_ = await provider.submit(ask({"status": "500"}), silent)
    seen = await watch(provider, accepted_.ref)
    assert isinstance(seen[0], Transient)
    assert isinstance(seen[-1], Succeeded)


async def test_a_prediction_whose_data_was_removed_has_expired(provider: ReplicateProvider):
    made = await end(provider, ask({"result": "gone"}))
    assert isinstance(made, Failed)
    assert made.failure.code == "result_expired"


async def test_after_its_hour_everything_is_gone():
    with running(EmulatorSettings(replicate_lifetime_s=0.0, media_threads=1)) as forgetful:
        provider = ReplicateProvider(ReplicateSettings(token="t", api_url=f"{forgetful.replicate_url}/v1"))
        made = await end(provider, ask())
        assert isinstance(made, Failed)
        assert made.failure.code == "result_expired"
        await provider.close()


async def test_a_success_without_media_is_no_success(provider: ReplicateProvider):
    made = await end(provider, ask({"result": "none"}))
    assert isinstance(made, Failed)
    assert made.failure.code == "no_output"


async def test_an_inline_result_becomes_bytes(provider: ReplicateProvider):
    made = await end(provider, ask({"result": "data_uri"}))
    assert isinstance(made, Succeeded)
    (output,) = made.outputs
    assert output.data is not None
    Image.open(io.BytesIO(output.data)).verify()


# --- cancel -----------------------------------------------------------------------------------------------------


async def test_a_canceled_prediction_ends_as_canceled(provider: ReplicateProvider):
    accepted_ = await provider.submit(ask({"latency_s": 30.0}), silent)
    assert (await provider.cancel(accepted_.ref)).outcome == "requested"
    assert (await watch(provider, accepted_.ref))[-1] == Canceled()


async def test_a_cancel_after_the_end_is_too_late(provider: ReplicateProvider):
    accepted_ = await provider.submit(ask(), silent)
    await watch(provider, accepted_.ref)
    assert (await provider.cancel(accepted_.ref)).outcome == "too_late"
    assert isinstance(await provider.inspect(accepted_.ref), Succeeded)


async def test_a_cancel_that_loses_the_race_still_yields_the_result(provider: ReplicateProvider):
    accepted_ = await provider.submit(ask({"cancel": "ignored", "latency_s": 3.0}), silent)
    assert (await provider.cancel(accepted_.ref)).outcome == "requested"
    assert isinstance((await watch(provider, accepted_.ref))[-1], Succeeded)


async def test_a_cancel_of_what_nobody_knows_is_too_late(provider: ReplicateProvider):
    assert (await provider.cancel(TaskRef("nobody", MODEL))).outcome == "too_late"


# --- webhooks ---------------------------------------------------------------------------------------------------


async def test_a_webhook_proves_itself_and_is_only_a_hint(provider: ReplicateProvider, inbox: Inbox):
    request = ask(hook=inbox.url)
    accepted_ = await provider.submit(request, silent)
    (raw,) = await inbox.wait(request.attempt_id)
    note = await provider.verify_webhook(raw)
    assert note.task_id == accepted_.ref.task_id
    assert note.observation is None


async def test_a_webhook_before_the_answer_is_already_right(provider: ReplicateProvider, inbox: Inbox):
    request = ask({"webhook": "before_answer"}, hook=inbox.url)
    accepted_ = await provider.submit(request, silent)
    note = await provider.verify_webhook(inbox.received[request.attempt_id][0])
    assert note.task_id == accepted_.ref.task_id


async def test_a_doubled_webhook_is_one_event(provider: ReplicateProvider, inbox: Inbox):
    request = ask({"webhook": "double"}, hook=inbox.url)
    await provider.submit(request, silent)
    received = await inbox.wait(request.attempt_id, 2)
    assert len({(await provider.verify_webhook(raw)).event_key for raw in received}) == 1


@pytest.mark.parametrize("fault", ["forged", "stale"])
async def test_a_forged_or_stale_webhook_is_not_believed(provider: ReplicateProvider, inbox: Inbox, fault: str):
    request = ask({"webhook": fault}, hook=inbox.url)
    await provider.submit(request, silent)
    (raw,) = await inbox.wait(request.attempt_id)
    with pytest.raises(WebhookForged):
        await provider.verify_webhook(raw)


async def test_a_changed_body_is_not_believed(provider: ReplicateProvider, inbox: Inbox):
    request = ask(hook=inbox.url)
    await provider.submit(request, silent)
    (raw,) = await inbox.wait(request.attempt_id)
    with pytest.raises(WebhookForged):
        await provider.verify_webhook(replace(raw, body=raw.body.replace(b"succeeded", b"failed")))


async def test_a_configured_secret_is_used_and_another_one_proves_nothing(at: Address, inbox: Inbox):
    async with httpx.AsyncClient(trust_env=False, headers={"authorization": "Bearer t"}) as client:
        secret = (await client.get(f"{at.replicate_url}/v1/webhooks/default/secret")).json()["key"]
    right = ReplicateProvider(ReplicateSettings(token="t", api_url=f"{at.replicate_url}/v1", webhook_secret=secret))
    other = ReplicateProvider(
        ReplicateSettings(token="t", api_url=f"{at.replicate_url}/v1", webhook_secret="whsec_" + "A" * 44)
    )
    request = ask(hook=inbox.url)
    await right.submit(request, silent)
    (raw,) = await inbox.wait(request.attempt_id)
    assert (await right.verify_webhook(raw)).task_id
    with pytest.raises(WebhookForged):
        await other.verify_webhook(raw)
    await right.close()
    await other.close()
