"""A function of yours as a pull worker (P3): it comes for jobs, makes them, and hands the results in.

>>> from safelight.sdk.worker import run
>>> def generate(input, progress):
...     return pipeline(input["prompt"]).images[0]
>>> run(generate, models=["my/model"])

The function runs in a thread of its own, the same for every job; meanwhile heartbeats keep the lease and carry the
progress. It returns bytes, a path, a PIL picture, or a list of these; it may be `async`. `progress(40, "step 4 of 10")`
tells how far it is, and raises `Stopped` once the job was canceled or taken from us.

SIGTERM (or Ctrl-C): no new job is taken; the present one is finished if that takes no longer than `drain_s`, else it is
given back at once, and another worker has it. A second signal does not wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from safelight.sdk import worker_calls as calls
from safelight.sdk.aio.client import AsyncSafelight
from safelight.sdk.call import Call, read_error
from safelight.sdk.errors import (
    Conflict,
    InvalidInput,
    NotConfigured,
    NotFound,
    Overloaded,
    RateLimited,
    SafelightError,
    TooLarge,
    UnexpectedAnswer,
    Unreachable,
)
from safelight.sdk.retries import Retries, pause_s
from safelight.sdk.session import TIMEOUTS, is_unsent
from safelight.sdk.worker_calls import ClaimedJob, Underway
from safelight.sdk.worker_task import Failed, Progress, Result, Stopped, Thread, told
from safelight.sdk.worker_upload import PART_BYTES, Course, Setback
from safelight.stopping import end

__all__ = ["ClaimedJob", "Failed", "Progress", "Stopped", "Worker", "run"]

log: Final = logging.getLogger("safelight.worker")

LEASE_S: Final = 60.0
WAIT_S: Final = 20.0
"""Of one claim: shorter than what proxies cut."""
BEAT_S: Final = 3.0
"""Between heartbeats: a cancel is heard within it. Never longer than a fourth of the lease."""
TELL_S: Final = 1.0
"""Between heartbeats that have progress to tell."""
DRAIN_S: Final = 20.0
STOP_S: Final = 5.0
"""A function that nobody waits for any more is given this long to notice before its job is given back."""
BLOCK_BYTES: Final = 256 * 1024
STORING_S: Final = 0.5
"""Between questions whether a result is stored; each waits at the server."""
EMPTY_S: Final = 1.0
"""A claim that is answered with nothing before its time (the server is stopping) is not made again at once."""
OK, ACCEPTED, CONFLICT = 200, 202, 409
_PASSING: Final = (Unreachable, Overloaded, RateLimited, UnexpectedAnswer)
_LOST: Final = (Conflict, NotFound)


class Worker:
    """Claims jobs and runs them, one at a time. Several processes make several at once."""

    def __init__(
        self,
        function: Callable[..., Any],
        models: Sequence[str] = (),
        *,
        url: str | None = None,
        key: str | None = None,
        name: str | None = None,
        lease_s: float = LEASE_S,
        drain_s: float = DRAIN_S,
    ) -> None:
        """`models`: none given = every model of the server whose provider is `pull`.

        Raises NotConfigured (no server, no key), TypeError (a function that takes no input).
        """
        self._client = AsyncSafelight(url, key)
        if self._client.session.connection.key is None:
            raise NotConfigured("a worker needs a secret key: pass key=… or set SAFELIGHT_KEY", code="not_configured")
        self._models = list(models)
        self._name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._lease_s = lease_s
        self._drain_s = drain_s
        self._part_bytes = PART_BYTES
        self._thread = Thread(function)
        self._loaded: str | None = None
        self._draining = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.completed = 0
        """Jobs so far."""

    def stop(self) -> None:
        """Drain; the second time, do not wait for the function. From any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        (self._hurrying if self._draining.is_set() else self._draining).set()

    async def run(self) -> None:
        """Until drained. Raises SafelightError for what no waiting cures: a wrong key, a model that is none."""
        self._loop = asyncio.get_running_loop()
        async with self._client, httpx.AsyncClient(timeout=TIMEOUTS) as self._http:
            self._models = self._models or await self._served()
            log.info("waiting for jobs of %s at %s", ", ".join(self._models), self._client.session.connection.url)
            while not self._draining.is_set():
                job = await self._next()
                if job is not None:
                    await self._work(job)

    # --- claiming -----------------------------------------------------------------------------------------------

    async def _served(self) -> list[str]:
        found = [model.id for model in await self._client.models() if model.provider == "pull"]
        if not found:
            raise NotConfigured(
                "the server has no model for pull workers: declare one, or name some", code="not_configured"
            )
        return found

    async def _next(self) -> ClaimedJob | None:
        """The next job; None if there is none yet, or when we drain."""
        claim_id = secrets.token_urlsafe(24)
        wish = calls.claim(self._models, self._loaded, self._name, self._lease_s, WAIT_S, claim_id)
        asking, asked_at = asyncio.ensure_future(self._client.send(wish)), time.monotonic()
        if await _first(asking, self._draining):
            try:
                job = asking.result().job
            except _PASSING as error:
                log.warning("%s; trying again", error)
                await self._rest(pause_s(5, random.random()))
                return None
            if job is None and time.monotonic() - asked_at < EMPTY_S:
                await self._rest(EMPTY_S)
            return job
        asking.cancel()
        await asyncio.wait([asking])
        # Whether it was given a job in this very moment, only the server knows.
        with contextlib.suppress(SafelightError):
            given = await self._client.send(calls.claim([], None, self._name, self._lease_s, 0, claim_id), tries_max=2)
            if given.job is not None:
                await self._release(given.job)
        return None

    async def _rest(self, pause_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._draining.wait()

    # --- one job ------------------------------------------------------------------------------------------------

    async def _work(self, job: ClaimedJob) -> None:
        began = time.monotonic()
        log.info("job %s: %s, attempt %d", job.id, job.model, job.attempt)
        self._loaded = job.model
        progress, over = Progress(job), asyncio.Event()
        keeping = asyncio.create_task(self._keep(job, progress, over))
        making = self._thread.make(job, progress)
        try:
            await self._make(job, progress, making, over)
        except _LOST as error:
            log.warning("job %s is not ours any more: %s", job.id, error)
        except SafelightError as error:
            # Its lease ends by itself, and another attempt is made.
            log.error("job %s could not be handed in: %s", job.id, error)
        else:
            log.info("job %s: over after %.1f s", job.id, time.monotonic() - began)
        finally:
            await end(keeping)
        if not making.done() and not self._draining.is_set():
            # The thread is the function's until it returns; a second job would only wait behind it.
            log.warning("job %s is over, but its function goes on; waiting for it", job.id)
            await _first(making, self._draining)
        if making.done() and not making.cancelled():
            making.exception()  # heard, so that nobody is told it was not

    async def _make(
        self, job: ClaimedJob, progress: Progress, making: asyncio.Future[list[Result]], over: asyncio.Event
    ) -> None:
        """Wait for the function and say how it went. Raises SafelightError."""
        finished = await self._made(making, over)
        if not finished:
            progress.stop()
            self._thread.interrupt()
            if over.is_set():
                await asyncio.wait([making], timeout=STOP_S)
            await self._release(job)
            return
        try:
            results = making.result()
        except Stopped:
            await self._release(job)
        except Exception as error:
            log.warning("job %s failed", job.id, exc_info=not isinstance(error, Failed))
            failed = told(error)
            await self._client.send(calls.fail(job, failed.code, str(failed), retryable=failed.retryable))
        else:
            await self._hand_in(job, results)

    async def _made(self, making: asyncio.Future[list[Result]], over: asyncio.Event) -> bool:
        """Whether the function returned before its job was over, or the time of draining was."""
        ending = asyncio.create_task(self._end_of_draining())
        canceled = asyncio.create_task(over.wait())
        try:
            await asyncio.wait({making, ending, canceled}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (ending, canceled):
                each.cancel()
            await asyncio.wait([ending, canceled])
        return making.done()

    async def _end_of_draining(self) -> None:
        await self._draining.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await self._hurrying.wait()

    async def _keep(self, job: ClaimedJob, progress: Progress, over: asyncio.Event) -> None:
        """Heartbeats, until the job is over."""
        gap_s, loop = min(BEAT_S, self._lease_s / 4), asyncio.get_running_loop()
        told_at = loop.time()
        while True:
            await asyncio.sleep(min(TELL_S, gap_s))
            word = progress.word()
            if not word and loop.time() - told_at + TELL_S / 2 < gap_s:
                continue
            told_at = loop.time()
            try:
                beat = await self._client.send(calls.heartbeat(job, word), tries_max=1)
            except _LOST:
                over.set()
                progress.stop()
                return
            except SafelightError as error:
                log.warning("job %s: a heartbeat was lost: %s", job.id, error)
                continue
            if beat.canceled and not over.is_set():
                log.info("job %s was canceled", job.id)
                progress.stop()
                over.set()

    async def _hand_in(self, job: ClaimedJob, results: Sequence[Result]) -> None:
        if len(results) > job.n:
            words = f"the function returned {len(results)} results for a job of {job.n}"
            await self._client.send(calls.fail(job, "provider_failed", words, retryable=False))
            return
        try:
            for index, result in enumerate(results):
                await self._upload(job, index, result)
        except (InvalidInput, TooLarge, OSError) as error:
            log.warning("job %s: its result was refused: %s", job.id, error)
            await self._client.send(calls.fail(job, "provider_failed", str(error), retryable=False))
            return
        except Unreachable as error:
            # The line breaks on this file, if not on so short a word.
            await self._client.send(calls.fail(job, "provider_failed", str(error), retryable=True), tries_max=2)
            raise
        await self._client.send(calls.complete(job))
        self.completed += 1

    async def _upload(self, job: ClaimedJob, index: int, result: Result) -> None:
        """The file; a large one in parts, and on from where the line broke. Raises SafelightError, OSError."""
        call, course = calls.put_output(job, index), Course(result.size, part=self._part_bytes)
        retries = Retries(call)
        while True:
            try:
                answer = await self._http.request(**self._part(call, result, course))
            except httpx.TransportError as error:
                pause = retries.after_failure(is_unsent=is_unsent(error), chance=random.random())
                if pause is None:
                    raise self._client.session.unreachable(error) from error
                course.broke()
            else:
                if answer.status_code == OK:
                    return
                arrived = _arrived(answer)
                if arrived is None:
                    pause = retries.after_answer(answer.status_code, answer.headers, chance=random.random())
                    if pause is None:
                        raise read_error(answer.status_code, answer.headers, answer.content)
                    course.broke()
                else:
                    try:
                        moved = course.told(arrived)
                    except Setback as error:
                        raise Unreachable(str(error), code="unreachable") from error
                    if moved:
                        retries = Retries(call)
                    # All is there: it is being stored, and the server has made us wait already.
                    pause = STORING_S if course.offset >= course.total else 0.0
            await asyncio.sleep(pause)

    def _part(self, call: Call[Any], result: Result, course: Course) -> dict[str, Any]:
        """The next request."""
        request = self._client.session.request(call)
        begins, ends = (0, course.total) if course.is_whole else course.span or (0, 0)
        request["headers"] |= {
            "Content-Type": result.mime or "application/octet-stream",
            "Content-Length": str(ends - begins),
        }
        if course.content_range is not None:
            request["headers"]["Content-Range"] = course.content_range
        content = result.content
        request["content"] = content[begins:ends] if isinstance(content, bytes) else _blocks(content, begins, ends)
        return request

    async def _release(self, job: ClaimedJob) -> None:
        with contextlib.suppress(*_LOST):
            await self._client.send(calls.release(job), tries_max=3)
            log.info("job %s was given back", job.id)


async def _blocks(path: Path, begins: int, ends: int) -> AsyncGenerator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        file.seek(begins)
        while begins < ends and (block := await asyncio.to_thread(file.read, min(BLOCK_BYTES, ends - begins))):
            begins += len(block)
            yield block


def _arrived(answer: httpx.Response) -> int | None:
    """How many bytes the server has, where the answer says that: more is to come, or that was the wrong part."""
    if answer.status_code == ACCEPTED:
        return msgspec.json.decode(answer.content, type=Underway).offset
    if answer.status_code == CONFLICT:
        offset = read_error(answer.status_code, answer.headers, answer.content).extras.get("offset")
        return offset if isinstance(offset, int) else None
    return None


async def _first(asked: asyncio.Future[Any], event: asyncio.Event) -> bool:
    """Wait for either; whether it is what was asked for that came."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({asked, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        await asyncio.wait([waiting])
    return asked.done()


def run(
    function: Callable[..., Any],
    models: Sequence[str] = (),
    *,
    url: str | None = None,
    key: str | None = None,
    name: str | None = None,
    lease_s: float = LEASE_S,
    drain_s: float = DRAIN_S,
) -> None:
    """Work until SIGTERM or Ctrl-C. What is not given comes from the environment, or from a demo that runs here.

    Raises SafelightError's children for what no waiting cures.
    """

    async def main() -> None:
        worker = Worker(function, models, url=url, key=key, name=name, lease_s=lease_s, drain_s=drain_s)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows has none on loops: Ctrl-C just ends it there
                loop.add_signal_handler(number, worker.stop)
        await worker.run()

    asyncio.run(main())
