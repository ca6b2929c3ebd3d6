"""The ledger's moves (C1, C2). Each is one round trip inside the caller's transaction.

Lock order: wallet -> job -> change-log head. Whoever will lock jobs that exist and then move credits calls
`lock_wallets` first. A job that is being made is known to nobody: there `hold` may come last, and keeps the wallet
locked for one round trip only. What must always hold is kept by constraints and triggers in migration 0005; this
file only says it nicely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from safelight.db.pool import Conn, Row

BATCH_MAX: Final = 1_000
"""Holds settled in one statement: more would keep a project's wallet locked for noticeably long."""
AMOUNT_MAX: Final = 10**15
"""Of one transfer: a few of them still add up to an integer that JSON readers hold exactly (2^53)."""
KEY_LENGTH_MAX: Final = 255
NOTE_LENGTH_MAX: Final = 500


class LedgerError(Exception):
    """The ledger refuses. Nothing was written; `code` is stable: `not_found`, `conflict`, `invalid_input`, …"""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class InsufficientCredits(LedgerError):
    """C2: `required` is what the move needs, `available` what is there. Retrying helps after a grant."""

    def __init__(self, required: int, available: int) -> None:
        super().__init__("insufficient_credits", f"{required} credits are needed, {available} are available")
        self.required = required
        self.available = available


class SettlementRefused(LedgerError):
    """None of the batch was captured. `reasons` names the jobs at fault:

    `no_hold`, `settled` (captured or released before), `charged_before` (in another round), `exceeds` (the hold).
    """

    def __init__(self, reasons: Mapping[UUID, str]) -> None:
        said = ", ".join(f"{job}: {reason}" for job, reason in reasons.items())
        super().__init__("settlement_refused", said)
        self.reasons = dict(reasons)


@dataclass(frozen=True, slots=True)
class Hold:
    """Set `amount` aside for the first round of a new job."""

    project_id: UUID
    job_id: UUID
    amount: int


@dataclass(frozen=True, slots=True)
class Capture:
    """Charge `amount` (0 to the whole hold) for this round of the job; the rest of the hold goes back."""

    project_id: UUID
    job_id: UUID
    round: int
    amount: int


@dataclass(frozen=True, slots=True)
class Release:
    """Give this round's hold back whole."""

    project_id: UUID
    job_id: UUID
    round: int


@dataclass(frozen=True, slots=True)
class Settled:
    """A hold that this call has settled: captured + released is what was held (0 of a free job)."""

    job_id: UUID
    round: int
    captured: int
    released: int


@dataclass(frozen=True, slots=True)
class Wallet:
    """balance = available + held."""

    project_id: UUID
    balance: int
    held: int
    available: int
    updated_at: datetime


def present_wallet(row: Row) -> dict[str, Any]:
    """The API's resource of a row of `credits`, be it from the table or from the change log. Pure."""
    return {
        "id": str(row["id"]),
        "project_id": str(row["project_id"]),
        "balance": row["balance"],
        "held": row["held"],
        "available": row["available"],
    }


@dataclass(frozen=True, slots=True)
class Posted:
    """A grant, adjustment or refund. `is_new` is false where the same key had done it before."""

    transfer_id: int
    available: int
    is_new: bool


async def lock_wallets(conn: Conn, project_ids: Sequence[UUID]) -> None:
    """Lock these projects' wallets until the transaction ends, in id order, before any job is locked."""
    await conn.execute(
        "select 1 from ledger_accounts where kind = 'wallet' and project_id = any ($1::uuid[])"
        " order by project_id for no key update",
        list(project_ids),
    )


async def hold(conn: Conn, *, project_id: UUID, job_id: UUID, round: int, amount: int) -> int:
    """Set `amount` aside for this round of the job; returns what is available afterwards.

    The same hold again is the same hold. Zero is fine and moves nothing. Raises InsufficientCredits (C2), or
    LedgerError `not_found` (project) or `conflict` (this round holds something else, or was settled).
    """
    if not 0 <= amount <= AMOUNT_MAX or round < 1:
        raise ValueError(f"a hold is between 0 and {AMOUNT_MAX} and rounds count from 1")
    row = await conn.fetchrow("select * from ledger_hold($1, $2, $3, $4)", project_id, job_id, round, amount)
    assert row is not None
    match row["outcome"]:
        case "held":
            return row["available"]
        case "insufficient":
            raise InsufficientCredits(amount, row["available"])
        case "unknown_project":
            raise LedgerError("not_found", f"there is no project {project_id}")
        case _:
            raise LedgerError("conflict", f"round {round} of job {job_id} holds something else or was settled")


async def hold_new(conn: Conn, holds: Sequence[Hold]) -> dict[UUID, int]:
    """Set credits aside for jobs that this transaction makes, in one statement: all of them or none.

    Comes last in it: wallets that many wait for are locked from here on, and so are the heads, as what the transaction
    did is numbered in the same round trip. Returns the seq of its last change in each project.
    Raises InsufficientCredits (of the first project that is short, for all that was asked of it) or LedgerError
    `not_found`.
    """
    if not all(0 <= hold.amount <= AMOUNT_MAX for hold in holds):
        raise ValueError(f"a hold is between 0 and {AMOUNT_MAX}")
    rows = await conn.fetch(
        """
        with held as materialized (
            select * from ledger_hold_new($1, $2, $3)
        ), numbered as materialized (
            select * from changes_heads(
                array(select project_id from held where not exists (select from held where outcome <> 'held')))
        )
        select held.*, numbered.head from held left join numbered using (project_id)
        """,
        [hold.project_id for hold in holds],
        [hold.job_id for hold in holds],
        [hold.amount for hold in holds],
    )
    for row in rows:
        match row["outcome"]:
            case "held":
                pass
            case "insufficient":
                raise InsufficientCredits(row["required"], row["available"])
            case _:
                raise LedgerError("not_found", f"there is no project {row['project_id']}")
    return {row["project_id"]: row["head"] for row in rows}


