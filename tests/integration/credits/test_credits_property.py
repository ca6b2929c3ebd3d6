"""Random lives of jobs over several connections, with crashes: the books balance at every moment (C1).

The seed is in the test's name, so that a failing one is run again as it was (as far as the scheduling is ours).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from uuid import UUID, uuid4

import asyncpg
import pytest
from credits_world import complete, end, new_job, new_project

from safelight.credits import ledger
from safelight.credits.audit import audit
from safelight.credits.history import entries
from safelight.credits.ledger import Capture, InsufficientCredits, Release, SettlementRefused
from safelight.db.pool import Database, Transaction

WORKERS = 6
STEPS = 50
ENDS = ("completed", "failed", "canceled", "expired")


class Crash(Exception):
    """The process dies here: nothing of the transaction remains."""


@dataclass
class World:
    """What happened so far, as the users were told. A job appears here only once its submit has committed."""

    db: Database
    project: UUID
    random: Random
    jobs: list[UUID] = field(default_factory=list)
    told_completed: list[UUID] = field(default_factory=list)
    refusals: int = 0

    async def maybe_crash(self, tx: Transaction) -> None:
        luck = self.random.random()
        if luck < 0.08:
            raise Crash
        if luck < 0.10:
            tx.conn.terminate()  # the socket is cut: the server finds out by itself

    async def submit(self) -> None:
        job, quoted = uuid4(), self.random.choice((0, 1, 5, 20, 60))

        async def work(tx: Transaction) -> None:
            await ledger.hold(tx.conn, project_id=self.project, job_id=job, round=1, amount=quoted)
            await self.maybe_crash(tx)
            await new_job(tx.conn, self.project, quoted, job=job)
            await self.maybe_crash(tx)

        await self.db.run(work)
        self.jobs.append(job)

    async def finish(self, stage: str) -> None:
        """A batch of results, failures or cancels arrives; some of them late, doubled or of an earlier round."""
        batch = {self.random.choice(self.jobs): self.random.choice((0, 0, 1)) for _ in range(self.random.randint(1, 4))}
        shares = {job: self.random.random() for job in batch}

        async def work(tx: Transaction) -> list[UUID]:
            await ledger.lock_wallets(tx.conn, [self.project])
            rows = await tx.conn.fetch(
                "select id, stage, round, quoted from jobs where id = any ($1::uuid[]) order by id for update",
                list(batch),
            )
            live = [row for row in rows if row["stage"] not in ENDS and not batch[row["id"]]]
            await self.maybe_crash(tx)
            if stage == "completed":
                captures = [
                    Capture(self.project, row["id"], row["round"], int(row["quoted"] * shares[row["id"]]))
                    for row in live
                ]
                await ledger.capture_many(tx.conn, captures)
                await self.maybe_crash(tx)
                for capture in captures:
                    await complete(tx.conn, capture.job_id, capture.amount)
            else:
                await ledger.release_many(tx.conn, [Release(self.project, row["id"], row["round"]) for row in live])
                await self.maybe_crash(tx)
                for row in live:
                    await end(tx.conn, row["id"], stage)
            await self.maybe_crash(tx)
            return [row["id"] for row in live]

        done = await self.db.run(work)
        if stage == "completed":
            self.told_completed += done

    async def retry(self) -> None:
        job = self.random.choice(self.jobs)

        async def work(tx: Transaction) -> None:
            await ledger.lock_wallets(tx.conn, [self.project])
            row = await tx.conn.fetchrow("select stage, round, quoted from jobs where id = $1 for update", job)
            assert row is not None
            if row["stage"] not in ENDS[1:]:
                return
            await ledger.hold(
                tx.conn, project_id=self.project, job_id=job, round=row["round"] + 1, amount=row["quoted"]
            )
            await self.maybe_crash(tx)
            await tx.conn.execute(
                "update jobs set stage = 'queued', round = round + 1, error = null, completed_at = null where id = $1",
                job,
            )
            await self.maybe_crash(tx)

        await self.db.run(work)

    async def capture_blindly(self) -> None:
        """A caller that forgot to look: it may charge nothing that the ledger does not allow."""
        job, round = self.random.choice(self.jobs), self.random.randint(1, 3)

        async def work(tx: Transaction) -> None:
            await ledger.capture_many(tx.conn, [Capture(self.project, job, round, self.random.choice((1, 5, 100)))])
            raise Crash  # had it been possible, it is not kept: only the refusal is under test

        try:
            await self.db.run(work)
        except SettlementRefused:
            self.refusals += 1

    async def step(self) -> None:
        choice = self.random.random()
        if not self.jobs or choice < 0.35:
            await self.submit()
        elif choice < 0.60:
            await self.finish("completed")
        elif choice < 0.80:
            await self.finish(self.random.choice(ENDS[1:]))
        elif choice < 0.92:
            await self.retry()
        elif choice < 0.97:
            await self.capture_blindly()
        else:
            key = str(self.random.randint(1, 3))  # few keys: most of them come again
            await self.db.run(lambda tx: ledger.grant(tx.conn, self.project, 50, key=key, note="", actor="test"))

    async def worker(self) -> None:
        for _ in range(STEPS):
            try:
                await self.step()
            except (
                Crash,
                InsufficientCredits,
                asyncpg.PostgresConnectionError,
                asyncpg.InterfaceError,
                ConnectionError,
            ):
                continue


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_to_jobs_the_books_balance_at_every_moment(db: Database, seed: int):
    async with db.connection() as conn:
        project = await new_project(conn, 200)
    world = World(db, project, Random(seed))
    is_over = asyncio.Event()

    async def auditor() -> int:
        looks = 0
        while not is_over.is_set() or looks == 0:
            async with db.connection() as conn:
                assert await audit(conn) == []
                wallet = await ledger.wallet(conn, project)
                assert wallet.available >= 0
                assert wallet.held >= 0
            looks += 1
            await asyncio.sleep(0.005)
        return looks

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(auditor())
        workers = [tasks.create_task(world.worker()) for _ in range(WORKERS)]
        await asyncio.gather(*workers)
        is_over.set()

    async with db.connection() as conn:
        assert await audit(conn) == []
        doubled = await conn.fetch(
            "select job_id from ledger_transfers where reason = 'capture' group by job_id having count(*) > 1"
        )
        assert doubled == []
        completed = await conn.fetch("select id from jobs where stage = 'completed'")
        # A cut socket leaves the last word open: the commit may have been done without our hearing of it.
        assert {row["id"] for row in completed} >= set(world.told_completed)
        assert len(world.told_completed) == len(set(world.told_completed))
        wallet = await ledger.wallet(conn, project)
        charged = await conn.fetchval("select coalesce(sum(charged), 0) from jobs")
        open_holds = await conn.fetchval(
            "select coalesce(sum(quoted), 0) from jobs where stage <> all ($1::text[])",
            list(ENDS),
        )
        granted = await conn.fetchval("select sum(amount) from ledger_transfers where reason = 'grant'")
        assert (wallet.balance, wallet.held) == (granted - charged, open_holds)
        newest = (await entries(conn, project, limit=200)).items[0]
        assert (newest.balance, newest.available) == (wallet.balance, wallet.available)
        assert charged > 0  # the run has done something
