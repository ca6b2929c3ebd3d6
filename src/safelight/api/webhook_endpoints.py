"""Outgoing webhooks over HTTP: endpoints, their secrets, and the log of what was told to whom (J12)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from safelight.access.principal import Principal
from safelight.api.context import Context, Ctx, Who, answer
from safelight.api.library import PROBLEMS, Cursor, Limit
from safelight.db.pool import Row, Transaction
from safelight.library.page import Newest, decode, encode, instant
from safelight.outgoing import delivery, endpoint, secret
from safelight.outgoing.address import URL_MAX, AddressRefused
from safelight.outgoing.errors import invalid

router = APIRouter(tags=["webhooks"])

UNSEEN: Final = "There is no such webhook."
UNSEEN_DELIVERY: Final = "There is no such delivery."

Event = Literal["job.processing", "job.completed", "job.failed", "job.canceled", "*"]
State = Literal["pending", "delivered", "failed", "stopped"]
Url = Annotated[str, Field(min_length=1, max_length=URL_MAX)]
Description = Annotated[str, Field(max_length=endpoint.DESCRIPTION_MAX)]
Events = Annotated[list[Event], Field(min_length=1, max_length=20)]


class WebhookBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: Url = Field(description="https, on the public internet")
    description: Description = ""
    events: Events = Field(default=["*"], description="What to tell; `*` is everything, also what is added later")


class WebhookPatch(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: Url | None = None
    description: Description | None = None
    events: Events | None = None
    enabled: bool | None = Field(None, description="true: also after it was disabled by itself")


class Disabled(BaseModel):
    at: datetime
    code: Literal["by_hand", "gone", "failing"]
    message: str


class Webhook(BaseModel):
    id: UUID
    project_id: UUID
    url: str
    description: str
    events: list[Event]
    enabled: bool
    disabled: Disabled | None
    failing_since: datetime | None = Field(description="When the failures began that no success has followed")
    created_at: datetime
    updated_at: datetime


class NewWebhook(Webhook):
    secret: str = Field(description="`whsec_…`, shown in this answer only")


class RotatedWebhook(NewWebhook):
    previous_secret_expires_at: datetime = Field(description="Until then, both sign")


class WebhookPage(BaseModel):
    items: list[Webhook]
    next_cursor: str | None


class ProjectSecret(BaseModel):
    secret: str = Field(description="Signs what goes to the `webhook_url` of single jobs")
    previous_secret_expires_at: datetime | None = None


class Try(BaseModel):
    at: datetime
    duration_ms: int | None
    status: int | None = Field(description="null: no answer")
    error: str | None = Field(description="In words; null: delivered")
    response: str | None = Field(description="The beginning of the answer's body")


class Delivery(BaseModel):
    id: UUID = Field(description="The `webhook-id` that the receiver sees, the same at every try")
    project_id: UUID
    webhook_id: UUID | None = Field(description="null: went to the job's own `webhook_url`")
    url: str | None
    job_id: UUID | None
    type: str
    state: State
    said: str = Field(description="Where it stands, in a sentence")
    next_try_at: datetime | None
    created_at: datetime
    ended_at: datetime | None
    tries: list[Try] = Field(description="The latest 20, oldest first")


class DeliveryPage(BaseModel):
    items: list[Delivery]
    next_cursor: str | None


async def _allowed(ctx: Context, who: Principal, identity: UUID) -> Row:
    """An address, and what it answers, may hold secrets: endpoints are for those who manage the project."""
    async with ctx.db.connection() as conn:
        row = await endpoint.get(conn, identity)
    await ctx.gate.allow(who, row["project_id"], "manage", unseen=UNSEEN)
    return row


async def _allowed_delivery(ctx: Context, who: Principal, identity: UUID) -> Row:
    async with ctx.db.connection() as conn:
        row = await delivery.get(conn, identity)
    await ctx.gate.allow(who, row["project_id"], "manage", unseen=UNSEEN_DELIVERY)
    return row


async def _checked(ctx: Context, url: str) -> None:
    try:
        await ctx.outgoing.addresses.check(url)
    except AddressRefused as error:
        raise invalid("url", str(error), "url_refused") from error


@router.post(
    "/v1/projects/{project}/webhooks",
    status_code=201,
    response_model=NewWebhook,
    responses=PROBLEMS,
    summary="Create a webhook",
)
async def create(project: UUID, body: WebhookBody, ctx: Ctx, who: Who) -> Response:
    """From now on the address is told of the project's jobs, signed as Standard Webhooks says."""
    await ctx.gate.allow(who, project, "manage")
    await _checked(ctx, body.url)
    row, salt = await ctx.db.run(
        lambda tx: endpoint.create(
            tx, project, url=body.url, description=body.description, events=body.events, actor=who.actor
        )
    )
    return answer({**endpoint.present_endpoint(row), "secret": ctx.outgoing.signer.secret(row["id"], salt)}, 201)


