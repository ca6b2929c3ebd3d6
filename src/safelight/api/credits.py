"""Credits over HTTP: the wallet, its history, and grants (api.md, Hooks, credits, admin)."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from safelight.api import resources
from safelight.api.context import Ctx, Who, answer, write
from safelight.api.library import PROBLEMS
from safelight.credits import history, ledger
from safelight.db.pool import Transaction
from safelight.jobs import reads

router = APIRouter(tags=["credits"])


class GrantBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    amount: Annotated[int, Field(ge=1, le=10**12)]
    key: Annotated[str, Field(min_length=1, max_length=255)] = Field(
        description="Your id of this grant: sent again, it grants once"
    )
    note: Annotated[str, Field(max_length=500)] = ""


@router.get(
    "/v1/projects/{project}/credits", response_model=resources.Wallet, responses=PROBLEMS, summary="Read the wallet"
)
async def wallet(project: UUID, ctx: Ctx, who: Who) -> Response:
    """`balance` = `available` + `held`."""
    await ctx.gate.allow(who, project, "read")
    async with ctx.db.snapshot() as conn:
        seq = await reads.head(conn, project)
        return answer(present_wallet(await ledger.wallet(conn, project)), seq=seq)


def present_wallet(found: ledger.Wallet) -> dict[str, Any]:
    return {"balance": found.balance, "held": found.held, "available": found.available}


@router.get(
    "/v1/projects/{project}/credits/entries",
    response_model=resources.Items,
    responses=PROBLEMS,
    summary="Read the history",
)
async def entries(
    project: UUID,
    ctx: Ctx,
    who: Who,
    limit: Annotated[int, Query(ge=1, le=history.PAGE_MAX)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Newest first, with the balance after each (C3)."""
    await ctx.gate.allow(who, project, "read")
    async with ctx.db.connection() as conn:
        found = await history.entries(conn, project, limit, cursor)
    return answer({"items": found.items, "next_cursor": found.next_cursor}, seq=found.seq)


@router.post(
    "/v1/projects/{project}/credits/grants",
    status_code=201,
    response_model=resources.Wallet,
    responses=PROBLEMS,
    summary="Grant credits",
)
async def grant(project: UUID, body: GrantBody, request: Request, ctx: Ctx, who: Who) -> Response:
    """Needs a secret key."""
    await ctx.gate.allow(who, project, "credits.grant")

    async def work(tx: Transaction) -> ledger.Wallet:
        await ledger.grant(tx.conn, project, body.amount, body.key, body.note, who.actor)
        return await ledger.wallet(tx.conn, project)

    found, seq = await write(ctx, request, project, work)
    return answer(present_wallet(found), 201, seq=seq)
