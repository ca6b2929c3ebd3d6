from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest
from credits_world import complete, end, new_job, new_project

from safelight.credits import ledger
from safelight.credits.audit import audit
from safelight.credits.history import entries
from safelight.credits.ledger import Capture, InsufficientCredits, LedgerError, Release, SettlementRefused
from safelight.db.pool import Conn, Database, Transaction


async def amounts(conn: Conn, project: UUID) -> tuple[int, int, int]:
    wallet = await ledger.wallet(conn, project)
    return wallet.balance, wallet.held, wallet.available


async def hold_job(conn: Conn, project: UUID, amount: int) -> UUID:
    job = uuid4()
    await ledger.hold(conn, project_id=project, job_id=job, round=1, amount=amount)
    return await new_job(conn, project, amount, job=job)


async def test_a_hold_sets_credits_aside_and_a_capture_charges_part_and_gives_the_rest_back(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn, 1000)
        job = await hold_job(conn, project, 300)
        assert await amounts(conn, project) == (1000, 300, 700)

        [settled] = await ledger.capture_many(conn, [Capture(project, job, 1, 200)])
        await complete(conn, job, 200)

        assert (settled.captured, settled.released) == (200, 100)
        assert await amounts(conn, project) == (800, 0, 800)
        assert await audit(conn) == []


async def test_too_few_credits_says_what_is_needed_and_what_is_there_and_leaves_the_transaction_usable(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn, 100)
        async with conn.transaction():
            with pytest.raises(InsufficientCredits) as refused:
                await ledger.hold(conn, project_id=project, job_id=uuid4(), round=1, amount=101)
            assert (refused.value.required, refused.value.available) == (101, 100)
            assert await amounts(conn, project) == (100, 0, 100)


async def test_a_free_job_moves_nothing_and_settles_fine(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn)
        job = await hold_job(conn, project, 0)
        [settled] = await ledger.capture_many(conn, [Capture(project, job, 1, 0)])
        await complete(conn, job, 0)
        assert (settled.captured, settled.released) == (0, 0)
        assert await ledger.release_many(conn, [Release(project, job, 1)]) == []
        assert await audit(conn) == []
        assert await conn.fetchval("select count(*) from ledger_transfers") == 0


async def test_the_same_hold_again_is_the_same_hold_and_another_one_is_a_conflict(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn, 100)
        job = uuid4()
        for _ in range(2):
            assert await ledger.hold(conn, project_id=project, job_id=job, round=1, amount=60) == 40
        with pytest.raises(LedgerError) as refused:
            await ledger.hold(conn, project_id=project, job_id=job, round=1, amount=10)
        assert refused.value.code == "conflict"
        assert await amounts(conn, project) == (100, 60, 40)


async def test_a_release_gives_the_hold_back_once_and_says_which_it_did(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn, 100)
        job, other = await hold_job(conn, project, 60), uuid4()
        releases = [Release(project, job, 1), Release(project, other, 1), Release(project, job, 1)]
        assert [(s.job_id, s.released) for s in await ledger.release_many(conn, releases)] == [(job, 60)]
        assert await ledger.release_many(conn, releases) == []
        assert await amounts(conn, project) == (100, 0, 100)


async def test_a_batch_with_one_bad_capture_captures_none_and_names_it(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn, 1000)
        good, settled, greedy = [await hold_job(conn, project, 100) for _ in range(3)]
        absent = uuid4()
        await ledger.capture_many(conn, [Capture(project, settled, 1, 100)])
        with pytest.raises(SettlementRefused) as refused:
            await ledger.capture_many(
                conn,
                [Capture(project, good, 1, 100), Capture(project, settled, 1, 100),
                 Capture(project, greedy, 1, 101), Capture(project, absent, 1, 1)],
            )  # fmt: skip
        assert refused.value.reasons == {settled: "settled", greedy: "exceeds", absent: "no_hold"}
        assert await amounts(conn, project) == (900, 200, 700)


async def test_a_late_result_of_an_earlier_round_is_not_charged_twice(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn, 1000)
        job = await hold_job(conn, project, 100)
        await ledger.release_many(conn, [Release(project, job, 1)])
        await ledger.hold(conn, project_id=project, job_id=job, round=2, amount=100)
        await ledger.capture_many(conn, [Capture(project, job, 2, 100)])
        await ledger.hold(conn, project_id=project, job_id=job, round=3, amount=100)
        for late in (1, 3):
            with pytest.raises(SettlementRefused):
                await ledger.capture_many(conn, [Capture(project, job, late, 100)])
        assert await amounts(conn, project) == (900, 100, 800)


