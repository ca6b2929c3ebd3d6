"""The connection to a server: a thin shell over `calls`, `retries`, `feed` and `files`."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import anyio
import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

from safelight.sdk import calls
from safelight.sdk.aio.account import AsyncCredits, AsyncKeys
from safelight.sdk.aio.job import AsyncJob, AsyncJobSet
from safelight.sdk.aio.library import AsyncGenerations
from safelight.sdk.call import Call, read_error
from safelight.sdk.calls import Id
from safelight.sdk.connection import discover
from safelight.sdk.errors import Conflict, DownloadFailed, MustRefetch, SafelightError, UnexpectedAnswer, Unreachable
from safelight.sdk.feed import PAGE, Cursor, Feed
from safelight.sdk.files import CHUNK_BYTES, TRIES_MAX, Download, Source, address
from safelight.sdk.follow import READ_MAX_S
from safelight.sdk.resources import (
    Change,
    Generation,
    Model,
    Page,
    Project,
    Quote,
    Upload,
)
from safelight.sdk.retries import TRIES_MAX as CALL_TRIES_MAX
from safelight.sdk.retries import TRIES_PATIENT, Retries, is_past, pause_s
from safelight.sdk.session import READ_S, TIMEOUTS, Session, is_unsent

T = TypeVar("T")


class AsyncSafelight:
    """A connection to a Safelight server. What is not given comes from the environment or a demo that runs here.

    Raises NotConfigured when no server is known. Every method raises SafelightError's children.

    >>> client = AsyncSafelight()
    >>> job = client.submit("local/aurora", {"prompt": "a red fox"})
    >>> job.wait()
    >>> print(job.download("out"))
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        project: Id | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.session = Session(discover(url, key, str(project) if project else None))
        self._http = httpx.AsyncClient(timeout=TIMEOUTS, transport=transport)
        self.jobs = AsyncJobSet(self)
        self.generations = AsyncGenerations(self)
        self.credits = AsyncCredits(self)
        self.keys = AsyncKeys(self)

    async def __aenter__(self) -> AsyncSafelight:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def submit(
        self,
        model: str | None = None,
        input: Mapping[str, Any] | None = None,
        *,
        project: Id | None = None,
        id: Id | None = None,
        n: int = 1,
        target: Mapping[str, Any] | None = None,
        template: str | None = None,
        variables: Mapping[str, str] | None = None,
        start: Id | None = None,
        provider: str | None = None,
        priority: int | None = None,
        deadline_s: float | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        webhook_url: str | None = None,
    ) -> AsyncJob:
        """Ask for results; returns as soon as the server has the job. Safe to call again with the same `id` (J2).

        With `template` the model may be left out and `variables` fill it. `start` is an upload's or generation's id.
        """
        body = calls.request(
            model,
            input,
            id=id or calls.new_id(),
            n=n,
            target=target,
            template=template,
            variables=variables,
            start=start,
            provider=provider,
            priority=priority,
            deadline_s=deadline_s,
            tags=tags,
            metadata=metadata,
            webhook_url=webhook_url,
        )
        info = await self.send(calls.submit(self.session.project(project), body))
        return AsyncJob(self, info)

    async def quote(
        self,
        model: str | None = None,
        input: Mapping[str, Any] | None = None,
        *,
        project: Id | None = None,
        n: int = 1,
        template: str | None = None,
        variables: Mapping[str, str] | None = None,
        start: Id | None = None,
        provider: str | None = None,
    ) -> Quote:
        """What it would cost (C3). Nothing is reserved."""
        body = calls.request(
            model,
            input,
            id=None,
            n=n,
            target=None,
            template=template,
            variables=variables,
            start=start,
            provider=provider,
            priority=None,
            deadline_s=None,
            tags=(),
            metadata=None,
            webhook_url=None,
        )
        return await self.send(calls.quote(self.session.project(project), body))

    async def projects(self) -> list[Project]:
        """Those that the key opens."""
        return [project async for project in self.pages(lambda cursor: calls.projects(cursor=cursor))]

    async def create_project(self, name: str) -> Project:
        """Needs a key of the whole installation."""
        return await self.send(calls.create_project(name))

    async def models(self) -> list[Model]:
        page = await self.send(calls.models())
        return page.items

    async def download(self, generation: Generation, folder: str | Path = ".") -> Path:
        """Save the original; the file is whole or not there. Raises DownloadFailed."""
        plan = Download(generation, Path(folder))
        try:
            for attempt in range(TRIES_MAX):
                try:
                    return await self._fetch(generation, plan)
                except (httpx.TransportError, DownloadFailed) as error:
                    if attempt == TRIES_MAX - 1 or (isinstance(error, DownloadFailed) and error.status is None):
                        raise
                    await anyio.sleep(pause_s(attempt, random.random()))
                    # Its address may have run out meanwhile.
                    generation = await self.generations.get(generation.id)
            raise AssertionError("the last try returns or raises")
        except httpx.TransportError as error:
            raise DownloadFailed(f"generation {generation.id} broke off: {error}", code="download_failed") from error
        finally:
            plan.discard()

    async def upload(self, path: str | Path, *, project: Id | None = None) -> Upload:
        """A start image: pass its id as `start`. Bytes that the project has already are not sent again.

        Raises OSError if the file cannot be read.
        """
        source = Source.look(Path(path))
        upload = await self.send(
            calls.begin_upload(
                self.session.project(project),
                size=source.size,
                sha256=source.sha256,
                filename=source.path.name,
                mime=source.mime,
            )
        )
        idle = 0  # tries in a row that brought nothing
        while upload.upload is not None:
            offset = upload.upload.offset
            part = source.part(offset, upload.upload.max_chunk)
            try:
                upload = await self.send(calls.send_part(upload.id, offset, part))
            except (Unreachable, Conflict):  # some of it may have arrived: ask how much
                await anyio.sleep(pause_s(idle, random.random()))
                upload = await self.send(calls.get_upload(upload.id))
            idle = idle + 1 if upload.upload is not None and upload.upload.offset <= offset else 0
            if idle == TRIES_MAX:
                raise UnexpectedAnswer(f"the upload of {source.path.name} does not go on", code="unexpected_answer")
        return upload

    async def changes(
        self, after: Cursor | str | None = None, *, project: Id | None = None, follow: bool = True
    ) -> AsyncIterator[Change]:
        """The project's changes after a cursor (None: from now on), each once and in order, without end if `follow`.

        Keep `change.cursor` to go on there another time. Raises MustRefetch when the cursor is of another life of
        the log or older than what is kept: read the lists again, then go on from `head()`.
        """
        project = self.session.project(project)
        start = await self.head(project) if after is None else Cursor.parse(str(after))
        feed = Feed(start)
        while True:
            page = await self.send(
                calls.changes(
                    project,
                    epoch=feed.cursor.epoch,
                    after=feed.cursor.seq,
                    limit=PAGE,
                    wait_s=feed.wait_s if follow else 0,
                ),
                tries_max=TRIES_PATIENT,
            )
            for change in feed.pulled(page):
                yield change
            if not feed.must_pull and not follow:
                return
            if follow and feed.wants_stream:
                try:
                    async with self.stream(calls.change_stream(project, str(feed.cursor))) as events:
                        async for event in events:
                            for change in feed.heard(event.event, event.data, event.id):
                                yield change
                            if feed.must_pull:
                                break
                except (httpx.TransportError, SSEError):
                    feed.lost()
                except MustRefetch:
                    raise
                except SafelightError:
                    feed.lost()
            if follow:
                await anyio.sleep(feed.pause_s(random.random()))

    async def head(self, project: Id | None = None) -> Cursor:
        """The end of the project's change log now."""
        try:
            page = await self.send(calls.changes(self.session.project(project), after=0, limit=1))
        except MustRefetch as error:  # the log no longer begins at 0, and the answer names its end
            return Cursor(error.epoch, error.head)
        return Cursor(page.epoch, page.head)

    async def send(self, call: Call[T], *, tries_max: int = CALL_TRIES_MAX, until: float | None = None) -> T:
        """Make the call, again where that is safe and may help. `until` (time.monotonic) ends the tries early."""
        retries = Retries(call, tries_max)
        while True:
            read_s = None if until is None else min(READ_S, max(1.0, until - time.monotonic()))
            try:
                answer = await self._http.request(**self.session.request(call, read_s=read_s))
            except httpx.TransportError as error:
                pause = retries.after_failure(is_unsent=is_unsent(error), chance=random.random())
                if pause is None or is_past(until, pause):
                    raise self.session.unreachable(error) from error
            else:
                pause = retries.after_answer(answer.status_code, answer.headers, chance=random.random())
                if pause is None or is_past(until, pause):
                    return self.session.read(call, answer.status_code, answer.headers, answer.content)
            await anyio.sleep(pause)

    @asynccontextmanager
    async def stream(
        self, call: Call[None], *, read_s: float = READ_MAX_S
    ) -> AsyncGenerator[AsyncIterator[ServerSentEvent]]:
        """The events of a stream. Raises httpx's and httpx-sse's errors, and SafelightError for a refusal."""
        request = self.session.request(call, is_stream=True, read_s=read_s)
        async with self._http.stream(**request) as answer:
            if answer.status_code != 200:
                content = await answer.aread()
                raise read_error(answer.status_code, answer.headers, content)
            yield EventSource(answer).aiter_sse()

    async def pages(self, call: Callable[[str | None], Call[Page[T]]]) -> AsyncIterator[T]:
        """Everything of a list, page by page."""
        cursor: str | None = None
        while True:
            page = await self.send(call(cursor))
            for item in page.items:
                yield item
            if not page.next_cursor or page.next_cursor == cursor:
                return
            cursor = page.next_cursor

    async def _fetch(self, generation: Generation, plan: Download) -> Path:
        # Without our key: the address is signed, and may be a bucket of somebody else's.
        async with self._http.stream("GET", address(generation), headers=plan.headers, follow_redirects=True) as answer:
            plan.begin(answer.status_code, answer.headers.get("content-range", ""))
            async for chunk in answer.aiter_bytes(CHUNK_BYTES):
                plan.write(chunk)
        return plan.finish()
