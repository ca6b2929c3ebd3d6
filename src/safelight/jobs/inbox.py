"""Webhooks (P4): verify, store raw, answer; then look at the provider and act.

Receiving is a group commit: webhooks that arrive while one insert is under way share the next, so a burst costs a
few transactions. Processing takes whole batches too: results that are proven by their signature and already in our
storage are settled in one transaction; every other webhook is a hint and makes its job due. A proven result whose
receiver works in this process is handed over in memory and settled by one statement; the inbox is what is left of it
if the process dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from safelight.db.pool import Database, Row, Transaction
from safelight.jobs import attempts, said, settle, trace, work
from safelight.jobs.aftermath import Aftermath
from safelight.jobs.storing import as_stored
from safelight.providers.base import Observation, Provider, Succeeded, WebhookForged, WebhookRequest
from safelight.stopping import end_if_canceled

log: Final = structlog.get_logger("jobs")

RECEIVE_BATCH_MAX: Final = 200
PROCESS_BATCH_MAX: Final = 100
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
                        $7::jsonb[], $8::timestamptz[], $9::jsonb[], $10::bytea[])
                    as t (ord, provider, attempt_id, token_hash, event_key, task_id,
                        observation, received_at, headers, body)
                ), judged as (
                    select g.*, a.job_id, a.number, case
                        when a.id is null then 'unknown'
                        when a.token_hash <> g.token_hash then 'wrong_token'
                        else 'stored' end as outcome
                    from given g left join attempts a on a.id = g.attempt_id and a.provider = g.provider
                ), inserted as (
                    insert into inbox (provider, event_key, attempt_id, job_id, received_at, headers, body,
                        task_id, observation)
                    select provider, event_key, attempt_id, job_id, received_at, headers, body, task_id, observation
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
            )


def _proven(row: Row, received: Received) -> Proven | None:
    seen = received.observation
    if not isinstance(seen, Succeeded) or not seen.outputs or any(output.stored is None for output in seen.outputs):
        return None
    step = trace.Step(row["job_id"], row["number"], "webhook", received.request.received_at, {"verified": True})
    outputs = [as_stored(output) for output in seen.outputs]
    result = settle.Result(row["job_id"], row["number"], outputs, seen.cost, [step])
    return Proven(row["id"], received.request.received_at, result)


def _can_be_stored(text: str) -> bool:
    # PostgreSQL has no NUL in text, and UTF-8 has no lone surrogates.
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value[:1000]
        for name, value in headers.items()
        if name in KEPT_HEADERS or name.startswith(("webhook-", "x-fal-", "x-webhook-"))
    }


# Marks what it takes as what it will most likely turn out to be, so that the hot path needs no second update.
_TAKE: Final = """
    with taken as (
        select * from inbox where processed_at is null order by id limit $1 for update skip locked
    ), known as (
        select i.id, i.attempt_id, i.job_id, i.received_at, i.task_id, i.observation,
            a.number, a.task_id as known_task_id, j.attempt as current, w.job_id is not null as is_unfinished
        from taken i left join attempts a on a.id = i.attempt_id left join jobs j on j.id = i.job_id
        left join job_work w on w.job_id = i.job_id
    ), marked as (
        update inbox i set processed_at = $2, outcome = case
            when not k.is_unfinished then 'late'
            when k.observation ->> 'kind' = 'succeeded' and k.number = k.current then 'settled'
            else 'hint' end
        from known k where i.id = k.id returning i.id, i.outcome
    )
    select k.*, m.outcome from known k join marked m using (id) order by k.id
