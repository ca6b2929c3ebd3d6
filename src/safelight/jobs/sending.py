"""Asking a provider, at most once per attempt (P8)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from safelight.db.group_commit import GroupCommit
from safelight.db.pool import Row, Transaction
from safelight.jobs import attempts, breaker, decide, limits, progress, reads, routing, words
from safelight.jobs.answering import Answering
from safelight.jobs.conclude import conclude, routes_of
from safelight.jobs.decide import Progress
from safelight.jobs.lease import LetGo, holding_lease
from safelight.jobs.lifecycle import Stage
from safelight.jobs.parts import Parts
from safelight.jobs.starts import start_url
from safelight.providers.base import (
    Accepted,
    Failure,
    ProgressSink,
    Provider,
    Refused,
    Running,
    SubmitRequest,
)
from safelight.providers.model import Route
from safelight.providers.model_input import InputFault, InputInvalid, for_route, validate_input

LAST_ANSWER_S: Final = 5.0
"""A worker that is being stopped waits so long for answers to what it has sent: supervisors kill after ten or more."""
LAST_NOTE_S: Final = 3.0
GROUP_MAX: Final = 64
"""Attempts begun in one transaction."""
_NOT_SENT: Final = Refused(Failure(decide.NOT_SENT, "The worker was stopped before it asked.", transient=True), 0.1)


class Sending:
    def __init__(self, parts: Parts, answering: Answering) -> None:
        self._parts = parts
        self._answering = answering
        self._beginnings = GroupCommit(parts.db, self._begin_all, batch_max=GROUP_MAX)

    async def send(self, job: Row) -> datetime | LetGo | None:
        """Make the attempt at the first provider that may be asked now, ask, and note the answer.

        Returns when to come again if there is no place now, or that the lease was let go with the answer.
        """
        breakers = self._parts.breakers
        routes: Sequence[Route] = routes_of(job, self._parts)
        paused: limits.Blocked | None = None
        while routes:
            choice = routing.choose(routes, breakers.gate)
            if choice is None:
                break
            name = choice.route.provider
            probes = await breakers.claim_probe(choice.route) if choice.is_probe else ()
            if probes is None:
                continue  # somebody else tries it: for us its gate is shut from now on
            turn = _Turn({**job, "provider": name, "endpoint": choice.route.endpoint}, choice.route)
            try:
                outcome = await self._send(turn)
            finally:
                if not turn.has_asked:
                    for probe in probes:
                        await breakers.note(probe, breaker.Dropped())
            if not isinstance(outcome, limits.Blocked):
                return outcome
            if outcome.why != "paused":
                return outcome.until or job["deadline_at"]
            # Our account there has a problem: who else can make it?
            paused = outcome
            routes = _without(routes, name)
        if paused is not None:
            return paused.until or job["deadline_at"]
        return await self._wait_for_recovery(job, routes)

    async def _wait_for_recovery(self, job: Row, routes: Sequence[Route]) -> datetime:
        """Nobody who could make it is in service: it stays in the queue and says so."""
        parts, until = self._parts, min(self._parts.breakers.until(routes), job["deadline_at"])
        said = Progress(Stage.QUEUED, message=words.out_of_service([route.provider for route in routes]))

        async def note(tx: Transaction) -> None:
            await limits.block(tx.conn, {job["id"]: limits.Blocked("breaker", until)})
            if job["blocked"] != "breaker":
                await parts.board.report(tx.conn, job, said, None)

        await parts.db.run(note)
        return until

    async def _send(self, turn: _Turn) -> datetime | LetGo | limits.Blocked | None:
        parts, job = self._parts, turn.job
        provider = parts.providers[job["provider"]]
        try:
            model_input = await self._complete_input(job, turn.route)
        except InputInvalid as error:
            failure = Failure("invalid_input", f"The input no longer fits the model: {error}")
            await conclude(parts, job, decide.End(Stage.FAILED, failure))
            return None
        try:
            begun = await self._begin(job)
        except _MovedOn:
            return None
        if isinstance(begun, limits.Blocked):
            parts.aftermath.wanted()
            return begun
        turn.has_asked = True
        request = SubmitRequest(
            attempt_id=str(begun.id),
            endpoint=job["endpoint"],
            kind=job["kind"],
            input=model_input,
            n=job["n"],
            webhook_url=parts.webhook_url(job["provider"], begun.id, begun.token)
            if provider.capabilities.webhooks
            else None,
        )
        return await self._ask(_begun(job, begun), provider, request)

    async def _begin(self, job: Row) -> attempts.NewAttempt | limits.Blocked:
        """Take a place and make the attempt. Raises _MovedOn."""
        beginning = asyncio.ensure_future(self._beginnings(job))
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            # This worker is being stopped: an attempt that was made and will not be sent goes back to the queue.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(LAST_NOTE_S):
                    begun = await beginning
                    if isinstance(begun, attempts.NewAttempt):
                        made = _begun(job, begun)
                        await self._parts.db.run(lambda tx: self._answering.refused(tx, made, _NOT_SENT))
            raise

    async def _begin_all(self, tx: Transaction, jobs: Sequence[Row]) -> Sequence[attempts.NewAttempt | limits.Blocked]:
        parts, outcomes = self._parts, dict[UUID, attempts.NewAttempt | limits.Blocked]()
        wanted: list[limits.Wanted] = []
        for job in jobs:
            able = parts.providers[job["provider"]].capabilities
            wanted.append(
                limits.Wanted(job["id"], job["provider"], job["project_id"], able.concurrency, able.rate_per_s)
            )
        moved = [(job["id"], job["provider"]) for job in jobs if job["provider"] != job["work_provider"]]
        if moved:
            await limits.move(tx.conn, moved)
        places = await limits.take_places(tx.conn, wanted, project_places=parts.policy.project_concurrency)
        blocked = {job["id"]: why for job, why in zip(jobs, places, strict=True) if why is not None}
        if blocked:
            await limits.block(tx.conn, blocked)
            outcomes |= blocked
        free = [job for job in jobs if job["id"] not in blocked]
        if free:
            for job, begun in zip(free, await attempts.begin(tx.conn, free), strict=True):
                if begun is None:
                    raise _MovedOn
                outcomes[job["id"]] = begun
                tx.touch(job["project_id"])
                if job["blocked"] == "breaker":
                    await progress.clear(tx.conn, job["id"])  # what it waited for is over
        return [outcomes[job["id"]] for job in jobs]

    async def _complete_input(self, job: Row, route: Route) -> dict[str, object]:
        model, given = self._parts.models.get(job["model"]), job["input"]
        if job["left_out"]:
            async with self._parts.db.connection() as conn:
                given = await reads.whole_input(conn, job)
        if model is None:
            return dict(given)
        url = None
        if job["start"] is not None:
            async with self._parts.db.connection() as conn:
                url = await start_url(conn, job["project_id"], job["start"], self._parts.media_url)
            if url is None:
                # Without it the provider would make, and bill, something else.
                raise InputInvalid([InputFault(("body", "start"), "The start image is no longer there", "not_found")])
        allow_emulator = self._parts.allow_emulator
        complete = validate_input(model, given, n=job["n"], start_url=url, allow_emulator=allow_emulator)
        return for_route(route, complete)

    async def _ask(self, job: Row, provider: Provider, request: SubmitRequest) -> LetGo | None:
        parts, inline = self._parts, provider.capabilities.inline
        asking = asyncio.create_task(self._submit(provider, request, self._progress(job)))

        def stop() -> None:
            asking.cancel()

        try:
            async with holding_lease(parts, job, stop if inline else None, must_finish=not inline):
                await asyncio.wait([asking])
        except asyncio.CancelledError:
            if not inline:
                await self._last_answer(job, provider, asking)
            raise
        finally:
            asking.cancel()
        return await self._answering.take(job, provider, asking)

    async def _submit(self, provider: Provider, request: SubmitRequest, progress: ProgressSink) -> Accepted:
        policy = self._parts.policy
        async with asyncio.timeout(
            policy.inline_timeout_s if provider.capabilities.inline else policy.submit_timeout_s
        ):
            return await provider.submit(request, progress)

    async def _last_answer(self, job: Row, provider: Provider, asking: asyncio.Task[Accepted]) -> None:
        """This process is being stopped: an answer that comes in the next seconds is one task less that is lost."""
        await asyncio.wait([asking], timeout=LAST_ANSWER_S)
        if asking.done():
            with contextlib.suppress(Exception):
                async with asyncio.timeout(LAST_NOTE_S):
                    await self._answering.take(job, provider, asking)

    def _progress(self, job: Row) -> ProgressSink:
        parts = self._parts
        written_at = datetime.min.replace(tzinfo=parts.now().tzinfo)

        async def report(running: Running) -> None:
            nonlocal written_at
            said = Progress(Stage.RUNNING, None, running.percent, running.message, tuple(running.logs))
            now = parts.now()
            if now - written_at < timedelta(seconds=1):
                parts.board.push(job, said, None)
                return
            written_at = now
            async with parts.db.connection() as conn:
                await parts.board.report(conn, job, said, None)

        return report


@dataclass(slots=True)
class _Turn:
    """A job on its way to one provider."""

    job: Row
    route: Route
    has_asked: bool = False


def _without(routes: Sequence[Route], provider: str) -> Sequence[Route]:
    return [route for route in routes if route.provider != provider]


def _begun(job: Row, begun: attempts.NewAttempt) -> Row:
    """The job as it is from here on, with a current attempt that knows nothing yet."""
    return {
        **job,
        "stage": Stage.SUBMITTING.value,
        "tries": job["tries"] + 1,
        "attempt": begun.number,
        "attempt_id": begun.id,
        "attempt_state": "sending",
        "attempt_provider": job["provider"],
        "attempt_endpoint": job["endpoint"],
        "sent_at": begun.sent_at,
        "accepted_at": None,
        "task_id": None,
        "handle": None,
        "outputs": None,
    }


class _MovedOn(Exception):
    """The job was canceled between the decision and the attempt."""
