"""The adapters of fal and KIE against the emulators, over real sockets: every answer, every fault, one submit each."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import av
import httpx
import pytest
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from safelight.emulators.serve import Address, running
from safelight.emulators.settings import EmulatorSettings
from safelight.providers.base import (
    Accepted,
    AccountProblem,
    Ambiguous,
    Canceled,
    Failed,
    Missing,
    Observation,
    Provider,
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
from safelight.providers.factory import ProviderSettings, build_providers
from safelight.providers.fal import FalSettings
from safelight.providers.kie import KieSettings

DEADLINE_S = 60.0
LOOK_EVERY_S = 0.03
ENDS = (Succeeded, Failed, Canceled, Missing)

PICTURES = {"fal": "fal-ai/flux/schnell", "kie": "google/nano-banana"}
CLIPS = {"fal": "fal-ai/wan-t2v", "kie": "veo3_fast"}
both = pytest.mark.parametrize("name", ["fal", "kie"])


@pytest.fixture(scope="module")
def emulators():
    settings = EmulatorSettings(
        seed=11,
        kie_webhook_hmac_key="hmac of ours",
        image_latency_s=0.15,
        video_latency_s=0.3,
        webhook_retry_scale=0.0005,
        late_s=0.2,
        slow_s=0.3,
        media_threads=1,
    )
    with running(settings) as address:
        yield address


@pytest.fixture
async def providers(emulators: Address) -> AsyncIterator[dict[str, Provider]]:
    built = build_providers(
        ProviderSettings(
            fal=FalSettings(
                key="id:secret", queue_url=f"{emulators.fal_url}/queue", rest_url=f"{emulators.fal_url}/rest"
            ),
            kie=KieSettings(key="a key", api_url=emulators.kie_url, webhook_hmac_key="hmac of ours"),
        )
    )
    yield built
    for provider in built.values():
        await provider.close()


@dataclass(frozen=True)
class Inbox:
    """Where the emulators' webhooks arrive, by the last segment of the path."""

    url: str
    received: dict[str, list[WebhookRequest]]

    async def wait(self, attempt: str, count: int = 1) -> list[WebhookRequest]:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.received.get(attempt, [])) < count:
                await asyncio.sleep(LOOK_EVERY_S)
        return self.received[attempt]


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    received: dict[str, list[WebhookRequest]] = {}

    async def take(request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        raw = WebhookRequest(headers, await request.body(), datetime.now(UTC))
        received.setdefault(request.path_params["attempt"], []).append(raw)
        return Response(status_code=200)

    app = Starlette(routes=[Route("/hooks/{attempt}", take, methods=["POST"])])
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
    server.capture_signals = contextlib.nullcontext
    task = asyncio.create_task(server.serve([listener]))
    yield Inbox(f"http://127.0.0.1:{listener.getsockname()[1]}/hooks", received)
    server.should_exit = True
    await task
    listener.close()


@dataclass(frozen=True)
class Try:
    """One attempt at one provider."""

    provider: Provider
    request: SubmitRequest
    emulators: Address

    async def submit(self) -> Accepted:
        async def no_progress(_: Running) -> None:
            raise AssertionError("only inline providers report progress while submitting")

        return await self.provider.submit(self.request, no_progress)

    async def accepted(self) -> int:
        """How many tasks the provider took for this attempt: what it would bill."""
        async with httpx.AsyncClient(trust_env=False) as client:
            listed = (await client.get(f"{self.emulators.base_url}/_emulator/requests")).json()
        return sum(each["webhook_url"] == self.request.webhook_url for each in listed)

    async def until(self, ref: TaskRef, *kinds: type) -> list[Observation | Transient]:
        """Look until one of `kinds` is seen; everything that was seen, last last."""
        seen: list[Observation | Transient] = []
        async with asyncio.timeout(DEADLINE_S):
            while not seen or not isinstance(seen[-1], kinds):
                try:
                    seen.append(await self.provider.inspect(ref))
                except Transient as transient:
                    seen.append(transient)
                await asyncio.sleep(LOOK_EVERY_S)
        return seen

    async def end(self) -> Observation | Transient:
        accepted = await self.submit()
        return (await self.until(accepted.ref, *ENDS))[-1]


Attempt = Callable[..., Try]


@pytest.fixture
def attempt(providers: dict[str, Provider], emulators: Address) -> Attempt:
    def make(
        name: str, faults: dict | None = None, *, clip: bool = False, n: int = 1, hook: str | None = None, **given
    ) -> Try:
        attempt_id = str(uuid4())
        endpoint = (CLIPS if clip else PICTURES)[name]
        # No one listens on port 9: a task without an inbox tells no one.
        webhook_url = f"{hook or 'http://127.0.0.1:9'}/{attempt_id}"
        small = {"duration": "0.5"} if clip else {"width": 64, "height": 64}
        body = {"prompt": f"a red fox {attempt_id}", **small, **given}
        if faults:
            body["_emulator"] = faults
        kind = "video" if clip else "image"
        return Try(providers[name], SubmitRequest(attempt_id, endpoint, kind, body, n, webhook_url), emulators)

    return make


async def download(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as client:
        return await client.get(url)


# --- the good day -----------------------------------------------------------------------------------------------


@both
async def test_a_picture_is_submitted_once_and_its_file_can_be_fetched(attempt, name):
    tried = attempt(name)
    end = await tried.end()

    assert isinstance(end, Succeeded)
    (output,) = end.outputs
    picture = Image.open(io.BytesIO((await download(output.url)).content))
    picture.verify()
    assert end.cost
    assert await tried.accepted() == 1


@both
async def test_a_clip_is_submitted_once_and_its_file_can_be_fetched(attempt, name):
    tried = attempt(name, clip=True)
    end = await tried.end()

    assert isinstance(end, Succeeded)
    (output,) = end.outputs
    with av.open(io.BytesIO((await download(output.url)).content)) as film:
        assert next(film.decode(video=0)).width > 0
    assert await tried.accepted() == 1


async def test_a_batch_comes_in_the_providers_order(attempt):
    end = await attempt("fal", n=3, num_images=3).end()
    assert isinstance(end, Succeeded)
    assert len({output.url for output in end.outputs}) == 3


@both
async def test_queue_and_run_are_seen_on_the_way(attempt, name):
    tried = attempt(name, {"latency_s": 2.4, "queue_s": 1.2})
    accepted = await tried.submit()
    seen = await tried.until(accepted.ref, *ENDS)

    stages = list(dict.fromkeys(type(each) for each in seen))
    assert stages == [Waiting, Running, Succeeded]
    if name == "fal":
        assert any(isinstance(each, Waiting) and each.queue_position is not None for each in seen)
        assert any(isinstance(each, Running) and each.logs for each in seen)


@both
async def test_a_task_nobody_knows_is_missing(attempt, name):
    tried = attempt(name)
    assert await tried.provider.inspect(TaskRef(str(uuid4()), tried.request.endpoint)) == Missing()


@both
async def test_a_task_known_only_by_its_id_can_be_looked_at(attempt, name):
    """As after a webhook that came before, or instead of, the submit's answer."""
    tried = attempt(name)
    accepted = await tried.submit()
    bare = TaskRef(accepted.ref.task_id, tried.request.endpoint)
    end = (await tried.until(bare, *ENDS))[-1]
    assert isinstance(end, Succeeded)
    assert len(end.outputs) == 1


async def test_veo_is_no_market_job_and_the_other_way_round(attempt):
    accepted = await attempt("kie", clip=True).submit()
    assert await attempt("kie").provider.inspect(TaskRef(accepted.ref.task_id, "google/nano-banana")) == Missing()


# --- submit: what is known of it afterwards, and what it cost ----------------------------------------------------


@both
@pytest.mark.parametrize(
    ("fault", "taken"),
    [("lose_answer", 1), ("garbage", 1), ("500_accepted", 1), ("lose_request", 0), ("500", 0), ("503", 0)],
)
async def test_a_submit_nobody_can_tell_about_is_ambiguous_and_never_repeated(attempt, name, fault, taken):
    tried = attempt(name, {"submit": fault})
    with pytest.raises(Ambiguous) as caught:
        await tried.submit()
    assert caught.value.failure.code == "submit_unknown"
    assert await tried.accepted() == taken


@both
async def test_a_slow_answer_is_waited_for(attempt, name):
    tried = attempt(name, {"submit": "slow", "slow_s": 1.0})
    assert isinstance(await tried.submit(), Accepted)
    assert await tried.accepted() == 1


@both
async def test_a_refused_submit_may_be_sent_again_and_then_costs_once(attempt, name):
    tried = attempt(name, {"submit": "429", "retry_after_s": 3.0})
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            await tried.submit()
        assert caught.value.failure.code == "provider_busy"
        assert caught.value.retry_after_s == (3.0 if name == "fal" else 10.0)
    assert await tried.accepted() == 0
    await tried.submit()
    assert await tried.accepted() == 1


@both
@pytest.mark.parametrize(
    ("fault", "raised", "code"),
    [
        ("401", AccountProblem, "provider_key"),
        ("402", AccountProblem, "provider_balance"),
        ("404", Rejected, "provider_refused"),
        ("422", Rejected, "invalid_input"),
    ],
)
async def test_a_submit_that_was_turned_away_costs_nothing(attempt, name, fault, raised, code):
    tried = attempt(name, {"submit": fault})
    with pytest.raises(ProviderError) as caught:
        await tried.submit()
    assert type(caught.value) is raised
    assert caught.value.failure.code == code
    assert await tried.accepted() == 0


async def test_maintenance_is_waited_out(attempt):
    tried = attempt("kie", {"submit": "455"})
    with pytest.raises(Refused) as caught:
        await tried.submit()
    assert caught.value.failure.code == "provider_maintenance"
    assert (caught.value.retry_after_s or 0) >= 60


async def test_a_bad_key_is_the_operators_problem_for_every_call():
    with running(EmulatorSettings(fal_keys=frozenset({"right"}), kie_keys=frozenset({"right"}))) as strict:
        built = build_providers(
            ProviderSettings(
                fal=FalSettings(key="wrong", queue_url=f"{strict.fal_url}/queue", rest_url=f"{strict.fal_url}/rest"),
                kie=KieSettings(key="wrong", api_url=strict.kie_url),
            )
        )
        for name in ("fal", "kie"):
            ref = TaskRef("x", PICTURES[name])
            calls: list[Awaitable[object]] = [built[name].inspect(ref), built[name].submit(
                SubmitRequest("a", PICTURES[name], "image", {"prompt": "x"}, 1, None), _silent
            )]  # fmt: skip
            for call in calls:
                with pytest.raises(AccountProblem) as caught:
                    await call
                assert caught.value.failure.code == "provider_key"
        for provider in built.values():
            await provider.close()


async def _silent(_: Running) -> None:
    pass


# --- how it ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fail", "code", "transient"),
    [
        ("fal", "content_policy", "content_policy", False),
        ("fal", "transient", "provider_failed", True),
        ("fal", "request_timeout", "provider_timeout", True),
        ("fal", "startup_timeout", "provider_timeout", True),
        ("fal", "runner_incomplete_response", "provider_failed", True),
        ("fal", "runner_server_error", "provider_failed", True),
        ("fal", "generation_timeout", "provider_timeout", True),
        ("fal", "internal_server_error", "provider_failed", True),
        ("fal", "downstream_service_error", "provider_failed", True),
        ("fal", "no_media_generated", "no_output", False),
        ("fal", "image_too_small", "invalid_input", False),
        ("fal", "file_download_error", "input_unreachable", False),
        ("fal", "bad_request", "invalid_input", False),
        ("kie", "content_policy", "content_policy", False),
        ("kie", "transient", "provider_failed", True),
        ("kie", "timeout", "provider_timeout", True),
        ("kie", "invalid_input", "invalid_input", False),
        ("kie", "image_fetch", "input_unreachable", False),
        ("kie", "maintenance", "provider_maintenance", True),
        ("kie", "generation_failed", "provider_failed", True),
    ],
)
async def test_a_failed_task_says_why_and_whether_another_try_can_help(attempt, name, fail, code, transient):
    tried = attempt(name, {"fail": fail})
    end = await tried.end()
    assert isinstance(end, Failed)
    assert (end.failure.code, end.failure.transient) == (code, transient)
    assert end.failure.body
    assert await tried.accepted() == 1


@pytest.mark.parametrize(("fail", "code"), [("content_policy", "content_policy"), ("transient", "provider_failed")])
async def test_a_failed_veo_clip_says_why(attempt, fail, code):
    end = await attempt("kie", {"fail": fail}, clip=True).end()
    assert isinstance(end, Failed)
    assert end.failure.code == code


async def test_input_that_only_the_model_refuses_fails_after_it_was_accepted(attempt):
    tried = attempt("fal", prompt=None)
    end = await tried.end()
    assert isinstance(end, Failed)
    assert end.failure.code == "invalid_input"
    assert "prompt" in end.failure.message


async def test_a_runner_that_fails_moves_the_task_back_into_the_queue_and_nothing_else_happens(attempt):
    tried = attempt("fal", {"requeue": True, "latency_s": 2.4})
    accepted = await tried.submit()
    seen = await tried.until(accepted.ref, *ENDS)

    stages = [type(each) for each in seen]
    assert Waiting in stages[stages.index(Running) :]
    assert stages[-1] is Succeeded
    assert await tried.accepted() == 1


async def test_a_result_that_cannot_be_fetched_at_once_is_fetched_later(attempt):
    tried = attempt("fal", {"result_504_once": True})
    accepted = await tried.submit()
    seen = await tried.until(accepted.ref, *ENDS)
    assert isinstance(seen[-1], Succeeded)
    assert [type(each) for each in seen].count(Transient) == 1


@both
async def test_a_status_in_unknown_words_changes_nothing(attempt, name):
    tried = attempt(name, {"status": "unknown"})
    accepted = await tried.submit()
    seen = await tried.until(accepted.ref, *ENDS)
    assert isinstance(seen[0], Unchanged)
    assert isinstance(seen[-1], Succeeded)


@both
async def test_a_status_that_cannot_be_read_is_asked_for_again(attempt, name):
    tried = attempt(name, {"status": "500"})
    accepted = await tried.submit()
    seen = await tried.until(accepted.ref, *ENDS)
    assert isinstance(seen[0], Transient)
    assert isinstance(seen[-1], Succeeded)


async def test_a_result_that_has_expired_is_told(attempt):
    end = await attempt("fal", {"result": "gone"}).end()
    assert isinstance(end, Failed)
    assert end.failure.code == "result_expired"


@both
async def test_a_success_without_media_is_no_success(attempt, name):
    end = await attempt(name, {"result": "none"}).end()
    assert isinstance(end, Failed)
    assert end.failure.code == "no_output"


async def test_an_inline_result_becomes_bytes(attempt):
    end = await attempt("fal", {"result": "data_uri"}).end()
    assert isinstance(end, Succeeded)
    (output,) = end.outputs
    assert output.url is None
    Image.open(io.BytesIO(output.data)).verify()


async def test_a_refused_file_has_another_url(attempt):
    tried = attempt("kie", {"result": "forbidden"})
    accepted = await tried.submit()
    end = (await tried.until(accepted.ref, *ENDS))[-1]
    assert isinstance(end, Succeeded)
    url = end.outputs[0].url
    assert (await download(url)).status_code == 403

    fresh = await tried.provider.renew_url(accepted.ref, url)
    assert fresh is not None
    Image.open(io.BytesIO((await download(fresh)).content)).verify()
    assert await tried.provider.renew_url(accepted.ref, "https://elsewhere.example/a.png") is None


# --- cancel -----------------------------------------------------------------------------------------------------


async def test_a_canceled_task_ends_as_canceled(attempt):
    tried = attempt("fal", {"latency_s": 30})
    accepted = await tried.submit()
    assert (await tried.provider.cancel(accepted.ref)).outcome == "requested"
    assert (await tried.until(accepted.ref, *ENDS))[-1] == Canceled()


async def test_a_cancel_after_the_end_is_too_late(attempt):
    tried = attempt("fal")
    accepted = await tried.submit()
    await tried.until(accepted.ref, *ENDS)
    assert (await tried.provider.cancel(accepted.ref)).outcome == "too_late"
    assert isinstance(await tried.provider.inspect(accepted.ref), Succeeded)


async def test_a_cancel_that_loses_the_race_still_yields_the_result(attempt):
    tried = attempt("fal", {"cancel": "ignored", "latency_s": 2.0})
    accepted = await tried.submit()
    assert (await tried.provider.cancel(accepted.ref)).outcome == "requested"
    assert isinstance((await tried.until(accepted.ref, *ENDS))[-1], Succeeded)


async def test_a_canceled_task_may_vanish_altogether(attempt):
    tried = attempt("fal", {"cancel": "missing", "latency_s": 30})
    accepted = await tried.submit()
    await tried.provider.cancel(accepted.ref)
    assert (await tried.until(accepted.ref, *ENDS))[-1] == Missing()


# --- webhooks ---------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("clip", [False, True])
async def test_a_webhook_proves_itself_and_is_only_a_hint(attempt, inbox, name, clip):
    tried = attempt(name, hook=inbox.url, clip=clip)
    accepted = await tried.submit()
    (raw,) = await inbox.wait(tried.request.attempt_id)

    note = await tried.provider.verify_webhook(raw)
    assert note.task_id == accepted.ref.task_id
    assert note.observation is None
    assert isinstance(await tried.provider.inspect(accepted.ref), Succeeded)


@both
async def test_a_lost_answer_is_found_again_by_the_webhook(attempt, inbox, name):
    tried = attempt(name, {"submit": "lose_answer"}, hook=inbox.url)
    with pytest.raises(Ambiguous):
        await tried.submit()
    (raw,) = await inbox.wait(tried.request.attempt_id)

    note = await tried.provider.verify_webhook(raw)
    assert note.task_id is not None
    found = TaskRef(note.task_id, tried.request.endpoint)
    assert isinstance(await tried.provider.inspect(found), Succeeded)
    assert await tried.accepted() == 1


@both
async def test_a_webhook_before_the_answer_is_already_right(attempt, inbox, name):
    tried = attempt(name, {"webhook": "before_answer"}, hook=inbox.url)
    accepted = await tried.submit()
    note = await tried.provider.verify_webhook(inbox.received[tried.request.attempt_id][0])
    assert note.task_id == accepted.ref.task_id


@both
async def test_a_doubled_webhook_is_one_event(attempt, inbox, name):
    tried = attempt(name, {"webhook": "double"}, hook=inbox.url)
    await tried.submit()
    first, second = (await inbox.wait(tried.request.attempt_id, 2))[:2]
    keys = {(await tried.provider.verify_webhook(raw)).event_key for raw in (first, second)}
    assert len(keys) == 1


@both
@pytest.mark.parametrize("fault", ["forged", "stale"])
async def test_a_forged_or_stale_webhook_is_not_believed(attempt, inbox, name, fault):
    tried = attempt(name, {"webhook": fault}, hook=inbox.url)
    await tried.submit()
    raw = (await inbox.wait(tried.request.attempt_id))[0]
    with pytest.raises(WebhookForged):
        await tried.provider.verify_webhook(raw)


@both
async def test_a_failure_is_told_by_webhook_too(attempt, inbox, name):
    tried = attempt(name, {"fail": "content_policy"}, hook=inbox.url)
    accepted = await tried.submit()
    (raw,) = await inbox.wait(tried.request.attempt_id)
    assert (await tried.provider.verify_webhook(raw)).task_id == accepted.ref.task_id
    assert isinstance(await tried.provider.inspect(accepted.ref), Failed)


@both
async def test_the_webhook_of_one_provider_proves_nothing_at_the_other(attempt, inbox, providers, name):
    tried = attempt(name, hook=inbox.url)
    await tried.submit()
    (raw,) = await inbox.wait(tried.request.attempt_id)
    with pytest.raises(WebhookForged):
        await providers["kie" if name == "fal" else "fal"].verify_webhook(raw)
