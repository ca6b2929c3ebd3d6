"""Every adapter times every fault (P2, P8, C1): one end, at most one paid task per attempt, and books that balance.

All cells run at once in one installation; each test then reads what became of its cell.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest
from fault_matrix import ADAPTERS, DEARER, Cell, HandoverCell, cells, handover_cells
from jobs_promises import books_balance
from jobs_world import MODELS, REGISTRY, World, a_world, submission, until

from safelight.db.pool import Database, Row
from safelight.emulators.serve import Address, running
from safelight.emulators.settings import EmulatorSettings
from safelight.jobs.breaker import Rule
from safelight.jobs.errors import JobConflict
from safelight.jobs.submission import Submission
from safelight.providers.factory import Limits
from safelight.providers.registry import Registry

CELLS = cells()
HANDOVERS = handover_cells()
PROVIDERS = sorted({cell.provider for cell in CELLS})
CELL_MAX_S = 240.0
LOOK_EVERY_S = 0.1
ENDS = ("completed", "failed", "canceled", "expired")
POLICY = {
    "submit_timeout_s": 300.0,
    "unknown_grace_s": 3600.0,
    "inspect_timeout_s": 20.0,
    "cancel_grace_s": 30.0,
    "missing_grace_s": 600.0,
    "store_tries_max": 8,
    "project_concurrency": 1000,
    # Each cell is about one job: what a row of them does to a breaker is the outage drill's business.
    "breaker": Rule(failures_max=1_000_000),
    "task_breaker": Rule(failures_max=1_000_000),
}
"""Times of grace are long, so that a loaded machine does not change what happens; where one has to end, the test lets
it (`let_grace_pass`)."""
IMPATIENT_S = 2.0
"""How long a worker waits for an answer that never comes: only while nothing else is sent."""
AT_ONCE = 32
"""Cells under way together: more would only wait for the processor inside the providers' timeouts and ours."""
SMALL = {
    "kie": {"width": 64, "height": 64},
    "luma": {"width": 64, "height": 64},
    "runway": {"width": 64, "height": 64},
    "kie clip": {"width": 64, "height": 64, "duration": 1},
    "openai": {"seed": 7, "prompt": "a red fox"},
}
"""Fields that only the emulators know: small files, or the same one each time."""


@dataclass(frozen=True)
class Outcome:
    """What became of one cell."""

    job: Row
    attempts: list[Row]
    steps: list[str]
    generations: list[Row]
    taken: Counter[str]
    """Tasks the provider took, by attempt: what it would bill."""


@dataclass(frozen=True)
class Played:
    """The whole matrix, once."""

    outcomes: dict[str, Outcome]
    balance: BaseException | None
    hook_answers: Counter[int]


@pytest.fixture(scope="module")
def matrix_emulators() -> Iterator[Address]:
    settings = EmulatorSettings(
        seed=5,
        kie_webhook_hmac_key="hmac of ours",
        image_latency_s=0.3,
        video_latency_s=0.3,
        webhook_retry_scale=0.001,
        media_threads=1,
    )
    with running(settings) as address:
        yield address


@pytest.fixture(scope="module")
async def matrix_db(postgres: str, template: str) -> AsyncIterator[Database]:
    """One database for all cells."""
    name = f"safelight_matrix_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(postgres)
    await admin.execute(f"create database {name} template {template} strategy file_copy")
    db = await Database.connect(urlunsplit(urlsplit(postgres)._replace(path=f"/{name}")))
    try:
        yield db
    finally:
        await db.close()
        await admin.execute(f"drop database {name} with (force)")
        await admin.close()


class Stages:
    """Where every job is, read for all of them at once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: dict[uuid.UUID, str] = {}
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        while True:
            self._known = {row["id"]: row["stage"] for row in await self._world.rows("select id, stage from jobs")}
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
            await asyncio.sleep(LOOK_EVERY_S)

    async def reaches(self, job_id: uuid.UUID, *stages: str) -> str | None:
        """The first of these stages, or an end, that it is seen in; None: it took too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CELL_MAX_S):
                while (stage := self._known.get(job_id)) not in (*stages, *ENDS):
                    await self._changed.wait()
                return stage
        return None


