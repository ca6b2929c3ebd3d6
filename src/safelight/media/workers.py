"""Threads for work bound to the CPU, so that decoding never takes the whole machine nor the loop.

Two for what somebody waits for, and a patient one, which gives way to everything else, for what may come later.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from safelight.media.errors import MediaBusy

P = ParamSpec("P")
T = TypeVar("T")

THREADS: Final = 2  # decoders release the GIL; more would only take memory (a decoded picture is up to 250 MB)
PATIENT_NICE: Final = 10
WAITING_MAX: Final = 256  # callers are bounded themselves (queue concurrency); beyond this something is wrong


class CpuWorkers:
    """A bounded executor. `close` waits for what runs and drops what waits."""

    def __init__(self, threads: int = THREADS, waiting_max: int = WAITING_MAX, *, is_patient: bool = False) -> None:
        self._executor = ThreadPoolExecutor(
            threads, thread_name_prefix="safelight-media", initializer=_give_way if is_patient else None
        )
        self._waiting_max = waiting_max + threads
        self._inside = 0
        self._lock = threading.Lock()

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`fn` in a thread. Raises MediaBusy if too much waits already.

        A cancelled caller is freed at once; work that has begun runs to its end, work that waits is dropped.
        """
        with self._lock:
            if self._inside >= self._waiting_max:
                raise MediaBusy("Too many files wait to be processed.", retry_after_s=2.0)
            self._inside += 1
        try:
            future = self._executor.submit(fn, *args, **kwargs)
        except BaseException:
            self._left(None)
            raise
        future.add_done_callback(self._left)
        return await asyncio.wrap_future(future)

    def _left(self, _: object) -> None:
        with self._lock:
            self._inside -= 1

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


def _give_way() -> None:
    # On Linux a thread has a nice value of its own; elsewhere there is none to set and nothing is lost.
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PATIENT_NICE)


_shared: dict[bool, CpuWorkers] = {}
_shared_lock = threading.Lock()


async def run_cpu(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`fn` in the process's shared workers, which start with the first call and end with `close_cpu`."""
    return await _workers(is_patient=False).run(fn, *args, **kwargs)


async def run_patiently(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `run_cpu`, for work that nobody waits for: one at a time, and only with the processor's spare time."""
    return await _workers(is_patient=True).run(fn, *args, **kwargs)


def _workers(*, is_patient: bool) -> CpuWorkers:
    with _shared_lock:
        if is_patient not in _shared:
            _shared[is_patient] = CpuWorkers(1 if is_patient else THREADS, is_patient=is_patient)
        return _shared[is_patient]


def close_cpu() -> None:
    """End the shared workers (server shutdown). A later call starts new ones."""
    with _shared_lock:
        workers = list(_shared.values())
        _shared.clear()
    for each in workers:
        each.close()
