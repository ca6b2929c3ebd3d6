"""Uploads over HTTP (M5): announce, send (again from where it broke), and use the id as a job's `start`."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from safelight.access.principal import Action, Principal
from safelight.api import resources
from safelight.api.context import Context, Ctx, Who, answer
from safelight.api.problem import documented
from safelight.media.uploads import parse_offset

router = APIRouter(tags=["uploads"])

PROBLEMS = documented(
    "unauthorized", "forbidden", "not_found", "conflict", "too_large", "invalid_input", "rate_limited", "overloaded"
)


class UploadBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    bytes: Annotated[int, Field(ge=1, le=2**53)]
    filename: Annotated[str, Field(max_length=1000)] | None = None
    mime: Annotated[str, Field(max_length=200)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = Field(
        None, description="If these bytes are known already, nothing has to be sent"
    )


@router.post(
    "/v1/projects/{project}/uploads",
    status_code=201,
    response_model=resources.Upload,
    responses=PROBLEMS,
    summary="Announce an upload",
)
async def begin(project: UUID, body: UploadBody, ctx: Ctx, who: Who) -> Response:
    """Answers with where to put the bytes, or with the ready upload of the same content."""
    await ctx.gate.allow(who, project, "write")
    now = ctx.now()
    upload = await ctx.uploads.begin(
        project, filename=body.filename, mime=body.mime, size=body.bytes, sha256=body.sha256, now=now
    )
    return answer(ctx.uploads.present(upload, now), 201)


async def _allowed(ctx: Context, who: Principal, identity: UUID, action: Action) -> Any:
    upload = await ctx.uploads.get(identity, ctx.now())
    await ctx.gate.allow(who, upload.project_id, action, unseen="There is no such upload, or it has expired.")
    return upload


@router.get("/v1/uploads/{identity}", response_model=resources.Upload, responses=PROBLEMS, summary="Read an upload")
async def read(identity: UUID, ctx: Ctx, who: Who) -> Response:
    """`upload.offset` says how much has arrived: go on from there."""
    upload = await _allowed(ctx, who, identity, "read")
    return answer(ctx.uploads.present(upload, ctx.now()))


@router.put(
    "/v1/uploads/{identity}/content",
    response_model=resources.Upload,
    responses=PROBLEMS,
    summary="Send the bytes",
    openapi_extra={
        "requestBody": {
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            "required": True,
        }
    },
)
async def receive(
    identity: UUID,
    request: Request,
    ctx: Ctx,
    who: Who,
    upload_offset: Annotated[str | None, Header()] = None,
    content_range: Annotated[str | None, Header()] = None,
) -> Response:
    """The whole file, or from `Upload-Offset` (or `Content-Range`) on. The last byte makes it ready."""
    await _allowed(ctx, who, identity, "write")
    offset = parse_offset(upload_offset, content_range)
    upload = await ctx.uploads.receive(identity, offset, request.stream(), ctx.now())
    return answer(ctx.uploads.present(upload, ctx.now()))