@pytest.fixture(scope="module")
async def played(
    matrix_db: Database, matrix_emulators: Address, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Played]:
    folder: Path = tmp_path_factory.mktemp("matrix")
    limits = {name: Limits(concurrency=200, rate_per_s=0) for name in PROVIDERS}
    registry = Registry([*REGISTRY, *(cell.model for cell in HANDOVERS)])
    world = await a_world(
        matrix_db, matrix_emulators, folder, policy=POLICY, limits=limits, workers=0, registry=registry
    )
    try:
        stages = Stages(world)
        following = asyncio.create_task(stages.follow())
        silent: list[Cell | HandoverCell] = [cell for cell in CELLS if cell.fault.name == "hang"]
        silent += [cell for cell in HANDOVERS if cell.handover.name == "hang"]
        patient = world.policy
        world.policy = replace(patient, submit_timeout_s=IMPATIENT_S)
        jobs = await play_all(world, stages, silent)
        world.policy = patient
        jobs |= await play_all(world, stages, [cell for cell in (*CELLS, *HANDOVERS) if cell not in silent])
        following.cancel()
        balance: BaseException | None = None
        try:
            await books_balance(world)
        except AssertionError as error:
            balance = error
        taken = await tasks_taken(matrix_emulators)
        outcomes = {name: await read(world, job_id, taken) for name, job_id in jobs.items()}
        yield Played(outcomes, balance, world.hook_answers)
    finally:
        await world.close()


async def play_all(world: World, stages: Stages, given: Sequence[Cell | HandoverCell]) -> dict[str, uuid.UUID]:
    """Play these cells with a worker that goes by the world's policy of now. The jobs by the cells' names."""
    node = await world.start_node()
    gate = asyncio.Semaphore(AT_ONCE)

    async def in_turn(cell: Cell | HandoverCell) -> uuid.UUID:
        async with gate:
            return await (play if isinstance(cell, Cell) else hand_over)(world, stages, cell)

    jobs = await asyncio.gather(*map(in_turn, given))
    late = [job_id for cell, job_id in zip(given, jobs, strict=True) if is_late(cell)]

    async def all_known() -> bool:
        query = "update attempts set watched_at = null where job_id = any ($1) and state = 'abandoned' returning 1"
        waiting = await world.rows(query, late)
        await node.watch_abandoned()
        return not waiting

    if late:
        await until(all_known, "what became of attempts that were given up", CELL_MAX_S)
    await node.stop()
    return {cell.name: job_id for cell, job_id in zip(given, jobs, strict=True)}


async def play(world: World, stages: Stages, cell: Cell) -> uuid.UUID:
    """Submit the cell's job, do what its user does, and wait for its end (no end is the cell's failure, not ours)."""
    job_id = await world.submit(submission(cell.what, cell.fault.faults, input=SMALL.get(cell.what, {})))
    if cell.fault.cancels and await stages.reaches(job_id, "submitted", "running") not in ENDS:
        # Too late is an answer too: between our look and our asking the result may have come.
        with contextlib.suppress(JobConflict):
            await world.service.cancel(job_id)
    if cell.is_hopeless and await stages.reaches(job_id, "unknown") == "unknown":
        await let_grace_pass(world, job_id)
    await stages.reaches(job_id)
    return job_id


async def hand_over(world: World, stages: Stages, cell: HandoverCell) -> uuid.UUID:
    """As `play`, of a job that two providers could make."""
    given = {"prompt": f"a red fox {uuid.uuid4()}", **MODELS[cell.what][1], **SMALL.get(cell.what, {})}
    job_id = await world.submit(Submission(model=cell.model.id, input=given))
    if cell.handover.takes_too_long and await stages.reaches(job_id, "submitted", "running") not in ENDS:
        await let_its_time_pass(world, job_id, cell.first)
    if cell.handover.cancels and await stages.reaches(job_id, "submitted", "running") not in ENDS:
        await world.service.cancel(job_id)
    if cell.is_hopeless and await stages.reaches(job_id, "unknown") == "unknown":
        await let_grace_pass(world, job_id)
    await stages.reaches(job_id)
    return job_id


def is_late(cell: Cell | HandoverCell) -> bool:
    return isinstance(cell, HandoverCell) and cell.handover.name == "late result"


async def let_its_time_pass(world: World, job_id: uuid.UUID, provider: str) -> None:
    """Two hours later: of the attempt that this provider has."""
    await world.rows(
        """
        with aged as (
            update attempts set accepted_at = accepted_at - interval '2 hours' where job_id = $1 and provider = $2
            returning job_id
        )
        update job_work w set look_at = now() from aged where w.job_id = aged.job_id returning w.job_id
        """,
        job_id,
        provider,
    )


async def let_grace_pass(world: World, job_id: uuid.UUID) -> None:
    """An hour later: of an attempt whose answer was lost."""
    await world.rows(
        """
        with aged as (
            update attempts set sent_at = sent_at - interval '2 hours' where job_id = $1 and state = 'unknown'
            returning job_id
        )
        update job_work w set look_at = now() from aged where w.job_id = aged.job_id returning w.job_id
        """,
        job_id,
    )


