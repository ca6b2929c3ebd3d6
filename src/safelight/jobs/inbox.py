"""Webhooks (P4): verify, store raw, answer. What is done with them then: `processing`.

Receiving is a group commit: webhooks that arrive while one insert is under way share the next, so a burst costs a
few transactions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from safelight.db.pool import Database, Row
from safelight.jobs import attempts, said, settle, trace
from safelight.jobs.storing import as_stored
from safelight.providers.base import Observation, Provider, Succeeded, WebhookForged, WebhookRequest
from safelight.stopping import end_if_canceled

log: Final = structlog.get_logger("jobs")

RECEIVE_BATCH_MAX: Final = 200
WAITING_MAX: Final = 5_000
"""Webhooks waiting for their insert. Beyond it the sender is told to come again (503): all of them retry."""
KEPT_HEADERS: Final = ("content-type", "user-agent")
"""Besides those that carry a signature (`x-…`, `webhook-…`): never cookies or credentials."""


class Overloaded(Exception):
    """Too many webhooks wait: the sender should come again."""


class UnknownAttempt(Exception):
    """No such attempt (or not of this provider): a sender that retries may find it later (providers.md §7.4)."""


class WrongToken(Exception):
    """The secret in the path is not the attempt's."""


@dataclass(frozen=True, slots=True)
class Received:
    provider: str
    attempt_id: UUID
    token: str
    event_key: str
    task_id: str | None
    observation: Observation | None
    request: WebhookRequest

    @property
    def proven(self) -> Succeeded | None:
        """The result that its signature proves, if the files are in our storage: it needs no further look."""
        seen = self.observation
        if isinstance(seen, Succeeded) and seen.outputs and all(output.stored for output in seen.outputs):
            return seen
        return None


@dataclass(frozen=True, slots=True)
class Proven:
    """A stored webhook that says by its signature what was made, and the files are ours."""

    inbox_id: int
    received_at: datetime
    result: settle.Result


class Intake:
    """Stores webhooks. `run` must be running for `receive` to return.

    `arrived(proven, has_hints)` is told after each commit what came.
    """

    def __init__(
        self, db: Database, providers: Mapping[str, Provider], arrived: Callable[[Sequence[Proven], bool], None]
    ) -> None:
        self._db = db
        self._providers = providers
        self._arrived = arrived
        self._waiting: list[tuple[Received, asyncio.Future[str]]] = []
        self._wake = asyncio.Event()

    async def receive(self, provider_name: str, attempt_id: UUID, token: str, request: WebhookRequest) -> None:
        """Verify and store; returns when it is committed.

        Raises WebhookForged, UnknownAttempt, WrongToken or Overloaded; then nothing is stored.
        """
        provider = self._providers.get(provider_name)
        if provider is None:
            raise UnknownAttempt
        if len(self._waiting) >= WAITING_MAX:
            raise Overloaded
        note = await provider.verify_webhook(request)
        if not (_can_be_stored(note.event_key) and _can_be_stored(note.task_id or "")):
            raise WebhookForged("it names a task as no provider does")
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        received = Received(provider_name, attempt_id, token, note.event_key, note.task_id, note.observation, request)
        self._waiting.append((received, future))
        self._wake.set()
        match await future:
            case "unknown":
                raise UnknownAttempt
            case "wrong_token":
                raise WrongToken
            case _:
                return

    async def run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    batch = self._waiting[:RECEIVE_BATCH_MAX]
                    await self._store(batch)
                    del self._waiting[: len(batch)]
        finally:
            for _, future in self._waiting:
                if not future.done():
                    # We are going away; the sender comes again.
                    future.set_exception(Overloaded())
            self._waiting.clear()

    async def _store(self, batch: Sequence[tuple[Received, asyncio.Future[str]]]) -> None:
        try:
            outcomes = await self._insert([received for received, _ in batch])
        except Exception as error:
            end_if_canceled()
            if len(batch) > 1:
                # One that the database does not take must not keep the others out.
                log.warning("inbox.batch_refused", webhooks=len(batch), error=repr(error))
                for pair in batch:
                    await self._store([pair])
                return
            log.exception("inbox.insert_failed", provider=batch[0][0].provider)
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), stored in zip(batch, outcomes, strict=True):
            if not future.done():  # else whoever sent it has hung up
                future.set_result(stored["outcome"])
        new = [(row, received) for row, (received, _) in zip(outcomes, batch, strict=True) if row["id"] is not None]
        if new:
            proven = [known for row, received in new if (known := _proven(row, received)) is not None]
            self._arrived(proven, len(proven) < len(new))

    async def _insert(self, batch: Sequence[Received]) -> list[Row]:
        async with self._db.connection() as conn:
            return await conn.fetch(
                """
                with given as (
                    select * from unnest($1::int[], $2::text[], $3::uuid[], $4::bytea[], $5::text[], $6::text[],
                        $7::jsonb[], $8::timestamptz[], $9::jsonb[], $10::bytea[], $11::boolean[])
                    as t (ord, provider, attempt_id, token_hash, event_key, task_id,
                        observation, received_at, headers, body, is_proven)
                ), judged as (
                    select g.*, a.job_id, a.number, case
                        when a.id is null then 'unknown'
                        when a.token_hash <> g.token_hash then 'wrong_token'
                        else 'stored' end as outcome
                    from given g left join attempts a on a.id = g.attempt_id and a.provider = g.provider
                ), inserted as (
                    insert into inbox (provider, event_key, attempt_id, job_id, received_at, headers, body,
                        task_id, observation, is_proven)
                    select provider, event_key, attempt_id, job_id, received_at, headers, body, task_id, observation,
                        is_proven
                    from judged where outcome = 'stored' order by ord
                    on conflict (provider, event_key) do nothing
                    returning id, provider, event_key, attempt_id
                )
                select j.outcome, j.job_id, j.number, i.id from judged j
                left join inserted i using (provider, event_key, attempt_id) order by j.ord
                """,
                list(range(len(batch))),
                [each.provider for each in batch],
                [each.attempt_id for each in batch],
                [attempts.hash_token(each.token) for each in batch],
                [each.event_key for each in batch],
                [each.task_id for each in batch],
                [said.to_json(each.observation) for each in batch],
                [each.request.received_at for each in batch],
                [_kept_headers(each.request.headers) for each in batch],
                [each.request.body for each in batch],
                [each.proven is not None for each in batch],
            )


def _proven(row: Row, received: Received) -> Proven | None:
    made = received.proven
    if made is None:
        return None
    step = arrival(row["job_id"], row["number"], received.request.received_at)
    outputs = [as_stored(output) for output in made.outputs]
    result = settle.Result(row["job_id"], row["number"], outputs, made.cost, [step])
    return Proven(row["id"], received.request.received_at, result)


def arrival(job_id: UUID, attempt: int, received_at: datetime) -> trace.Step:
    """As the job's trace has it. Only webhooks that proved themselves are in the inbox."""
    return trace.Step(job_id, attempt, "webhook", received_at, {"verified": True})


def _can_be_stored(text: str) -> bool:
    # PostgreSQL has no NUL in text, and UTF-8 has no lone surrogates.
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value[:1000]
        for name, value in headers.items()
        if name in KEPT_HEADERS or name.startswith(("webhook-", "x-fal-", "x-webhook-"))
    }
