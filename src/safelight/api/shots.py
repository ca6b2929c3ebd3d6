"""Shots over HTTP: the order of pictures in a project (api.md, Library)."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from safelight.access.principal import Principal
from safelight.api import resources
from safelight.api.context import Context, Ctx, Who, answer, write
from safelight.api.library import PROBLEMS, Cursor, Limit
from safelight.library import placing, shot

router = APIRouter(tags=["shots"])

Name = Annotated[str, Field(min_length=1, max_length=200)]
Position = Annotated[str, Field(min_length=1, max_length=200)]


class ShotBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: UUID | None = Field(None, description="Chosen by the client, for optimistic pages")
    name: Name
    position: Position | None = Field(None, description="Fractional index; absent = last")
    settings: dict[str, Any] = Field(default_factory=dict)
    generation_ids: Annotated[list[UUID], Field(max_length=500)] = []


class ShotPatch(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name = ""
    position: Position = ""
    settings: dict[str, Any] = Field(default_factory=dict)


class PlaceBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    position: Position | None = Field(None, description="Fractional index; null = in the shot, unpositioned")


class ReorderBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    ids: Annotated[list[UUID], Field(max_length=500)]


@router.get("/v1/projects/{project}/shots", response_model=resources.Items, responses=PROBLEMS, summary="List shots")
async def list_shots(project: UUID, ctx: Ctx, who: Who, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """In the project's order, each with its counts (all, unpositioned, videos)."""
    await ctx.gate.allow(who, project, "read")
    async with ctx.db.snapshot() as conn:
        found = await shot.list_shots(conn, project, limit=limit, cursor=cursor)
        counts = await shot.shot_counts(conn, project)
    items: list[dict[str, Any]] = []
    for row in found.items:
        count = counts.get(row["id"])
        shown = {"total": count.total, "unpositioned": count.unpositioned, "videos": count.videos} if count else None
        items.append({**shot.present_shot(row), "counts": shown or {"total": 0, "unpositioned": 0, "videos": 0}})
    return answer({"items": items, "next_cursor": found.next_cursor}, seq=found.seq)


@router.post(
    "/v1/projects/{project}/shots",
    status_code=201,
    response_model=resources.Resource,
    responses=PROBLEMS,
    summary="Create a shot",
)
async def create(project: UUID, body: ShotBody, request: Request, ctx: Ctx, who: Who) -> Response:
    await ctx.gate.allow(who, project, "write")
    row, seq = await write(
        ctx,
        request,
        project,
        lambda tx: shot.create_shot(
            tx,
            project,
            body.name,
            shot_id=body.id,
            position=body.position,
            settings=body.settings,
            generation_ids=body.generation_ids,
        ),
    )
    return answer(shot.present_shot(row), 201, seq=seq)


async def _project_of(ctx: Context, who: Principal, identity: UUID) -> UUID:
    async with ctx.db.connection() as conn:
        row = await shot.get_shot(conn, identity)
    await ctx.gate.allow(who, row["project_id"], "write", unseen="There is no such shot.")
    return row["project_id"]


@router.patch("/v1/shots/{identity}", response_model=resources.Resource, responses=PROBLEMS, summary="Change a shot")
async def patch(identity: UUID, body: ShotPatch, request: Request, ctx: Ctx, who: Who) -> Response:
    project = await _project_of(ctx, who, identity)
    given = body.model_dump(exclude_unset=True)
    row, seq = await write(ctx, request, project, lambda tx: shot.patch_shot(tx, project, identity, **given))
    return answer(shot.present_shot(row), seq=seq)


@router.delete("/v1/shots/{identity}", status_code=204, responses=PROBLEMS, summary="Delete a shot")
async def delete(identity: UUID, request: Request, ctx: Ctx, who: Who) -> Response:
    """Its generations stay in the library."""
    project = await _project_of(ctx, who, identity)
    _, seq = await write(ctx, request, project, lambda tx: shot.delete_shot(tx, project, identity))
    return Response(status_code=204, headers={"Safelight-Seq": str(seq)})


@router.put(
    "/v1/shots/{identity}/generations/{generation}",
    response_model=resources.Resource,
    responses=PROBLEMS,
    summary="Put a generation into a shot, or move it",
)
async def put(identity: UUID, generation: UUID, body: PlaceBody, request: Request, ctx: Ctx, who: Who) -> Response:
    project = await _project_of(ctx, who, identity)
    row, seq = await write(
        ctx, request, project, lambda tx: placing.put_generation(tx, project, identity, generation, body.position)
    )
    return answer(shot.present_shot_generation(row), seq=seq)


@router.delete(
    "/v1/shots/{identity}/generations/{generation}", status_code=204, responses=PROBLEMS, summary="Take out of a shot"
)
async def remove(identity: UUID, generation: UUID, request: Request, ctx: Ctx, who: Who) -> Response:
    project = await _project_of(ctx, who, identity)
    _, seq = await write(ctx, request, project, lambda tx: placing.remove_generation(tx, project, identity, generation))
    return Response(status_code=204, headers={"Safelight-Seq": str(seq)})


@router.post(
    "/v1/shots/{identity}/reorder", response_model=resources.Items, responses=PROBLEMS, summary="Reorder a shot"
)
async def reorder(identity: UUID, body: ReorderBody, request: Request, ctx: Ctx, who: Who) -> Response:
    """Brings the named ones into this order; answers with the rows that moved."""
    project = await _project_of(ctx, who, identity)
    rows, seq = await write(ctx, request, project, lambda tx: placing.reorder(tx, project, identity, body.ids))
    items = [shot.present_shot_generation(row) for row in rows]
    return answer({"items": items, "next_cursor": None}, seq=seq)
