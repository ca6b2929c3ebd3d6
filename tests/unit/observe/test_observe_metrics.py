"""What Prometheus reads: right numbers, bounded series, and a scrape that no failure spoils (D3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from safelight.db.pool import Database
from safelight.observe import scrape
from safelight.observe.metrics import LABELS_MAX, Metrics
from safelight.observe.requests import RequestObserver
from safelight.observe.scrape import ScrapeSource


async def figures(metrics: Metrics) -> dict[str, float]:
    """`name{label=value,…}` → figure, as Prometheus itself would parse it."""
    text = (await metrics.render()).decode()
    return {
        sample.name.removeprefix("safelight_")
        + (
            "{" + ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items())) + "}" if sample.labels else ""
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_what_is_counted_is_read() -> None:
    metrics = Metrics()
    metrics.job_submitted("fal", "google/nano-banana")
    metrics.job_ended("fal", "completed")
    metrics.webhook("fal", "stored")
    metrics.webhook_committed(0.02)
    metrics.provider_request("fal", "submit", "ok")
    metrics.changes_delivered("sse", 3)
    metrics.changes_delivered("sse", 2)
    metrics.credential_refused("expired")
    metrics.visible("socket", [40, 60.5, -3])
    seen = await figures(metrics)
    assert seen["jobs_submitted_total{model=google/nano-banana,provider=fal}"] == 1
    assert seen["jobs_ended_total{provider=fal,stage=completed}"] == 1
    assert seen["webhooks_received_total{outcome=stored,provider=fal}"] == 1
    assert seen["webhook_to_committed_seconds_bucket{le=0.025}"] == 1
    assert seen["webhook_to_committed_seconds_bucket{le=0.01}"] == 0
    assert seen["provider_requests_total{op=submit,outcome=ok,provider=fal}"] == 1
    assert seen["changes_delivered_total{transport=sse}"] == 5
    assert seen["credentials_refused_total{reason=expired}"] == 1
    assert seen["commit_to_painted_seconds_count{transport=socket}"] == 3
    assert seen["commit_to_painted_seconds_sum{transport=socket}"] == pytest.approx(0.1005)
    assert seen["process_resident_memory_bytes"] > 0


async def test_followers_are_counted_while_they_follow_however_they_leave() -> None:
    metrics = Metrics()
    with metrics.following("sse"):
        with metrics.following("sse"):
            assert (await figures(metrics))["feed_followers{transport=sse}"] == 2
        with pytest.raises(RuntimeError), metrics.following("sse"):
            raise RuntimeError
        assert (await figures(metrics))["feed_followers{transport=sse}"] == 1
    assert (await figures(metrics))["feed_followers{transport=sse}"] == 0


async def test_strangers_cannot_make_series_without_end() -> None:
    metrics = Metrics()
    metrics.webhook("fal", "stored")
    for number in range(LABELS_MAX * 2):
        metrics.webhook(f"made-up-{number}", "unknown")
        metrics.changes_delivered(f"made-up-{number}", 1)
        metrics.visible(f"made-up-{number}", [1])
        metrics.http(f"/route/{number}", f"METHOD{number}", 200, 0.1)
        metrics.job_submitted("fal", f"model-{number}")
    metrics.webhook("fal", "forged")
    seen = await figures(metrics)
    webhooks = {name: figure for name, figure in seen.items() if name.startswith("webhooks_received_total")}
    assert webhooks == {
        "webhooks_received_total{outcome=stored,provider=fal}": 1,
        "webhooks_received_total{outcome=forged,provider=fal}": 1,
        "webhooks_received_total{outcome=unknown,provider=other}": LABELS_MAX * 2,
    }
    assert seen["changes_delivered_total{transport=other}"] == LABELS_MAX * 2
    assert sum(name.startswith("http_requests_total") for name in seen) == LABELS_MAX + 1
    assert sum(name.startswith("jobs_submitted_total") for name in seen) == LABELS_MAX + 1


async def test_a_rooms_own_counters_are_read_at_the_scrape() -> None:
    metrics = Metrics()
    gaps = 0
    metrics.read_at_scrape("counter", "feed_gaps", "Gaps", lambda: gaps)
    metrics.read_at_scrape("gauge", "tasks", "Tasks", lambda: {"a": 1, "b": 2}, label="queue")
    gaps = 7
    seen = await figures(metrics)
    assert seen["feed_gaps_total"] == 7
    assert (seen["tasks{queue=a}"], seen["tasks{queue=b}"]) == (1, 2)
    with pytest.raises(ValueError):
        metrics.read_at_scrape("gauge", "tasks", "Tasks", lambda: 1)


async def test_one_figure_that_cannot_be_read_leaves_the_others() -> None:
    metrics = Metrics()
    metrics.read_at_scrape("gauge", "broken", "Broken", lambda: 1 / 0)
    metrics.read_at_scrape("gauge", "fine", "Fine", lambda: 1)
    seen = await figures(metrics)
    assert "broken" not in seen
    assert seen["fine"] == 1


async def test_a_ledger_that_was_not_audited_yet_is_not_reported_as_right() -> None:
    metrics = Metrics()
    assert "ledger_mismatch" not in await figures(metrics)
    metrics.ledger_mismatch = 0
    assert (await figures(metrics))["ledger_mismatch"] == 0


def app_with(metrics: Metrics) -> FastAPI:
    app = FastAPI()
    router = APIRouter(prefix="/v1")

    @router.get("/jobs/{job}")
    async def job(job: str) -> str:
        return job

    @router.get("/broken")
    async def broken() -> None:
        raise RuntimeError

    @router.websocket("/socket")
    async def socket(websocket: WebSocket, welcome: bool = True) -> None:
        if welcome:
            await websocket.accept()
        await websocket.close()

    async def plain(request: object) -> PlainTextResponse:
        return PlainTextResponse("plain")

    app.include_router(router)
    app.router.routes.append(Route("/plain/{x}/of/{rest:path}", plain))
    app.add_middleware(RequestObserver, metrics=metrics)
    return app


async def test_requests_are_counted_by_their_route_and_not_by_their_path() -> None:
    metrics = Metrics()
    with TestClient(app_with(metrics), raise_server_exceptions=False) as client:
        for number in range(3):
            assert client.get(f"/v1/jobs/{number}").status_code == 200
        client.get("/plain/1/of/a/1/b")
        client.get("/nowhere/1")
        client.get("/v1/broken")
        with client.websocket_connect("/v1/socket"):
            pass
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/socket?welcome=false"):
            pass
    seen = await figures(metrics)
    counts = {name: figure for name, figure in seen.items() if name.startswith("http_requests_total")}
    assert counts == {
        "http_requests_total{method=GET,route=/v1/jobs/{job},status=200}": 3,
        "http_requests_total{method=GET,route=/plain/{x}/of/{rest},status=200}": 1,
        "http_requests_total{method=GET,route=unmatched,status=404}": 1,
        "http_requests_total{method=GET,route=/v1/broken,status=500}": 1,
        "http_requests_total{method=WEBSOCKET,route=/v1/socket,status=101}": 1,
        "http_requests_total{method=WEBSOCKET,route=/v1/socket,status=403}": 1,
    }


async def test_a_stream_is_counted_when_it_begins() -> None:
    metrics, goes_on = Metrics(), asyncio.Event()

    async def endless(request: object) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first"
            await goes_on.wait()

        return StreamingResponse(chunks())

    app = FastAPI()
    app.router.routes.append(Route("/stream", endless))
    sent: list[str] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(str(message["type"]))

    async def receive() -> dict[str, object]:
        await goes_on.wait()
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": "/stream", "headers": [], "query_string": b"", "asgi": {}}
    running = asyncio.create_task(RequestObserver(app, metrics)(scope, receive, send))  # pyright: ignore
    async with asyncio.timeout(10):
        while len(sent) < 2:
            await asyncio.sleep(0)
    assert (await figures(metrics))["http_requests_total{method=GET,route=/stream,status=200}"] == 1
    goes_on.set()
    await running


async def test_a_request_given_up_before_its_answer_is_counted_as_that() -> None:
    metrics = Metrics()

    async def never(scope: object, receive: object, send: object) -> None:
        await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "path": "/x", "headers": []}
    running = asyncio.create_task(RequestObserver(never, metrics)(scope, None, None))  # pyright: ignore
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await figures(metrics))["http_requests_total{method=GET,route=unmatched,status=499}"] == 1


async def test_every_answer_names_its_request() -> None:
    transport = httpx.ASGITransport(app_with(Metrics()))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        kept = await client.get("/v1/jobs/1", headers={"X-Request-ID": "from-the-proxy-1"})
        made = await client.get("/v1/jobs/1", headers={"X-Request-ID": "no good\tid"})
    assert kept.headers["x-request-id"] == "from-the-proxy-1"
    assert len(made.headers["x-request-id"]) == 32


# -- figures of the database


class Stopwatch:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def busy(db: Database) -> UUID:
    """One project with two unfinished jobs, one of them overdue by a minute, and a webhook that waits."""
    async with db.connection() as conn:
        project = await conn.fetchval("insert into projects (name) values ('p') returning id")
        await conn.execute(
            "insert into jobs"
            " (id, project_id, model, provider, endpoint, kind, input, quoted, deadline_at, request_hash)"
            " select gen_random_uuid(), $1, 'm', 'fal', 'e', 'image', '{}', 0, now() + '1 hour', ''"
            " from generate_series(1, 2)",
            project,
        )
        await conn.execute(
            "insert into job_work (job_id, project_id, provider, look_at)"
            " select id, project_id, provider, now() - interval '60 seconds' from jobs limit 1"
        )
        await conn.execute(
            "insert into inbox (provider, event_key, attempt_id, job_id, received_at, headers, body)"
            " values ('fal', 'e', gen_random_uuid(), gen_random_uuid(), now() - interval '5 seconds', '{}', '')"
        )
    return project


async def test_the_databases_figures_are_read_at_the_scrape(db: Database) -> None:
    metrics = Metrics()
    ScrapeSource(db, metrics)
    await busy(db)
    seen = await figures(metrics)
    assert seen["inbox_waiting"] == 1
    assert seen["inbox_oldest_seconds"] >= 5
    assert seen["reconciler_lag_seconds"] >= 60
    assert seen["jobs_unfinished{stage=queued}"] == 2
    assert seen["database_up"] == 1
    assert seen["db_pool_connections{state=max}"] == 12
    assert seen["db_pool_connections{state=open}"] >= 1
    assert seen["asyncio_tasks"] >= 1


async def test_an_empty_installation_lags_behind_nothing(db: Database) -> None:
    metrics = Metrics()
    ScrapeSource(db, metrics)
    seen = await figures(metrics)
    assert (seen["inbox_waiting"], seen["inbox_oldest_seconds"], seen["reconciler_lag_seconds"]) == (0, 0, 0)


async def test_many_scrapes_ask_the_database_once_in_five_seconds(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    real = db.connection

    @asynccontextmanager
    async def counted() -> AsyncIterator[object]:
        nonlocal asked
        asked += 1
        async with real() as conn:
            yield conn

    clock, metrics = Stopwatch(), Metrics()
    ScrapeSource(db, metrics, clock=clock)
    monkeypatch.setattr(db, "connection", counted)
    await asyncio.gather(*(metrics.render() for _ in range(10)))
    assert asked == 1
    clock.now += 5
    await metrics.render()
    assert asked == 2


async def test_while_the_database_is_away_its_figures_are_missing_and_the_rest_is_there(dsn: str) -> None:
    closing = await Database.connect(dsn)
    clock, metrics = Stopwatch(), Metrics()
    ScrapeSource(closing, metrics, clock=clock)
    assert (await figures(metrics))["database_up"] == 1
    await closing.close()
    clock.now += 5
    metrics.job_ended("fal", "completed")
    seen = await figures(metrics)
    assert seen["database_up"] == 0
    assert "inbox_waiting" not in seen
    assert seen["jobs_ended_total{provider=fal,stage=completed}"] == 1


async def test_a_database_that_hangs_does_not_hang_the_scrape(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "TIMEOUT_S", 0.2)
    small = await Database.connect(dsn, size_max=1)
    metrics = Metrics()
    ScrapeSource(small, metrics)
    async with small.connection():  # the pool has no other
        assert (await figures(metrics))["database_up"] == 0
    await small.close()