async def capture_many(conn: Conn, captures: Sequence[Capture]) -> list[Settled]:
    """Charge these jobs and release what their holds have left, in one statement: all of them or none.

    Raises SettlementRefused naming the jobs at fault, so that the caller may settle the others without them.
    """
    if len({capture.job_id for capture in captures}) != len(captures):
        raise ValueError("a job is captured at most once")
    if not all(0 <= capture.amount <= AMOUNT_MAX for capture in captures):
        raise ValueError(f"a capture is between 0 and {AMOUNT_MAX}")
    outcomes = await _settle(conn, captures, [capture.amount for capture in captures], is_strict=True)
    refused = {settled.job_id: outcome for outcome, settled in outcomes if outcome not in ("done", "nothing")}
    if refused:
        raise SettlementRefused(refused)
    return [settled for _, settled in outcomes]


async def release_many(conn: Conn, releases: Sequence[Release]) -> list[Settled]:
    """Give back what these holds still hold. One that was settled or never made is left alone and not returned."""
    distinct = list(dict.fromkeys(releases))
    outcomes = await _settle(conn, distinct, [0] * len(distinct), is_strict=False)
    return [settled for outcome, settled in outcomes if outcome == "done"]


async def _settle(
    conn: Conn, holds: Sequence[Capture | Release], amounts: list[int], *, is_strict: bool
) -> list[tuple[str, Settled]]:
    if not holds:
        return []
    if len(holds) > BATCH_MAX:
        raise ValueError(f"at most {BATCH_MAX} holds are settled at once")
    rows = await conn.fetch(
        "select * from ledger_settle($1, $2, $3, $4, $5)",
        [each.project_id for each in holds],
        [each.job_id for each in holds],
        [each.round for each in holds],
        amounts,
        is_strict,
    )
    return [(row["outcome"], Settled(row["job_id"], row["round"], row["captured"], row["released"])) for row in rows]


async def grant(conn: Conn, project_id: UUID, amount: int, key: str, note: str, actor: str) -> Posted:
    """Put credits into the wallet, once per `key`; written to the audit log under `actor` (O4).

    Raises LedgerError `conflict` (the key stands for something else), `not_found`, `invalid_input`.
    """
    if amount < 1:
        raise LedgerError("invalid_input", f"a grant is between 1 and {AMOUNT_MAX}")
    return await _post(conn, project_id, "grant", amount, key, note, actor)


async def adjust(conn: Conn, project_id: UUID, amount: int, key: str, note: str, actor: str) -> Posted:
    """Correct the wallet up or down (negative), once per `key`; never below what is available.

    Raises as `grant`, and InsufficientCredits.
    """
    if amount == 0:
        raise LedgerError("invalid_input", "an adjustment is not 0")
    return await _post(conn, project_id, "adjust", amount, key, note, actor)


async def refund(
    conn: Conn, project_id: UUID, job_id: UUID, round: int, amount: int, key: str, note: str, actor: str
) -> Posted:
    """Give a captured charge back, in part or whole, once per `key`.

    Raises as `grant`; more than was charged is a `conflict`.
    """
    if amount < 1:
        raise LedgerError("invalid_input", f"a refund is between 1 and {AMOUNT_MAX}")
    return await _post(conn, project_id, "refund", amount, key, note, actor, job_id, round)


async def _post(
    conn: Conn,
    project_id: UUID,
    reason: str,
    amount: int,
    key: str,
    note: str,
    actor: str,
    job_id: UUID | None = None,
    round: int | None = None,
) -> Posted:
    if abs(amount) > AMOUNT_MAX:
        raise LedgerError("invalid_input", f"at most {AMOUNT_MAX} credits move at once")
    if not 1 <= len(key) <= KEY_LENGTH_MAX or len(note) > NOTE_LENGTH_MAX:
        raise LedgerError(
            "invalid_input", f"a key has 1 to {KEY_LENGTH_MAX} characters, a note up to {NOTE_LENGTH_MAX}"
        )
    if not all(map(_can_be_stored, (key, note, actor))):
        raise LedgerError("invalid_input", "key or note contains characters that cannot be stored")
    row = await conn.fetchrow(
        "select * from ledger_post($1, $2, $3, $4, $5, $6, $7, $8)",
        project_id, reason, amount, key, note, actor, job_id, round,
    )  # fmt: skip
    assert row is not None
    match row["outcome"]:
        case "posted" | "before":
            return Posted(row["transfer_id"], row["available"], row["outcome"] == "posted")
        case "insufficient":
            raise InsufficientCredits(-amount, row["available"])
        case "unknown_project":
            raise LedgerError("not_found", f"there is no project {project_id}")
        case "too_much":
            raise LedgerError("invalid_input", "the balance would be beyond the integers that JSON holds exactly")
        case "exceeds":
            raise LedgerError("conflict", f"round {round} of job {job_id} was not charged that much")
        case _:
            raise LedgerError("conflict", f"the key {key!r} stands for another {reason}")


async def wallet(conn: Conn, project_id: UUID) -> Wallet:
    """Raises LedgerError `not_found`."""
    row = await conn.fetchrow(
        "select project_id, balance, held, available, updated_at from credits where id = $1", project_id
    )
    if row is None:
        raise LedgerError("not_found", f"there is no project {project_id}")
    return Wallet(**dict(row))


def _can_be_stored(value: str) -> bool:
    # PostgreSQL has no NUL in text, and UTF-8 has no lone surrogates.
    return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)
