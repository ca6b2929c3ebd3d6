"""Models and their providers: what can be asked for, how the providers are, and models by API (P1, P6)."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from safelight.access import audit
from safelight.api import resources
from safelight.api.context import Context, Ctx, Who, answer
from safelight.api.problem import documented, problem
from safelight.db.pool import Row, Transaction
from safelight.jobs import offered
from safelight.jobs.breakers import Known
from safelight.jobs.errors import InvalidSubmission, JobNotFound
from safelight.library.page import instant
from safelight.providers.model import Model, Route, public_model
from safelight.providers.model_faults import ModelInvalid
from safelight.providers.model_schema import input_schema

router = APIRouter(tags=["models"])
PROBLEMS: Final = documented("unauthorized", "forbidden", "not_found", "conflict", "invalid_input", "rate_limited")


class ModelBody(BaseModel):
    """A model as in a file of models, without its id: `name`, `kind`, `routes`, `price`, `fields`, …"""

    model_config = ConfigDict(extra="allow")


@router.get("/v1/models", response_model=resources.Models, responses=PROBLEMS, summary="List models")
async def list_models(ctx: Ctx, who: Who) -> Response:
    """What can be asked of this installation, for which price, and how long it usually takes (`eta_s`).

    `schema` is the input as JSON Schema, by which a submit is checked. `providers` are asked in this order.
    `enabled` is false where none of them has a key here.
    """
    await ctx.breakers.refresh()
    return answer({"items": [shown(ctx, model) for model in ctx.models], "next_cursor": None})


def shown(ctx: Context, model: Model) -> dict[str, Any]:
    learnt_s = ctx.durations.expected_s(model.provider, model.routes[0].endpoint, model.eta_s)
    return {
        **public_model(model),
        "enabled": any(route.provider in ctx.enabled for route in model.routes),
        "eta_s": round(learnt_s, 1),
        "providers": [_route(ctx, route) for route in model.routes],
        "schema": input_schema(model),
    }


def _route(ctx: Context, route: Route) -> dict[str, Any]:
    price = None if route.price is None else {"unit": route.price.unit, "amount": route.price.amount}
    return {
        "name": route.provider,
        "endpoint": route.endpoint,
        "enabled": route.provider in ctx.enabled,
        "price": price,
        "breaker": ctx.breakers.state(route).value,
    }


# --- for whoever runs it ----------------------------------------------------------------------------------------


@router.get("/v1/admin/providers", response_model=resources.Items, responses=PROBLEMS, summary="List providers")
async def list_providers(ctx: Ctx, who: Who) -> Response:
    """What each provider can, how it is (its breaker, P6), and how many jobs are there or wait for it."""
    await ctx.gate.allow(who, None, "admin")
    await ctx.breakers.refresh()
    names = sorted(ctx.jobs.providers)
    async with ctx.db.connection() as conn:
        rows = await conn.fetch(
            """
            select g.provider, p.paused_until, p.paused_why,
                (select count(*) from job_work w where w.slot and w.provider = g.provider) as taken,
                (select count(*) from job_work w where w.blocked is not null and w.provider = g.provider) as waiting
            from unnest($1::text[]) as g (provider) left join provider_pace p on p.provider = g.provider
            """,
            names,
        )
    by_name = {row["provider"]: row for row in rows}
    return answer({"items": [_provider(ctx, name, by_name[name]) for name in names], "next_cursor": None})


def _provider(ctx: Context, name: str, row: Row) -> dict[str, Any]:
    provider, known = ctx.jobs.providers[name], ctx.breakers.of(name)
    able = provider.capabilities
    is_paused = row["paused_until"] is not None and row["paused_until"] > ctx.now()
    return {
        "name": name,
        "enabled": provider.disabled is None,
        "disabled": provider.disabled,
        "breaker": _breaker(known),
        "endpoints": [
            {"name": at, "breaker": _breaker(each)} for at, each in sorted(ctx.breakers.endpoints(name).items())
        ],
        "paused_until": instant(row["paused_until"]) if is_paused else None,
        "paused_why": row["paused_why"] if is_paused else None,
        "jobs": {"there": row["taken"], "waiting": row["waiting"]},
        "can": {
            "cancel": able.cancel,
            "webhooks": able.webhooks,
            "lookup": able.lookup,
            "concurrency": able.concurrency,
            "rate_per_s": able.rate_per_s,
        },
    }


def _breaker(known: Known) -> dict[str, Any]:
    breaker = known.breaker
    return {
        "state": breaker.state.value,
        "failures": breaker.failures,
        "trips": breaker.trips,
        "until": instant(breaker.until),
        "failed_at": instant(breaker.failed_at),
        "said": known.said,
    }


@router.get("/v1/admin/models", response_model=resources.Items, responses=PROBLEMS, summary="List models by API")
async def list_defined(ctx: Ctx, who: Who) -> Response:
    """Those that were PUT, as they were given; `GET /v1/models` lists all there are."""
    await ctx.gate.allow(who, None, "admin")
    async with ctx.db.connection() as conn:
        return answer({"items": [_defined(ctx, each) for each in await offered.defined(conn)], "next_cursor": None})


@router.get("/v1/admin/models/{name:path}", responses=PROBLEMS, summary="Read a model by API")
async def read_defined(name: str, ctx: Ctx, who: Who) -> Response:
    await ctx.gate.allow(who, None, "admin")
    async with ctx.db.connection() as conn:
        found = await offered.find(conn, name)
    if found is None:
        raise _not_there(ctx, name)
    return answer(_defined(ctx, found))


@router.put("/v1/admin/models/{name:path}", responses={**PROBLEMS, **documented("too_large")}, summary="Define a model")
async def define(name: str, body: ModelBody, request: Request, ctx: Ctx, who: Who) -> Response:
    """A new model, or one in place of that of the same name. In force here at once, on all nodes within 10 s."""
    await ctx.gate.allow(who, None, "admin")
    given = body.model_dump()
    if len(msgspec.json.encode(given)) > offered.BODY_BYTES_MAX:
        return problem(request.url.path, "too_large", f"A model has at most {offered.BODY_BYTES_MAX} bytes.")

    async def work(tx: Transaction) -> tuple[bool, offered.Defined | None]:
        is_new = await ctx.offered.define(name, given, frozenset(ctx.jobs.providers), tx, who.actor)
        await audit.record(tx, who.actor, "model.defined", None, {"name": name})
        return is_new, await offered.find(tx.conn, name)

    try:
        is_new, found = await ctx.db.run(work)
    except ModelInvalid as error:
        raise InvalidSubmission(error.errors) from error
    await ctx.offered.refresh()
    assert found is not None
    return answer(_defined(ctx, found), 201 if is_new else 200)


@router.delete("/v1/admin/models/{name:path}", status_code=204, responses=PROBLEMS, summary="Delete a model by API")
async def remove(name: str, ctx: Ctx, who: Who) -> Response:
    """One that it stood in place of is there again. Jobs that were submitted go on."""
    await ctx.gate.allow(who, None, "admin")

    async def work(tx: Transaction) -> None:
        if not await offered.remove(tx.conn, name):
            raise _not_there(ctx, name)
        await audit.record(tx, who.actor, "model.deleted", None, {"name": name})

    await ctx.db.run(work)
    await ctx.offered.refresh()
    return Response(status_code=204)


def _not_there(ctx: Context, name: str) -> JobNotFound:
    if ctx.models.is_from_file(name):
        return JobNotFound(f"{name} comes from a file of models, not from the API.")
    return JobNotFound(f"There is no model {name!r} by API.")


def _defined(ctx: Context, found: offered.Defined) -> dict[str, Any]:
    return {
        "id": found.name,
        "model": found.body,
        "updated_at": instant(found.updated_at),
        "updated_by": found.updated_by,
        "replaces_file": ctx.models.is_from_file(found.name),
    }
