"""The change feed over HTTP, and what every client is told (api.md, Changes)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import AbstractContextManager
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from safelight import __version__
from safelight.api import resources
from safelight.api.context import Context, Ctx, Who, answer
from safelight.api.jobs import allowed_job, shown
from safelight.api.problem import documented
from safelight.jobs import reads
from safelight.jobs.lifecycle import TERMINAL, Stage
from safelight.library.page import instant
from safelight.realtime import sse
from safelight.realtime.flags import read_flags
from safelight.realtime.line import line_of
from safelight.realtime.stream_watch import Hold

router = APIRouter(tags=["changes"])

PROBLEMS: Final = documented("unauthorized", "forbidden", "not_found", "must_refetch", "invalid_input", "rate_limited")
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Events until the client or the server ends it"}
}


class Beacon(BaseModel):
    """What a browser reports (D2). Numbers are milliseconds from commit to paint."""

    model_config = ConfigDict(extra="forbid")
    transport: Annotated[str, Field(max_length=20)]
    visible_ms: Annotated[list[Annotated[float, Field(ge=0, le=86_400_000)]], Field(max_length=200)] = []


@router.get(
    "/v1/projects/{project}/changes", response_model=resources.Changes, responses=PROBLEMS, summary="Poll changes"
)
async def poll(
    project: UUID,
    request: Request,
    ctx: Ctx,
    who: Who,
    epoch: UUID | None = None,
    after: Annotated[int, Query(ge=0, le=sse.SEQ_MAX)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    wait: Annotated[float, Query(ge=0, le=25, allow_inf_nan=False)] = 0,
) -> Response:
    """Entries after the cursor, in order, without a hole; waits up to `wait` seconds if there is none (S2)."""
    await ctx.gate.allow(who, project, "read")
    body = await sse.poll(ctx.feed, project, sse.Cursor(epoch, after), limit=limit, wait_s=wait)
    ctx.metrics.changes_delivered("poll", body.count(b'"seq":'))
    return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")


@router.get(
    "/v1/projects/{project}/changes/stream",
    response_class=StreamingResponse,
    responses={**PROBLEMS, **_STREAM},
    summary="Follow changes (SSE)",
)
async def stream(
    project: UUID,
    request: Request,
    ctx: Ctx,
    who: Who,
    epoch: UUID | None = None,
    after: Annotated[int | None, Query(ge=0, le=sse.SEQ_MAX)] = None,
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> Response:
    """Events `change` (id `{epoch}:{seq}`), `head` as the beat, `progress`; goes on from `Last-Event-ID`."""
    role = await ctx.gate.allow(who, project, "read")
    cursor = sse.Cursor(epoch, after)
    if last_event_id:
        cursor = sse.cursor_of({}, last_event_id)
    holding = ctx.streams.holding(who, project, role)
    answered = await sse.stream(
        ctx.feed,
        project,
        cursor,
        beat_s=ctx.config.heartbeat_ms / 1000,
        holding=holding,
        line=line_of(request.scope),
    )
    answered.body_iterator = _counted(ctx, answered.body_iterator)
    return answered


async def _counted(ctx: Context, pieces: AsyncIterable[Any]) -> AsyncGenerator[Any]:
    with ctx.metrics.following("sse"):
        async for piece in pieces:
            if isinstance(piece, bytes) and (changes := piece.count(b"event: change\n")):
                ctx.metrics.changes_delivered("sse", changes)
            yield piece


@router.get(
    "/v1/jobs/{job}/events",
    response_class=StreamingResponse,
    responses={**PROBLEMS, **_STREAM},
    summary="Follow a job (SSE)",
)
async def follow_job(job: UUID, request: Request, ctx: Ctx, who: Who) -> Response:
    """Events `job` (the job), `progress`, `log`, and `end` with the job when it is terminal. Ends after it."""
    project: UUID = (await allowed_job(ctx, who, job, "read"))["project_id"]
    await ctx.feed.head(project)
    role = await ctx.gate.allow(who, project, "read")
    events = _held_events(ctx, job, project, ctx.streams.holding(who, project, role))
    return StreamingResponse(events, media_type="text/event-stream", headers=sse.HEADERS)


_encode: Final = msgspec.json.Encoder(enc_hook=str).encode
LOOK_S: Final = 1.0
"""Between two looks at the stored progress; changes of the job come at once through the feed."""
FOLLOW_S: Final = 25 * 60.0


async def _held_events(
    ctx: Context, job: UUID, project: UUID, holding: AbstractContextManager[Hold]
) -> AsyncGenerator[bytes]:
    """Until its reader's right is gone (S6)."""
    with holding as hold:
        async for piece in _job_events(ctx, job, project, hold):
            yield piece