"""


@dataclass(frozen=True, slots=True)
class Processed:
    """What one batch made: jobs that are due now, and whether the inbox may hold more."""

    due: list[UUID]
    has_more: bool


@dataclass(frozen=True, slots=True)
class _Outcome:
    due: list[UUID]
    completed: list[settle.Completed]
    arrived: list[tuple[UUID, datetime]]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Processor:
    """Acts on stored webhooks."""

    db: Database
    aftermath: Aftermath
    now: Callable[[], datetime]

    async def process(self) -> Processed:
        """Take one batch.

        One webhook that cannot be processed is set aside with the reason and does not hold up the others.
        """
        try:
            return self._tell(await self.db.run(lambda tx: self._batch(tx, PROCESS_BATCH_MAX)))
        except Exception:
            end_if_canceled()
            log.exception("inbox.batch_failed")
            return await self._one()

    async def settle(self, proven: Sequence[Proven]) -> bool:
        """Settle these in one statement. False: of some the inbox has yet to be processed."""
        now = self.now()
        first = {each.result.job_id: each for each in reversed(proven)}
        results, inbox_ids = [each.result for each in first.values()], [each.inbox_id for each in first.values()]
        try:
            done = await self.db.run(
                lambda tx: settle.settle_at_once(tx, results, now, inbox_ids), is_one_statement=True
            )
        except Exception as error:
            end_if_canceled()
            log.warning("inbox.not_at_once", webhooks=len(proven), error=repr(error))
            return False
        for each in done:
            if each.is_ours:
                self.aftermath.webhook(each.job_id, first[each.job_id].received_at)
        self.aftermath.completed(done)
        return len(first) == len(proven) and all(each.is_ours for each in done)

    async def _one(self) -> Processed:
        try:
            outcome = await self.db.run(lambda tx: self._batch(tx, 1))
        except Exception as error:
            log.exception("inbox.webhook_failed")
            async with self.db.connection() as conn:
                await conn.execute(
                    """
                    update inbox set processed_at = now(), outcome = $1
                    where id = (select id from inbox where processed_at is null order by id limit 1
                                for update skip locked)
                    """,
                    f"failed: {error!r}"[:500],
                )
            return Processed([], True)
        return self._tell(outcome)

    def _tell(self, outcome: _Outcome) -> Processed:
        for job_id, received_at in outcome.arrived:
            self.aftermath.webhook(job_id, received_at)
        self.aftermath.completed(outcome.completed)
        return Processed(outcome.due, outcome.has_more)

    async def _batch(self, tx: Transaction, limit: int) -> _Outcome:
        conn, now = tx.conn, self.now()
        taken = await conn.fetch(_TAKE, limit, now)
        rows = [row for row in taken if row["current"] is not None]  # else its project was deleted meanwhile
        results = _results(rows)
        completed = await settle.settle_many(tx, list(results.values()), now) if results else []
        done = {each.job_id for each in completed if each.is_ours}
        due = await self._hint(tx, [row for row in rows if row["job_id"] not in done])
        if wrong := [(row["id"], _outcome(row, done)) for row in rows if row["outcome"] != _outcome(row, done)]:
            await conn.execute(
                """
                update inbox i set outcome = t.outcome
                from unnest($1::bigint[], $2::text[]) as t (id, outcome) where i.id = t.id
                """,
                [identity for identity, _ in wrong],
                [outcome for _, outcome in wrong],
            )
        arrived = [(row["job_id"], row["received_at"]) for row in rows if row["is_unfinished"]]
        return _Outcome(due, completed, arrived, len(taken) == limit)

    async def _hint(self, tx: Transaction, rows: Sequence[Row]) -> list[UUID]:
        """Make the jobs due, and keep the task ids that a lost submit answer did not bring."""
        conn = tx.conn
        named = [row for row in rows if row["task_id"] is not None and row["known_task_id"] is None]
        if named:
            await conn.execute(
                """
                update attempts a set task_id = t.task_id
                from unnest($1::uuid[], $2::text[]) as t (id, task_id) where a.id = t.id and a.task_id is null
                """,
                [row["attempt_id"] for row in named],
                [row["task_id"] for row in named],
            )
        words = {row["attempt_id"]: row["observation"] for row in rows if row["observation"] is not None}
        if words:
            await conn.execute(
                """
                update attempts a set said = t.said
                from unnest($1::uuid[], $2::jsonb[]) as t (id, said) where a.id = t.id
                """,
                list(words),
                list(words.values()),
            )
        # A late word about an attempt that is over: its cost is still to be known.
        late = [row["attempt_id"] for row in rows if not row["is_unfinished"] or row["number"] != row["current"]]
        if late:
            await conn.execute("update attempts set watched_at = null where id = any ($1::uuid[])", late)
        due = sorted({row["job_id"] for row in rows if row["is_unfinished"] and row["number"] == row["current"]})
        if due:
            await work.look_now(conn, due)
        await trace.write(conn, [_step(row) for row in rows])
        return due


def _results(rows: Sequence[Row]) -> dict[UUID, settle.Result]:
    """Results proven by their signature whose files are already ours: the first of each job."""
    results: dict[UUID, settle.Result] = {}
    for row in rows:
        seen = row["observation"]
        if seen is None or not said.is_ours(seen) or row["job_id"] in results or row["number"] != row["current"]:
            continue
        outputs = [as_stored(output) for output in attempts.outputs_from_json(seen["outputs"])]
        steps = [_step(row)]
        results[row["job_id"]] = settle.Result(row["job_id"], row["number"], outputs, seen["cost"], steps)
    return results


def _step(row: Row) -> trace.Step:
    """Only webhooks that proved themselves are in the inbox."""
    return trace.Step(row["job_id"], row["number"], "webhook", row["received_at"], {"verified": True})


def _outcome(row: Row, done: set[UUID]) -> str:
    if row["job_id"] in done:
        return "settled"
    return "hint" if row["is_unfinished"] else "late"
