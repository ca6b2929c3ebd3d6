"""Jobs over HTTP (api.md, Jobs)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from safelight.access.principal import Action, Principal
from safelight.api import resources
from safelight.api.context import Context, Ctx, Who, answer, origin_of
from safelight.api.problem import documented
from safelight.jobs import attempts, reads, trace, words
from safelight.jobs.errors import JobNotFound
from safelight.jobs.submission import Submission
from safelight.library import checked
from safelight.library.page import Newest, decode, encode

router = APIRouter(tags=["jobs"])

TAGS_MAX: Final = 20
METADATA_NAMES_MAX: Final = 50
KEY_MAX: Final = 255

Tag = Annotated[str, Field(min_length=1, max_length=100)]


class Target(BaseModel):
    """Where the results go: into a shot (at a position, or unpositioned) or onto a canvas node (J9)."""

    model_config = ConfigDict(extra="forbid")
    shot_id: UUID | None = None
    node_id: UUID | None = None
    position: Annotated[str, Field(max_length=200)] | None = None

    @model_validator(mode="after")
    def names_one(self) -> Target:
        if (self.shot_id is None) == (self.node_id is None):
            raise ValueError("name either shot_id or node_id")
        if self.node_id is not None and self.position is not None:
            raise ValueError("a position belongs to a shot")
        return self


class SubmitBody(BaseModel):
    """Either `model` and `input`, or `template` and `variables`."""

    model_config = ConfigDict(extra="forbid")
    id: UUID | None = Field(None, description="The job's id if you choose it (UUID v7 advised): safe to send again")
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    input: dict[str, Any] = Field(default_factory=dict)
    n: Annotated[int, Field(ge=1, le=100)] = 1
    target: Target | None = None
    template: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    variables: dict[Annotated[str, Field(max_length=64)], str | float | bool | int] | None = None
    start: UUID | None = Field(None, description="An upload's or a generation's id")
    provider: Annotated[str, Field(max_length=50)] | None = None
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    deadline_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    tags: Annotated[list[Tag], Field(max_length=TAGS_MAX)] = Field(default_factory=list)
    metadata: Annotated[dict[str, Any], Field(max_length=METADATA_NAMES_MAX)] = Field(default_factory=dict)
    webhook_url: Annotated[str, Field(max_length=2000)] | None = None

    def submission(self) -> Submission:
        """Raises LibraryError `invalid_input` for metadata that is too large or that JSON cannot hold."""
        target = None
        if self.target is not None:
            target = self.target.model_dump(mode="json", exclude_none=True)
        return Submission(
            model=self.model,
            input=self.input,
            n=self.n,
            target=target,
            template=self.template,
            variables=self.variables,
            start=self.start,
            provider=self.provider,
            priority=self.priority,
            deadline_s=self.deadline_s,
            tags=tuple(self.tags),
            metadata=checked.data("metadata", self.metadata),
            webhook_url=self.webhook_url,
        )


_SUBMIT_PROBLEMS: Final = documented(
    "unauthorized", "insufficient_credits", "forbidden", "not_found", "conflict", "idempotency_mismatch", "too_large",
    "invalid_input", "unknown_model", "rate_limited",
)  # fmt: skip
_JOB_PROBLEMS: Final = documented("unauthorized", "forbidden", "not_found", "invalid_input", "rate_limited")


def shown(ctx: Context, row: Any) -> dict[str, Any]:
    """A job with its ETA, as of now."""
    model = ctx.models.get(row["model"])
    return reads.present_job(
        row,
        durations=ctx.durations.of(row["provider"], row["endpoint"]),
        prior_s=model.eta_s if model else None,
        now=ctx.now(),
    )


@router.post(
    "/v1/projects/{project}/jobs",
    status_code=202,
    response_model=resources.Job,
    responses=_SUBMIT_PROBLEMS,
    summary="Submit a job",
)
async def submit(
    project: UUID,
    body: SubmitBody,
    request: Request,
    ctx: Ctx,
    who: Who,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=KEY_MAX)] = None,
) -> Response:
    """Answers at once, with the job `pending` (J1). The same id or `Idempotency-Key` again is the same job (J2)."""
    await ctx.gate.allow(who, project, "write")
    done = await ctx.jobs.submit(
        project,
        body.submission(),
        job_id=body.id,
        idempotency_key=idempotency_key,
        origin=origin_of(request),
        actor=who.actor,
    )
    if done.is_new:
        ctx.metrics.job_submitted(done.job["provider"], done.job["model"])
    headers = {"Location": f"/v1/jobs/{done.job['id']}"}
    return answer(shown(ctx, done.job), 202, seq=done.seq, headers=headers)


@router.post(
    "/v1/projects/{project}/quote", response_model=resources.Quote, responses=_SUBMIT_PROBLEMS, summary="Quote a job"
)
async def quote(project: UUID, body: SubmitBody, ctx: Ctx, who: Who) -> Response:
    """What a submit with this body would hold (C3). Checks it as the submit would; changes nothing."""
    await ctx.gate.allow(who, project, "read")
    return answer({"credits": await ctx.jobs.quote(project, body.submission())})


@router.get(
    "/v1/projects/{project}/jobs", response_model=resources.JobPage, responses=_JOB_PROBLEMS, summary="List jobs"
)
async def list_jobs(
    project: UUID,
    ctx: Ctx,
    who: Who,
    status: Annotated[list[resources.Status] | None, Query()] = None,
    stage: Annotated[list[resources.StageName] | None, Query()] = None,
    tag: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=reads.PAGE_MAX)] = 50,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """Newest first; several `status` or `stage` mean any of them."""
    await ctx.gate.allow(who, project, "read")
    after = decode(cursor, Newest)
    async with ctx.db.snapshot() as conn:
        seq = await reads.head(conn, project)
        rows = await reads.page(
            conn,
            project,
            reads.JobFilter(status or (), stage or (), tag),
            limit=limit,
            before=(after.created_at, after.id) if after else None,
        )
    items = rows[:limit]
    more = encode(Newest(items[-1]["created_at"], items[-1]["id"])) if len(rows) > limit else None
    return answer({"items": [shown(ctx, row) for row in items], "next_cursor": more}, seq=seq)


@router.get(
    "/v1/projects/{project}/jobs/counts",
    response_model=resources.JobCounts,
    responses=_JOB_PROBLEMS,
    summary="Count jobs by status",
)
async def count_jobs(project: UUID, ctx: Ctx, who: Who) -> Response:
    await ctx.gate.allow(who, project, "read")
    async with ctx.db.snapshot() as conn:
        seq = await reads.head(conn, project)
        return answer(await reads.counts(conn, project), seq=seq)


async def allowed_job(ctx: Context, who: Principal, job_id: UUID, action: Action) -> Any:
    async with ctx.db.connection() as conn:
        row = await reads.job(conn, job_id)
    if row is None:
        raise JobNotFound
    await ctx.gate.allow(who, row["project_id"], action, unseen="There is no such job.")
    return row


@router.get("/v1/jobs/{job}", response_model=resources.Job, responses=_JOB_PROBLEMS, summary="Read a job")
async def read_job(
    job: UUID,
    ctx: Ctx,
    who: Who,
    leave_out: Annotated[
        Literal["input"] | None, Query(description="An input above 64 kB need not come along: it is shown as in lists")
    ] = None,
) -> Response:
    """Read-through: if the provider has been silent for a while, it is looked at first, once for all readers (J5)."""
    row = await allowed_job(ctx, who, job, "read")
    await ctx.jobs.refresh(job, row["stage"])
    async with ctx.db.snapshot() as conn:
        seq = await reads.head(conn, row["project_id"])
        row = await (reads.job(conn, job) if leave_out else reads.whole_job(conn, job))
    if row is None:
        raise JobNotFound
    return answer(shown(ctx, row), seq=seq)


@router.post(
    "/v1/jobs/{job}/cancel",
    response_model=resources.Job,
    responses={**_JOB_PROBLEMS, **documented("conflict")},
    summary="Cancel a job",
)
async def cancel(job: UUID, request: Request, ctx: Ctx, who: Who) -> Response:
    """At once where nothing was sent; else the provider is asked to stop, and a result that wins is kept (J6)."""
    await allowed_job(ctx, who, job, "write")
    done = await ctx.jobs.cancel(job, origin_of(request))
    return answer(shown(ctx, done.job), seq=done.seq)


@router.post(
    "/v1/jobs/{job}/retry",
    status_code=202,
    response_model=resources.Job,
    responses={**_JOB_PROBLEMS, **documented("insufficient_credits", "conflict")},
    summary="Retry a job",
)
async def retry(job: UUID, request: Request, ctx: Ctx, who: Who) -> Response:
    """A new attempt of a job that failed, expired or was canceled: the same id, a new hold (J6)."""
    await allowed_job(ctx, who, job, "write")
    done = await ctx.jobs.retry(job, origin_of(request))
    return answer(shown(ctx, done.job), 202, seq=done.seq)


@router.get(
    "/v1/jobs/{job}/attempts",
    response_model=resources.Attempts,
    responses=_JOB_PROBLEMS,
    summary="List a job's attempts",
)
async def list_attempts(job: UUID, ctx: Ctx, who: Who) -> Response:
    """Each request to a provider, oldest first: by whom, what became of it, and what the provider says it cost.

    `late`: it ended well after the job had gone on without it. Its result is not shown and nobody was charged for it.
    """
    await allowed_job(ctx, who, job, "read")
    async with ctx.db.connection() as conn:
        rows = await attempts.of_job(conn, job)
    return answer({"items": [dict(row) for row in rows], "next_cursor": None})


@router.get("/v1/jobs/{job}/trace", response_model=resources.Trace, responses=_JOB_PROBLEMS, summary="Trace a job")
async def read_trace(job: UUID, ctx: Ctx, who: Who) -> Response:
    """Every stage of the chain with its time, and in words where it stands (D1)."""
    row = await allowed_job(ctx, who, job, "read")
    async with ctx.db.connection() as conn:
        steps = await trace.read(conn, job)
    said = words.where_it_stands(row, steps, ctx.now())
    body = {"job_id": job, "stage": row["stage"], "steps": [dict(step) for step in steps], "said": said}
    return answer(body)