async def _job_events(ctx: Any, job: UUID, project: UUID, hold: Hold) -> AsyncGenerator[bytes]:
    yield b"retry: 2000\n: safelight\n\n"
    seen: tuple[Any, ...] | None = None
    progressed: Any = None
    lines_sent = 0
    ends_at = asyncio.get_running_loop().time() + FOLLOW_S
    beat_at = asyncio.get_running_loop().time() + sse.BEAT_S
    while asyncio.get_running_loop().time() < ends_at and not (ctx.feed.draining or hold.is_over):
        async with ctx.db.connection() as conn:
            row = await reads.job(conn, job)
        if row is None:
            return
        state = (row["stage"], row["attempt"])
        body = shown(ctx, row)
        if Stage(row["stage"]) in TERMINAL:
            yield b"event: end\ndata: %s\n\n" % _encode(body)
            return
        if state != seen:
            seen = state
            yield b"event: job\ndata: %s\n\n" % _encode(body)
        if body["progress"] != progressed:
            progressed = body["progress"]
            yield b"event: progress\ndata: %s\n\n" % _encode({"job_id": body["id"], **body["progress"]})
        lines: list[str] = row["logs"] or []
        for line in lines[lines_sent:]:
            yield b"event: log\ndata: %s\n\n" % _encode({"message": line})
        lines_sent = len(lines) if len(lines) >= lines_sent else 0
        if asyncio.get_running_loop().time() >= beat_at:
            beat_at = asyncio.get_running_loop().time() + sse.BEAT_S
            yield b": beat\n\n"
        head = await ctx.feed.head(project)
        await ctx.feed.read(project, epoch=None, after=head.head, wait_s=LOOK_S)


@router.get("/v1/client-config", responses=documented("unauthorized"), summary="Read the client's settings")
async def client_config(request: Request, ctx: Ctx, who: Who) -> Response:
    """Kill switch and intervals (S8); also for publishable keys."""
    await ctx.gate.allow(who, None, "client_config")
    async with ctx.db.connection() as conn:
        flags = await read_flags(conn, ctx.flag_overrides)
    scheme = "wss" if request.url.scheme == "https" else "ws"
    return answer(
        {
            "realtime_enabled": flags.realtime_enabled,
            "legacy_listeners_enabled": flags.legacy_listeners_enabled,
            "deadmode_force_polling_ms": flags.deadmode_force_polling_ms,
            "polling": dict(ctx.config.polling),
            "realtime_url": f"{scheme}://{request.url.netloc}/realtime/v1",
            "heartbeat_ms": ctx.config.heartbeat_ms,
            "invalidation": {"flush_ms": 500, "delete_flush_ms": 2000},
            "version": __version__,
            "now": instant(ctx.now()),
        }
    )


@router.post("/v1/telemetry", status_code=204, responses=documented("unauthorized", "invalid_input"), summary="Report")
async def telemetry(body: Beacon, ctx: Ctx, who: Who) -> Response:
    """Time from commit to paint, as browsers saw it (D2)."""
    ctx.metrics.visible(body.transport, body.visible_ms)
    return Response(status_code=204)