@router.get("/v1/projects/{project}/webhooks", response_model=WebhookPage, responses=PROBLEMS, summary="List webhooks")
async def list_endpoints(project: UUID, ctx: Ctx, who: Who) -> Response:
    """Never the secrets."""
    await ctx.gate.allow(who, project, "manage")
    async with ctx.db.connection() as conn:
        rows = await endpoint.of_project(conn, project)
    return answer({"items": [endpoint.present_endpoint(row) for row in rows], "next_cursor": None})


@router.get("/v1/webhooks/{webhook}", response_model=Webhook, responses=PROBLEMS, summary="Read a webhook")
async def read(webhook: UUID, ctx: Ctx, who: Who) -> Response:
    return answer(endpoint.present_endpoint(await _allowed(ctx, who, webhook)))


@router.patch("/v1/webhooks/{webhook}", response_model=Webhook, responses=PROBLEMS, summary="Change a webhook")
async def change(webhook: UUID, body: WebhookPatch, ctx: Ctx, who: Who) -> Response:
    """`enabled: true` enables it again, whatever disabled it. What is still to be sent goes to the new `url`."""
    await _allowed(ctx, who, webhook)
    if body.url is not None:
        await _checked(ctx, body.url)
    wanted = endpoint.Changes(body.url, body.description, body.events, body.enabled)
    row = await ctx.db.run(lambda tx: endpoint.change(tx, webhook, wanted, actor=who.actor))
    return answer(endpoint.present_endpoint(row))


@router.delete("/v1/webhooks/{webhook}", status_code=204, responses=PROBLEMS, summary="Delete a webhook")
async def delete(webhook: UUID, ctx: Ctx, who: Who) -> Response:
    """Its deliveries stay in the project's log until they are old."""
    await _allowed(ctx, who, webhook)
    await ctx.db.run(lambda tx: endpoint.delete(tx, webhook, actor=who.actor))
    return Response(status_code=204, headers={"Cache-Control": "no-store"})


@router.post(
    "/v1/webhooks/{webhook}/rotate",
    response_model=RotatedWebhook,
    responses=PROBLEMS,
    summary="Rotate a webhook's secret",
)
async def rotate(webhook: UUID, ctx: Ctx, who: Who) -> Response:
    """For 24 hours every delivery carries both signatures, so that the receiver can change over without a gap."""
    await _allowed(ctx, who, webhook)
    row, salt, expires_at = await ctx.db.run(lambda tx: endpoint.rotate(tx, webhook, actor=who.actor))
    shown = {
        **endpoint.present_endpoint(row),
        "secret": ctx.outgoing.signer.secret(webhook, salt),
        "previous_secret_expires_at": instant(expires_at),
    }
    return answer(shown)


@router.get(
    "/v1/projects/{project}/webhook-secret",
    response_model=ProjectSecret,
    responses=PROBLEMS,
    summary="Read the secret of jobs' own addresses",
)
async def read_secret(project: UUID, ctx: Ctx, who: Who) -> Response:
    """What is sent to the `webhook_url` that a job was submitted with is signed with it."""
    await ctx.gate.allow(who, project, "manage")
    async with ctx.db.connection() as conn:
        salts = await secret.salts_of(conn, project)
    return answer({"secret": ctx.outgoing.signer.secret(project, salts[0]), "previous_secret_expires_at": None})


