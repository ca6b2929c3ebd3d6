"""One job in the hands of a user's function: where it runs, how it tells its progress, and what it may return."""

from __future__ import annotations

import asyncio
import inspect
import io
import mimetypes
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from safelight.sdk.worker_calls import ClaimedJob

LINES_KEPT: Final = 50
LINE_MAX: Final = 500
RESULTS_MAX: Final = 100
_SAVED_AS: Final = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


class Stopped(Exception):
    """Raised out of `progress(…)`: the job was canceled or taken from us, or this worker is to stop. Let it pass."""


class Failed(Exception):
    """Raise it to end the job with your own words. `retryable`: another attempt of the same input may succeed."""

    def __init__(self, message: str, *, code: str = "provider_failed", retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable


class Progress:
    """Given to the function: `progress(40, "step 4 of 10")`, `progress.log("…")`. May be called from any thread."""

    def __init__(self, job: ClaimedJob) -> None:
        self.job = job
        self._lock = threading.Lock()
        self._percent: float | None = None
        self._message: str | None = None
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._told: tuple[object, ...] = (None, None, ())
        self._stopped = threading.Event()

    @property
    def is_stopped(self) -> bool:
        """Nobody waits for the result any more."""
        return self._stopped.is_set()

    def __call__(self, percent: float | None = None, message: str | None = None) -> None:
        """How far it is, 0 to 100, and in words. Raises Stopped once nobody waits for the result any more."""
        with self._lock:
            if percent is not None:
                self._percent = min(max(float(percent), 0.0), 100.0)
            if message is not None:
                self._message = str(message)[:LINE_MAX]
        self.check()

    def log(self, line: str) -> None:
        """A line for the job's log; the newest fifty are kept."""
        with self._lock:
            self._lines.append(str(line)[:LINE_MAX])

    def check(self) -> None:
        """Raises Stopped once nobody waits for the result any more."""
        if self._stopped.is_set():
            raise Stopped("nobody waits for this result any more")

    def stop(self) -> None:
        self._stopped.set()

    def word(self) -> dict[str, Any]:
        """What is new since the last time, as a heartbeat carries it."""
        with self._lock:
            now = (self._percent, self._message, tuple(self._lines))
            if now == self._told:
                return {}
            self._told = now
            told = {"percent": self._percent, "message": self._message, "logs": list(self._lines)}
            return {name: value for name, value in told.items() if value}


@dataclass(frozen=True, slots=True)
class Result:
    """One file to hand in: bytes, or a path."""

    content: bytes | Path
    mime: str | None

    @property
    def size(self) -> int:
        """Raises OSError if the file is not there."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


class Thread:
    """The one thread in which the function runs, so that a model loaded in it stays where it is.

    Daemonic: a function that never returns does not keep a process that was told to end.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        """Raises TypeError for a function that takes no input."""
        self._function = function
        self._arguments = _arguments(function)
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._task: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        threading.Thread(target=self._serve, name="safelight-worker", daemon=True).start()

    def make(self, job: ClaimedJob, progress: Progress) -> asyncio.Future[list[Result]]:
        """The function's results, later. Raises what it raised; TypeError, OSError or Failed for what it returned."""
        loop = asyncio.get_running_loop()
        made: asyncio.Future[list[Result]] = loop.create_future()

        def work() -> None:
            results: list[Result] = []
            failure: BaseException | None = None
            try:
                returned = self._function(*(dict(job.input), progress)[: self._arguments])
                if inspect.isawaitable(returned):
                    returned = self._awaited(cast("Coroutine[Any, Any, Any]", returned), progress)
                results = as_results(returned)
            except BaseException as error:
                failure = error
            try:
                loop.call_soon_threadsafe(_settle, made, results, failure)
            except RuntimeError:
                return  # the loop has ended: nobody waits

        self._work.put(work)
        return made

    def interrupt(self) -> None:
        """Cancel an `async` function where it waits; any other notices by itself, at its next `progress`."""
        if self._task is not None:
            loop, task = self._task
            loop.call_soon_threadsafe(task.cancel)

    def _serve(self) -> None:
        with asyncio.Runner() as self._runner:
            while True:
                self._work.get()()

    def _awaited(self, returned: Coroutine[Any, Any, Any], progress: Progress) -> Any:
        async def whole() -> Any:
            task = asyncio.current_task()
            assert task is not None
            self._task = (asyncio.get_running_loop(), task)
            if progress.is_stopped:
                task.cancel()
            try:
                return await returned
            except asyncio.CancelledError:
                raise Stopped("canceled") from None
            finally:
                self._task = None

        return self._runner.run(whole())


def _settle(made: asyncio.Future[list[Result]], results: list[Result], failure: BaseException | None) -> None:
    if made.done():
        return
    if failure is None:
        made.set_result(results)
    elif isinstance(failure, Exception):
        made.set_exception(failure)
    else:  # `sys.exit()` in the function ends the job, not the worker
        made.set_exception(Failed(f"{type(failure).__name__}: {failure}"))


def _arguments(function: Callable[..., Any]) -> int:
    """How many of (input, progress) it takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 2
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return 2
    places = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    if not places:
        raise TypeError("the function takes the job's input: def generate(input, progress)")
    return min(len(places), 2)


def as_results(returned: Any) -> list[Result]:
    """What a function may return: bytes, a path, a PIL picture, or a list of these. Raises TypeError, Failed."""
    if isinstance(returned, (bytes, bytearray, memoryview)):
        return [Result(bytes(cast("bytes", returned)), None)]
    if isinstance(returned, (str, Path)):
        path = Path(returned)
        if not path.is_file():
            raise Failed(f"the function returned {str(path)!r}, and there is no such file")
        return [Result(path, mimetypes.guess_type(path.name)[0])]
    if callable(getattr(returned, "save", None)) and hasattr(returned, "mode"):
        return [_picture(returned)]
    if isinstance(returned, Iterable) and not isinstance(returned, dict):
        found = [result for each in cast("Iterable[Any]", returned) for result in as_results(each)]
        if len(found) > RESULTS_MAX:
            raise Failed(f"the function returned {len(found)} results; {RESULTS_MAX} are the most")
        if found:
            return found
    if returned is None or not returned:
        raise Failed("the function returned nothing")
    kind = type(cast(object, returned)).__name__
    raise TypeError(f"the function returned {kind}; it may return bytes, a path, a PIL picture, or a list of these")


def _picture(picture: Any) -> Result:
    form = picture.format if getattr(picture, "format", None) in _SAVED_AS else "PNG"
    if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"):
        picture = picture.convert("RGB")
    saved = io.BytesIO()
    picture.save(saved, form)
    return Result(saved.getvalue(), _SAVED_AS[form])


def told(error: BaseException) -> Failed:
    """An exception of the function as the job shows it, and whether another attempt is worth it."""
    if isinstance(error, Failed):
        return error
    words = " ".join(str(error).split()) or "no reason given"
    # Memory and files may be there next time; the same mistake will be there too.
    retryable = isinstance(error, (OSError, MemoryError)) or "out of memory" in words.lower()
    return Failed(f"{type(error).__name__}: {words}", retryable=retryable)
