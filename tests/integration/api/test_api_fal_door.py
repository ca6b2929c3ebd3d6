"""The fal door over HTTP: what it refuses, what is charged, and that its jobs are jobs like any other (K4)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import io
import json
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import uvicorn
from api_world import Build, Json, World, until
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from httpx_sse import aconnect_sse
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from safelight.compat.fal.callbacks import PER_LANE_MAX
from safelight.emulators.serve import Address
from safelight.outgoing.post import GuardedPost
from safelight.server.run import listen

AURORA = "/compat/fal/local/aurora"


def small(**more: Any) -> Json:
    return {"prompt": f"a red fox {uuid4()}", "width": 64, "height": 64, **more}


def fal_input(latency_s: float = 0.1, **more: Any) -> Json:
    return {
        "prompt": "a red fox",
        "image_size": {"width": 64, "height": 64},
        "_emulator": {"latency_s": latency_s},
        **more,
    }


def refused(answer: httpx.Response, status: int, *words: str) -> Json:
    """In fal's own shape: a `detail`, and JSON by its plain name, without which the clients read nothing."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["detail"]
    for word in words:
        assert word in answer.text, answer.text
    return body


async def client(world: World, project: str | None = None, **headers: str) -> httpx.AsyncClient:
    """An app with a key of the project, as fal's clients send it."""
    key = await world.new_key(project)
    return world.client(**{"authorization": f"Key {key}", **headers})


async def submitted(app: httpx.AsyncClient, path: str = AURORA, body: Json | None = None, **sent: Any) -> Json:
    answer = await app.post(path, json=body or small(), **sent)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-fal-request-id"] == answer.json()["request_id"]
    return answer.json()


async def ended(app: httpx.AsyncClient, told: Json) -> Json:
    async def look() -> Json | None:
        body = (await app.get(told["status_url"], params={"logs": "true"})).json()
        return body if body["status"] == "COMPLETED" else None

    return await until(look, "the request to end")


class Receiver:
    """An app's server that refuses so many messages before it takes one."""

    def __init__(self, refusals: int) -> None:
        self.url = ""
        self.answers = asyncio.Event()
        self.answers.set()
        self.refusals = refusals
        self.messages: list[tuple[dict[str, str], bytes]] = []

    async def take(self, request: Request) -> Response:
        self.messages.append((dict(request.headers), await request.body()))
        self.refusals -= 1
        await self.answers.wait()
        return Response(status_code=200 if self.refusals < 0 else 503)


