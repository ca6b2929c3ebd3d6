"""Hand-written SQL against every rule of the ledger: the database itself refuses (C1)."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg
import pytest
from credits_world import new_project

from safelight.credits import ledger
from safelight.credits.audit import Mismatch, audit
from safelight.credits.ledger import Capture, Release
from safelight.db.pool import Conn, Database

TRANSFER = (
    "insert into ledger_transfers (project_id, reason, debit, credit, amount, job_id, round, key)"
    " values ($1, $2, $3, $4, $5, $6, $7, $8)"
)


@dataclass(frozen=True, slots=True)
class Books:
    """A wallet of 100: `open` holds 60 in round 1, `paid` was charged 10, `freed` was released."""

    conn: Conn
    project: UUID
    open: UUID
    paid: UUID
    freed: UUID

    async def transfer(
        self, reason: str, debit: str, credit: str, amount: int, job: UUID | None = None, round: int | None = None,
        key: str | None = None, project: UUID | None = None,
    ) -> None:  # fmt: skip
        await self.conn.execute(TRANSFER, project or self.project, reason, debit, credit, amount, job, round, key)

    async def state(self) -> tuple[list[asyncpg.Record], list[asyncpg.Record], list[Mismatch]]:
        return (
            await self.conn.fetch("select * from ledger_transfers order by id"),
            await self.conn.fetch("select * from ledger_accounts order by project_id, kind"),
            await audit(self.conn),
        )


async def books_of(conn: Conn) -> Books:
    project = await new_project(conn, 110)
    open_, paid, freed = uuid4(), uuid4(), uuid4()
    for job, amount in ((open_, 60), (paid, 10), (freed, 20)):
        await ledger.hold(conn, project_id=project, job_id=job, round=1, amount=amount)
    await ledger.capture_many(conn, [Capture(project, paid, 1, 10)])
    await ledger.release_many(conn, [Release(project, freed, 1)])
    return Books(conn, project, open_, paid, freed)


async def overdraw(b: Books) -> None:
    await b.transfer("hold", "wallet", "held", 41, uuid4(), 1)


async def capture_twice(b: Books) -> None:
    await b.transfer("capture", "held", "revenue", 10, b.paid, 1)


async def capture_a_second_round_of_a_paid_job(b: Books) -> None:
    await b.transfer("hold", "wallet", "held", 10, b.paid, 2)
    await b.transfer("capture", "held", "revenue", 10, b.paid, 2)


async def capture_what_was_released(b: Books) -> None:
    await b.transfer("capture", "held", "revenue", 20, b.freed, 1)


async def release_what_was_captured(b: Books) -> None:
    await b.transfer("release", "held", "wallet", 10, b.paid, 1)


async def release_twice(b: Books) -> None:
    await b.transfer("release", "held", "wallet", 20, b.freed, 1)


async def capture_more_than_the_hold(b: Books) -> None:
    await b.transfer("hold", "wallet", "held", 10, uuid4(), 1)  # so that the held account itself has enough
    await b.transfer("capture", "held", "revenue", 61, b.open, 1)


async def capture_a_part_and_forget_the_rest(b: Books) -> None:
    await b.transfer("capture", "held", "revenue", 50, b.open, 1)


async def capture_without_a_hold(b: Books) -> None:
    await b.transfer("capture", "held", "revenue", 10, uuid4(), 1)


async def capture_a_round_that_has_no_hold(b: Books) -> None:
    await b.transfer("capture", "held", "revenue", 60, b.open, 2)


async def capture_from_another_project(b: Books) -> None:
    other = await new_project(b.conn, 100)
    await b.transfer("hold", "wallet", "held", 60, uuid4(), 1, project=other)
    await b.transfer("capture", "held", "revenue", 60, b.open, 1, project=other)


async def release_without_a_hold(b: Books) -> None:
    await b.transfer("release", "held", "wallet", 10, uuid4(), 1)


async def hold_twice_in_a_round(b: Books) -> None:
    await b.transfer("hold", "wallet", "held", 1, b.open, 1)


async def hold_a_second_round_while_the_first_is_open(b: Books) -> None:
    await b.transfer("hold", "wallet", "held", 1, b.open, 2)


async def grant_the_same_key_again(b: Books) -> None:
    await b.transfer("grant", "funding", "wallet", 100, key="start")


async def grant_without_a_key(b: Books) -> None:
    await b.transfer("grant", "funding", "wallet", 100)


async def grant_nothing(b: Books) -> None:
    await b.transfer("grant", "funding", "wallet", 0, key="zero")


async def grant_a_negative_amount(b: Books) -> None:
    await b.transfer("grant", "funding", "wallet", -5, key="minus")


async def grant_beyond_all_measure(b: Books) -> None:
    await b.transfer("grant", "funding", "wallet", 10**15 + 1, key="huge")


async def grant_until_the_balance_is_no_exact_json_integer(b: Books) -> None:
    for number in range(10):
        await b.transfer("grant", "funding", "wallet", 10**15, key=str(number))


async def grant_to_no_project(b: Books) -> None:
    await b.transfer("grant", "funding", "wallet", 5, key="x", project=uuid4())


async def grant_out_of_revenue(b: Books) -> None:
    await b.transfer("grant", "revenue", "wallet", 5, key="x")


async def charge_without_a_job(b: Books) -> None:
    await b.transfer("capture", "held", "revenue", 60)


async def take_from_the_hold_by_adjusting(b: Books) -> None:
    await b.transfer("adjust", "held", "wallet", 60, key="x")


async def refund_more_than_was_charged(b: Books) -> None:
    await b.transfer("refund", "revenue", "wallet", 11, b.paid, 1, key="x")


async def refund_a_job_that_was_not_charged(b: Books) -> None:
    await b.transfer("refund", "revenue", "wallet", 1, b.freed, 1, key="x")


async def invent_a_reason(b: Books) -> None:
    await b.transfer("gift", "funding", "wallet", 5, key="x")


async def edit_a_transfer(b: Books) -> None:
    await b.conn.execute("update ledger_transfers set amount = 1")


async def delete_a_transfer(b: Books) -> None:
    await b.conn.execute("delete from ledger_transfers where job_id = $1", b.paid)


async def truncate_the_transfers(b: Books) -> None:
    await b.conn.execute("truncate ledger_transfers")


async def truncate_the_accounts(b: Books) -> None:
    await b.conn.execute("truncate ledger_accounts")


async def write_an_account(b: Books) -> None:
    await b.conn.execute("update ledger_accounts set amount = 1000000 where kind = 'wallet'")


async def open_another_account(b: Books) -> None:
    await b.conn.execute("insert into ledger_accounts (project_id, kind, amount) values ($1, 'wallet', 5)", b.project)


async def delete_an_account(b: Books) -> None:
    await b.conn.execute("delete from ledger_accounts where kind = 'revenue'")


async def write_the_wallet(b: Books) -> None:
    await b.conn.execute("update credits set available = 1000000")


async def delete_the_wallet(b: Books) -> None:
    await b.conn.execute("delete from credits")


async def truncate_the_wallets(b: Books) -> None:
    await b.conn.execute("truncate credits")


async def write_a_hold(b: Books) -> None:
    await b.conn.execute("update ledger_holds set captured = 0, released = 0 where job_id = $1", b.paid)


async def delete_a_hold(b: Books) -> None:
    await b.conn.execute("delete from ledger_holds where job_id = $1", b.open)


ATTACKS = [
    (overdraw, "ledger_accounts_never_below_zero"),
    (capture_twice, "ledger_one_capture_per_job"),
    (capture_a_second_round_of_a_paid_job, "ledger_one_capture_per_job"),
    (capture_what_was_released, "ledger_holds_settled_whole"),
    (release_what_was_captured, "ledger_holds_settled_whole"),
    (release_twice, "ledger_once_per_round"),
    (capture_more_than_the_hold, "ledger_holds_settled_whole"),
    (capture_a_part_and_forget_the_rest, "ledger_holds_settled_whole"),
    (capture_without_a_hold, "has no hold"),
    (capture_a_round_that_has_no_hold, "has no hold"),
    (capture_from_another_project, "has no hold"),
    (release_without_a_hold, "has no hold"),
    (hold_twice_in_a_round, "ledger_once_per_round"),
    (hold_a_second_round_while_the_first_is_open, "ledger_one_open_hold_per_job"),
    (grant_the_same_key_again, "ledger_once_per_key"),
    (grant_without_a_key, "ledger_transfers_keyed"),
    (grant_nothing, "ledger_transfers_amount"),
    (grant_a_negative_amount, "ledger_transfers_amount"),
    (grant_beyond_all_measure, "ledger_transfers_amount"),
    (grant_until_the_balance_is_no_exact_json_integer, "credits_balance_check"),
    (grant_to_no_project, "ledger_transfers_project_id_fkey"),
    (grant_out_of_revenue, "ledger_transfers_way"),
    (charge_without_a_job, "ledger_transfers_job"),
    (take_from_the_hold_by_adjusting, "ledger_transfers_way"),
    (refund_more_than_was_charged, "ledger_holds_refund"),
    (refund_a_job_that_was_not_charged, "ledger_holds_refund"),
    (invent_a_reason, "ledger_transfers_job"),
    (edit_a_transfer, "append-only"),
    (delete_a_transfer, "append-only"),
    (truncate_the_transfers, "append-only"),
    (truncate_the_accounts, "append-only"),
    (write_an_account, "append-only"),
    (open_another_account, "append-only"),
    (delete_an_account, "append-only"),
    (write_the_wallet, "append-only"),
    (delete_the_wallet, "append-only"),
    (truncate_the_wallets, "change log"),
    (write_a_hold, "append-only"),
    (delete_a_hold, "append-only"),
]


@pytest.mark.parametrize("attack, reason", [pytest.param(*each, id=each[0].__name__) for each in ATTACKS])
async def test_the_database_refuses_a_hand_that_would(db: Database, attack, reason: str):
    async with db.connection() as conn:
        books = await books_of(conn)
        before = await books.state()
        with pytest.raises((asyncpg.IntegrityConstraintViolationError, asyncpg.FeatureNotSupportedError), match=reason):
            async with conn.transaction():
                await attack(books)
        assert await books.state() == before


async def test_sums_move_with_hand_written_transfers_because_the_trigger_and_not_our_code_keeps_them(db: Database):
    async with db.connection() as conn:
        project, job = await new_project(conn, 100), uuid4()
        await conn.execute(TRANSFER, project, "hold", "wallet", "held", 30, job, 1, None)
        await conn.execute(
            "insert into ledger_transfers (project_id, reason, debit, credit, amount, job_id, round) values"
            " ($1, 'capture', 'held', 'revenue', 20, $2, 1), ($1, 'release', 'held', 'wallet', 10, $2, 1)",
            project,
            job,
        )
        wallet = await ledger.wallet(conn, project)
        assert (wallet.balance, wallet.held, wallet.available) == (80, 0, 80)
        assert await audit(conn) == []