async def test_a_batch_over_many_projects_settles_all_and_every_wallet_is_right(db: Database):
    async with db.connection() as conn:
        projects = [await new_project(conn, 100) for _ in range(5)]
        jobs = [(project, await hold_job(conn, project, 10)) for project in projects for _ in range(4)]
        await ledger.capture_many(conn, [Capture(project, job, 1, 7) for project, job in jobs])
        for project in projects:
            assert await amounts(conn, project) == (72, 0, 72)


async def test_a_grant_is_given_once_per_key_and_is_in_the_audit_log(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn)
        first = await ledger.grant(conn, project, 500, key="invoice-1", note="thanks", actor="ada")
        again = await ledger.grant(conn, project, 500, key="invoice-1", note="thanks", actor="ada")
        assert (first.is_new, again.is_new) == (True, False)
        assert first.transfer_id == again.transfer_id
        with pytest.raises(LedgerError) as refused:
            await ledger.grant(conn, project, 501, key="invoice-1", note="", actor="ada")
        assert refused.value.code == "conflict"
        assert await amounts(conn, project) == (500, 0, 500)
        logged = await conn.fetch("select actor, action, detail from audit_log where project_id = $1", project)
        assert [(row["actor"], row["action"], row["detail"]["amount"]) for row in logged] == [
            ("ada", "credits.grant", 500)
        ]


@pytest.mark.parametrize(
    "amount, key, note",
    [(0, "k", ""), (-1, "k", ""), (10**15 + 1, "k", ""), (2**64, "k", ""), (1, "", ""), (1, "x" * 256, ""),
     (1, "k", "x" * 501), (1, "nul\0", ""), (1, "k", "\ud800")],
)  # fmt: skip
async def test_a_grant_that_cannot_be_is_refused_in_words(db: Database, amount: int, key: str, note: str):
    async with db.connection() as conn:
        project = await new_project(conn, 7)
        with pytest.raises(LedgerError) as refused:
            await ledger.grant(conn, project, amount, key=key, note=note, actor="ada")
        assert refused.value.code == "invalid_input"
        assert await amounts(conn, project) == (7, 0, 7)


async def test_a_balance_stays_within_what_every_json_reader_holds_exactly(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn)
        for number in range(9):
            await ledger.grant(conn, project, 10**15, key=str(number), note="", actor="ada")
        with pytest.raises(LedgerError) as refused:
            await ledger.grant(conn, project, 10**15, key="one too many", note="", actor="ada")
        assert refused.value.code == "invalid_input"
        await ledger.grant(conn, project, 2**53 - 1 - 9 * 10**15, key="the very last", note="", actor="ada")
        assert (await ledger.wallet(conn, project)).balance == 2**53 - 1


async def test_an_adjustment_corrects_both_ways_but_never_below_what_is_available(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn, 100)
        await hold_job(conn, project, 60)
        await ledger.adjust(conn, project, -40, key="a", note="typo", actor="ada")
        with pytest.raises(InsufficientCredits):
            await ledger.adjust(conn, project, -1, key="b", note="", actor="ada")
        await ledger.adjust(conn, project, 5, key="c", note="", actor="ada")
        assert await amounts(conn, project) == (65, 60, 5)


async def test_a_refund_returns_at_most_what_was_charged(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn, 100)
        job = await hold_job(conn, project, 60)
        await ledger.capture_many(conn, [Capture(project, job, 1, 50)])
        await complete(conn, job, 50)
        await ledger.refund(conn, project, job, 1, 30, key="r1", note="blurry", actor="ada")
        with pytest.raises(LedgerError) as refused:
            await ledger.refund(conn, project, job, 1, 21, key="r2", note="", actor="ada")
        assert refused.value.code == "conflict"
        assert await amounts(conn, project) == (80, 0, 80)
        assert await audit(conn) == []


async def test_an_unknown_project_has_no_credits_to_hold_grant_or_show(db: Database):
    async with db.connection() as conn:
        nobody = uuid4()
        for attempt in (
            ledger.hold(conn, project_id=nobody, job_id=uuid4(), round=1, amount=1),
            ledger.grant(conn, nobody, 1, key="k", note="", actor="a"),
            ledger.wallet(conn, nobody),
            entries(conn, nobody),
        ):
            with pytest.raises(LedgerError) as refused:
                await attempt
            assert refused.value.code == "not_found"


