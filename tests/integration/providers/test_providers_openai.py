"""The OpenAI images adapter against its emulator, over real sockets: one POST, its result on disk, every fault."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from safelight.emulators.serve import Address, running
from safelight.emulators.settings import EmulatorSettings
from safelight.providers.base import (
    AccountProblem,
    Ambiguous,
    Failed,
    Missing,
    Observation,
    Output,
    ProviderError,
    Refused,
    Rejected,
    Running,
    SubmitRequest,
    Succeeded,
    TaskRef,
    WebhookForged,
    WebhookRequest,
)
from safelight.providers.comfyui import InputUnreadable
from safelight.providers.openai import OpenAIProvider, OpenAISettings

MODEL = "gpt-image-2.5-flare"


@pytest.fixture(scope="module")
def at() -> Iterator[Address]:
    with running(EmulatorSettings(seed=11, image_latency_s=0.1, slow_s=0.3, media_threads=1)) as address:
        yield address


def a_picture(fmt: str = "PNG") -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(held, fmt)
    return held.getvalue()


async def bring(url: str, dest: Path) -> str:
    if "lost" in url:
        raise InputUnreadable("its host does not answer", may_repeat="again" in url)
    if "page" in url:
        dest.write_bytes(b"<html>")
        return "text/html"
    dest.write_bytes(a_picture())
    return "image/png"


def provider_at(at: Address, folder: Path, **more: Any) -> OpenAIProvider:
    url = f"{at.openai_url}/v1"
    return OpenAIProvider(OpenAISettings(key="sk-a", spool=folder, api_url=url, bring=bring, **more))


@pytest.fixture
async def provider(at: Address, tmp_path: Path) -> AsyncIterator[OpenAIProvider]:
    built = provider_at(at, tmp_path / "spool")
    yield built
    await built.close()


def ask(faults: dict[str, Any] | None = None, *, n: int = 1, **given: Any) -> SubmitRequest:
    attempt_id = str(uuid4())
    body = {"prompt": f"a red fox {attempt_id}", "size": "64x64", "n": n, **given}
    if faults:
        body["_emulator"] = faults
    return SubmitRequest(attempt_id, MODEL, "image", body, n, None)


async def silent(_: Running) -> None:
    raise AssertionError("nothing was to be reported")


async def accepted(at: Address, request: SubmitRequest) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False) as client:
        listed = (await client.get(f"{at.openai_url}/_emulator/requests")).json()
    return [each for each in listed if each["attempt"] == request.attempt_id]


async def result(provider: OpenAIProvider, request: SubmitRequest) -> Observation:
    taken = await provider.submit(request, silent)
    assert taken.observation is None
    return await provider.inspect(taken.ref)


def bytes_of(output: Output) -> bytes:
    assert output.path is not None
    return output.path.read_bytes()


# --- the good day -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp"])
async def test_a_picture_is_asked_for_once_and_lies_on_our_disk(provider: OpenAIProvider, at: Address, fmt: str):
    request = ask(output_format=fmt)
    made = await result(provider, request)
    assert isinstance(made, Succeeded)
    (output,) = made.outputs
    assert Image.open(io.BytesIO(bytes_of(output))).format == fmt.upper()
    assert output.mime == f"image/{fmt}"
    assert made.cost is not None
    assert made.cost["output_tokens"] > 0
    assert made.cost["request_id"].startswith("req_")
    assert len(await accepted(at, request)) == 1


async def test_several_pictures_come_in_order(provider: OpenAIProvider):
    made = await result(provider, ask(n=3))
    assert isinstance(made, Succeeded)
    assert len({bytes_of(output) for output in made.outputs}) == 3


async def test_previews_are_told_on_the_way_and_no_percent_is_invented(provider: OpenAIProvider):
    said: list[Running] = []

    async def note(running: Running) -> None:
        said.append(running)

    taken = await provider.submit(ask({"latency_s": 0.8}, partial_images=2), note)
    assert [each.message for each in said] == ["started", "preview 1", "preview 2"]
    assert all(each.percent is None for each in said)
    made = await provider.inspect(taken.ref)
    assert isinstance(made, Succeeded)
    assert Image.open(io.BytesIO(bytes_of(made.outputs[0]))).size == (64, 64)


async def test_a_listener_that_fails_does_not_cost_the_picture(provider: OpenAIProvider):
    async def fail(_: Running) -> None:
        raise ConnectionError("the database is away")

    taken = await provider.submit(ask(partial_images=1), fail)
    assert isinstance(await provider.inspect(taken.ref), Succeeded)


async def test_several_pictures_are_not_streamed(provider: OpenAIProvider):
    taken = await provider.submit(ask(n=2, partial_images=2), silent)
    assert isinstance(await provider.inspect(taken.ref), Succeeded)


# --- edits ------------------------------------------------------------------------------------------------------


async def test_start_images_and_a_mask_are_uploaded_and_not_linked(provider: OpenAIProvider, at: Address):
    inline = f"data:image/jpeg;base64,{base64.b64encode(a_picture('JPEG')).decode()}"
    request = ask(image=["https://ours.example/a.png", inline], mask="https://ours.example/m.png", moderation="low")
    assert isinstance(await result(provider, request), Succeeded)
    (taken,) = await accepted(at, request)
    pictures = [(each["field"], each["format"]) for each in taken["input"]["images"]]
    assert pictures == [("image[]", "png"), ("image[]", "jpeg"), ("mask", "png")]
    assert "ours.example" not in str(taken)


async def test_an_edit_has_previews_too(provider: OpenAIProvider):
    said: list[Running] = []

    async def note(running: Running) -> None:
        said.append(running)

    taken = await provider.submit(ask({"latency_s": 0.4}, image="https://ours.example/a.png", partial_images=1), note)
    assert "preview 1" in [each.message for each in said]
    assert isinstance(await provider.inspect(taken.ref), Succeeded)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"image": "https://lost.example/a.png"}, "input_unreachable"),
        ({"image": "https://ours.example/page"}, "invalid_input"),
        ({"image": "data:image/png;base64,%%%"}, "input_unreachable"),
        ({"image": 7}, "invalid_input"),
        ({"mask": "https://ours.example/m.png"}, "invalid_input"),
        ({"image": ["https://ours.example/a.png"] * 18}, "invalid_input"),
    ],
)
async def test_a_start_image_that_is_none_is_found_before_anything_is_sent(
    provider: OpenAIProvider, at: Address, given: dict[str, Any], code: str
):
    request = ask(**given)
    with pytest.raises(Rejected) as caught:
        await provider.submit(request, silent)
    assert caught.value.failure.code == code
    assert await accepted(at, request) == []


# --- submit: what is known of it afterwards, and what it cost ---------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("faults", "taken"),
    [
        ({"submit": "lose_answer"}, 1),
        ({"submit": "garbage"}, 1),
        ({"submit": "500_accepted"}, 1),
        ({"result": "cut"}, 1),
        ({"submit": "lose_request"}, 0),
    ],
)
async def test_an_answer_that_is_lost_is_ambiguous_and_nothing_is_found_later(
    provider: OpenAIProvider, at: Address, faults: dict[str, Any], taken: int, stream: bool
):
    request = ask(faults, **({"partial_images": 1} if stream else {}))

    async def any_progress(_: Running) -> None:
        pass

    with pytest.raises(Ambiguous) as caught:
        await provider.submit(request, any_progress)
    assert caught.value.failure.code == "submit_unknown"
    assert len(await accepted(at, request)) == taken
    assert await provider.find(request.attempt_id, MODEL, datetime.now(UTC)) is None
    assert await provider.inspect(TaskRef(request.attempt_id, MODEL)) == Missing()


async def test_a_start_image_that_cannot_be_had_now_is_waited_for(provider: OpenAIProvider, at: Address):
    request = ask(image="https://lost.example/again.png")
    with pytest.raises(Refused) as caught:
        await provider.submit(request, silent)
    assert caught.value.failure.code == "input_unreachable"
    assert await accepted(at, request) == []


async def test_a_result_that_arrived_is_found_by_whoever_comes_after_a_dead_worker(
    provider: OpenAIProvider, at: Address, tmp_path: Path
):
    request = ask()
    await provider.submit(request, silent)  # and the worker dies before it says so
    heir = provider_at(at, tmp_path / "spool")
    found = await heir.find(request.attempt_id, MODEL, datetime.now(UTC))
    assert found is not None
    assert isinstance(await heir.inspect(found), Succeeded)
    assert len(await accepted(at, request)) == 1
    await heir.close()


async def test_a_stopped_worker_hangs_up_and_nothing_is_sent_again(provider: OpenAIProvider, at: Address):
    request = ask({"latency_s": 30.0})
    asking = asyncio.create_task(provider.submit(request, silent))
    async with asyncio.timeout(30):
        while not await accepted(at, request):
            await asyncio.sleep(0.02)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert len(await accepted(at, request)) == 1


@pytest.mark.parametrize(("retry_after_s", "wait_s"), [(3.0, 3.0), (None, 1.5)])
async def test_a_rate_limit_is_waited_out_as_long_as_it_says(
    provider: OpenAIProvider, at: Address, retry_after_s: float | None, wait_s: float
):
    request = ask({"submit": "429", "submit_times": 1, "retry_after_s": retry_after_s})
    with pytest.raises(Refused) as caught:
        await provider.submit(request, silent)
    assert (caught.value.failure.code, caught.value.retry_after_s) == ("provider_busy", wait_s)
    assert await accepted(at, request) == []
    await provider.submit(request, silent)
    assert len(await accepted(at, request)) == 1


async def test_the_limit_of_images_a_minute_is_told_in_headers(tmp_path: Path):
    with running(EmulatorSettings(openai_rate_per_min=2, image_latency_s=0.05, media_threads=1)) as strict:
        provider = provider_at(strict, tmp_path)
        await provider.submit(ask(n=2), silent)
        with pytest.raises(Refused) as caught:
            await provider.submit(ask(), silent)
        assert caught.value.retry_after_s is not None
        assert 30 < caught.value.retry_after_s <= 60
        await provider.close()


@pytest.mark.parametrize(
    ("faults", "raised", "code"),
    [
        ({"submit": "401"}, AccountProblem, "provider_key"),
        ({"submit": "402"}, AccountProblem, "provider_balance"),
        ({"submit": "404"}, Rejected, "provider_refused"),
        ({"submit": "422"}, Rejected, "invalid_input"),
        ({"fail": "content_policy"}, Rejected, "content_policy"),
        ({"fail": "invalid_input"}, Rejected, "invalid_input"),
        ({"fail": "quota"}, AccountProblem, "provider_balance"),
        ({"fail": "billing"}, AccountProblem, "provider_balance"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_turned_away_says_why(
    provider: OpenAIProvider, faults: dict[str, Any], raised: type, code: str, stream: bool
):
    async def any_progress(_: Running) -> None:
        pass

    with pytest.raises(ProviderError) as caught:
        await provider.submit(ask(faults, **({"partial_images": 1} if stream else {})), any_progress)
    assert type(caught.value) is raised
    assert caught.value.failure.code == code
    if raised is AccountProblem:
        assert caught.value.failure.body is None, "the vendor's words are the operator's"


@pytest.mark.parametrize("faults", [{"submit": "500"}, {"submit": "503"}, {"fail": "transient"}])
async def test_openais_own_word_that_it_broke_is_the_attempts_end(provider: OpenAIProvider, faults: dict[str, Any]):
    request = ask(faults)
    taken = await provider.submit(request, silent)
    assert isinstance(taken.observation, Failed)
    assert (taken.observation.failure.code, taken.observation.failure.transient) == ("provider_failed", True)
    again = await provider.inspect(taken.ref)
    assert isinstance(again, Failed)
    assert again.failure.code == "provider_failed"


async def test_a_success_without_pictures_is_no_success(provider: OpenAIProvider):
    taken = await provider.submit(ask({"result": "none"}), silent)
    assert isinstance(taken.observation, Failed)
    assert taken.observation.failure.code == "no_output"


async def test_a_result_that_cannot_be_kept_is_unknown_and_not_asked_for_again(at: Address, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    provider = provider_at(at, tmp_path / "file" / "spool")
    request = ask()
    with pytest.raises(Ambiguous):
        await provider.submit(request, silent)
    assert len(await accepted(at, request)) == 1
    await provider.close()


async def test_a_bad_key_is_the_operators_problem(tmp_path: Path):
    with running(EmulatorSettings(openai_keys=frozenset({"right"}))) as strict:
        provider = provider_at(strict, tmp_path)
        with pytest.raises(AccountProblem) as caught:
            await provider.submit(ask(), silent)
        assert caught.value.failure.code == "provider_key"
        await provider.close()


async def test_nobody_listening_is_a_refusal_that_may_be_repeated(tmp_path: Path, at: Address):
    nowhere = replace(at, base_url="http://127.0.0.1:9")
    provider = provider_at(nowhere, tmp_path)
    with pytest.raises(Refused) as caught:
        await provider.submit(ask(), silent)
    assert caught.value.failure.code == "provider_unreachable"
    await provider.close()


async def test_there_is_no_cancel_and_no_webhook(provider: OpenAIProvider):
    assert (await provider.cancel(TaskRef("x", MODEL))).outcome == "unsupported"
    with pytest.raises(WebhookForged):
        await provider.verify_webhook(WebhookRequest({}, b"{}", datetime.now(UTC)))
