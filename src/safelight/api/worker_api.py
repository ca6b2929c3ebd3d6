"""Pull workers over HTTP (P3): a machine of the user's own comes for jobs, tells how they go, and hands in results.

Only secret keys may: a worker of a project's key sees that project's jobs, one of an installation's key all of them.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Header, Path, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from safelight.access.principal import Principal
from safelight.api import resources
from safelight.api.context import Context, Ctx, Who, answer
from safelight.api.jobs import shown
from safelight.api.problem import documented
from safelight.jobs import reads
from safelight.jobs.errors import JobNotFound
from safelight.jobs.pull_leases import Wish
from safelight.jobs.pull_outputs import Underway
from safelight.jobs.pull_parts import parse_span
from safelight.jobs.pull_service import Claimed, Word
from safelight.jobs.pull_waiters import Waiter
from safelight.library import checked
from safelight.library.page import instant
from safelight.stopping import end

router = APIRouter(tags=["workers"])

MODELS_MAX: Final = 50
LEASE_S: Final = 60.0
LOGS_MAX: Final = 200
HANG_UP_S: Final = 5.0
"""A claim whose caller has gone ends what it is doing within this; it writes at most one row."""

ModelName = Annotated[str, Field(min_length=1, max_length=200)]
LeaseSeconds = Annotated[float, Field(ge=1, le=600, allow_inf_nan=False)]
Lease = Annotated[
    str, Header(alias="Safelight-Lease", min_length=1, max_length=200, description="The token that the claim gave")
]

PROBLEMS: Final = documented("unauthorized", "forbidden", "not_found", "conflict", "invalid_input", "rate_limited")
PUT_PROBLEMS: Final = {**PROBLEMS, **documented("too_large", "overloaded")}


class ClaimBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    models: Annotated[list[ModelName], Field(max_length=MODELS_MAX)] = Field(
        description="What this worker can make: the endpoints of models whose provider is `pull`"
    )
    loaded: ModelName | None = Field(None, description="The model that is loaded: its jobs are preferred")
    worker: Annotated[str, Field(max_length=100)] = Field("", description="Its name, shown in the job's trace")
    lease_s: LeaseSeconds = LEASE_S
    wait: Annotated[float, Field(ge=0, le=25, allow_inf_nan=False)] = Field(
        0, description="Seconds to wait for a job if there is none"
    )
    project: UUID | None = Field(None, description="Of this project only, for a key of the whole installation")
    claim_id: Annotated[str, Field(min_length=16, max_length=100)] | None = Field(
        None,
        description="A secret of this claim's own: asked again with it, because the answer was lost, the same job is "
        "given. With no `models` it only asks what was given.",
    )

    @model_validator(mode="after")
    def asks_for_something(self) -> ClaimBody:
        if not self.models and self.claim_id is None:
            raise ValueError("name at least one model")
        if self.loaded is not None and self.loaded not in self.models:
            raise ValueError("`loaded` is one of `models`")
        return self


class ClaimedJob(BaseModel):
    """Everything that is needed to make it."""

    id: UUID
    project_id: UUID
    model: str = Field(description="As the worker calls it")
    kind: str
    attempt: int
    n: int = Field(description="How many outputs are asked for")
    input: dict[str, Any]
    lease: str = Field(description="Send it as `Safelight-Lease`")
    lease_until: str
    deadline_at: str
    priority: int
    tags: list[str]
    metadata: dict[str, Any]


class ClaimOut(BaseModel):
    job: ClaimedJob | None


class BeatBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    lease_s: LeaseSeconds | None = None
    percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    message: Annotated[str, Field(max_length=2000)] | None = None
    logs: Annotated[list[Annotated[str, Field(max_length=5000)]], Field(max_length=LOGS_MAX)] = Field(
        default_factory=list, description="The newest lines; they replace those told before"
    )


class BeatOut(BaseModel):
    lease_until: str
    canceled: bool = Field(description="Stop, and release the job")


class OutputOut(BaseModel):
    index: int
    mime: str
    bytes: int
    width: int | None
    height: int | None
    duration_s: float | None


class PartOut(BaseModel):
    """A result that has come so far. All of it: it is being looked at and stored; ask again."""

    index: int
    offset: int = Field(description="Go on from here")
    total: int
    max_part: int = Field(description="Bytes of a part, advised")


class CompleteBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    cost: dict[str, Any] | None = Field(None, description="What it cost the worker, kept with the attempt")


class FailBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    code: Annotated[str, Field(max_length=64)] = Field(
        "provider_failed", description="`content_policy`, `invalid_input`, `provider_failed`, …; another is the last"
    )
    message: Annotated[str, Field(max_length=2000)] | None = None
    retryable: bool | None = Field(None, description="Whether another attempt may succeed; absent: as of the code")


@router.post("/v1/worker/claim", response_model=ClaimOut, responses=PROBLEMS, summary="Claim a job for a pull worker")
async def claim(body: ClaimBody, request: Request, ctx: Ctx, who: Who) -> Response:
    """A job under a lease, or `job: null` after `wait` seconds without one."""
    project = await _scope(ctx, who, body.project)
    wish = Wish(
        project=project,
        models=body.models,
        loaded=body.loaded,
        worker=_clean(body.worker),
        lease_s=body.lease_s,
        claim_id=f"{who.actor} {body.claim_id or secrets.token_urlsafe(24)}",
    )
    base = str(request.base_url).rstrip("/")
    waiter = Waiter(project, frozenset(body.models))
    asking = asyncio.ensure_future(
        ctx.pull.claim(wish, waiter, wait_s=body.wait, media_url=lambda key: base + ctx.media_url(key))
    )
    hung_up = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait([asking, hung_up], return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            waiter.leave()
            await asyncio.wait([asking], timeout=HANG_UP_S)
        claimed = await asking
    except asyncio.CancelledError:
        # This process ends: what it is about to take goes back by the same rule.
        waiter.leave()
        await asyncio.wait([asking], timeout=HANG_UP_S)
        raise
    finally:
        await end(hung_up)
    return answer({"job": None if claimed is None else _shown(claimed)})


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@router.post(
    "/v1/worker/jobs/{job}/heartbeat", response_model=BeatOut, responses=PROBLEMS, summary="Keep a lease, tell progress"
)
async def heartbeat(job: UUID, body: BeatBody, lease: Lease, ctx: Ctx, who: Who) -> Response:
    """To be sent well within the lease. Says whether the job was canceled; 409 once the lease has ended."""
    row = await _job(ctx, who, job)
    word = Word(body.percent, body.message and _clean(body.message), [_clean(line) for line in body.logs])
    beat = await ctx.pull.beat(row, lease, word, lease_s=body.lease_s)
    return answer({"lease_until": instant(beat.until), "canceled": beat.is_canceled})


@router.put(
    "/v1/worker/jobs/{job}/outputs/{index}",
    response_model=OutputOut,
    responses={202: {"model": PartOut, "description": "More is to come, or it is still being stored"}, **PUT_PROBLEMS},
    summary="Hand in a result",
    openapi_extra={
        "requestBody": {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}, "required": True}
    },
)
async def put_output(
    job: UUID,
    index: Annotated[int, Path(ge=0, le=99)],
    request: Request,
    lease: Lease,
    ctx: Ctx,
    who: Who,
    content_type: Annotated[str | None, Header()] = None,
    content_range: Annotated[str | None, Header(max_length=100)] = None,
) -> Response:
    """The file itself as the body. It is checked, stored, and counts once the job is completed; again replaces it.

    What takes longer than half a minute comes in parts: `Content-Range: bytes 0-8388607/20000000`, in order; a 409
    says by `offset` where to go on. `bytes */20000000` with no body asks how far it is.
    """
    await _job(ctx, who, job)
    length = _length(request)
    span = parse_span(content_range, length)
    body = request.stream()
    found = await ctx.pull.receive(job, lease, index, body, declared=content_type, length=length, span=span)
    return answer(found, 202 if isinstance(found, Underway) else 200)


@router.post(
    "/v1/worker/jobs/{job}/complete", response_model=resources.Job, responses=PROBLEMS, summary="Complete a claimed job"
)
async def complete(job: UUID, lease: Lease, ctx: Ctx, who: Who, body: CompleteBody | None = None) -> Response:
    """All outputs have been handed in. Safe to send again. Answers with the job as it is then."""
    await _job(ctx, who, job)
    cost = checked.data("cost", body.cost) if body is not None and body.cost is not None else None
    return answer(shown(ctx, await ctx.pull.complete(job, lease, cost)))


@router.post(
    "/v1/worker/jobs/{job}/fail", response_model=resources.Job, responses=PROBLEMS, summary="Fail a claimed job"
)
async def fail(job: UUID, body: FailBody, lease: Lease, ctx: Ctx, who: Who) -> Response:
    """It could not be made. Where another attempt may help, there will be one."""
    await _job(ctx, who, job)
    message = body.message and _clean(body.message)
    return answer(shown(ctx, await ctx.pull.fail(job, lease, body.code, message, retryable=body.retryable)))


@router.post(
    "/v1/worker/jobs/{job}/release", response_model=resources.Job, responses=PROBLEMS, summary="Give a claimed job back"
)
async def release(job: UUID, lease: Lease, ctx: Ctx, who: Who) -> Response:
    """Another worker may have it at once; a canceled job ends here."""
    await _job(ctx, who, job)
    return answer(shown(ctx, await ctx.pull.give_back(job, lease)))


def _length(request: Request) -> int | None:
    """Of the body, if announced. No parameter of the contract: a client that is told to try others breaks its line."""
    said = request.headers.get("content-length", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 16 else None


async def _scope(ctx: Context, who: Principal, wanted: UUID | None) -> UUID | None:
    """The project whose jobs this worker may have; None: of all."""
    project = wanted or who.project_id
    await ctx.gate.allow(who, project, "work")
    return project


async def _job(ctx: Context, who: Principal, job: UUID) -> Any:
    await ctx.gate.allow(who, who.project_id, "work")
    async with ctx.db.connection() as conn:
        row = await reads.job(conn, job)
    if row is None or who.project_id not in (None, row["project_id"]):
        raise JobNotFound
    return row


def _clean(words: str) -> str:
    """Words of a program, for people: what PostgreSQL cannot hold is left out, not refused."""
    return words.replace("\0", "").encode(errors="replace").decode()


def _shown(claimed: Claimed) -> dict[str, Any]:
    job, lease = claimed.job, claimed.lease
    return {
        "id": job["id"],
        "project_id": job["project_id"],
        "model": lease.model,
        "kind": job["kind"],
        "attempt": lease.number,
        "n": job["n"],
        "input": claimed.input,
        "lease": lease.token,
        "lease_until": instant(lease.until),
        "deadline_at": instant(job["deadline_at"]),
        "priority": job["priority"],
        "tags": job["tags"],
        "metadata": job["metadata"],
    }
