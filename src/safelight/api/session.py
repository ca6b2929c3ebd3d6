"""Who is here and what they may open: the studio's session, projects, keys, members, flags."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from uuid import UUID

import structlog
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import RedirectResponse, Response

from safelight.access import audit, keys, projects, sessions, studio_link
from safelight.access.errors import Unauthorized
from safelight.access.principal import may
from safelight.api import resources
from safelight.api.context import Context, Ctx, Who, answer
from safelight.api.problem import documented
from safelight.db.pool import Transaction
from safelight.library.page import ById, decode, encode, instant
from safelight.realtime import flags

log: Final = structlog.get_logger("api")

router = APIRouter(tags=["access"])
PROBLEMS: Final = documented("unauthorized", "forbidden", "not_found", "conflict", "invalid_input", "rate_limited")

Name = Annotated[str, Field(min_length=1, max_length=200)]
FLAG_NAMES: Final = ("REALTIME_ENABLED", "LEGACY_LISTENERS_ENABLED", "DEADMODE_FORCE_POLLING_MS")


class ProjectBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name


class KeyBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["secret", "publishable"] = "secret"
    name: Annotated[str, Field(max_length=200)] = ""


class MemberBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Literal["viewer", "editor", "owner"]


class FlagsBody(BaseModel):
    """S8. Null puts a flag back to its default."""

    model_config = ConfigDict(extra="forbid")
    REALTIME_ENABLED: bool | None = None
    LEGACY_LISTENERS_ENABLED: bool | None = None
    DEADMODE_FORCE_POLLING_MS: Annotated[int, Field(ge=500, le=600_000)] | None = None


def _shown(project: projects.Project) -> dict[str, Any]:
    return {
        "id": project.id,
        "name": project.name,
        "created_at": instant(project.created_at),
        "role": project.role.label,
    }


@router.get("/v1/session", response_model=resources.Session, responses=PROBLEMS, summary="Who am I")
async def session(ctx: Ctx, who: Who) -> Response:
    """The user and the projects they may open; the first is where a page begins."""
    async with ctx.db.connection() as conn:
        found = await projects.list_projects(conn, who, limit=100)
    listed = [{"id": project.id, "name": project.name} for project in found]
    first = who.project_id or (found[0].id if found else None)
    role = await ctx.gate.project_role(who, first) if first else None
    user = {
        "id": who.user_id,
        "name": who.user_id or who.actor,
        "role": role.label if role else None,
        "may_set_flags": may(who, "flags", who.role),
    }
    return answer({"project_id": first, "projects": listed, "user": user})


@router.get("/v1/projects", response_model=resources.ProjectPage, responses=PROBLEMS, summary="List projects")
async def list_projects(
    ctx: Ctx,
    who: Who,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    after = decode(cursor, ById)
    async with ctx.db.connection() as conn:
        found = await projects.list_projects(conn, who, limit=limit + 1, after=after.id if after else None)
    more = encode(ById(found[limit - 1].id)) if len(found) > limit else None
    return answer({"items": [_shown(project) for project in found[:limit]], "next_cursor": more})


@router.post(
    "/v1/projects", status_code=201, response_model=resources.Project, responses=PROBLEMS, summary="Create a project"
)
async def create_project(body: ProjectBody, ctx: Ctx, who: Who) -> Response:
    """With an installation's key, or as a person, who then owns it."""
    await ctx.gate.allow(who, None, "project.create")
    project = await ctx.db.run(lambda tx: projects.create_project(tx, who, body.name))
    ctx.gate.forget()
    return answer(_shown(project), 201)


@router.get("/v1/projects/{project}", response_model=resources.Project, responses=PROBLEMS, summary="Read a project")
async def read_project(project: UUID, ctx: Ctx, who: Who) -> Response:
    role = await ctx.gate.allow(who, project, "read")
    assert role is not None
    async with ctx.db.connection() as conn:
        return answer(_shown(await projects.find_project(conn, project, role)))


@router.get("/v1/projects/{project}/keys", response_model=resources.Items, responses=PROBLEMS, summary="List keys")
async def list_keys(project: UUID, ctx: Ctx, who: Who) -> Response:
    """Never the secrets: they are shown once, when they are made."""
    await ctx.gate.allow(who, project, "manage")
    async with ctx.db.connection() as conn:
        found = await keys.list_keys(conn, project)
    return answer({"items": [_shown_key(key) for key in found], "next_cursor": None})


def _shown_key(key: keys.Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "kind": key.kind,
        "name": key.name,
        "prefix": key.prefix,
        "created_at": instant(key.created_at),
        "last_used_at": instant(key.last_used_at),
        "revoked_at": instant(key.revoked_at),
    }