@contextlib.asynccontextmanager
async def receiving(refusals: int = 0) -> AsyncIterator[Receiver]:
    made = Receiver(refusals)
    listener = listen("127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{listener.getsockname()[1]}/told"
    app = Starlette(routes=[Route("/told", made.take, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield made
    finally:
        made.answers.set()
        server.should_exit = server.force_exit = True
        await serving
        listener.close()


async def test_what_cannot_be_done_is_said_as_fal_says_it_and_changes_nothing(world: World) -> None:
    app = await client(world)
    public = world.client(authorization=f"Key {await world.new_key(kind='publishable')}")
    poor = await client(world, await world.new_project(credits=5))
    async with world.unchanged():
        refused(await app.post("/compat/fal/fal-ai/no-such-app", json=small()), 404, "no-such-app", "not_found")
        refused(await app.post("/compat/fal/queue/nobody", json=small()), 404)
        refused(await world.client().post(AURORA, json=small()), 401, "Key")
        refused(await world.client(authorization="Key sk_mistyped").post(AURORA, json=small()), 401)
        refused(await world.client(authorization="Basic eA==").post(AURORA, json=small()), 401)
        refused(await public.post(AURORA, json=small()), 403)
        body = refused(await poor.post(AURORA, json=small()), 403, "Exhausted balance")
        assert (body["error_type"], body["required"], body["available"]) == ("insufficient_credits", 10, 5)
        refused(await app.post(AURORA, content=b"{"), 422, "not JSON")
        refused(await app.post(AURORA, content=b"[1]"), 422, "object")
        refused(await app.post(AURORA, content=b"[" * 100_000), 422)
        body = refused(await app.post(AURORA, json={"prompt": 5, "width": 1}), 422)
        assert [each["loc"] for each in body["detail"]] == [["body", "prompt"], ["body", "width"]]
        body = refused(await app.post(AURORA, json=small(num_images=9)), 422)
        assert body["detail"][0]["loc"] == ["body", "num_images"]
        refused(await app.post(AURORA, json=small(num_images=True)), 422)
        refused(await app.post(AURORA, json=small(), headers={"idempotency-key": "x" * 300}), 422)
        refused(await app.post(AURORA, content=b"[" + b"1," * (9 * 2**20)), 413)
        assert (await app.get(AURORA)).status_code == 405
        answer = await app.get("/compat/fal/proxy", headers={"x-fal-target-url": "https://evil.example/fal.run"})
        assert (answer.status_code, answer.json()) == (400, "Invalid request")
        refused(await app.post("/compat/fal/storage/upload/initiate-multipart", json={}), 413)
        for address in (
            "http://10.0.0.1/x",
            "https://127.0.0.1/x",
            "https://169.254.169.254/latest",
            "ftp://a.example",
        ):
            answer = await app.post(AURORA, json=small(), params={"fal_webhook": address})
            assert refused(answer, 422)["detail"][0]["loc"] == ["query", "fal_webhook"]
    metrics = (await world.api.get("/metrics")).text
    assert 'reason="malformed"' in metrics


async def test_a_key_of_several_projects_names_one(world: World) -> None:
    everything = world.client(authorization=world.admin.headers["authorization"])
    assert refused(await everything.post(AURORA, json=small()), 400)["error_type"] == "project_missing"
    by_path = await submitted(everything, f"/compat/fal/p/{world.project}/local/aurora")
    assert by_path["status_url"].startswith(f"{world.url}/compat/fal/p/{world.project}/local/aurora/requests/")
    await ended(everything, by_path)
    by_header = await submitted(everything, headers={"safelight-project": world.project})
    assert {(await world.ends(each["request_id"]))["project_id"] for each in (by_path, by_header)} == {world.project}
    refused(await everything.post(AURORA, json=small(), headers={"safelight-project": "mine"}), 400)
    refused(await everything.post(f"/compat/fal/p/{uuid4()}/local/aurora", json=small()), 404)
    one = await client(world, await world.new_project())
    refused(await one.post(f"/compat/fal/p/{world.project}/local/aurora", json=small()), 404)


async def test_nobody_touches_the_request_of_another_project(world: World) -> None:
    app, stranger = await client(world), await client(world, await world.new_project())
    told = await submitted(app, "/compat/fal/fal-ai/flux/dev", fal_input(3600))
    for method, path in (
        ("PUT", told["cancel_url"]), ("GET", told["status_url"]), ("GET", told["response_url"]),
        ("GET", told["status_url"] + "/stream"), ("GET", told["response_url"] + "/wait"),
    ):  # fmt: skip
        assert refused(await stranger.request(method, path), 404)["status"] == "NOT_FOUND"
        refused(await world.client().request(method, path), 401)
    for unknown in (str(uuid4()), "x", "%00"):
        refused(await app.put(f"/compat/fal/fal-ai/flux/requests/{unknown}/cancel"), 404)
    assert (await world.job(told["request_id"]))["cancel_requested_at"] is None
    assert (await world.job(told["request_id"]))["status"] in ("pending", "processing")
    canceled = await app.put(told["cancel_url"])
    assert (canceled.status_code, canceled.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    assert (await ended(app, told))["error_type"] == "client_cancelled"
    assert refused(await app.get(told["response_url"]), 499)["error_type"] == "client_cancelled"
    assert (await app.put(told["cancel_url"])).json()["status"] == "ALREADY_COMPLETED"


async def test_the_same_key_again_is_the_same_request_and_is_charged_once(world: World) -> None:
    app, key, body = await client(world), {"idempotency-key": "order 7"}, small(num_images=2, sync_mode=True)
    before = (await world.wallet())["balance"]
    first = await submitted(app, body=body, headers=key)
    again = await submitted(app, body=body, headers=key)
    assert again["request_id"] == first["request_id"]
    refused(await app.post(AURORA, json=small(), headers=key), 422, "idempotency")
    assert (await ended(app, first))["metrics"]["inference_time"] > 0
    answer = await app.get(first["response_url"])
    assert answer.headers["x-fal-request-id"] == first["request_id"]
    job = await world.job(first["request_id"])
    assert (job["status"], job["n"], job["input"].get("sync_mode")) == ("completed", 2, None)
    assert (await world.wallet())["balance"] == before - job["credits"]["charged"] == before - 20
    tiles, _ = await world.everything(f"{world.p}/generations")
    assert {tile["id"] for tile in tiles} == set(job["generations"])
    assert [picture["file_name"].partition(".")[0] for picture in answer.json()["images"]] == job["generations"]
    changes = [each for each in await world.changes(0) if each["id"] == first["request_id"]]
    assert (changes[0]["op"], changes[-1]["row"]["status"]) == ("insert", "completed")


async def test_models_are_reached_by_their_own_names_and_by_ids_with_a_slash(world: World) -> None:
    app = await client(world)
    for path, model in (
        ("google/nano-banana", "google/nano-banana"),
        ("safelight/nano-banana-pro", "nano-banana-pro"),
        ("nano-banana-pro", "nano-banana-pro"),
        ("fal-ai/flux/dev/", "fal-ai/flux/dev"),
    ):
        told = await submitted(app, f"/compat/fal/{path}", {"prompt": "a fox", "_emulator": {"latency_s": 3600}})
        assert (await world.job(told["request_id"]))["model"] == model
        assert (await app.get(told["status_url"])).status_code == 202
        assert refused(await app.get(told["response_url"]), 400)["detail"] == "Request is still in progress"


async def test_the_stream_of_a_status_ends_with_the_request(world: World) -> None:
    app = await client(world)
    told = await submitted(app, "/compat/fal/queue/fal-ai/flux/dev", fal_input(0.3))
    async with aconnect_sse(app, "GET", told["status_url"] + "/stream?logs=1") as source:
        states = [json.loads(event.data)["status"] async for event in source.aiter_sse() if event.data]
    assert states[-1] == "COMPLETED"
    assert len(states) > 1


async def test_a_failure_is_told_by_status_result_and_callback(build: Build, emulators: Address) -> None:
    async with receiving() as app_server:
        world = await build(allow_hosts=(_host(app_server.url), _host(emulators.base_url)))
        app = await client(world)
        body = {**fal_input(), "_emulator": {"latency_s": 0.1, "fail": "content_policy"}}
        told = await submitted(app, "/compat/fal/fal-ai/flux/dev", body, params={"fal_webhook": app_server.url})
        assert (await ended(app, told))["error_type"] == "content_policy_violation"
        result = refused(await app.get(told["response_url"]), 422)
        assert result["detail"][0]["type"] == "content_policy_violation"
        [(headers, raw)] = await until(_messages(app_server, 1), "the callback")
        assert json.loads(raw) == {
            "request_id": told["request_id"],
            "gateway_request_id": told["request_id"],
            "status": "ERROR",
            "error": (await world.job(told["request_id"]))["error"]["message"],
            "payload": result,
        }
        await _proves(world, headers, raw)


async def test_a_callback_is_repeated_until_it_is_taken(build: Build) -> None:
    async with receiving(refusals=1) as app_server:
        world = await build(allow_hosts=(_host(app_server.url),))
        app = await client(world)
        told = await submitted(app, params={"fal_webhook": app_server.url})
        identity = UUID(told["request_id"])
        await until(_messages(app_server, 1), "the first try")

        async def is_noted() -> bool:
            return await world.value(
                "select claim is null and tries = 1 from fal_callbacks where job_id = $1", identity
            )

        await until(is_noted, "the first try to be noted")
        assert await world.value(
            "select due_at > now() and ended_at is null from fal_callbacks where job_id = $1", identity
        )
        await world.rows("update fal_callbacks set due_at = now() where job_id = $1", identity)
        messages = await until(_messages(app_server, 2), "the second try")
        assert messages[0][1] == messages[1][1]

        async def is_over() -> bool:
            return await world.value("select ended_at is not null from fal_callbacks where job_id = $1", identity)

        await until(is_over, "the callback to be over")

        async def steps() -> list[str]:
            trace = (await world.api.get(f"/v1/jobs/{told['request_id']}/trace")).json()["steps"]
            said = [step["step"] for step in trace if step["step"].startswith("callback")]
            return said if len(said) == 2 else []

        assert await until(steps, "both tries in the trace") == ["callback_failed", "callback_delivered"]


async def test_a_receiver_that_hangs_delays_no_other(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for six tries, and eight callbacks, all older, wait for a server that never answers."""
    monkeypatch.setattr("safelight.outgoing.lanes.WINDOW", 2)  # so that the look goes along the lanes, too
    monkeypatch.setattr("safelight.compat.fal.callbacks.AT_ONCE", 6)
    monkeypatch.setattr("safelight.compat.fal.callbacks.LEASE_S", 3600.0)
    monkeypatch.setattr("safelight.server.fal_door.GuardedPost", functools.partial(GuardedPost, total_s=3600.0))
    async with receiving() as dead, receiving() as living:
        dead.answers.clear()
        world = await build(allow_hosts=(_host(dead.url), _host(living.url)))
        app = await client(world)
        for _ in range(8):
            await submitted(app, params={"fal_webhook": dead.url})
        await until(_messages(dead, PER_LANE_MAX), "the dead server to have its share")
        await submitted(app, params={"fal_webhook": living.url})
        await until(_messages(living, 1), "the living one to be told")
        assert len(dead.messages) == PER_LANE_MAX
        # Once it answers, the others come one after the other.
        dead.answers.set()
        await until(_messages(dead, 8), "all of them")


async def test_uploads_are_guarded(world: World) -> None:
    app = await client(world)
    announced = await app.post(
        "/compat/fal/storage/upload/initiate", json={"file_name": "a/b.png", "content_type": "image/png"}
    )
    place = announced.json()
    nobody = world.client()
    refused(await nobody.get(place["file_url"]), 404)
    refused(await nobody.put(place["upload_url"] + "x", content=_png()), 403)
    refused(await nobody.put("/compat/fal/upload/e30.x", content=_png()), 403)
    refused(await nobody.put(place["upload_url"], content=b"<svg/>", headers={"content-type": "image/png"}), 422)
    refused(await nobody.put(place["upload_url"], content=_png(), headers={"content-type": "text/html"}), 422)
    refused(await nobody.put(place["upload_url"], content=_chunks()), 411)
    for _ in range(2):
        assert (
            await nobody.put(place["upload_url"], content=_png(), headers={"content-type": "image/png"})
        ).status_code == 200
    there = await nobody.get(place["file_url"], follow_redirects=True)
    assert (there.content, there.headers["content-type"]) == (_png(), "image/png")
    signature = place["file_url"].split("/")[-2]
    refused(await nobody.get(place["file_url"].replace(signature, "A" * 24)), 404)
    refused(await app.post("/compat/fal/storage/upload/initiate", json={"file_name": 1}), 422)
    token = (await app.post("/compat/fal/storage/auth/token", json={})).json()["token"]
    bearer = {"authorization": f"Bearer {token}", "content-type": "image/png"}
    assert "access_url" in (await nobody.post("/compat/fal/files/upload", content=_png(), headers=bearer)).json()
    refused(await nobody.post(AURORA, json=small(), headers={"authorization": f"Bearer {token}"}), 401)

    # Another project's file is no start image: its address is left as it is, for the provider to fetch or not.
    theirs = await client(world, await world.new_project())
    body = {**fal_input(), "image_url": place["file_url"]}
    mine = await submitted(app, "/compat/fal/fal-ai/flux/dev/image-to-image", body)
    other = await submitted(theirs, "/compat/fal/fal-ai/flux/dev/image-to-image", body)
    assert (await world.job(mine["request_id"]))["start"] is not None
    row = await world.rows("select start, input from jobs where id = $1", UUID(other["request_id"]))
    assert (row[0]["start"], row[0]["input"]["image_url"]) == (None, place["file_url"])


async def test_uploads_that_break_off_leave_nothing_that_counts_against_the_project(world: World) -> None:
    app = await client(world)
    token = (await app.post("/compat/fal/storage/auth/token", json={})).json()["token"]
    bearer = {"authorization": f"Bearer {token}", "content-type": "image/png"}
    for _ in range(3):
        refused(await world.client().post("/compat/fal/files/upload", content=b"<svg/>" * 99, headers=bearer), 422)
    assert await world.value("select count(*) from uploads") == 0
    staging = world.settings.data / "uploads"
    address = httpx.URL(world.url)
    _, line = await asyncio.open_connection(address.host, address.port)
    head = ["POST /compat/fal/files/upload HTTP/1.1", f"Host: {address.netloc.decode()}", "Content-Length: 5000"]
    head += [f"{name}: {value}" for name, value in bearer.items()]
    line.write(("\r\n".join(head) + "\r\n\r\n").encode() + _png()[:40])

    async def has_begun() -> bool:
        return await world.value("select count(*) from uploads") == 1 and bool(list(staging.iterdir()))

    await until(has_begun, "the upload to be under way")
    line.close()

    async def is_forgotten() -> bool:
        return await world.value("select count(*) from uploads") == 0 and not list(staging.iterdir())

    await until(is_forgotten, "what came of it to be gone")


async def test_a_run_is_held_for_a_while_and_then_sent_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safelight.compat.fal.run.HOPS_MAX", 1)
    app = await client(world, prefer="respond-async, wait=1")
    first = await app.post("/compat/fal/run/fal-ai/flux/dev", json=fal_input(3600))
    assert first.status_code == 303
    assert first.json()["response_url"] in first.json()["detail"]
    assert first.headers["location"] == f"/compat/fal/fal-ai/flux/requests/{first.json()['request_id']}/wait?hop=1"
    last = await app.get(first.headers["location"])
    assert refused(last, 504)["request_id"] == first.json()["request_id"]
    # Or the clients would run it again, and pay again.
    assert last.headers["x-fal-request-timeout-type"] == "user"
    assert (await world.job(first.json()["request_id"]))["status"] in ("pending", "processing")
    assert len((await world.everything(f"{world.p}/jobs"))[0]) == 1


def _png() -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (40, 30), (10, 120, 60)).save(made, "PNG")
    return made.getvalue()


async def _chunks() -> AsyncIterator[bytes]:
    yield _png()


def _host(url: str) -> str:
    return url.split("/")[2]


def _messages(receiver: Receiver, count: int) -> Any:
    async def look() -> list[tuple[dict[str, str], bytes]]:
        return receiver.messages if len(receiver.messages) >= count else []

    return look


async def _proves(world: World, headers: dict[str, str], raw: bytes) -> None:
    jwks = (await world.client().get("/compat/fal/.well-known/jwks.json")).json()
    x = jwks["keys"][0]["x"]
    key = Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(x + "=" * (-len(x) % 4)))
    named = [headers[f"x-fal-webhook-{name}"] for name in ("request-id", "user-id", "timestamp")]
    key.verify(
        bytes.fromhex(headers["x-fal-webhook-signature"]),
        "\n".join((*named, hashlib.sha256(raw).hexdigest())).encode(),
    )