async def test_the_history_runs_the_balance_backwards_across_pages(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn, 1000)
        for charged in (10, 0, 30):
            job = await hold_job(conn, project, 30)
            await ledger.capture_many(conn, [Capture(project, job, 1, charged)])
        whole = await entries(conn, project, limit=200)

        balance = available = 0
        for entry in reversed(whole.items):  # oldest first: each entry's figures follow from the one before
            balance += entry.amount if entry.reason in ("grant", "capture") else 0
            available += entry.amount if entry.reason != "capture" else 0
            assert (entry.balance, entry.available) == (balance, available)
        assert (balance, available) == (960, 960)
        assert whole.next_cursor is None
        assert whole.seq == await conn.fetchval("select head from project_heads where project_id = $1", project)

        walked, cursor = [], None
        while True:
            page = await entries(conn, project, limit=2, cursor=cursor)
            walked += page.items
            if page.next_cursor is None:
                break
            cursor = page.next_cursor
            await ledger.grant(conn, project, 1, key=cursor, note="", actor="later entries disturb nobody")
        assert walked == whole.items


@pytest.mark.parametrize("cursor", ["", "x", "1.2", "1.2.3.4", "-1.2.3", "9" * 30 + ".1.1"])
async def test_a_cursor_that_is_not_ours_is_refused(db: Database, cursor: str):
    async with db.connection() as conn:
        project = await new_project(conn)
        with pytest.raises(LedgerError) as refused:
            await entries(conn, project, cursor=cursor)
        assert refused.value.code == "invalid_input"


async def test_every_move_of_the_wallet_is_in_the_change_log(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn, 100)
        job = await hold_job(conn, project, 60)
        await ledger.capture_many(conn, [Capture(project, job, 1, 40)])
        rows = await conn.fetch(
            "select op, row from changes where project_id = $1 and tbl = 'credits' order by seq", project
        )
        seen = [(row["op"], row["row"]["balance"], row["row"]["held"], row["row"]["available"]) for row in rows]
        assert ledger.present_wallet(rows[-1]["row"]) == {
            "id": str(project), "project_id": str(project), "balance": 60, "held": 0, "available": 60,
        }  # fmt: skip
        assert seen == [("insert", 0, 0, 0), ("update", 100, 0, 100), ("update", 100, 60, 40), ("update", 60, 0, 60)]


async def test_a_deleted_project_takes_its_books_along(db: Database):
    async with db.connection() as conn:
        project, other = await new_project(conn, 100), await new_project(conn, 50)
        await hold_job(conn, project, 60)
        await conn.execute("delete from projects where id = $1", project)
        for table in ("ledger_transfers", "ledger_holds", "ledger_accounts", "credits"):
            assert await conn.fetchval(f"select count(*) from {table} where project_id = $1", project) == 0
        assert await amounts(conn, other) == (50, 0, 50)
        assert await audit(conn) == []


async def test_two_submits_for_the_last_credits_let_one_through(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn, 100)

    async def submit(tx: Transaction) -> bool:
        try:
            await ledger.hold(tx.conn, project_id=project, job_id=uuid4(), round=1, amount=60)
        except InsufficientCredits:
            return False
        return True

    won = await asyncio.gather(*(db.run(submit) for _ in range(8)))
    assert sum(won) == 1
    async with db.connection() as conn:
        assert await amounts(conn, project) == (100, 60, 40)


async def test_the_audit_sees_a_job_that_lost_its_hold_one_that_kept_it_and_one_charged_otherwise(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn, 100)
        lost = await new_job(conn, project, 10)
        kept = await hold_job(conn, project, 10)
        await end(conn, kept, "failed")
        uncharged = await hold_job(conn, project, 10)
        await ledger.release_many(conn, [Release(project, uncharged, 1)])
        await complete(conn, uncharged, 10)
        found = {(m.what, m.job_id, m.expected, m.found) for m in await audit(conn)}
        assert found == {
            ("job_without_hold", lost, 10, 0), ("hold_of_ended_job", kept, 0, 10), ("charge", uncharged, 10, 0),
        }  # fmt: skip
        assert await audit(conn, uuid4()) == []


async def test_the_audit_sees_what_a_superuser_did_behind_the_triggers(db: Database):
    async with db.connection() as conn:
        project = await new_project(conn, 100)
        await conn.execute("alter table ledger_accounts disable trigger user")
        await conn.execute(
            "update ledger_accounts set amount = amount + 5 where kind = 'wallet' and project_id = $1", project
        )
        assert {m.what for m in await audit(conn)} == {"account", "books", "wallet"}
