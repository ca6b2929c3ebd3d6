"""The library over HTTP: generations, and the lists of what they are arranged in (api.md, Library)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from safelight.access.principal import Action, Principal
from safelight.api import resources
from safelight.api.context import Context, Ctx, Who, answer, write
from safelight.api.problem import documented
from safelight.db.pool import Row
from safelight.library import curation, generation, page

router = APIRouter(tags=["library"])

PROBLEMS: Final = documented(
    "unauthorized", "forbidden", "not_found", "conflict", "too_large", "invalid_input", "rate_limited"
)
Limit = Annotated[int, Query(ge=1, le=page.LIMIT_MAX)]
Cursor = Annotated[str | None, Query(max_length=page.CURSOR_LENGTH_MAX)]


class StarBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    starred: bool


class BatchBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    op: Literal["star", "unstar", "delete", "restore"]
    ids: Annotated[list[UUID], Field(min_length=1, max_length=500)]


class IdsBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    ids: Annotated[list[UUID], Field(min_length=1, max_length=generation.BY_IDS_MAX)]


def shown(ctx: Context, row: Row) -> dict[str, Any]:
    return generation.present_generation(row, ctx.media_url)


@router.get(
    "/v1/projects/{project}/generations",
    response_model=resources.GenerationPage,
    responses=PROBLEMS,
    summary="List generations",
)
async def list_generations(
    project: UUID,
    ctx: Ctx,
    who: Who,
    kind: Literal["image", "video", "audio"] | None = None,
    starred: bool | None = None,
    shot_id: UUID | None = None,
    q: Annotated[str | None, Query(max_length=200)] = None,
    model: Annotated[str | None, Query(max_length=200)] = None,
    fields: Annotated[str | None, Query(max_length=500, description="Comma-separated: only these fields")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Newest first, or in the shot's order. With `fields`, only those (for a grid that loads ids first)."""
    await ctx.gate.allow(who, project, "read")
    wanted = generation.fields_of(fields)
    only = generation.Filter(kind=kind, starred=starred, shot_id=shot_id, q=q, model=model)
    async with ctx.db.snapshot() as conn:
        found = await generation.list_generations(conn, project, only, fields=wanted, limit=limit, cursor=cursor)
    items = [generation.present_generation(row, ctx.media_url, wanted) for row in found.items]
    return answer({"items": items, "next_cursor": found.next_cursor}, seq=found.seq)


@router.post(
    "/v1/projects/{project}/generations/by-ids",
    response_model=resources.GenerationPage,
    responses=PROBLEMS,
    summary="Read generations by id",
)
async def by_ids(project: UUID, body: IdsBody, ctx: Ctx, who: Who) -> Response:
    """What is in view, in the order asked for; ids that are not there are left out."""
    await ctx.gate.allow(who, project, "read")
    async with ctx.db.snapshot() as conn:
        found = await generation.generations_by_ids(conn, project, body.ids)
    return answer({"items": [shown(ctx, row) for row in found.items], "next_cursor": None}, seq=found.seq)


@router.post(
    "/v1/projects/{project}/generations/batch",
    response_model=resources.GenerationBatch,
    responses=PROBLEMS,
    summary="Star, delete or restore many",
)
async def batch(project: UUID, body: BatchBody, request: Request, ctx: Ctx, who: Who) -> Response:
    await ctx.gate.allow(who, project, "write")
    done, seq = await write(ctx, request, project, lambda tx: curation.batch(tx, project, body.op, body.ids))
    return answer({"items": [shown(ctx, row) for row in done.rows], "missing": done.missing}, seq=seq)


async def _project_of(ctx: Context, who: Principal, identity: UUID, action: Action) -> UUID:
    async with ctx.db.connection() as conn:
        row = await generation.get_generation(conn, identity)
    await ctx.gate.allow(who, row["project_id"], action, unseen="There is no such generation.")
    return row["project_id"]


@router.get(
    "/v1/generations/{identity}", response_model=resources.Generation, responses=PROBLEMS, summary="Read a generation"
)
async def read(identity: UUID, ctx: Ctx, who: Who) -> Response:
    project = await _project_of(ctx, who, identity, "read")
    async with ctx.db.snapshot() as conn:
        seq = await page.head(conn, project)
        row = await generation.get_generation(conn, identity)
    return answer(shown(ctx, row), seq=seq)


@router.patch(
    "/v1/generations/{identity}", response_model=resources.Generation, responses=PROBLEMS, summary="Star or unstar"
)
async def star(identity: UUID, body: StarBody, request: Request, ctx: Ctx, who: Who) -> Response:
    project = await _project_of(ctx, who, identity, "write")
    row, seq = await write(
        ctx, request, project, lambda tx: curation.star_generation(tx, project, identity, body.starred)
    )
    return answer(shown(ctx, row), seq=seq)


@router.delete("/v1/generations/{identity}", response_model=resources.Generation, responses=PROBLEMS, summary="Delete")
async def delete(identity: UUID, request: Request, ctx: Ctx, who: Who) -> Response:
    """Soft: it leaves every list, and `restore` brings it back in its place."""
    project = await _project_of(ctx, who, identity, "write")
    row, seq = await write(ctx, request, project, lambda tx: curation.delete_generation(tx, project, identity))
    return answer(shown(ctx, row), seq=seq)


@router.post(
    "/v1/generations/{identity}/restore", response_model=resources.Generation, responses=PROBLEMS, summary="Restore"
)
async def restore(identity: UUID, request: Request, ctx: Ctx, who: Who) -> Response:
    project = await _project_of(ctx, who, identity, "write")
    row, seq = await write(ctx, request, project, lambda tx: curation.restore_generation(tx, project, identity))
    return answer(shown(ctx, row), seq=seq)