@router.post(
    "/v1/projects/{project}/webhook-secret/rotate",
    response_model=ProjectSecret,
    responses=PROBLEMS,
    summary="Rotate the secret of jobs' own addresses",
)
async def rotate_secret(project: UUID, ctx: Ctx, who: Who) -> Response:
    """As for a webhook: for 24 hours both sign."""
    await ctx.gate.allow(who, project, "manage")
    salt, expires_at = await ctx.db.run(lambda tx: endpoint.rotate_of_project(tx, project, actor=who.actor))
    shown = {"secret": ctx.outgoing.signer.secret(project, salt), "previous_secret_expires_at": instant(expires_at)}
    return answer(shown)


@router.post(
    "/v1/webhooks/{webhook}/test",
    status_code=202,
    response_model=Delivery,
    responses=PROBLEMS,
    summary="Send a test",
)
async def test(webhook: UUID, ctx: Ctx, who: Who) -> Response:
    """A `webhook.test`, tried once, also while the webhook is disabled. The delivery says what came of it."""
    row = await _allowed(ctx, who, webhook)

    async def work(tx: Transaction) -> Row:
        return await delivery.get(tx.conn, await delivery.test(tx, row))

    made = await ctx.db.run(work)
    ctx.outgoing.wake()
    return answer(delivery.present_delivery(made), 202)


@router.get(
    "/v1/webhooks/{webhook}/deliveries",
    response_model=DeliveryPage,
    responses=PROBLEMS,
    summary="List a webhook's deliveries",
)
async def list_of_endpoint(
    webhook: UUID, ctx: Ctx, who: Who, state: State | None = None, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Newest first, with every try."""
    row = await _allowed(ctx, who, webhook)
    return await _page(ctx, delivery.Wanted(row["project_id"], webhook, state), limit, cursor)


@router.get(
    "/v1/projects/{project}/webhook-deliveries",
    response_model=DeliveryPage,
    responses=PROBLEMS,
    summary="List deliveries",
)
async def list_of_project(
    project: UUID,
    ctx: Ctx,
    who: Who,
    state: State | None = None,
    job: Annotated[UUID | None, Query()] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Of all webhooks and of jobs' own addresses, newest first, with every try."""
    await ctx.gate.allow(who, project, "manage")
    return await _page(ctx, delivery.Wanted(project, None, state, job), limit, cursor)


async def _page(ctx: Context, wanted: delivery.Wanted, limit: int, cursor: str | None) -> Response:
    after = decode(cursor, Newest)
    async with ctx.db.connection() as conn:
        rows = await delivery.page(conn, wanted, limit=limit, before=(after.created_at, after.id) if after else None)
    items = rows[:limit]
    more = encode(Newest(items[-1]["created_at"], items[-1]["id"])) if len(rows) > limit else None
    body: dict[str, Any] = {"items": [delivery.present_delivery(row) for row in items], "next_cursor": more}
    return answer(body)


@router.get("/v1/webhook-deliveries/{identity}", response_model=Delivery, responses=PROBLEMS, summary="Read a delivery")
async def read_delivery(identity: UUID, ctx: Ctx, who: Who) -> Response:
    return answer(delivery.present_delivery(await _allowed_delivery(ctx, who, identity)))


@router.post(
    "/v1/webhook-deliveries/{identity}/replay",
    status_code=202,
    response_model=Delivery,
    responses=PROBLEMS,
    summary="Send a delivery again",
)
async def replay(identity: UUID, ctx: Ctx, who: Who) -> Response:
    """Under the same `webhook-id`, whatever became of it; as often as it takes, as at the first time."""
    await _allowed_delivery(ctx, who, identity)

    async def work(tx: Transaction) -> Row:
        await delivery.replay(tx, identity)
        return await delivery.get(tx.conn, identity)

    row = await ctx.db.run(work)
    ctx.outgoing.wake()
    return answer(delivery.present_delivery(row), 202)
