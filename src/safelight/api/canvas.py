"""The canvas over HTTP: nodes and the edges between them (api.md, Library)."""

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
from safelight.library import canvas

router = APIRouter(tags=["canvas"])

Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]
Side = Annotated[float, Field(allow_inf_nan=False, gt=0, le=1e6)]
Type = Annotated[str, Field(min_length=1, max_length=50)]


class NodeBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: UUID | None = None
    type: Type
    x: Number = 0
    y: Number = 0
    width: Side | None = None
    height: Side | None = None
    data: dict[str, Any] = Field(default_factory=dict)


class NodePatch(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Type = ""
    x: Number = 0
    y: Number = 0
    width: Side | None = None
    height: Side | None = None
    data: dict[str, Any] = Field(default_factory=dict, description="Merged at its first level; null removes a key")


class EdgeBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: UUID | None = None
    source: UUID
    target: UUID
    data: dict[str, Any] = Field(default_factory=dict)


class EdgePatch(BaseModel):
    model_config = ConfigDict(extra="forbid")
    data: dict[str, Any]


@router.get("/v1/projects/{project}/nodes", response_model=resources.Items, responses=PROBLEMS, summary="List nodes")
async def list_nodes(project: UUID, ctx: Ctx, who: Who, limit: Limit = 200, cursor: Cursor = None) -> Response:
    await ctx.gate.allow(who, project, "read")
    async with ctx.db.snapshot() as conn:
        found = await canvas.list_nodes(conn, project, limit=limit, cursor=cursor)
    items = [canvas.present_node(row) for row in found.items]
    return answer({"items": items, "next_cursor": found.next_cursor}, seq=found.seq)


@router.post(
    "/v1/projects/{project}/nodes",
    status_code=201,
    response_model=resources.Resource,
    responses=PROBLEMS,
    summary="Create a node",
)
async def create_node(project: UUID, body: NodeBody, request: Request, ctx: Ctx, who: Who) -> Response:
    await ctx.gate.allow(who, project, "write")
    given = body.model_dump(exclude={"id", "type"})
    row, seq = await write(
        ctx, request, project, lambda tx: canvas.create_node(tx, project, body.type, node_id=body.id, **given)
    )
    return answer(canvas.present_node(row), 201, seq=seq)


async def _project_of_node(ctx: Context, who: Principal, identity: UUID) -> UUID:
    async with ctx.db.connection() as conn:
        row = await canvas.get_node(conn, identity)
    await ctx.gate.allow(who, row["project_id"], "write", unseen="There is no such node.")
    return row["project_id"]


@router.patch("/v1/nodes/{identity}", response_model=resources.Resource, responses=PROBLEMS, summary="Change a node")
async def patch_node(identity: UUID, body: NodePatch, request: Request, ctx: Ctx, who: Who) -> Response:
    project = await _project_of_node(ctx, who, identity)
    given = body.model_dump(exclude_unset=True)
    row, seq = await write(ctx, request, project, lambda tx: canvas.patch_node(tx, project, identity, **given))
    return answer(canvas.present_node(row), seq=seq)


@router.delete("/v1/nodes/{identity}", status_code=204, responses=PROBLEMS, summary="Delete a node")
async def delete_node(identity: UUID, request: Request, ctx: Ctx, who: Who) -> Response:
    """Its edges go with it."""
    project = await _project_of_node(ctx, who, identity)
    _, seq = await write(ctx, request, project, lambda tx: canvas.delete_node(tx, project, identity))
    return Response(status_code=204, headers={"Safelight-Seq": str(seq)})


@router.get("/v1/projects/{project}/edges", response_model=resources.Items, responses=PROBLEMS, summary="List edges")
async def list_edges(project: UUID, ctx: Ctx, who: Who, limit: Limit = 200, cursor: Cursor = None) -> Response:
    await ctx.gate.allow(who, project, "read")
    async with ctx.db.snapshot() as conn:
        found = await canvas.list_edges(conn, project, limit=limit, cursor=cursor)
    items = [canvas.present_edge(row) for row in found.items]
    return answer({"items": items, "next_cursor": found.next_cursor}, seq=found.seq)


@router.post(
    "/v1/projects/{project}/edges",
    status_code=201,
    response_model=resources.Resource,
    responses=PROBLEMS,
    summary="Join two nodes",
)
async def create_edge(project: UUID, body: EdgeBody, request: Request, ctx: Ctx, who: Who) -> Response:
    await ctx.gate.allow(who, project, "write")
    row, seq = await write(
        ctx,
        request,
        project,
        lambda tx: canvas.create_edge(tx, project, body.source, body.target, edge_id=body.id, data=body.data),
    )
    return answer(canvas.present_edge(row), 201, seq=seq)


async def _project_of_edge(ctx: Context, who: Principal, identity: UUID) -> UUID:
    async with ctx.db.connection() as conn:
        row = await canvas.get_edge(conn, identity)
    await ctx.gate.allow(who, row["project_id"], "write", unseen="There is no such edge.")
    return row["project_id"]


@router.patch("/v1/edges/{identity}", response_model=resources.Resource, responses=PROBLEMS, summary="Change an edge")
async def patch_edge(identity: UUID, body: EdgePatch, request: Request, ctx: Ctx, who: Who) -> Response:
    project = await _project_of_edge(ctx, who, identity)
    row, seq = await write(ctx, request, project, lambda tx: canvas.patch_edge(tx, project, identity, body.data))
    return answer(canvas.present_edge(row), seq=seq)


@router.delete("/v1/edges/{identity}", status_code=204, responses=PROBLEMS, summary="Delete an edge")
async def delete_edge(identity: UUID, request: Request, ctx: Ctx, who: Who) -> Response:
    project = await _project_of_edge(ctx, who, identity)
    _, seq = await write(ctx, request, project, lambda tx: canvas.delete_edge(tx, project, identity))
    return Response(status_code=204, headers={"Safelight-Seq": str(seq)})
