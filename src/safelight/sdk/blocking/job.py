"""A job in the hand, and the list of jobs."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from httpx_sse import SSEError

from safelight.sdk import calls
from safelight.sdk.calls import Id
from safelight.sdk.errors import SafelightError, WaitTimeout
from safelight.sdk.follow import READ_MAX_S, Follow, JobEvent
from safelight.sdk.notebook import job_html
from safelight.sdk.resources import Generation, JobInfo, Page, Trace
from safelight.sdk.retries import TRIES_PATIENT, is_past

if TYPE_CHECKING:
    from safelight.sdk.blocking.client import Safelight


class Job:
    """A job of ours, here and on the server. Any process can have it again with `client.jobs.get(id)`."""

    def __init__(self, client: Safelight, info: JobInfo) -> None:
        self._client = client
        self.info = info
        self._results: list[Generation] = []

    @property
    def id(self) -> UUID:
        return self.info.id

    @property
    def status(self) -> str:
        return self.info.status

    @property
    def is_over(self) -> bool:
        return self.info.is_over

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.info.model} {self.info.stage}>"

    def refresh(self) -> JobInfo:
        """Ask the server, which asks the provider if it has not heard from it (J5)."""
        self.info = self._client.send(calls.get_job(self.id))
        return self.info

    def events(self, timeout_s: float | None = None) -> Generator[JobEvent]:
        """What happens to the job until it is over, by stream or else by looking. Raises WaitTimeout."""
        began = time.monotonic()
        until = None if timeout_s is None else began + timeout_s
        follow = Follow(self.info)
        while not follow.is_over:
            opened = time.monotonic()
            try:
                with closing(self._listen(follow, until)) as news:
                    for event in news:
                        self.info = follow.job
                        yield event
            except (httpx.TransportError, SSEError, SafelightError):
                pass  # whatever it was, the look that follows shows where we are, or raises
            follow.closed(time.monotonic() - opened)
            self.info = follow.job
            if follow.is_over:
                return
            if is_past(until):
                raise WaitTimeout(self.info, time.monotonic() - began)
            info = self._client.send(calls.look_at_job(self.id), tries_max=TRIES_PATIENT, until=until)
            for event in follow.looked(info):
                self.info = follow.job
                yield event
            if not follow.is_over:
                pause = follow.pause_s(random.random())
                time.sleep(pause if until is None else max(0.0, min(pause, until - time.monotonic())))

    def wait(
        self,
        timeout_s: float | None = None,
        *,
        on_progress: Callable[[JobInfo], None] | None = None,
        show: bool = False,
    ) -> Job:
        """Return when it is completed; `show` draws a progress bar in a terminal.

        Raises JobFailed, JobCanceled, or WaitTimeout after `timeout_s`: the job itself then goes on.
        """
        if show:
            from safelight.sdk.show import bar

            with bar(self.info) as draw:
                self.wait(timeout_s, on_progress=_both(draw, on_progress))
            self._results = self.results()
            return self
        with closing(self.events(timeout_s)) as events:
            for _ in events:
                if on_progress:
                    on_progress(self.info)
        Follow(self.info).result()
        return self

    def results(self) -> list[Generation]:
        """What it made, in order, with fresh addresses. Empty while it is not completed."""
        if not self.info.generations:
            return []
        page = self._client.send(calls.generations_by_ids(self.info.project_id, self.info.generations))
        return sorted(page.items, key=lambda generation: generation.output_index)

    def download(self, folder: str | Path = ".") -> list[Path]:
        """Save everything it made."""
        results = self.results()
        return [self._client.download(generation, folder) for generation in results]

    def cancel(self) -> Job:
        """Ask for its end. A result that the provider made meanwhile may still come."""
        self.info = self._client.send(calls.cancel_job(self.id))
        return self

    def retry(self) -> Job:
        """A new attempt of a job that failed."""
        self.info = self._client.send(calls.retry_job(self.id))
        return self

    def trace(self) -> Trace:
        """Each stage of the chain with its time (D1)."""
        return self._client.send(calls.trace_job(self.id))

    def _listen(self, follow: Follow, until: float | None) -> Generator[JobEvent]:
        read_s = READ_MAX_S if until is None else max(0.05, min(READ_MAX_S, until - time.monotonic()))
        with self._client.stream(calls.job_events(self.id), read_s=read_s) as events:
            for event in events:
                yield from follow.heard(event.event, event.data)
                if follow.is_over or follow.must_look or is_past(until):
                    return

    def _repr_html_(self) -> str:
        """In a notebook, after `wait(show=True)`: what it made."""
        return job_html(self.info, self._results)


class JobSet:
    def __init__(self, client: Safelight) -> None:
        self._client = client

    def get(self, job: Id) -> Job:
        info = self._client.send(calls.get_job(job))
        return Job(self._client, info)

    def list(
        self,
        *,
        project: Id | None = None,
        status: Sequence[str] = (),
        stage: Sequence[str] = (),
        tag: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[JobInfo]:
        """Newest first."""
        where = self._client.session.project(project)
        return self._client.send(
            calls.list_jobs(where, status=status, stage=stage, tag=tag, limit=limit, cursor=cursor)
        )

    def counts(self, *, project: Id | None = None) -> Mapping[str, Any]:
        """How many per status."""
        return self._client.send(calls.count_jobs(self._client.session.project(project)))

    def cancel(self, job: Id) -> Job:
        info = self._client.send(calls.cancel_job(job))
        return Job(self._client, info)

    def retry(self, job: Id) -> Job:
        info = self._client.send(calls.retry_job(job))
        return Job(self._client, info)

    def trace(self, job: Id) -> Trace:
        return self._client.send(calls.trace_job(job))


def _both(first: Callable[[JobInfo], None], second: Callable[[JobInfo], None] | None) -> Callable[[JobInfo], None]:
    def call(info: JobInfo) -> None:
        first(info)
        if second:
            second(info)

    return call
