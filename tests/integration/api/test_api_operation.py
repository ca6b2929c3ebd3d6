"""What whoever runs it reads: health, readiness, figures, the contract; and the headers that all answers have."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from api_world import Build, World, a_world, assert_problem, ok, small, until
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Route

from safelight.db import embedded, migrate

HIDDEN = {"/", "/openapi.json", "/docs", "/docs/oauth2-redirect", "/favicon.svg", "/favicon.ico"}
"""Pages for people."""
FOREIGN = ("/realtime/", "/socket/", "/api/broadcast")
"""Supabase's protocol, not ours to describe (S4)."""


async def test_it_says_that_it_is_up_and_can_serve(world: World) -> None:
    nobody = world.client()
    assert ok(await nobody.get("/healthz")) == {"status": "ok"}
    ready = ok(await nobody.get("/readyz"))
    assert ready["status"] == "ok"
    assert ready["checks"]["database"] == "ok"


async def test_the_figures_are_prometheus_own_and_count_what_happens(world: World) -> None:
    await world.pictures(1)
    await world.api.get(f"{world.p}/jobs")
    answer = await world.client().get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert families["safelight_jobs_submitted"].samples[0].labels == {"provider": "local", "model": "local/aurora"}
    listed = (("method", "GET"), ("route", "/v1/projects/{project}/jobs"), ("status", "200"))
    assert samples["safelight_http_requests_total", listed] == 1
    assert world.project not in answer.text, "a path is no label: that would be a series for every project"
    assert all(name.startswith(("safelight_", "process_", "python_")) for name in families)


async def test_the_contract_is_served_and_names_every_route(world: World) -> None:
    answer = await world.client().get("/openapi.json")
    document = answer.json()
    documented = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    app = world.system.app
    while not hasattr(app, "router"):
        app = getattr(app, "app", None) or app._app
    plain = [
        route
        for route in app.router.routes
        if isinstance(route, Route) and route.path not in HIDDEN and not route.path.startswith(FOREIGN)
    ]
    included = [route for router in app.router.routes for route in getattr(router, "effective_candidates", list)()]
    routes = {
        (method, route.path.replace(":path}", "}"))
        for route in (*plain, *included)
        for method in route.methods - {"HEAD"}
    }
    assert len(routes) > 50
    assert routes - documented == set(), "served and not documented"
    assert documented - routes == set(), "documented and not served"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert operation["tags"], (method, path)
            for status, response in operation["responses"].items():
                if int(status) >= 400 and path != "/readyz":
                    assert list(response["content"]) == ["application/problem+json"], (method, path, status)
    assert "HTTPValidationError" not in answer.text
    assert (await world.client().get("/docs")).status_code == 200


async def test_every_answer_carries_the_headers_of_a_careful_server(world: World) -> None:
    for path in ("/", "/healthz", f"{world.p}/jobs", "/v1/nothing", "/metrics", "/media/x"):
        answer = await world.api.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["referrer-policy"] == "no-referrer", path
        assert answer.headers["x-frame-options"] == "DENY", path
        assert answer.headers["cache-control"] == "no-store", path
        assert "server" not in answer.headers


async def test_the_studio_is_served_with_a_policy_and_its_parts_for_good(world: World) -> None:
    page = await world.client().get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    [asset, *_] = re.findall(r'"(/assets/[^"]+)"', page.text)
    part = await world.client().get(asset)
    assert part.status_code == 200
    assert part.headers["cache-control"] == "public, max-age=31536000, immutable"
    for path in ("/assets/../../pyproject.toml", "/assets/%2e%2e/index.html", "/assets/nothing.js"):
        assert (await world.client().get(path)).status_code == 404


async def test_models_say_what_can_be_asked(world: World) -> None:
    items = ok(await world.api.get("/v1/models"))["items"]
    by_id = {item["id"]: item for item in items}
    assert {"local/aurora", "fal-ai/flux/schnell", "google/nano-banana"} <= set(by_id)
    assert all(item["enabled"] for item in items if item["id"].startswith(("local/", "fal-ai/")))
    assert by_id["local/aurora"]["eta_s"] > 0


async def test_a_browsers_report_is_taken_and_bounded(world: World) -> None:
    page = await world.user("viewer")
    ok(await page.post("/v1/telemetry", json={"transport": "sse", "visible_ms": [12.5, 40]}), 204)
    for wrong in ({}, {"transport": "x" * 50}, {"transport": "sse", "visible_ms": [-1]},
                  {"transport": "sse", "visible_ms": [1] * 500}):  # fmt: skip
        assert_problem(await page.post("/v1/telemetry", json=wrong), 422, "invalid_input")
    figures = (await page.get("/metrics")).text
    assert 'safelight_commit_to_painted_seconds_count{transport="sse"} 2.0' in figures


@pytest.fixture
async def own_postgres() -> AsyncIterator[embedded.Embedded]:
    """A server that a test may stop."""
    folder = Path(tempfile.mkdtemp(prefix="safelight-own-"))
    folder.chmod(0o755)
    server = await embedded.start(folder / "pg", embedded.Settings(is_durable=False))
    try:
        yield server
    finally:
        await server.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def test_with_the_database_gone_it_is_up_and_not_ready_and_loses_nothing(
    own_postgres: embedded.Embedded, emulators, tmp_path: Path
) -> None:
    await migrate.upgrade(own_postgres.dsn)
    world = await a_world(own_postgres.dsn, emulators, tmp_path)
    try:
        job = await world.submit()
        await world.ends(job["id"])
        await own_postgres.stop()

        nobody = world.client()
        assert ok(await nobody.get("/healthz")) == {"status": "ok"}
        answer = await nobody.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["status"] == "unavailable"
        assert answer.json()["checks"]["database"].startswith("unreachable")
        for method, path, body in [("GET", "jobs", None), ("POST", "jobs", small()), ("POST", "shots", {"name": "x"})]:
            refused = await world.api.request(method, f"{world.p}/{path}", json=body)
            assert_problem(refused, 503, "overloaded", "Try again")
            assert int(refused.headers["retry-after"]) > 0
        assert (await nobody.get("/metrics")).status_code == 200
    finally:
        await world.close()


async def test_a_slow_or_rude_client_does_not_disturb_the_others(build: Build) -> None:
    """Half a request, a stream nobody reads: the next request is answered as if they were not there."""
    world = await build()
    host, port = world.url.removeprefix("http://").split(":")
    key = world.api.headers["authorization"]
    rude = []
    for start in (b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf", b"GET / HT"):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(start)
        rude.append(writer)
    for _ in range(20):
        _, writer = await asyncio.open_connection(host, int(port))
        lines = f"GET {world.p}/changes/stream HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n\r\n"
        writer.write(lines.encode())
        rude.append(writer)
    ok(await world.api.post(f"{world.p}/shots", json={"name": "S"}), 201)
    for writer in rude:
        writer.transport.abort()

    async def gone() -> bool:
        figures = (await world.client().get("/metrics")).text
        return 'feed_followers{transport="sse"} 0.0' in figures or "feed_followers" not in figures

    await until(gone, "the streams to be forgotten")