@router.post(
    "/v1/projects/{project}/keys",
    status_code=201,
    response_model=resources.Key,
    responses=PROBLEMS,
    summary="Create a key",
)
async def create_key(project: UUID, body: KeyBody, ctx: Ctx, who: Who) -> Response:
    """`key` is shown only in this answer."""
    await ctx.gate.allow(who, project, "manage")
    identity, plaintext = await ctx.db.run(
        lambda tx: keys.create_key(tx, project_id=project, kind=body.kind, name=body.name, actor=who.actor)
    )
    return answer({"id": identity, "kind": body.kind, "name": body.name, "key": plaintext}, 201)


@router.delete("/v1/projects/{project}/keys/{identity}", status_code=204, responses=PROBLEMS, summary="Revoke a key")
async def revoke_key(project: UUID, identity: UUID, ctx: Ctx, who: Who) -> Response:
    await ctx.gate.allow(who, project, "manage")
    await ctx.db.run(lambda tx: keys.revoke_key(tx, identity, within=project, actor=who.actor))
    ctx.gate.forget()
    return Response(status_code=204)


@router.get(
    "/v1/projects/{project}/members", response_model=resources.Items, responses=PROBLEMS, summary="List members"
)
async def list_members(project: UUID, ctx: Ctx, who: Who) -> Response:
    await ctx.gate.allow(who, project, "read")
    async with ctx.db.connection() as conn:
        found = await projects.list_members(conn, project)
    items = [
        {"user_id": each.user_id, "role": each.role.label, "created_at": instant(each.created_at)} for each in found
    ]
    return answer({"items": items, "next_cursor": None})


@router.put("/v1/projects/{project}/members/{user}", status_code=204, responses=PROBLEMS, summary="Set a member's role")
async def put_member(project: UUID, user: str, body: MemberBody, ctx: Ctx, who: Who) -> Response:
    await ctx.gate.allow(who, project, "manage")
    await ctx.db.run(lambda tx: projects.set_member(tx, project, user, body.role, actor=who.actor))
    ctx.gate.forget()
    return Response(status_code=204)


@router.delete("/v1/projects/{project}/members/{user}", status_code=204, responses=PROBLEMS, summary="Remove a member")
async def remove_member(project: UUID, user: str, ctx: Ctx, who: Who) -> Response:
    await ctx.gate.allow(who, project, "manage")
    await ctx.db.run(lambda tx: projects.remove_member(tx, project, user, actor=who.actor))
    ctx.gate.forget()
    return Response(status_code=204)


@router.get("/v1/admin/flags", responses=PROBLEMS, summary="Read the flags")
async def read_flags(ctx: Ctx, who: Who) -> Response:
    """What was set, by name (null: nothing); `in_force`; and `environment`: flags that the server's own overrides."""
    await ctx.gate.allow(who, None, "flags")
    return answer(await _flags(ctx))


@router.put("/v1/admin/flags", responses=PROBLEMS, summary="Set flags")
async def put_flags(body: FlagsBody, ctx: Ctx, who: Who) -> Response:
    """What is named is set; null puts it back to its default (S8)."""
    await ctx.gate.allow(who, None, "flags")
    given = body.model_dump(exclude_unset=True)

    async def work(tx: Transaction) -> None:
        for name, value in given.items():
            if value is None:
                await tx.conn.execute("delete from flags where name = $1", name)
                continue
            await tx.conn.execute(
                """
                insert into flags (name, value) values ($1, $2)
                on conflict (name) do update set value = excluded.value, updated_at = now()
                """,
                name,
                value,
            )
        await audit.record(tx, who.actor, "flags.set", None, given)
        await flags.hint(tx.conn)

    await ctx.db.run(work)
    return answer(await _flags(ctx))


async def _flags(ctx: Context) -> dict[str, Any]:
    async with ctx.db.connection() as conn:
        rows = await conn.fetch("select name, value from flags")
        now = await flags.read_flags(conn, ctx.flag_overrides)
    found = {row["name"]: row["value"] for row in rows}
    return {
        **{name: found.get(name) for name in FLAG_NAMES},
        "in_force": {name: getattr(now, field) for name, field in flags.FLAGS.items()},
        "environment": sorted(ctx.flag_overrides),
    }


async def open_studio(request: Request) -> Response | None:
    """`/?key=…`: trade the one-time link for a session cookie, and take it out of the address bar."""
    ctx: Context = request.app.state.context
    link = request.query_params.get("key")
    if link is None:
        return None
    answered = RedirectResponse("/", 303, {"Cache-Control": "no-store"})
    try:
        session = await ctx.db.run(lambda tx: studio_link.redeem_link(tx, link, now=ctx.now()))
    except Unauthorized as error:
        # A page that is opened twice: the cookie of the first time still holds.
        log.info("studio_link.refused", reason=error.reason)
        return answered
    is_secure = request.url.scheme == "https"
    answered.headers["Set-Cookie"] = sessions.cookie_header(ctx.sessions.sign(session), is_secure=is_secure)
    return answered
