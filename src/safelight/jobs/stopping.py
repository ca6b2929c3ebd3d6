"""Ending when asked to, also while things go wrong."""

from __future__ import annotations

import asyncio


def end_if_canceled() -> None:
    """For whoever goes on after an error: raises CancelledError if this task was canceled meanwhile.

    A cancel that meets a broken connection comes out as that connection's error, and would be lost.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