async def tasks_taken(emulators: Address) -> list[dict[str, str | None]]:
    """Attempt and prompt of every task that any provider took."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        listed = (await client.get(f"{emulators.base_url}/_emulator/requests")).json()
    return [{"attempt": each["attempt"], "prompt": each["input"].get("prompt")} for each in listed]


async def read(world: World, job_id: uuid.UUID, taken: list[dict[str, str | None]]) -> Outcome:
    job, attempts = await world.job(job_id), await world.attempts(job_id)
    ours, prompt = {str(row["id"]) for row in attempts}, job["input"].get("prompt")
    # A provider that is told neither webhook nor id knows a job by its prompt alone.
    bought = Counter(
        each["attempt"] or str(prompt)
        for each in taken
        if each["attempt"] in ours or (each["attempt"] is None and each["prompt"] == prompt)
    )
    made = await world.rows("select * from generations where job_id = $1", job_id)
    return Outcome(job, attempts, await world.steps(job_id), made, bought)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
async def test_a_fault_ends_in_one_promised_way_and_is_paid_at_most_once_per_attempt(played: Played, cell: Cell):
    seen = played.outcomes[cell.name]
    job, told = seen.job, (seen.job["error"], [row["state"] for row in seen.attempts], seen.steps)
    assert job["stage"] in cell.ends, told

    # One end: results and charge belong to a completed job, and to no other.
    is_completed = job["stage"] == "completed"
    assert len(seen.generations) == (job["n"] if is_completed else 0), told
    assert (job["charged"] or 0) == (job["quoted"] if is_completed else 0), told
    assert (job["error"] is not None) is (job["stage"] == "failed"), told
    assert sum(step in ENDS or step == "committed" for step in seen.steps) == 1, told

    if cell.fault.name == "failure that passes" and not is_completed:
        assert job["error"]["retryable"] is False, told

    # At most one paid task per attempt: the emulator's books, not ours.
    assert sum(seen.taken.values()) <= len(seen.attempts), told
    named = [count for attempt, count in seen.taken.items() if attempt in {str(row["id"]) for row in seen.attempts}]
    assert all(count == 1 for count in named), told
    if cell.fault.name in ("lost request", "500"):
        assert not seen.taken, told
    elif "transient" not in str(cell.fault.faults.get("fail")):
        assert sum(seen.taken.values()) == 1, told


@pytest.mark.parametrize("cell", HANDOVERS, ids=lambda cell: cell.name)
async def test_where_another_could_make_it_the_job_goes_on_there_once_and_costs_what_was_quoted(
    played: Played, cell: HandoverCell
):
    seen = played.outcomes[cell.name]
    job, asked = seen.job, [(row["provider"], row["state"]) for row in seen.attempts]
    told = (job["stage"], job["error"], asked, seen.steps)
    assert job["stage"] in cell.ends, told
    if cell.handover.name == "never ends" and asked[0] == (cell.first, "canceled"):
        asked[0] = (cell.first, "abandoned")  # the watch has asked it to stop since
    assert asked == cell.ends[job["stage"]], told

    is_completed = job["stage"] == "completed"
    assert len(seen.generations) == (1 if is_completed else 0), told
    assert (job["charged"] or 0) == (job["quoted"] if is_completed else 0), told
    assert (job["error"] is not None) is (job["stage"] == "failed"), told
    assert sum(step in ENDS or step == "committed" for step in seen.steps) == 1, told
    assert job["provider"] == asked[-1][0], told
    assert 0 < job["quoted"] < DEARER

    # Refused is not taken; all else was bought there once, and nobody bought it twice.
    assert all(count == 1 for count in seen.taken.values()), (seen.taken, told)
    was_taken = [state != "refused" for _, state in asked]
    if cell.handover.name in ("500", "lost request"):
        was_taken[0] = False
    assert sum(seen.taken.values()) == sum(was_taken), (seen.taken, told)

    first = seen.attempts[0]
    assert first["late"] is is_late(cell), told
    if is_late(cell):
        assert first["cost"] is not None
        assert first["outputs"], "kept, and shown as no result of this job"
        assert seen.steps.count("late_result") == 1, told
    if job["stage"] == "failed" and cell.handover.name == "failure that passes":
        assert job["error"]["retryable"] is False, told


async def test_after_all_of_it_the_books_balance_and_the_log_leads_to_the_tables(played: Played):
    if played.balance is not None:
        raise played.balance


async def test_no_forged_webhook_was_believed(played: Played):
    forged = [cell for cell in CELLS if cell.fault.name == "forged webhook" and cell.provider in SIGNED]
    assert played.hook_answers[401] >= len(forged) >= 4
    assert played.hook_answers[200] > 0


SIGNED = frozenset({"fal", "kie", "replicate"})
"""Providers whose webhooks carry a signature; the others' are proven by the secret in their address, and are hints."""


def test_every_adapter_meets_every_fault_it_can():
    assert set(ADAPTERS) >= {"fal", "kie", "kie clip", "replicate", "openai"}
    by_adapter = Counter(cell.what for cell in CELLS)
    assert min(by_adapter.values()) >= 12, by_adapter
    handed_over = Counter(cell.what for cell in HANDOVERS)
    assert set(handed_over) == set(ADAPTERS)
    assert min(handed_over.values()) >= 11, handed_over
