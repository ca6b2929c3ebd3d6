"""`fal.run`: ask and get the answer in the same call, which may take minutes, and no request of ours may (J1).

So a run that is not done in time is sent on by a redirect to where its result will be, which waits again. To clients
that follow it this is one call: `@fal-ai/client`, and the sync one of `fal_client`; the async one follows none and
raises, with a sentence that says where to look. The job is a job like any other from the first moment, and goes on
whatever happens to the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, aclosing
from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from safelight.compat.fal import answers
from safelight.compat.fal.app_id import normalized
from safelight.compat.fal.door import Door, root_of
from safelight.compat.fal.errors import flat
from safelight.compat.fal.queue import EventStream, Queue
from safelight.compat.fal.wire import Answer, encode
from safelight.db.pool import Row
from safelight.jobs.errors import JobNotFound
from safelight.realtime.stream_watch import Hold

HOLD_S: Final = 25.0
"""Below J1's 30 s, and so below every proxy's patience."""
HOPS_MAX: Final = 18
"""Browsers and httpx follow 20 redirects. So a run may take seven minutes; what takes longer is for the queue."""
STREAM: Final = "/stream"
_PREFER: Final = re.compile(r"(?:^|[,;\s])wait=(\d{1,4})(?:$|[,;\s])", re.ASCII)


class Run:
    """The handlers."""

    def __init__(self, door: Door, queue: Queue) -> None:
        self._door = door
        self._queue = queue

    async def run(self, request: Request) -> Response:
        """`POST /run/{app}`: the model's own answer. With `/stream` at the end, as an event."""
        path: str = request.path_params["endpoint"].rstrip("/")
        streamed = path.endswith(STREAM)
        app = normalized(path.removesuffix(STREAM) if streamed else path)
        caller, project = await self._door.writer(request)
        with contextlib.ExitStack() as place:
            place.enter_context(self._door.held.one(project))  # before there is a job that would be paid for
            done = await self._queue.take(request, app, None)
            if isinstance(done, Answer):
                return done.response()
            job: UUID = done.job["id"]
            if not streamed:
                return await self._held(request, app, job, project, 0)
            role = await self._door.gate.project_role(caller.principal, project)
            holding = self._door.streams.holding(caller.principal, project, role)
            return EventStream(self._events(request, job, project, holding), str(job), place.pop_all())

    async def wait(self, request: Request) -> Response:
        """`GET …/requests/{id}/wait`: where a run goes on."""
        _, row, _ = await self._door.job_for(request, "read")
        said = request.query_params.get("hop", "")
        hop = int(said) if said.isascii() and said.isdigit() and len(said) < 4 else 0
        with self._door.held.one(row["project_id"]):
            app = request.path_params["endpoint"]
            return await self._held(request, app, row["id"], row["project_id"], hop)

    async def _held(self, request: Request, app: str, job: UUID, project: UUID, hop: int) -> Response:
        row = await self._end(job, project, wait_of(request.headers.get("prefer")))
        identity = str(job)
        if row is not None:
            return (await self._queue.output(request, row)).response(identity)
        urls = self._queue.urls(request, app, job)
        if hop >= HOPS_MAX:
            said = f"The request takes longer than a call may. It goes on: read {urls.request}."
            headers = {"X-Fal-Request-Timeout-Type": "user"}  # or the clients would run it again, and pay again
            return flat(504, said, "request_timeout", headers, request_id=identity, **urls.body()).response(identity)
        # Without the host: whatever the caller calls us, a redirect to there keeps its key.
        path = answers.Urls(root_of(request), urls.app, identity).request
        said = f"The request goes on: follow the redirect, or read {urls.request}."  # for clients that follow none
        body = {"detail": said, "error_type": "still_running", "request_id": identity, **urls.body()}
        onward = Answer(body, 303, {"Location": f"{path}/wait?hop={hop + 1}"})
        return onward.response(identity)

    async def _end(self, job: UUID, project: UUID, wait_s: float) -> Row | None:
        """The job once it has ended; None if that takes too long, or this process stops."""
        try:
            async with asyncio.timeout(wait_s), aclosing(self._queue.moments(job, project)) as moments:
                async for row in moments:
                    if row is not None and answers.has_ended(row):
                        return row
        except TimeoutError:
            return None
        if await self._door.job(job) is None:
            raise JobNotFound
        return None

    async def _events(
        self, request: Request, job: UUID, project: UUID, holding: AbstractContextManager[Hold]
    ) -> AsyncGenerator[bytes]:
        """Beats, and at last the model's answer, be it an error: a stream has one status, said at its beginning."""
        with holding as hold:
            async for row in self._queue.moments(job, project, hold):
                if row is None:
                    yield b": beat\n\n"
                elif answers.has_ended(row):
                    yield b"data: " + encode((await self._queue.output(request, row)).body) + b"\n\n"


def wait_of(prefer: str | None) -> float:
    """`Prefer: wait=5` (RFC 7240): who would rather be sent on sooner."""
    said = _PREFER.search(prefer or "")
    return min(float(said[1]), HOLD_S) if said else HOLD_S
