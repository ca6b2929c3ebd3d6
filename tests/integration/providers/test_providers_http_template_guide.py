"""docs/how-to/add-a-provider.md is true: its file and its Python speak to a real server, its variables are settings."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import inspect
import re
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints
from uuid import uuid4

import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from safelight.providers import factory
from safelight.providers.base import (
    AccountProblem,
    Ambiguous,
    Canceled,
    Failed,
    Missing,
    Observation,
    Provider,
    Refused,
    Rejected,
    Running,
    SubmitRequest,
    Succeeded,
    TaskRef,
    Transient,
    Waiting,
    WebhookForged,
    WebhookRequest,
)
from safelight.providers.factory import ProviderSettings, build_providers
from safelight.providers.http_template import TemplateError, read_template
from safelight.providers.http_template.description import Description
from safelight.server.settings import Settings

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "how-to" / "add-a-provider.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(kind, title, text) for kind, title, text in BLOCK.findall(GUIDE)]
SECRET = "the-secret"
DEADLINE_S = 30.0


def block(title: str) -> str:
    (found,) = [text for _, named, text in BLOCKS if named == title]
    return found


# --- Acme -------------------------------------------------------------------------------------------------------


@dataclass
class Acme:
    """The API that the guide describes. A prompt's words steer it."""

    url: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    async def create(self, request: Request) -> Response:
        self.asked.append(request)
        body = await request.json()
        if request.headers["authorization"] != "Bearer the-key":
            return JSONResponse({}, 401)
        prompt = body["input"].get("prompt", "")
        if not prompt:
            return JSONResponse({"error": {"code": "missing", "text": "a prompt is needed"}}, 422)
        if "busy" in prompt:
            return JSONResponse({}, 429, {"retry-after": "3"})
        if "draining" in prompt:
            return JSONResponse({"error": {"code": "draining"}}, 503)
        self.bodies.append(body)
        job = uuid4().hex
        self.jobs[job] = {"prompt": prompt, "looks": 0, "count": body["count"], "state": None}
        if "lost" in prompt:
            return JSONResponse({"error": "gateway"}, 502)
        host = "http://169.254.169.254" if "foreign" in prompt else self.url.removesuffix("/v2")
        return JSONResponse({"id": job, "links": {"self": f"{host}/v2/jobs/{job}?from=links"}}, 201)

    async def read(self, request: Request) -> Response:
        self.asked.append(request)
        job = self.jobs.get(request.path_params["job"])
        if job is None:
            return JSONResponse({}, 404)
        job["looks"] += 1
        if job["state"] is not None:
            return JSONResponse({"state": job["state"]})
        if job["looks"] <= 2:
            return JSONResponse({"state": "queued" if job["looks"] == 1 else "working", "progress": 0.5})
        if "unsafe" in job["prompt"]:
            return JSONResponse({"state": "broken", "error": {"code": "unsafe_words", "text": "no"}})
        files = [{"href": f"https://files.acme.example/{index}.png"} for index in range(job["count"])]
        return JSONResponse({"state": "done", "files": files, "price": 4})

    async def delete(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["job"])
        if job is None:
            return JSONResponse({}, 404)
        job["state"] = "stopped"
        return Response(status_code=204)


@pytest.fixture
async def acme_server() -> AsyncIterator[Acme]:
    acme = Acme()
    app = Starlette(
        routes=[
            Route("/v2/jobs", acme.create, methods=["POST"]),
            Route("/v2/jobs/{job}", acme.read, methods=["GET"]),
            Route("/v2/jobs/{job}", acme.delete, methods=["DELETE"]),
        ]
    )
    listener = socket.create_server(("127.0.0.1", 0))
    acme.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v2"
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve([listener]))
    yield acme
    server.should_exit = True
    await task
    listener.close()


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The guide's Python file, as a module."""
    module = ModuleType("acme")
    monkeypatch.setitem(sys.modules, "acme", module)
    exec(compile(block("acme.py"), "acme.py", "exec"), module.__dict__)
    return module


