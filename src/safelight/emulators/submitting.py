"""Taking a submit with its faults, for providers whose wire knows nothing peculiar here (ComfyUI, Runway, Luma)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.responses import Response

from safelight.emulators.drop import Dropped
from safelight.emulators.engine import Dialect, Engine, Overloaded
from safelight.emulators.faults import SubmitFault
from safelight.emulators.settings import HANG_S
from safelight.emulators.task import Order, Task
from safelight.emulators.wire import gateway_503, json_answer

Refuse = Callable[[int], Response]
"""An error answer in the provider's own form."""


async def take(
    engine: Engine, dialect: Dialect, order: Order, *, answer: Callable[[Task], Response], refuse: Refuse
) -> Response:
    """Accept the order, or what its faults make of it; `answer` says that it was accepted."""
    if (refusal := engine.refusal(order)) is not None:
        return _refused(order, refusal, refuse)
    try:
        task = engine.accept(order, dialect)
    except Overloaded:
        return refuse(429)
    if order.faults.webhook == "before_answer":
        await engine.told(task)
    match order.faults.submit:
        case "lose_answer":
            return Dropped()
        case "hang":
            return Dropped(after_s=HANG_S)
        case "slow":
            await asyncio.sleep(engine.slow_s(order))
        case "garbage":
            return Response("<html>upstream", media_type="text/html")
        case "500_accepted":
            return refuse(500)
        case _:
            pass
    return answer(task)


def _refused(order: Order, fault: SubmitFault, refuse: Refuse) -> Response:
    if fault == "lose_request":
        return Dropped()
    if fault == "503_gateway":
        return gateway_503()
    if fault == "503":
        return Response("<html>503 Service Temporarily Unavailable", 503, media_type="text/html")
    answer = refuse(int(fault))
    if fault == "429" and order.faults.retry_after_s is not None:
        answer.headers["Retry-After"] = f"{order.faults.retry_after_s:g}"
    return answer


def misread(task: Task, refuse: Refuse) -> Response | None:
    """What a `status` fault answers in place of the truth; None = the truth, or `unknown`, which each says its way."""
    task.status_reads += 1
    if task.faults.status is None or task.status_reads > task.faults.status_times:
        return None
    match task.faults.status:
        case "hang":
            return Dropped(after_s=HANG_S)
        case "404":
            return refuse(404)
        case "500":
            return refuse(500)
        case "unknown":
            return None


def is_unknown(task: Task) -> bool:
    """Whether a state that nobody documents is due now; ask after `misread`."""
    return task.faults.status == "unknown" and task.status_reads <= task.faults.status_times


def refused_key(scheme: str, given: str) -> bool:
    """Whether an Authorization header lacks a key of that scheme."""
    said, _, key = given.partition(" ")
    return said.lower() != scheme.lower() or not key.strip()


def not_found() -> Response:
    return json_answer({"error": "not found"}, 404)
