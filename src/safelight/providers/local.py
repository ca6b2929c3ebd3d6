"""The provider on this machine: real pictures and clips by procedure, with no key (P2).

It works inline: `submit` makes the result and answers with it. Everything follows from the input and the attempt's
id, so a run cut short by a crash may simply be repeated and gives the same files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from hashlib import blake2b
from threading import Event
from typing import Any, Final, overload

import structlog

from safelight.providers.base import (
    FOREVER_S,
    JSON,
    Accepted,
    CancelAnswer,
    Canceled,
    Capabilities,
    Failed,
    Missing,
    Observation,
    Output,
    ProgressSink,
    Rejected,
    Running,
    SubmitRequest,
    Succeeded,
    TaskRef,
    WebhookForged,
    WebhookNote,
    WebhookRequest,
)
from safelight.providers.failures import failure

log: Final = structlog.get_logger("providers.local")

WORKERS = 2
"""Threads: NumPy and the encoders leave the interpreter free while they work, and one machine has few cores."""
PROGRESS_EVERY_S = 0.25
"""Progress is shown, not stored: four times a second looks smooth and costs little."""
OUTPUTS_MAX = 16
SEED_BITS = 31
PICTURE_SIDE_PX = 768
CLIP_SIZE_PX = (640, 360)
CLIP_DURATION_S = 3.0
CLIP_FPS = 24

_MIMES: Final = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


class _Stopped(Exception):
    """Raised inside the drawing thread, between two frames or bands, once nobody wants the result."""


class LocalProvider:
    """Implements `Provider`."""

    name = "local"
    disabled: str | None = None

    def __init__(self, workers: int = WORKERS) -> None:
        self.capabilities = Capabilities(
            cancel=True, webhooks=False, inline=True, result_lifetime_s=FOREVER_S, concurrency=workers
        )
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="safelight-local")
        self._running: dict[str, _Work] = {}

    async def submit(self, request: SubmitRequest, progress: ProgressSink) -> Accepted:
        """Make all outputs. Raises Rejected for input that cannot be drawn."""
        make = _maker(request)
        ref = TaskRef(request.attempt_id, request.endpoint)
        work = _Work()
        future = self._threads.submit(_make_all, make, request.n, work)
        self._running[request.attempt_id] = work
        try:
            outputs = await _watch(future, work, progress)
        except _Stopped:
            return Accepted(ref, Canceled())
        except ValueError as error:
            raise Rejected(failure("invalid_input", str(error))) from error
        except Exception as error:
            log.exception("local.failed", attempt=request.attempt_id, endpoint=request.endpoint)
            return Accepted(ref, Failed(failure("provider_failed", str(error))))
        finally:
            # Also where our caller was cancelled: the thread sees it at its next frame and gives up.
            work.stop.set()
            future.cancel()
            self._running.pop(request.attempt_id, None)
        return Accepted(ref, Succeeded(outputs))

    async def inspect(self, ref: TaskRef) -> Observation:
        """Running while this process draws it, else Missing: nothing of it outlives the process."""
        work = self._running.get(ref.task_id)
        return Missing() if work is None else Running(percent=work.percent)

    async def renew_url(self, ref: TaskRef, url: str) -> str | None:
        return None

    async def find(self, attempt_id: str, endpoint: str, since: datetime) -> TaskRef | None:
        return TaskRef(attempt_id, endpoint) if attempt_id in self._running else None

    async def cancel(self, ref: TaskRef) -> CancelAnswer:
        work = self._running.get(ref.task_id)
        if work is None:
            return CancelAnswer("too_late")
        work.stop.set()
        return CancelAnswer("requested")

    async def verify_webhook(self, request: WebhookRequest) -> WebhookNote:
        raise WebhookForged("the local provider sends no webhooks")

    async def close(self) -> None:
        """Stop what is being drawn and wait for the threads."""
        for work in self._running.values():
            work.stop.set()
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)


class _Work:
    """What the drawing thread and the event loop share: one writes `share`, the other sets `stop`."""

    __slots__ = ("share", "stop")

    def __init__(self) -> None:
        self.stop = Event()
        self.share: float | None = None

    @property
    def percent(self) -> float | None:
        """None until the thread has begun: waiting for a free one is not progress (J10)."""
        return None if self.share is None else round(100 * self.share, 1)


_Make = Callable[[int, Callable[[float], None]], Output]
"""One output by its index; reports the share done, 0..1."""


async def _watch(future: Future[list[Output]], work: _Work, progress: ProgressSink) -> list[Output]:
    wrapped = asyncio.wrap_future(future)
    told: float | None = None
    try:
        while True:
            done, _ = await asyncio.wait({wrapped}, timeout=PROGRESS_EVERY_S)
            if done:
                return wrapped.result()
            if work.percent != told:
                told = work.percent
                try:
                    await progress(Running(percent=told))
                except Exception:
                    # Whoever could not be told looks again later; the picture is worth more than its progress.
                    log.warning("local.progress_lost", exc_info=True)
    finally:
        if not wrapped.done():
            wrapped.cancel()


def _make_all(make: _Make, n: int, work: _Work) -> list[Output]:
    outputs: list[Output] = []
    for index in range(n):

        def report(share: float, index: int = index) -> None:
            if work.stop.is_set():
                raise _Stopped
            work.share = (index + min(max(share, 0.0), 1.0)) / n

        report(0.0)
        outputs.append(make(index, report))
    return outputs


# --- reading the input ------------------------------------------------------------------------------------------


def _maker(request: SubmitRequest) -> _Make:
    if not 1 <= request.n <= OUTPUTS_MAX:
        raise Rejected(failure("invalid_input", f"n must be 1 to {OUTPUTS_MAX}"))
    given = request.input
    prompt = given.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise Rejected(failure("invalid_input", "a prompt is needed"))
    first_seed = _number(given, "seed", None)
    seed = _seed_of(request.attempt_id) if first_seed is None else int(first_seed)
    match request.kind:
        case "image":
            return _picture_maker(given, prompt, seed)
        case "video":
            return _clip_maker(given, prompt, seed)
        case _:
            raise Rejected(failure("invalid_input", f"nothing of kind {request.kind!r} is made here"))


def _picture_maker(given: JSON, prompt: str, seed: int) -> _Make:
    width, height = _size(given, (PICTURE_SIDE_PX, PICTURE_SIDE_PX))
    fmt = str(given.get("output_format") or "png")
    if fmt not in _MIMES:
        raise Rejected(failure("invalid_input", f"output_format must be one of {', '.join(_MIMES)}"))

    def make(index: int, report: Callable[[float], None]) -> Output:
        from safelight.media import synth  # late: NumPy and Pillow cost memory that a server at rest need not hold

        data = synth.picture(prompt, seed + index, width, height, fmt, on_progress=report)
        return Output(data=data, mime=_MIMES[fmt], meta={"seed": seed + index, "width": width, "height": height})

    return make


def _clip_maker(given: JSON, prompt: str, seed: int) -> _Make:
    width, height = _size(given, CLIP_SIZE_PX)
    duration_s = _number(given, "duration", CLIP_DURATION_S)
    fps = int(_number(given, "fps", CLIP_FPS))

    def make(index: int, report: Callable[[float], None]) -> Output:
        from safelight.media import synth

        data = synth.clip(prompt, seed + index, width, height, duration_s, fps, on_progress=report)
        return Output(
            data=data,
            mime="video/mp4",
            meta={"seed": seed + index, "width": width, "height": height, "duration_s": duration_s},
        )

    return make


def _seed_of(attempt_id: str) -> int:
    """A seed for input without one: another for each attempt, the same when an attempt is run again."""
    return int.from_bytes(blake2b(attempt_id.encode(), digest_size=8).digest()) >> (64 - SEED_BITS)


def _size(given: JSON, default: tuple[int, int]) -> tuple[int, int]:
    """Width and height in pixels: as given, else of the asked ratio with the default's area."""
    width, height = _number(given, "width", None), _number(given, "height", None)
    ratio = _ratio(given.get("aspect_ratio")) or default[0] / default[1]
    if width is not None:
        return int(width), int(height if height is not None else width / ratio)
    if height is not None:
        return int(height * ratio), int(height)
    area = default[0] * default[1]
    return _even((area * ratio) ** 0.5), _even((area / ratio) ** 0.5)


def _even(value: float) -> int:
    return max(2, 2 * round(value / 2))


def _ratio(said: Any) -> float | None:
    if said is None:
        return None
    try:
        across, down = (float(part) for part in str(said).split(":"))
        ratio = across / down
    except (ValueError, ZeroDivisionError):
        ratio = 0.0
    if not 0.2 <= ratio <= 5:
        raise Rejected(failure("invalid_input", "aspect_ratio is written like 16:9"))
    return ratio


@overload
def _number(given: JSON, name: str, default: float) -> float: ...
@overload
def _number(given: JSON, name: str, default: None) -> float | None: ...
def _number(given: JSON, name: str, default: float | None) -> float | None:
    value = given.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Rejected(failure("invalid_input", f"{name} must be a number"))
    return value