@pytest.fixture(params=["in a file", "in Python"])
async def provider(
    request: pytest.FixtureRequest, acme_server: Acme, python: dict[str, Any]
) -> AsyncIterator[Provider]:
    if request.param == "in Python":
        made = python.AcmeProvider(python.AcmeSettings(key="the-key", url=acme_server.url))
    else:
        environ = {"ACME_KEY": "the-key", "ACME_WEBHOOK_SECRET": SECRET, "ACME_BASE_URL": acme_server.url}
        template = read_template("acme.toml", block("acme.toml"), environ)
        made = build_providers(ProviderSettings(templates=[template]))["acme"]
    yield made
    await made.close()


def request_for(prompt: str, n: int = 1) -> SubmitRequest:
    return SubmitRequest(str(uuid4()), "lightning-3", "image", {"prompt": prompt}, n, "https://us.example/hooks/1")


async def no_progress(_: Running) -> None:
    raise AssertionError("nothing is made inline")


async def seen_of(provider: Provider, ref: TaskRef) -> list[Observation]:
    found: list[Observation] = []
    async with asyncio.timeout(DEADLINE_S):
        while not found or isinstance(found[-1], Waiting | Running):
            found.append(await provider.inspect(ref))
    return found


async def test_both_ways_make_a_picture_and_pay_for_it_once(provider, acme_server):
    accepted = await provider.submit(request_for("a fox", n=2), no_progress)
    waiting, running, done = await seen_of(provider, accepted.ref)
    assert isinstance(waiting, Waiting)
    assert running == Running(50.0, None)
    assert isinstance(done, Succeeded)
    assert [output.url for output in done.outputs] == [f"https://files.acme.example/{index}.png" for index in (0, 1)]
    (body,) = acme_server.bodies
    assert (body["model"], body["input"], body["count"]) == ("lightning-3", {"prompt": "a fox"}, 2)


async def test_both_ways_tell_the_same_errors_apart(provider, acme_server):
    with pytest.raises(Rejected):
        await provider.submit(request_for(""), no_progress)
    with pytest.raises(Refused) as busy:
        await provider.submit(request_for("busy"), no_progress)
    assert busy.value.retry_after_s == 3
    with pytest.raises(Ambiguous):
        await provider.submit(request_for("lost"), no_progress)
    assert len(acme_server.bodies) == 1
    assert await provider.inspect(TaskRef("nobody", "lightning-3", {"status_url": f"{acme_server.url}/jobs/no"})) == (
        Missing()
    )
    refused = await provider.submit(request_for("unsafe"), no_progress)
    end = (await seen_of(provider, refused.ref))[-1]
    assert isinstance(end, Failed)
    assert end.failure.code == "content_policy"


async def test_both_ways_stop_a_task(provider):
    accepted = await provider.submit(request_for("a fox"), no_progress)
    assert (await provider.cancel(accepted.ref)).outcome == "requested"
    assert await provider.inspect(accepted.ref) == Canceled()


async def test_a_server_that_went_away_is_asked_again_later(python):
    gone = python.AcmeProvider(python.AcmeSettings(key="k", url="http://127.0.0.1:9"))
    with pytest.raises(Transient):
        await gone.inspect(TaskRef("1", "lightning-3"))
    with pytest.raises(Refused):
        await gone.submit(request_for("a fox"), no_progress)
    await gone.close()


# --- what only the file promises --------------------------------------------------------------------------------


@pytest.fixture
async def described(acme_server: Acme) -> AsyncIterator[Provider]:
    environ = {"ACME_KEY": "the-key", "ACME_WEBHOOK_SECRET": SECRET, "ACME_BASE_URL": acme_server.url}
    made = build_providers(ProviderSettings(templates=[read_template("acme.toml", block("acme.toml"), environ)]))[
        "acme"
    ]
    yield made
    await made.close()


