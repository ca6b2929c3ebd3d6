"""What becomes of a provider's answer to a submit: yes, no, and the answer that never came (P8)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from safelight.db.group_commit import GroupCommit
from safelight.db.pool import Conn, Row, Transaction
from safelight.jobs import attempts, breaker, decide, limits, trace
from safelight.jobs.breakers import Key
from safelight.jobs.conclude import conclude, next_route, requeue, routes_of, view
from safelight.jobs.insist import insist
from safelight.jobs.keeping import keep
from safelight.jobs.lease import LET_GO, LetGo
from safelight.jobs.lifecycle import Stage
from safelight.jobs.parts import Parts
from safelight.jobs.schedule import next_look
from safelight.providers.base import Accepted, AccountProblem, Ambiguous, Provider, Refused, Rejected, Succeeded

log: Final = structlog.get_logger("jobs")

GROUP_MAX: Final = 64
"""Answers noted in one transaction."""


class Answering:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._answers = GroupCommit(parts.db, _note_answers, batch_max=GROUP_MAX, is_one_statement=True)

    async def take(self, job: Row, provider: Provider, asking: asyncio.Task[Accepted]) -> LetGo | None:
        """Note what the provider said; `asking` is done."""
        parts = self._parts
        await self._tell_breaker(job, provider, asking)
        try:
            accepted = asking.result()
        except Refused as refusal:
            refused = refusal
            await insist(lambda: parts.db.run(lambda tx: self.refused(tx, job, refused)))
            parts.aftermath.freed(job["provider"])
        except Rejected as error:
            await conclude(parts, job, decide.End(Stage.FAILED, error.failure))
        except AccountProblem as error:
            log.error("provider.account", provider=provider.name, code=error.failure.code, said=error.failure.body)
            async with parts.db.connection() as conn:
                await limits.pause(conn, provider.name, for_s=parts.policy.account_pause_s, why=error.failure.message)
            verdict = decide.after_account_problem(view(job, parts), error.failure, parts.now(), parts.policy)
            await conclude(parts, job, verdict)
        except (Ambiguous, TimeoutError) as error:
            log.warning("submit.unknown", job=str(job["id"]), attempt=job["attempt"], error=repr(error))
            if provider.capabilities.inline:
                await conclude(parts, job, decide.Requeue(0.0, "timed_out"))
            else:
                await self.lose(job)
        except asyncio.CancelledError:
            # The user's wish: `holding_lease` stopped it.
            await conclude(parts, job, decide.End(Stage.CANCELED, attempt_state="canceled"))
        else:
            return await self._accepted(job, provider, accepted)
        return None

    async def _tell_breaker(self, job: Row, provider: Provider, asking: asyncio.Task[Accepted]) -> None:
        """What became of a submit says how the provider is (P6). What is made on this machine has no outage.

        How the endpoint is only the task's end says (`outcomes`); where nobody has a task, its probe was for nothing.
        """
        if provider.capabilities.inline or asking.cancelled():
            return
        match asking.exception():
            case Refused(failure=failure) | Ambiguous(failure=failure) if failure.code != decide.BUSY:
                event, said = breaker.Failed(job["sent_at"]), failure.message
            case TimeoutError():
                event, said = breaker.Failed(job["sent_at"]), "It did not answer in time."
            case _:
                # With yes, or with a clear no: it is there.
                event, said = breaker.Answered(job["sent_at"]), None
        breakers = self._parts.breakers
        await breakers.note(Key(provider.name), event, said)
        if asking.exception() is not None:
            await breakers.note(Key(provider.name, job["endpoint"]), breaker.Dropped(job["sent_at"]))

    async def _accepted(self, job: Row, provider: Provider, accepted: Accepted) -> LetGo | None:
        parts, now = self._parts, self._parts.now()
        look_at = job["deadline_at"]
        if provider.capabilities.inspect:
            first_look_at = next_look(
                accepted_at=now,
                now=now,
                looks=0,
                expected_duration_s=self._expected_s(job, provider),
                has_webhook=provider.capabilities.webhooks and parts.is_reachable,
                result_lifetime_s=provider.capabilities.result_lifetime_s,
            )
            look_at = min(look_at, first_look_at)

        if isinstance(accepted.observation, Succeeded) and attempts.has_bytes_in_hand(accepted.observation):
            # Inline: `submitted` would promise a provider that can be asked again.
            return await keep(parts, {**job, "accepted_at": now}, accepted.observation)
        answer = attempts.Answer(job["id"], job["attempt"], accepted.ref, look_at, accepted.observation is None)
        noted = await insist(lambda: self._answers(answer))
        if accepted.observation is None:
            return LET_GO if noted.let_go else None
        job = {**job, "stage": Stage.SUBMITTED.value, "accepted_at": now}
        verdict = decide.after_look(view(job, parts), accepted.observation, now, parts.policy)
        match verdict:
            case decide.Keep(observation=observation):
                return await keep(parts, job, observation)
            case decide.Requeue() | decide.End():
                await conclude(parts, job, verdict)
            case decide.Progress() | decide.Wait():
                pass
        return None

    def _expected_s(self, job: Row, provider: Provider) -> float:
        model = self._parts.models.get(job["model"])
        prior_s = provider.capabilities.first_look_s
        if model is not None and provider.capabilities.webhooks:
            prior_s = max(prior_s, model.eta_s)
        return self._parts.durations.expected_s(job["provider"], job["endpoint"], prior_s)

    async def refused(self, tx: Transaction, job: Row, error: Refused) -> None:
        """The provider never had it: back to the queue, the same attempt again later, or on to the next provider."""
        parts = self._parts
        gates = [parts.breakers.gate(route) for route in routes_of(job, parts)]
        verdict = decide.after_refusal(
            view(job, parts),
            error.failure,
            error.retry_after_s,
            await _refusals(tx.conn, job),
            parts.policy,
            is_shut=all(gate is breaker.Gate.SHUT for gate in gates),
        )
        detail: dict[str, object] = {"code": error.failure.code, "provider": job["provider"]}
        if isinstance(verdict, decide.Requeue):
            await trace.write(tx.conn, [trace.Step(job["id"], job["attempt"], "refused", detail=detail)])
            await requeue(tx, job, verdict, next_route(job, parts), costs_a_try=False)
            return
        changed = await tx.conn.fetchval(
            """
            update jobs set stage = 'queued', tries = greatest(tries - 1, 0)
            where id = $1 and attempt = $2 and stage = 'submitting' returning true
            """,
            job["id"],
            job["attempt"],
        )
        if not changed:
            return
        await tx.conn.execute(
            """
            update job_work set slot = false, blocked = null, look_at = now() + make_interval(secs => $2)
            where job_id = $1
            """,
            job["id"],
            verdict.wait_s,
        )
        await attempts.set_state(tx.conn, job["id"], job["attempt"], "refused", failure=error.failure)
        detail["wait_s"] = verdict.wait_s
        await trace.write(tx.conn, [trace.Step(job["id"], job["attempt"], "refused", detail=detail)])
        tx.touch(job["project_id"])

    async def lose(self, job: Row) -> None:
        """Nobody knows whether the provider has it (P8): wait for its webhook, or look for it."""

        async def note(tx: Transaction) -> None:
            # A webhook may have named the task meanwhile: then nothing is lost, and `decide` adopts it.
            changed = await tx.conn.fetchval(
                """
                update jobs set stage = 'unknown'
                where id = $1 and attempt = $2 and stage = 'submitting' returning true
                """,
                job["id"],
                job["attempt"],
            )
            if not changed:
                return
            await tx.conn.execute(
                "update job_work set look_at = now() + interval '1 second' where job_id = $1", job["id"]
            )
            await attempts.set_state(tx.conn, job["id"], job["attempt"], "unknown")
            await trace.write(tx.conn, [trace.Step(job["id"], job["attempt"], "answer_lost")])
            tx.touch(job["project_id"])

        await self._parts.db.run(note)


async def _refusals(conn: Conn, job: Row) -> decide.Refusals:
    """How often this job was turned away, with the time that is about to be written down."""
    row = await conn.fetchrow(
        """
        select count(t.id)::int as total, count(t.id) filter (where t.attempt = $2)::int as of_attempt,
            (select count(*) from attempts a where a.job_id = $1 and state = 'refused' and number <> $2
                and sent_at >= j.submitted_at)::int as providers
        from jobs j left join job_trace t on t.job_id = j.id and t.step = 'refused' and t.at >= j.submitted_at
        where j.id = $1 group by j.submitted_at
        """,
        job["id"],
        job["attempt"],
    )
    assert row is not None
    return decide.Refusals(row["of_attempt"] + 1, row["providers"] + 1, row["total"] + 1)


async def _note_answers(tx: Transaction, answers: Sequence[attempts.Answer]) -> list[attempts.Noted]:
    noted = await attempts.take_answers(tx.conn, answers)
    tx.touch(*(each.project_id for each in noted if each.project_id is not None))
    return noted
