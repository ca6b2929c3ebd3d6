"""From "the provider is done" to "the job is completed": keep what it made, store it, settle (M1, C1)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

import structlog

from safelight.db.pool import Row, Transaction
from safelight.jobs import attempts, decide, outcomes, trace
from safelight.jobs.conclude import conclude, view
from safelight.jobs.insist import AWAY
from safelight.jobs.lease import LET_GO, LetGo, holding_lease
from safelight.jobs.lifecycle import Stage, sources
from safelight.jobs.parts import Parts
from safelight.jobs.schedule import backoff_s
from safelight.jobs.settle import Result
from safelight.jobs.settler import SettlerStopped
from safelight.jobs.storing import store_outputs
from safelight.media.errors import MediaError
from safelight.providers.base import Failure, Output, ProviderError, Succeeded

log: Final = structlog.get_logger("jobs")

NO_OUTPUT: Final = Failure("no_output", "The provider finished without a result.", transient=True)
EXPIRED_RESULT: Final = frozenset({"result_expired"})
STORE_RETRY_S: Final = 1.0
_MAY_STORE: Final = [stage.value for stage in sources(Stage.STORING) | {Stage.STORING}]
"""`storing` too: files that were in a dead worker's hands are asked for again."""


_KEEP: Final = """
    with moved as (
        update jobs set stage = 'storing' where id = $1 and attempt = $2 and stage = any ($3::text[]) returning id
    ), kept as (
        update attempts a set outputs = coalesce($4::jsonb, outputs), cost = coalesce($5::jsonb, cost)
        from moved where a.job_id = moved.id and a.number = $2
    ), scheduled as (
        update job_work w set slot = false, look_at = now() from moved where w.job_id = moved.id
    )
    insert into job_trace (job_id, attempt, step, detail)
    select id, $2, 'provider_done', jsonb_build_object('outputs', $6::int) from moved returning true
"""


async def keep(parts: Parts, job: Row, made: Succeeded) -> LetGo | None:
    """Note what the provider made, and store it. Whoever takes over from a dead worker repeats the latter (`Store`).

    Says if the job is completed, and nobody's any more.
    """
    if not made.outputs:
        verdict = decide.after_failure(view(job, parts), NO_OUTPUT, parts.now(), parts.policy)
        await conclude(parts, job, verdict)
        return None
    in_hand = attempts.has_bytes_in_hand(made)

    outputs = None if in_hand else attempts.outputs_to_json(made)

    async def note(tx: Transaction) -> bool:
        changed = await tx.conn.fetchval(
            _KEEP, job["id"], job["attempt"], _MAY_STORE, outputs, None if in_hand else made.cost, len(made.outputs)
        )
        if changed:
            tx.touch(job["project_id"])
        return bool(changed)

    if not await parts.db.run(note, is_one_statement=True):
        return None
    parts.aftermath.freed(job["provider"])
    await outcomes.made(parts, job)
    # At once, whether the files are in hand or to be fetched: this worker has the lease.
    return await _store(parts, {**job, "stage": Stage.STORING.value, "outputs": outputs}, made.outputs, made.cost)


async def store_kept(parts: Parts, job: Row) -> LetGo | None:
    """Fetch what the attempt's outputs name, and settle. Says as `keep` does."""
    return await _store(parts, job, attempts.outputs_from_json(job["outputs"]), None)


async def _store(parts: Parts, job: Row, outputs: Sequence[Output], cost: object) -> LetGo | None:
    try:
        async with holding_lease(parts, job), asyncio.timeout(parts.policy.store_timeout_s):
            stored, steps = await store_outputs(parts.media, job, outputs)
    except TimeoutError:
        await _not_stored(parts, job, _NotStored("store_timeout", "Copying the result took too long.", True))
        return None
    except ExceptionGroup as group:
        await _not_stored(parts, job, _why(group))
        return None
    except OSError as error:
        await _not_stored(parts, job, _NotStored("storage_unavailable", f"Our disk says: {error}.", True))
        return None
    try:
        result = Result(job["id"], job["attempt"], stored, cost, steps, has_target=bool(job["target"]))
        settled = await parts.settler.settle(result)
    except (*AWAY, SettlerStopped):
        raise  # no fault of this job's: the sweep takes it up again
    except Exception as error:
        log.exception("settle.failed", job=str(job["id"]))
        await _not_stored(parts, job, _NotStored("settle_failed", f"The result could not be recorded ({error}).", True))
        return None
    if not settled.is_ours:
        return None
    log.info("job.completed", job=str(job["id"]), outputs=len(stored))
    return LET_GO


