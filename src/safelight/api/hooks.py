"""The one door for all providers' webhooks (P4): a plain route, because it is the hottest and parses nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from safelight.api.context import Context
from safelight.api.problem import problem
from safelight.db.pool import AWAY
from safelight.jobs.inbox import Overloaded, UnknownAttempt, WrongToken
from safelight.providers.base import Transient, WebhookForged, WebhookRequest

log: Final = structlog.get_logger("webhooks")

BODY_MAX: Final = 2 * 1024 * 1024
"""Providers send addresses of results, not the results; base64 previews stay below this."""
_ACK: Final = b'{"ok":true}'


async def receive(ctx: Context, request: Request) -> Response:
    """200 once it is stored; 401 forged, 404 unknown attempt, 413 too large, 503 come again."""
    name = request.path_params["provider"]
    # The path holds a secret: it is in no log and in no answer.
    where = f"/hooks/{name}"
    received_at: datetime = ctx.now()
    try:
        attempt = UUID(request.path_params["attempt"])
    except ValueError:
        return problem(where, "not_found", "There is no such attempt.")
    body = await _body(request)
    if body is None:
        ctx.metrics.webhook(name, "too_large")
        return problem(where, "too_large", f"A webhook's body has at most {BODY_MAX} bytes.")
    seen = WebhookRequest({key.lower(): value for key, value in request.headers.items()}, body, received_at)
    try:
        await ctx.intake.receive(name, attempt, request.path_params["token"], seen)
    except (WebhookForged, WrongToken) as error:
        ctx.metrics.webhook(name, "forged")
        log.warning("webhook.forged", provider=name, attempt=str(attempt), error=repr(error))
        return problem(where, "unauthorized", "The webhook did not prove where it comes from.")
    except Transient:
        # The keys that prove it cannot be read at the moment: nobody's fault, and not a forgery.
        ctx.metrics.webhook(name, "unproven")
        said = "The webhook cannot be proven at the moment; send it again."
        return problem(where, "overloaded", said, headers={"Retry-After": "5"})
    except UnknownAttempt:
        ctx.metrics.webhook(name, "unknown")
        return problem(where, "not_found", "There is no such attempt.")
    except Overloaded:
        ctx.metrics.webhook(name, "overloaded")
        return problem(where, "overloaded", "Too many webhooks wait; send it again.", headers={"Retry-After": "2"})
    ctx.metrics.webhook(name, "stored")
    return Response(_ACK, media_type="application/json", headers={"Cache-Control": "no-store"})


async def _body(request: Request) -> bytes | None:
    """The raw bytes the signature is over; None if there are too many."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > BODY_MAX:
        return None
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_MAX:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def hook_route(ctx: Context) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return await receive(ctx, request)
        except ClientDisconnect:
            raise
        except AWAY as error:
            log.warning("webhook.unavailable", provider=request.path_params["provider"], error=repr(error))
            said = "The database does not answer at the moment; send it again."
            return problem("/hooks", "overloaded", said, headers={"Retry-After": "2"})
        except Exception:
            log.exception("webhook.failed", provider=request.path_params["provider"])
            return problem("/hooks", "internal", "The webhook could not be stored; send it again.")

    return Route("/hooks/{provider}/{attempt}/{token}", endpoint, methods=["POST"])
