"""Templates over HTTP (J8; api.md, Library)."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from safelight.api import resources
from safelight.api.context import Ctx, Who, answer, write
from safelight.api.library import PROBLEMS, Cursor, Limit
from safelight.library import page, template

router = APIRouter(tags=["templates"])

Slug = Annotated[str, Path(min_length=1, max_length=63)]


class TemplateContent(BaseModel):
    """Blanks are written `{BRAND}`: capitals in braces."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=200)]
    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: dict[str, Any]
    start: Annotated[str, Field(max_length=200)] | None = None


class TemplateBody(TemplateContent):
    slug: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


@router.get(
    "/v1/projects/{project}/templates", response_model=resources.Items, responses=PROBLEMS, summary="List templates"
)
async def list_templates(project: UUID, ctx: Ctx, who: Who, limit: Limit = 100, cursor: Cursor = None) -> Response:
    await ctx.gate.allow(who, project, "read")
    async with ctx.db.snapshot() as conn:
        found = await template.list_templates(conn, project, limit=limit, cursor=cursor)
    items = [template.present_template(row) for row in found.items]
    return answer({"items": items, "next_cursor": found.next_cursor}, seq=found.seq)


@router.post(
    "/v1/projects/{project}/templates",
    status_code=201,
    response_model=resources.Resource,
    responses=PROBLEMS,
    summary="Create a template",
)
async def create(project: UUID, body: TemplateBody, request: Request, ctx: Ctx, who: Who) -> Response:
    await ctx.gate.allow(who, project, "write")
    row, seq = await write(
        ctx,
        request,
        project,
        lambda tx: template.create_template(tx, project, body.slug, body.name, body.model, body.input, body.start),
    )
    return answer(template.present_template(row), 201, seq=seq)


@router.get(
    "/v1/projects/{project}/templates/{slug}",
    response_model=resources.Resource,
    responses=PROBLEMS,
    summary="Read a template",
)
async def read(project: UUID, slug: Slug, ctx: Ctx, who: Who) -> Response:
    await ctx.gate.allow(who, project, "read")
    async with ctx.db.snapshot() as conn:
        seq = await page.head(conn, project)
        row = await template.get_template(conn, project, slug)
    return answer(template.present_template(row), seq=seq)


@router.put(
    "/v1/projects/{project}/templates/{slug}",
    response_model=resources.Resource,
    responses=PROBLEMS,
    summary="Make or replace a template",
)
async def put(project: UUID, slug: Slug, body: TemplateContent, request: Request, ctx: Ctx, who: Who) -> Response:
    await ctx.gate.allow(who, project, "write")
    row, seq = await write(
        ctx,
        request,
        project,
        lambda tx: template.put_template(tx, project, slug, body.name, body.model, body.input, body.start),
    )
    return answer(template.present_template(row), seq=seq)


@router.delete(
    "/v1/projects/{project}/templates/{slug}", status_code=204, responses=PROBLEMS, summary="Delete a template"
)
async def delete(project: UUID, slug: Slug, request: Request, ctx: Ctx, who: Who) -> Response:
    await ctx.gate.allow(who, project, "write")
    _, seq = await write(ctx, request, project, lambda tx: template.delete_template(tx, project, slug))
    return Response(status_code=204, headers={"Safelight-Seq": str(seq)})
