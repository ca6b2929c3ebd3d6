"""Ending when asked to, also while things go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

AGAIN_S: Final = 1.0
"""Between two cancels, for tasks that have no last words; others are given the time that these may take."""


def end_if_canceled() -> None:
    """For whoever goes on after an error: raises CancelledError if this task was canceled meanwhile.

    A cancel that meets a broken connection comes out as that connection's error, and would be lost.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def end(*tasks: asyncio.Task[Any] | None, again_s: float | None = None) -> None:
    """Cancel these, and return when all of them have ended; how is not told.

    A cancel can be lost in a library that is just timing out (`asyncio.wait_for`), or that turns it into an error of
    its own: then it is said again after `again_s` (AGAIN_S). If this task is canceled meanwhile that is passed on at
    once, and CancelledError raised when all have ended.
    """
    told: asyncio.CancelledError | None = None
    while going := [task for task in tasks if task is not None and not task.done()]:
        for task in going:
            task.cancel()
        try:
            await asyncio.wait(going, timeout=AGAIN_S if again_s is None else again_s)
        except asyncio.CancelledError as error:
            told = error
    for task in tasks:
        if task is not None and not task.cancelled():
            task.exception()  # heard, so that nobody is told it was not
    if told is not None:
        raise told


async def side_by_side(*parts: Coroutine[Any, Any, None], again_s: float | None = None) -> None:
    """Run these until cancelled; when one fails the others end, and the errors are raised as an ExceptionGroup.

    A task group says a cancel once, and would wait for ever for a part that has lost it.
    """
    tasks = [asyncio.create_task(part) for part in parts]
    told: asyncio.CancelledError | None = None
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError as error:
        told = error
    try:
        await end(*tasks, again_s=again_s)
    except asyncio.CancelledError as error:
        told = error
    errors = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
    if errors:
        raise BaseExceptionGroup("parts have failed", errors)
    if told is not None:
        raise told
