"""The queue: submit, status (also as a stream), result, cancel (providers.md §1.3-§1.7)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Final
from uuid import UUID

import uuid_utils.compat as uuid7s
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from safelight.changes.log import MustRefetch
from safelight.compat.fal import answers
from safelight.compat.fal.app_id import find_model, normalized
from safelight.compat.fal.callbacks import Callbacks
from safelight.compat.fal.door import Door, client_of, logs_wanted
from safelight.compat.fal.errors import flat, no_request
from safelight.compat.fal.files import Files
from safelight.compat.fal.order import key_of, order
from safelight.compat.fal.seen_logs import SeenLogs
from safelight.compat.fal.wire import REQUEST_ID, Answer, encode, read_object
from safelight.db.pool import Row
from safelight.jobs.errors import JobConflict
from safelight.jobs.service import Submitted
from safelight.realtime.stream_watch import Hold

LOOK_S: Final = 1.0
"""Between two looks at the stored progress; changes of the job come at once through the feed."""
READ_MAX: Final = 500
BEAT_S: Final = 10.0
STREAM_MAX_S: Final = 25 * 60.0
"""As for a job's events. A client that wants more asks again; its job goes on in any case."""


class Queue:
    """The handlers. State is the job's."""

    def __init__(self, door: Door, files: Files, callbacks: Callbacks) -> None:
        self._door = door
        self._files = files
        self._callbacks = callbacks
        self._seen = SeenLogs()

    # --- submit -----------------------------------------------------------------------------------------------

    async def submit(self, request: Request) -> Response:
        """`POST /{app}[?fal_webhook=]`: answers at once (J1)."""
        app = normalized(request.path_params["endpoint"])
        done = await self.take(request, app, request.query_params.get("fal_webhook"))
        if isinstance(done, Answer):
            return done.response()
        urls = self.urls(request, app, done.job["id"])
        return Answer(answers.submitted(done.job, urls)).response(urls.request_id)

    async def take(self, request: Request, app: str, webhook: str | None) -> Submitted | Answer:
        """The request as a job of ours. Raises what a submit raises."""
        door = self._door
        caller, project = await door.writer(request)
        model = find_model(door.models, app)
        if model is None:
            return flat(404, f"Application {app[:200]!r} not found; GET /v1/models lists what there is.", "not_found")
        given = await read_object(request)
        key = key_of(request.headers)
        start, given = await self._files.claimed(project, model, given)
        submission = order(model, given, request.headers, start)
        identity: UUID = uuid7s.uuid7()
        if webhook:
            # There before the job is, so that the job's own end finds it whatever dies in between.
            await self._callbacks.expect(project, identity, webhook)
        try:
            done = await door.jobs.submit(
                project,
                submission,
                job_id=identity,
                idempotency_key=key,
                origin=client_of(request),
                actor=caller.principal.actor,
            )
        except Exception:
            if webhook:
                await self._callbacks.forget_unborn(identity)
            raise
        if done.is_new:
            door.metrics.job_submitted(done.job["provider"], done.job["model"])
        elif webhook and done.job["id"] != identity:
            await self._callbacks.forget_unborn(identity)
        return done

    def urls(self, request: Request, app: str, job: UUID) -> answers.Urls:
        return answers.Urls(self._door.base(request), normalized(app), str(job))

    # --- status -----------------------------------------------------------------------------------------------

    async def status(self, request: Request) -> Response:
        """`GET …/requests/{id}/status[?logs=1]`: read-through, as every status (J5)."""
        _, row, _ = await self._door.job_for(request, "read")
        row = await self._fresh(row)
        if row is None:
            return no_request().response()
        urls = self.urls(request, request.path_params["endpoint"], row["id"])
        if not logs_wanted(request):
            return answers.status(row, urls, with_logs=False).response(urls.request_id)
        return answers.status(self._seen.with_logs(row), urls, with_logs=True).response(urls.request_id)

    async def _fresh(self, row: Row) -> Row | None:
        if answers.has_ended(row):
            return row
        await self._door.jobs.refresh(row["id"], row["stage"])
        return await self._door.job(row["id"])

    async def stream(self, request: Request) -> Response:
        """`GET …/status/stream`: an event for each change until COMPLETED; logs as increments."""
        caller, row, role = await self._door.job_for(request, "read")
        urls = self.urls(request, request.path_params["endpoint"], row["id"])
        with_logs = logs_wanted(request)
        place = contextlib.ExitStack()
        place.enter_context(self._door.held.one(row["project_id"]))

        async def events() -> AsyncGenerator[bytes]:
            project: UUID = row["project_id"]
            with self._door.streams.holding(caller.principal, project, role) as hold:
                told: dict[str, Any] = {}
                lines = 0
                async for now in self.moments(row["id"], project, hold):
                    if now is None:
                        yield b": beat\n\n"
                        continue
                    body: dict[str, Any] = answers.status(now, urls, with_logs=with_logs).body
                    logs: list[Any] = body.get("logs") or []
                    fresh = logs[lines:] if len(logs) >= lines else logs  # another attempt logs anew
                    if body | {"logs": None} != told or fresh:
                        told, lines = body | {"logs": None}, len(logs)
                        yield b"data: " + encode({**body, "logs": fresh} if with_logs else body) + b"\n\n"

        return EventStream(events(), urls.request_id, place)

    async def moments(self, job: UUID, project: UUID, hold: Hold | None = None) -> AsyncGenerator[Row | None]:
        """The job whenever something may have changed, until it has ended; None now and then: the line is alive.

        Ends before the job does where the process stops, the reader's right is gone (S6), or the time is over.
        """
        feed = self._door.feed
        clock = asyncio.get_running_loop().time
        began_at, beat_at = clock(), clock() + BEAT_S
        while True:
            head = await feed.head(project)
            row = await self._door.job(job)
            if row is None:
                return
            yield row
            if answers.has_ended(row):
                return
            if feed.draining or (hold is not None and hold.is_over) or clock() - began_at > STREAM_MAX_S:
                return
            if clock() >= beat_at:
                beat_at = clock() + BEAT_S
                yield None
            await self._door.jobs.refresh(job, row["stage"])
            await self._change(job, project, head.head)

    async def _change(self, job: UUID, project: UUID, after: int) -> None:
        """Wait for a change of this job, and not longer than until its progress should be looked at again.

        Other jobs' changes are passed over in memory: in a busy project they come all the time.
        """
        clock = asyncio.get_running_loop().time
        ends_at = clock() + LOOK_S
        while (left_s := ends_at - clock()) > 0:
            try:
                found = await self._door.feed.read(project, epoch=None, after=after, limit=READ_MAX, wait_s=left_s)
            except MustRefetch:
                return
            if not found.entries or any(entry.change.id == job for entry in found.entries):
                return
            after = found.entries[-1].seq

    # --- result, cancel ---------------------------------------------------------------------------------------

    async def result(self, request: Request) -> Response:
        """`GET …/requests/{id}`: what the model answered, with its status."""
        _, row, _ = await self._door.job_for(request, "read")
        fresh = await self._fresh(row)
        if fresh is None:
            return no_request().response()
        if not answers.has_ended(fresh):
            return flat(400, "Request is still in progress", "bad_request").response(str(fresh["id"]))
        return (await self.output(request, fresh)).response(str(fresh["id"]))

    async def output(self, request: Request | None, row: Row) -> Answer:
        """The result or the error of a job that has ended."""
        async with self._door.db.connection() as conn:
            made = await conn.fetch("select * from generations where job_id = $1 order by output_index", row["id"])
        return answers.output(row, made, lambda key: self._door.file_url(request, key))

    async def cancel(self, request: Request) -> Response:
        """`PUT …/requests/{id}/cancel`: at once, or the provider is asked and a result that wins is kept (J6)."""
        _, row, _ = await self._door.job_for(request, "write")
        identity = str(row["id"])
        try:
            if answers.has_ended(row):
                raise JobConflict("The request has ended.")
            await self._door.jobs.cancel(row["id"], client_of(request))
        except JobConflict as error:
            # Also while the result is being stored: fal knows no state for "too late", and this one tells the truth.
            body = {"status": "ALREADY_COMPLETED", "detail": error.detail}
            return Answer(body, 400).response(identity)
        return Answer({"status": "CANCELLATION_REQUESTED"}, 202).response(identity)


class EventStream(StreamingResponse):
    """`place` is held until it has been sent, or nobody listens any more: also where nothing was ever sent."""

    def __init__(self, events: AsyncGenerator[bytes], request_id: str, place: contextlib.ExitStack) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", REQUEST_ID: request_id}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            await super().__call__(scope, receive, send)
