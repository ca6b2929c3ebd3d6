"""What the routes work with, and the few things that all of them do: who asks, may they, write and say the seq."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
from fastapi import Depends, Request
from starlette.responses import Response

from safelight.access.gate import Gate
from safelight.access.principal import Principal
from safelight.access.sessions import COOKIE, Sessions
from safelight.db.pool import Database, Transaction
from safelight.jobs.breakers import Breakers
from safelight.jobs.inbox import Intake
from safelight.jobs.learning import Durations
from safelight.jobs.offered import Offered
from safelight.jobs.pull_service import PullService
from safelight.jobs.service import JobService
from safelight.jobs.taking import mark_origin
from safelight.media.uploads import Uploads
from safelight.observe.metrics import Metrics
from safelight.outgoing.room import Outgoing
from safelight.providers.registry import Registry
from safelight.realtime.feed import Feed
from safelight.realtime.stream_watch import StreamWatch

T = TypeVar("T")

ORIGIN_HEADER: Final = "safelight-client"
SEQ_HEADER: Final = "Safelight-Seq"


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """What every client is told (api.md, Changes); the flags of the database are laid over it."""

    heartbeat_ms: int = 15_000
    polling: Mapping[str, int] = field(
        default_factory=lambda: {
            "healthy_ms": 30_000,
            "ageing_ms": 12_000,
            "visible_ms": 7_500,
            "active_ms": 5_000,
            "hidden_ms": 20_000,
            "jitter_ms": 1_000,
        }
    )


@dataclass(frozen=True, slots=True)
class Context:
    """Made once by the composition root; routes get it by `Depends(context)`."""

    db: Database
    gate: Gate
    sessions: Sessions
    jobs: JobService
    intake: Intake
    pull: PullService
    models: Registry
    enabled: frozenset[str]
    durations: Durations
    breakers: Breakers
    offered: Offered
    feed: Feed
    streams: StreamWatch
    uploads: Uploads
    metrics: Metrics
    outgoing: Outgoing
    media_url: Callable[[str], str]
    """A signed path of a stored file, relative to this server."""
    now: Callable[[], datetime]
    own_origins: frozenset[str] = frozenset()
    flag_overrides: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the environment says of the flags: it counts before the table (S8)."""
    config: ClientConfig = field(default_factory=ClientConfig)
    readiness: Callable[[], Awaitable[Mapping[str, str]]] | None = None


async def context(request: Request) -> Context:
    return request.app.state.context


Ctx = Annotated[Context, Depends(context)]


async def principal(request: Request, ctx: Ctx) -> Principal:
    """Who asks. Raises Unauthorized; with a cookie, a write must come from our own page."""
    return await ctx.gate.authenticate(
        authorization=request.headers.get("authorization"),
        cookie=request.cookies.get(COOKIE),
        apikey=request.headers.get("apikey"),
        method=request.method,
        headers=request.headers,
        own_origins=ctx.own_origins | {str(request.base_url).rstrip("/")},
    )


Who = Annotated[Principal, Depends(principal)]

_encoder: Final = msgspec.json.Encoder(enc_hook=str)


def answer(
    body: Any, status: int = 200, *, seq: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """JSON that is never cached (M3), with the seq it was read or written at (S3)."""
    sent = {"Cache-Control": "no-store", **(headers or {})}
    if seq is not None:
        sent[SEQ_HEADER] = str(seq)
    return Response(_encoder.encode(body), status, sent, "application/json")


def origin_of(request: Request) -> str | None:
    """The client instance that asks, so that it knows its own changes in the feed."""
    return request.headers.get(ORIGIN_HEADER)


async def write(
    ctx: Context, request: Request, project_id: UUID, work: Callable[[Transaction], Awaitable[T]]
) -> tuple[T, int]:
    """One transaction that changes visible rows of a project; returns its result and the seq it got."""
    origin = origin_of(request)

    async def whole(tx: Transaction) -> T:
        await mark_origin(tx.conn, origin)
        result = await work(tx)
        tx.touch(project_id)
        return result

    return await ctx.db.run_numbered(project_id, whole)