@dataclass(frozen=True, slots=True)
class _NotStored:
    """Why a result is not ours yet, and whether the same again may succeed."""

    code: str
    message: str
    retryable: bool


def _why(group: ExceptionGroup[Exception]) -> _NotStored:
    """The error that decides: one that no repetition cures, if there is any."""
    flat = list(_leaves(group))
    media = [error for error in flat if isinstance(error, MediaError)]
    if len(media) < len(flat):
        log.error("store.broken", exc_info=group)
    lasting = next((error for error in media if not error.retryable), None)
    if lasting is not None:
        return _NotStored(lasting.code, lasting.message, False)
    if len(media) < len(flat):
        return _NotStored("store_failed", "The result could not be read or stored.", True)
    return _NotStored(media[0].code, media[0].message, True)


def _leaves(group: ExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _leaves(cast("ExceptionGroup[Exception]", error))
        else:
            yield error


async def _not_stored(parts: Parts, job: Row, why: _NotStored) -> None:
    """Come again later, ask the provider for a fresh address, or give up with the reason."""
    inline = parts.providers[job["provider"]].capabilities.inline
    async with parts.db.connection() as conn:
        failed_before: int = await conn.fetchval(
            "select count(*) from job_trace where job_id = $1 and attempt > $2 and step = 'store_failed'",
            job["id"],
            # What is made here is made anew for each try, as another attempt.
            job["attempt"] - (job["tries"] if inline else 1),
        )
        detail = {"code": why.code, "message": why.message[:500]}
        await trace.write(conn, [trace.Step(job["id"], job["attempt"], "store_failed", detail=detail)])
    log.warning("store.failed", job=str(job["id"]), code=why.code, before=failed_before)
    may_repeat = why.retryable
    if why.code in EXPIRED_RESULT and failed_before == 0:
        may_repeat = await _renew_addresses(parts, job)
    if not may_repeat or failed_before + 1 >= parts.policy.store_tries_max:
        await conclude(parts, job, decide.End(Stage.FAILED, Failure(why.code, why.message)))
        return
    delay_s = backoff_s(failed_before + 1, STORE_RETRY_S, 30.0)
    if inline:
        await conclude(parts, job, decide.Requeue(delay_s, why.code))
        return
    # Files in hand are gone with this try: `decide` asks the provider for them again.
    async with parts.db.connection() as conn:
        await conn.execute(
            "update job_work set look_at = now() + make_interval(secs => $2) where job_id = $1", job["id"], delay_s
        )


async def _renew_addresses(parts: Parts, job: Row) -> bool:
    """Ask the provider once more: some give a fresh address for the same result (providers.md §7.4)."""
    ref = attempts.task_ref(job)
    if ref is None or job["outputs"] is None:
        return False
    provider = parts.providers[job["provider"]]
    try:
        async with asyncio.timeout(parts.policy.inspect_timeout_s):
            renewed: list[dict[str, object]] = []
            for output in job["outputs"]:
                url = await provider.renew_url(ref, output["url"]) if output["url"] else None
                renewed.append({**output, "url": url} if url else output)
            if renewed == job["outputs"]:
                seen = await provider.inspect(ref)
                if not isinstance(seen, Succeeded) or not seen.outputs or attempts.has_bytes_in_hand(seen):
                    return False
                renewed = attempts.outputs_to_json(seen)
    except (ProviderError, TimeoutError):
        return True
    async with parts.db.connection() as conn:
        await attempts.keep_outputs(conn, job["id"], job["attempt"], renewed, None)
    return True
