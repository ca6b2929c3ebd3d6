"""The whole product: endpoints over HTTP, real jobs of the local provider, a real receiver (J12)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from outgoing_world import DEADLINE_S, Receiver, until
from standardwebhooks import WebhookVerificationError

from safelight.access import keys
from safelight.server.run import listen, running
from safelight.server.settings import Settings
from safelight.server.system import System

Json = dict[str, Any]


class Served:
    """A running process of an installation, and somebody who owns a project there."""

    def __init__(self, system: System, url: str) -> None:
        self.system = system
        self.api = httpx.AsyncClient(base_url=url, timeout=DEADLINE_S, trust_env=False)
        self.project = ""

    async def begin(self) -> None:
        db = self.system.db
        made = await db.run(lambda tx: keys.create_key(tx, project_id=None, kind="secret", name="all"))
        self.api.headers["authorization"] = f"Bearer {made.plaintext}"
        self.project = await self.new_project()

    async def new_project(self) -> str:
        project = (await self.post("/v1/projects", 201, name="p"))["id"]
        await self.post(f"/v1/projects/{project}/credits/grants", 201, amount=1_000_000, key="start")
        return project

    async def post(self, path: str, status: int = 200, **body: Any) -> Json:
        answer = await self.api.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def get(self, path: str, **params: Any) -> Any:
        answer = await self.api.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refused(self, method: str, path: str, status: int, body: Json | None = None) -> Json:
        answer = await self.api.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.json()

    async def webhook(self, url: str, **given: Any) -> Json:
        return await self.post(f"/v1/projects/{self.project}/webhooks", 201, url=url, **given)

    async def submit(self, **given: Any) -> Json:
        small = {"prompt": f"a red fox {uuid4()}", "width": 64, "height": 64}
        return await self.post(f"/v1/projects/{self.project}/jobs", 202, model="local/aurora", input=small, **given)


@asynccontextmanager
async def serving(dsn: str, folder: Path, **given: Any) -> AsyncIterator[Served]:
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    settings = Settings(**{"database_url": dsn, "data": folder, "database_connections": 8, **given})
    ready: asyncio.Future[System] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def on_ready(system: System) -> None:
        ready.set_result(system)

    task = asyncio.create_task(running(settings, listener, url, stop, on_ready))
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    served = Served(ready.result(), url)
    try:
        await served.begin()
        yield served
    finally:
        await served.api.aclose()
        stop.set()
        await task


@pytest.fixture
async def served(dsn: str, tmp_path: Path, receiver: Receiver) -> AsyncIterator[Served]:
    allowed = (f"127.0.0.1:{receiver.port}",)
    async with serving(dsn, tmp_path, allow_hosts=allowed) as made:
        yield made


async def test_an_app_is_told_of_its_jobs_and_finds_the_pictures(served: Served, receiver: Receiver):
    made = await served.webhook(f"{receiver.url}/ok", events=["job.completed"], description="our app")
    assert made["secret"].startswith("whsec_")
    assert made["enabled"]
    job = await served.submit(n=2, metadata={"order": "17"})
    (heard,) = await receiver.hears(1)
    said = heard.proven(made["secret"])
    assert said["type"] == "job.completed"
    assert said["data"]["job"]["id"] == job["id"]
    assert said["data"]["job"]["metadata"] == {"order": "17"}
    # The same job, and the same results, as the API shows them.
    assert said["data"]["job"].keys() == job.keys()
    for generation in said["data"]["generations"]:
        shown = await served.get(f"/v1/generations/{generation['id']}")
        assert generation.keys() == shown.keys()
        async with httpx.AsyncClient(trust_env=False) as anybody:
            picture = await anybody.get(generation["urls"]["original"])
        assert picture.status_code == 200
        assert len(picture.content) == generation["bytes"]
    assert [each["id"] for each in said["data"]["generations"]] == said["data"]["job"]["generations"]

    async def is_noted() -> Json | None:
        (log,) = (await served.get(f"/v1/webhooks/{made['id']}/deliveries"))["items"]
        return log if log["state"] == "delivered" else None

    log = await until(is_noted)
    assert log["id"] == heard.id
    assert log["job_id"] == job["id"]
    assert await served.get(f"/v1/webhook-deliveries/{log['id']}") == log
    assert (await served.get(f"/v1/projects/{served.project}/webhook-deliveries", job=job["id"]))["items"] == [log]

    async def is_measured() -> bool:
        said = (await served.api.get("/metrics")).text.splitlines()
        wanted = {'safelight_outgoing_tries_total{outcome="delivered"} 1.0', "safelight_outgoing_pending 0.0"}
        return wanted <= set(said)  # what the database is slow to say is left out

    await until(is_measured)
    # Replayed, it says the same of the job under the same id (a larger thumbnail may have come meanwhile).
    await served.post(f"/v1/webhook-deliveries/{log['id']}/replay", 202)
    first, again = await receiver.hears(2)
    assert again.id == first.id
    assert again.proven(made["secret"])["data"]["job"] == said["data"]["job"]
    assert again.said["timestamp"] == first.said["timestamp"]


async def test_a_job_can_name_an_address_of_its_own(served: Served, receiver: Receiver):
    body = {"webhook_url": f"{receiver.url}/own?order=17", "id": str(uuid4())}
    job = await served.submit(**body)
    (heard,) = await receiver.hears(1)
    assert heard.path == "/own"
    secret = await served.get(f"/v1/projects/{served.project}/webhook-secret")
    assert heard.proven(secret["secret"])["data"]["job"]["id"] == job["id"]
    rotated = await served.post(f"/v1/projects/{served.project}/webhook-secret/rotate")
    assert rotated["secret"] != secret["secret"]
    assert rotated["previous_secret_expires_at"]
    with pytest.raises(WebhookVerificationError):
        heard.proven(rotated["secret"])


async def test_an_endpoint_is_changed_rotated_tested_disabled_and_deleted(served: Served, receiver: Receiver):
    made = await served.webhook(f"{receiver.url}/ok")
    path = f"/v1/webhooks/{made['id']}"
    assert "secret" not in await served.get(path)
    listed = await served.get(f"/v1/projects/{served.project}/webhooks")
    assert [each["id"] for each in listed["items"]] == [made["id"]]
    assert "secret" not in listed["items"][0]
    rotated = await served.post(f"{path}/rotate")
    tested = await served.post(f"{path}/test", 202)
    (heard,) = await receiver.hears(1)
    assert heard.id == tested["id"]
    for secret in (made["secret"], rotated["secret"]):
        assert heard.proven(secret)["type"] == "webhook.test"
    wanted = {"events": ["job.failed", "job.failed"], "description": "x", "enabled": False}
    changed = (await served.api.patch(path, json=wanted)).json()
    assert changed["events"] == ["job.failed"]
    assert changed["disabled"]["code"] == "by_hand"
    assert changed["url"] == made["url"]
    enabled = (await served.api.patch(path, json={"enabled": True})).json()
    assert enabled["enabled"]
    assert enabled["disabled"] is None
    assert (await served.api.delete(path)).status_code == 204
    await served.refused("GET", path, 404)
    audit = await served.system.db.run(
        lambda tx: tx.conn.fetch("select action from audit_log where action like 'webhook.%' order by id")
    )
    assert [row["action"] for row in audit] == [
        "webhook.create", "webhook.rotate", "webhook.change", "webhook.change", "webhook.delete",
    ]  # fmt: skip


async def test_bad_input_is_refused_in_words_and_changes_nothing(served: Served, receiver: Receiver):
    path = f"/v1/projects/{served.project}/webhooks"
    good = f"{receiver.url}/ok"
    made = await served.webhook(good)
    wrong: list[tuple[Json, str]] = [
        ({}, "url"),
        ({"url": ""}, "url"),
        ({"url": "fox"}, "https://"),
        ({"url": "https://u:p@example.com/"}, "signature"),
        ({"url": f"http://127.0.0.1:{receiver.port + 1}/"}, "use https"),
        ({"url": "https://127.0.0.1/hook"}, "private network"),
        ({"url": "https://[::1]/hook"}, "private network"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "private network"),
        ({"url": "https://2130706433/hook"}, "private network"),
        ({"url": "https://localhost/hook"}, "private network"),
        ({"url": "https://example.com/" + "a" * 2000}, "2000"),
        ({"url": good, "events": ["job.painted"]}, "job.completed"),
        ({"url": good, "events": []}, "events"),
        ({"url": good, "description": "x" * 501}, "500"),
        ({"url": good, "surprise": 1}, "surprise"),
        ({"url": good, "secret": "whsec_mine"}, "secret"),
    ]
    for body, words in wrong:
        problem = await served.refused("POST", path, 422, body)
        assert problem["code"] == "invalid_input"
        assert words in str(problem), f"{words!r} is not said of {body}: {problem}"
        if body.get("url") and body.get("url") != good:
            problem = await served.refused("PATCH", f"/v1/webhooks/{made['id']}", 422, body)
            assert words in str(problem)
    for url, words in (("https://127.0.0.1/hook", "private network"), ("ftp://x", "https://")):
        job = {"model": "local/aurora", "input": {"prompt": "a fox"}, "webhook_url": url}
        for where in ("jobs", "quote"):
            problem = await served.refused("POST", f"/v1/projects/{served.project}/{where}", 422, job)
            assert problem["errors"][0]["loc"] == ["body", "webhook_url"]
            assert words in problem["detail"]
    listed = (await served.get(path))["items"]
    assert [each["url"] for each in listed] == [good]
    assert receiver.heard == []


async def test_only_who_manages_the_project_sees_its_endpoints_secrets_and_log(served: Served, receiver: Receiver):
    made = await served.webhook(f"{receiver.url}/ok")
    tested = await served.post(f"/v1/webhooks/{made['id']}/test", 202)
    other = await served.new_project()
    foreign = (await served.post(f"/v1/projects/{other}/keys", 201, kind="secret", name="foreign"))["key"]
    project = f"/v1/projects/{served.project}"
    editor = served.system.context.gate.tokens.issue("editor", 3600)
    assert (await served.api.put(f"{project}/members/editor", json={"role": "editor"})).status_code == 204
    one, log = f"/v1/webhooks/{made['id']}", f"/v1/webhook-deliveries/{tested['id']}"
    asked = [
        ("GET", f"{project}/webhooks", None),
        ("POST", f"{project}/webhooks", {"url": f"{receiver.url}/ok"}),
        ("GET", f"{project}/webhook-secret", None),
        ("POST", f"{project}/webhook-secret/rotate", None),
        ("GET", f"{project}/webhook-deliveries", None),
        ("GET", one, None),
        ("PATCH", one, {"enabled": False}),
        ("DELETE", one, None),
        ("POST", f"{one}/rotate", None),
        ("POST", f"{one}/test", None),
        ("GET", f"{one}/deliveries", None),
        ("GET", log, None),
        ("POST", f"{log}/replay", None),
    ]
    admin = served.api.headers["authorization"]
    for credential, status in ((foreign, 404), (editor, 403)):
        served.api.headers["authorization"] = f"Bearer {credential}"
        for method, path, body in asked:
            problem = await served.refused(method, path, status, body)
            assert "whsec_" not in str(problem)
    served.api.headers["authorization"] = admin
    assert (await served.get(one))["enabled"]
    for path in (f"/v1/webhooks/{uuid4()}", f"/v1/webhook-deliveries/{uuid4()}"):
        await served.refused("GET", path, 404)


async def test_the_log_comes_in_pages_and_by_state(served: Served, receiver: Receiver):
    made = await served.webhook(f"{receiver.url}/ok")
    sent = [(await served.post(f"/v1/webhooks/{made['id']}/test", 202))["id"] for _ in range(5)]
    path = f"/v1/projects/{served.project}/webhook-deliveries"

    async def are_there() -> bool:
        return len((await served.get(path, state="delivered"))["items"]) == len(sent)

    await until(are_there)
    assert (await served.get(path, state="failed"))["items"] == []
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await served.get(path, limit=2, **({"cursor": cursor} if cursor else {}))
        found += [each["id"] for each in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == sent[::-1]
    problem = await served.refused("GET", f"{path}?cursor=fox", 422)
    assert "cursor" in problem["detail"]


async def test_what_another_process_told_is_sent_by_the_worker(dsn: str, tmp_path: Path, receiver: Receiver):
    """Roles apart: the API has no sender, and the worker's sweep finds what is due."""
    allowed = (f"127.0.0.1:{receiver.port}",)
    async with (
        serving(dsn, tmp_path, roles=("worker", "api"), allow_hosts=allowed),
        serving(dsn, tmp_path, roles=("api",), allow_hosts=allowed) as api,
    ):
        made = await api.webhook(f"{receiver.url}/ok", events=["job.completed"])
        await api.post(f"/v1/webhooks/{made['id']}/test", 202)
        await receiver.hears(1)
        await api.submit()
        heard = await receiver.hears(2)
        assert heard[1].proven(made["secret"])["type"] == "job.completed"