async def test_the_url_that_was_kept_is_the_one_that_is_asked(described, acme_server):
    accepted = await described.submit(request_for("a fox"), no_progress)
    await described.inspect(accepted.ref)
    assert acme_server.asked[-1].url.query == "from=links"


async def test_a_kept_url_of_another_host_is_not_asked(described, acme_server):
    accepted = await described.submit(request_for("foreign"), no_progress)
    asked = len(acme_server.asked)
    with pytest.raises(AccountProblem):
        await described.inspect(accepted.ref)
    assert len(acme_server.asked) == asked


async def test_a_refusal_that_promises_that_nothing_was_made_may_be_sent_again(described):
    with pytest.raises(Refused) as caught:
        await described.submit(request_for("draining"), no_progress)
    assert caught.value.failure.code == "provider_maintenance"


async def test_the_guides_webhook_proves_itself(described):
    now = int(time.time())
    body = b'{"id": "t1"}'
    signature = hmac.digest(SECRET.encode(), f"{now}.".encode() + body, "sha256").hex()
    headers = {"x-acme-signature": f"sha256={signature}", "x-acme-time": str(now)}
    at = datetime.fromtimestamp(now, UTC)
    assert (await described.verify_webhook(WebhookRequest(headers, body, at))).task_id == "t1"
    with pytest.raises(WebhookForged):
        await described.verify_webhook(WebhookRequest(headers, b'{"id": "t2"}', at))


def test_the_mistake_that_the_guide_shows_is_what_is_said():
    (said,) = [text.strip() for kind, _, text in BLOCKS if kind == "text"]
    wrong = block("acme.toml").replace('path = "{status_url}" ', 'path = "/jobs/{job_id}" ')
    with pytest.raises(TemplateError) as caught:
        read_template("acme.toml", wrong, {})
    assert str(caught.value) == said


def fields_of(kind: Any, prefix: str = "") -> set[str]:
    """Every field that a file may have, as the guide writes them."""
    found: set[str] = set()
    for name, hint in get_type_hints(kind).items():
        inner = [each for each in (hint, *get_args(hint)) if inspect.isclass(each) and issubclass(each, msgspec.Struct)]
        found |= fields_of(inner[0], f"{prefix}{name}.") if inner else {prefix + name}
    return found


def test_the_table_of_fields_is_complete_and_names_no_other():
    table = GUIDE.partition("### All fields")[2].partition("\n## ")[0]
    named = {
        name for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    }
    assert named == fields_of(Description)


# --- the other blocks -------------------------------------------------------------------------------------------


async def test_the_guides_first_test_passes(acme_server, python):
    names: dict[str, Any] = {"__name__": "test_acme"}
    exec(compile(block("test_acme.py"), "test_acme.py", "exec"), names)
    made = python.AcmeProvider(python.AcmeSettings(key="the-key", url=acme_server.url))
    await names["test_a_picture_is_made_and_paid_for_once"](made, lambda: len(acme_server.bodies))
    await made.close()


def test_the_guides_workflow_is_the_one_that_is_tested():
    tested = Path(__file__).parent / "comfyui_workflows" / "portrait.toml"
    assert block("portrait.toml") == tested.read_text("utf-8")


def test_the_guides_lines_of_the_factory_stand_there():
    assert block("src/safelight/providers/factory.py") in inspect.getsource(factory)


def test_the_guides_variables_are_settings_or_stand_in_its_file():
    known = {f"SAFELIGHT_{name.upper()}" for name in Settings.model_fields}
    exported = {name for kind, _, text in BLOCKS if kind == "sh" for name in re.findall(r"export (\w+)=", text)}
    assert exported
    assert all(name in known or name in block("acme.toml") for name in exported)


def test_every_block_of_the_guide_is_one_of_those_tested_here():
    titles = ["acme.toml", "portrait.toml", "acme.py", "src/safelight/providers/factory.py", "test_acme.py"]
    assert [title for _, title, _ in BLOCKS if title] == titles
    assert {kind for kind, title, _ in BLOCKS if not title} == {"sh", "text"}
