"""The ComfyUI adapter against the emulated server, over real HTTP and a real socket."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from safelight.emulators.serve import Address, running
from safelight.emulators.settings import EmulatorSettings
from safelight.media.errors import PrivateAddress, ResultExpired
from safelight.media.fetch import Fetcher
from safelight.providers.base import (
    Accepted,
    AccountProblem,
    Ambiguous,
    Canceled,
    Failed,
    Missing,
    Observation,
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
from safelight.providers.comfyui import ComfyProvider, ComfySettings, InputUnreadable, load_workflows

DEADLINE_S = 60.0
LOOK_EVERY_S = 0.03
WORKFLOWS = load_workflows(Path(__file__).parent / "comfyui_workflows")
ENDS = (Succeeded, Failed, Canceled, Missing)
TOKEN = "what stands before it"


def settings(**given) -> EmulatorSettings:
    return EmulatorSettings(
        seed=3, image_latency_s=0.15, video_latency_s=0.3, slow_s=0.3, media_threads=1, comfyui_token=TOKEN, **given
    )


@pytest.fixture(scope="module")
def today():
    with running(settings()) as address:
        yield address


@pytest.fixture(scope="module")
def older():
    """A server that chooses prompt ids itself and has no `/api/jobs`."""
    with running(settings(comfyui_takes_ids=False, comfyui_jobs_api=False)) as address:
        yield address


async def bring(url: str, dest: Path) -> str:
    if "gone" in url:
        raise InputUnreadable("There is no such picture.", may_repeat=False)
    if "away" in url:
        raise InputUnreadable("Not just now.", may_repeat=True)
    Image.new("RGB", (32, 32), "teal").save(dest, "PNG")
    return "image/png"


@dataclass(frozen=True)
class Server:
    provider: ComfyProvider
    at: Address

    def request(self, faults: Mapping | None = None, *, what: str = "portrait", **given) -> SubmitRequest:
        attempt = str(uuid4())
        body = {"prompt": f"a red fox {attempt}", **given} | ({"_emulator": dict(faults)} if faults else {})
        return SubmitRequest(attempt, what, "video" if what == "film" else "image", body, 1, None)

    async def send(self, request: SubmitRequest) -> Accepted:
        async def no_progress(_: Running) -> None:
            raise AssertionError("only inline providers report progress while submitting")

        return await self.provider.submit(request, no_progress)

    async def submit(self, faults: Mapping | None = None, **given) -> TaskRef:
        return (await self.send(self.request(faults, **given))).ref

    async def until(self, ref: TaskRef, *kinds: type) -> list[Observation | Transient]:
        found: list[Observation | Transient] = []
        async with asyncio.timeout(DEADLINE_S):
            while not found or not isinstance(found[-1], kinds or ENDS):
                try:
                    found.append(await self.provider.inspect(ref))
                except Transient as transient:
                    found.append(transient)
                await asyncio.sleep(LOOK_EVERY_S)
        return found

    async def taken(self, attempt: str) -> int:
        async with httpx.AsyncClient(trust_env=False) as client:
            listed = (await client.get(f"{self.at.base_url}/comfyui/_emulator/requests")).json()
        return sum(each["attempt"] == attempt for each in listed)


Open = Callable[..., Server]


@pytest.fixture
async def server_at() -> AsyncIterator[Open]:
    made: list[ComfyProvider] = []

    def at(address: Address, token: str = TOKEN) -> Server:
        headers = {"authorization": f"Bearer {token}"}
        provider = ComfyProvider(
            ComfySettings(url=address.comfyui_url, workflows=WORKFLOWS, bring=bring, headers=headers)
        )
        made.append(provider)
        return Server(provider, address)

    yield at
    for provider in made:
        await provider.close()


@pytest.fixture
def server(today: Address, server_at: Open) -> Server:
    return server_at(today)


@pytest.fixture(params=["today", "older"])
def either(request: pytest.FixtureRequest, server_at: Open) -> Server:
    return server_at(request.getfixturevalue(request.param))


# --- the good day -----------------------------------------------------------------------------------------------


async def test_a_prompt_is_queued_once_under_our_own_id_and_its_file_can_be_fetched(server, tmp_path):
    request = server.request(n=2)
    ref = (await server.send(request)).ref
    assert ref.task_id == request.attempt_id
    (*_, end) = await server.until(ref)

    assert isinstance(end, Succeeded)
    assert len(end.outputs) == 2
    door = {f"{server.at.comfyui_url}/view": {"authorization": f"Bearer {TOKEN}"}}
    fetcher = Fetcher(doors=door)
    fetched = await fetcher.fetch(end.outputs[0].url, kinds=frozenset({"image"}), dest=tmp_path / "a")
    assert Image.open(io.BytesIO(fetched.path.read_bytes())).size == (128, 96)
    await fetcher.close()
    assert await server.taken(request.attempt_id) == 1


async def test_a_clip_is_found_where_its_node_put_it(server):
    (*_, end) = await server.until(await server.submit(what="film"))
    assert isinstance(end, Succeeded)
    assert str(end.outputs[0].meta["file_name"]).endswith(".mp4")


async def test_an_older_server_chooses_the_id_and_is_followed_under_it(older, server_at):
    server = server_at(older)
    request = server.request()
    ref = (await server.send(request)).ref
    assert ref.task_id != request.attempt_id
    assert isinstance((await server.until(ref))[-1], Succeeded)


async def test_the_start_image_is_handed_over_and_named_to_its_node(server):
    (*_, end) = await server.until(await server.submit(what="restyle", picture="https://us.example/media/a.png"))
    assert isinstance(end, Succeeded)


@pytest.mark.parametrize(("word", "raised"), [("gone", Rejected), ("away", Refused)])
async def test_a_start_image_that_cannot_be_had_costs_nothing(server, word, raised):
    request = server.request(what="restyle", picture=f"https://us.example/{word}.png")
    with pytest.raises(raised) as caught:
        await server.send(request)
    assert caught.value.failure.code == "input_unreachable"
    assert await server.taken(request.attempt_id) == 0


async def test_the_queue_the_steps_and_the_end_are_seen(server):
    ref = await server.submit({"latency_s": 4.0, "queue_s": 1.5})
    seen = await server.until(ref)
    assert list(dict.fromkeys(type(each) for each in seen)) == [Waiting, Running, Succeeded]
    percents = [each.percent for each in seen if isinstance(each, Running) and each.percent is not None]
    assert len(set(percents)) > 2
    assert percents == sorted(percents)
    assert any(isinstance(each, Running) and (each.message or "").startswith("Sampler ") for each in seen)


async def test_without_its_socket_everything_is_as_before_but_the_percent(server):
    seen = await server.until(await server.submit({"webhook": "lost", "latency_s": 0.8, "queue_s": 0.1}))
    assert isinstance(seen[-1], Succeeded)
    assert all(each.percent is None for each in seen if isinstance(each, Running))


async def test_another_process_sees_the_same_truth(server, today, server_at):
    ref = await server.submit({"latency_s": 0.6})
    assert isinstance((await server_at(today).until(ref))[-1], Succeeded)


# --- submit -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["lose_answer", "garbage", "500_accepted"])
async def test_a_lost_answer_is_ambiguous_and_the_prompt_is_found_again(either, fault):
    request = either.request({"submit": fault, "latency_s": 0.4})
    with pytest.raises(Ambiguous):
        await either.send(request)
    found = await either.provider.find(request.attempt_id, "portrait", datetime.now(UTC) - timedelta(minutes=1))
    assert found is not None
    assert isinstance((await either.until(found))[-1], Succeeded)
    again = await either.provider.find(request.attempt_id, "portrait", datetime.now(UTC))
    assert again == found
    assert await either.taken(request.attempt_id) == 1


@pytest.mark.parametrize("fault", ["lose_request", "500", "503"])
async def test_what_was_never_taken_is_not_found(either, fault):
    request = either.request({"submit": fault})
    with pytest.raises(Ambiguous):
        await either.send(request)
    assert await either.provider.find(request.attempt_id, "portrait", datetime.now(UTC)) is None
    assert await either.taken(request.attempt_id) == 0


async def test_a_refused_prompt_may_be_sent_again_and_then_is_drawn_once(server):
    request = server.request({"submit": "429", "retry_after_s": 3.0})
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            await server.send(request)
        assert caught.value.retry_after_s == 3.0
    await server.send(request)
    assert await server.taken(request.attempt_id) == 1


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"steps": 10_500}, "invalid_input"),
        ({"what": "restyle", "picture": "https://x.example/a.png", "mood": "sad"}, "invalid_input"),
        ({"what": "nowhere"}, "provider_refused"),
    ],
)
async def test_a_prompt_that_does_not_fit_is_rejected_in_words(server, given, code):
    with pytest.raises(Rejected) as caught:
        await server.submit(**given)
    assert caught.value.failure.code == code


async def test_a_wrong_key_is_the_operators_problem_for_every_call(today, server_at):
    server = server_at(today, "wrong")
    ref = TaskRef(str(uuid4()), "portrait", {"kind": "image"})
    for call in (server.submit(), server.provider.inspect(ref), server.provider.cancel(ref)):
        with pytest.raises(AccountProblem) as caught:
            await call
        assert caught.value.failure.code == "provider_key"


async def test_a_server_that_is_not_there_takes_nothing(server_at):
    server = server_at(Address("http://127.0.0.1:9"))
    with pytest.raises(Refused):
        await server.submit()
    with pytest.raises(Transient):
        await server.provider.inspect(TaskRef(str(uuid4()), "portrait"))


# --- ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fail", "transient"), [("transient", True), ("odd", False)])
async def test_a_broken_node_says_why(server, fail, transient):
    (*_, end) = await server.until(await server.submit({"fail": fail}))
    assert isinstance(end, Failed)
    assert (end.failure.code, end.failure.transient) == ("provider_failed", transient)
    assert "KSampler: " in end.failure.message


async def test_a_prompt_of_nobody_and_one_that_a_restart_forgot_are_missing(server):
    assert await server.provider.inspect(TaskRef(str(uuid4()), "portrait", {"kind": "image"})) == Missing()
    ref = await server.submit({"result": "gone"})
    assert isinstance((await server.until(ref, Missing))[-1], Missing)


@pytest.mark.parametrize(("fault", "kind"), [("500", Transient), ("unknown", Unchanged)])
async def test_a_bad_answer_to_a_look_changes_nothing(server, fault, kind):
    seen = await server.until(await server.submit({"status": fault, "status_times": 3}))
    assert any(isinstance(each, kind) for each in seen)
    assert isinstance(seen[-1], Succeeded)


async def test_success_without_a_file_is_no_output(server):
    (*_, end) = await server.until(await server.submit({"result": "none"}))
    assert isinstance(end, Failed)
    assert end.failure.code == "no_output"


# --- cancel -----------------------------------------------------------------------------------------------------


async def test_a_waiting_prompt_is_taken_out_of_the_queue(either):
    ref = await either.submit({"latency_s": 30.0, "queue_s": 30.0})
    await either.until(ref, Waiting)
    assert (await either.provider.cancel(ref)).outcome == "requested"
    assert isinstance((await either.until(ref))[-1], Missing)


async def test_a_running_prompt_is_interrupted_and_nobody_elses(either):
    theirs = await either.submit({"latency_s": 2.0, "queue_s": 0.0})
    ours = await either.submit({"latency_s": 30.0, "queue_s": 0.0})
    await either.until(theirs, Running, Succeeded)
    await either.until(ours, Running)
    assert (await either.provider.cancel(ours)).outcome == "requested"
    assert (await either.until(ours))[-1] == Canceled()
    assert isinstance((await either.until(theirs))[-1], Succeeded)


async def test_a_cancel_that_comes_too_late_says_so(either):
    ref = await either.submit()
    await either.until(ref, Succeeded)
    assert (await either.provider.cancel(ref)).outcome == "too_late"
    assert isinstance(await either.provider.inspect(ref), Succeeded)


# --- the guarded door -------------------------------------------------------------------------------------------


async def test_of_the_private_server_only_results_are_fetched_and_only_by_setting(server, tmp_path):
    (*_, end) = await server.until(await server.submit())
    assert isinstance(end, Succeeded)
    url = end.outputs[0].url
    closed, keyless = Fetcher(), Fetcher(doors={f"{server.at.comfyui_url}/view": {}})
    opened = Fetcher(doors={f"{server.at.comfyui_url}/view": {"authorization": f"Bearer {TOKEN}"}})
    for fetcher, address, raised in (
        (closed, url, PrivateAddress),
        (opened, f"{server.at.comfyui_url}/queue", PrivateAddress),
        (opened, f"{server.at.comfyui_url}/view/../queue", PrivateAddress),
        (opened, url.replace("127.0.0.1", "localhost"), PrivateAddress),
        (keyless, url, ResultExpired),
    ):
        with pytest.raises(raised):
            await fetcher.fetch(address, kinds=None, dest=tmp_path / "x")
    for fetcher in (closed, keyless, opened):
        await fetcher.close()


async def test_a_result_that_redirects_into_the_network_is_not_followed(server, tmp_path):
    (*_, end) = await server.until(await server.submit({"result": "redirect_private"}))
    assert isinstance(end, Succeeded)
    fetcher = Fetcher(doors={f"{server.at.comfyui_url}/view": {"authorization": f"Bearer {TOKEN}"}})
    with pytest.raises(PrivateAddress):
        await fetcher.fetch(end.outputs[0].url, kinds=None, dest=tmp_path / "x")
    await fetcher.close()


async def test_a_webhook_in_its_name_is_forged(server):
    with pytest.raises(WebhookForged):
        await server.provider.verify_webhook(WebhookRequest({}, b"{}", datetime.now(UTC)))
