"""For whoever runs it: is the process up, can it serve, and its figures."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter
from starlette.responses import Response

from safelight.api.context import Ctx, answer

router = APIRouter(tags=["operation"])


@router.get("/healthz", summary="Is the process up")
async def healthz() -> Response:
    return answer({"status": "ok"})


@router.get("/readyz", summary="Can it serve", responses={503: {"description": "Not now; `checks` says why"}})
async def readyz(ctx: Ctx) -> Response:
    """Asks the database, and what else this process needs."""
    checks: Mapping[str, str] = await ctx.readiness() if ctx.readiness else {}
    is_ready = all(said == "ok" for said in checks.values())
    return answer({"status": "ok" if is_ready else "unavailable", "checks": checks}, 200 if is_ready else 503)


@router.get("/metrics", summary="Figures for Prometheus", responses={200: {"content": {"text/plain": {}}}})
async def metrics(ctx: Ctx) -> Response:
    body = await ctx.metrics.render()
    return Response(body, headers={"Cache-Control": "no-store"}, media_type="text/plain; version=0.0.4; charset=utf-8")
