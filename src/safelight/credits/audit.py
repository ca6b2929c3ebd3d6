"""Does everything that can be added up still add up? (C1, D3: `ledger mismatch` must be 0.)

Constraints and triggers make each of these impossible one by one; the audit adds them up from the other end, so that
a bug, a restored half of a backup or a superuser's hand is seen. It reads the whole ledger: run it every few minutes,
not with requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from safelight.db.pool import Conn

MISMATCHES_MAX: Final = 100
"""Beyond that nobody reads on: the first hundred say what is wrong."""

_AUDIT: Final = """
with moved as (
    select project_id, kind, sum(delta) as amount
    from (select project_id, debit as kind, -amount as delta from ledger_transfers
          union all select project_id, credit, amount from ledger_transfers) as both_sides
    group by project_id, kind
), rounds as (
    select job_id, round, project_id,
        coalesce(sum(amount) filter (where reason = 'hold'), 0) as amount,
        coalesce(sum(amount) filter (where reason = 'capture'), 0) as captured,
        coalesce(sum(amount) filter (where reason = 'release'), 0) as released,
        coalesce(sum(amount) filter (where reason = 'refund'), 0) as refunded
    from ledger_transfers where job_id is not null group by job_id, round, project_id
), open_holds as (
    select * from ledger_holds where captured + released = 0
), charged as (
    select job_id, sum(captured) as amount from ledger_holds where captured > 0 group by job_id
)
select * from (
    select 'account' as what, project_id, null::uuid as job_id,
        coalesce(m.amount, 0)::bigint as expected, coalesce(a.amount, 0)::bigint as found
    from ledger_accounts a full join moved m using (project_id, kind)
    where coalesce(a.amount, 0) <> coalesce(m.amount, 0)
  union all
    select 'books', project_id, null, 0, sum(amount)::bigint
    from ledger_accounts group by project_id having sum(amount) <> 0
  union all
    select 'wallet', p.id, null, a.amount, case a.kind when 'wallet' then c.available else c.held end
    from projects p
    left join ledger_accounts a on a.project_id = p.id and a.kind in ('wallet', 'held')
    left join credits c on c.id = p.id
    where a.amount is distinct from case a.kind when 'wallet' then c.available else c.held end or a.amount is null
  union all
    select 'hold', project_id, job_id, (r.captured + r.released)::bigint, (h.captured + h.released)::bigint
    from ledger_holds h full join rounds r using (job_id, round, project_id)
    where (h.amount, h.captured, h.released, h.refunded) is distinct from (r.amount, r.captured, r.released, r.refunded)
  union all
    select 'held_total', a.project_id, null, coalesce(o.amount, 0)::bigint, a.amount
    from ledger_accounts a
    left join (select project_id, sum(amount) as amount from open_holds group by project_id) o using (project_id)
    where a.kind = 'held' and a.amount <> coalesce(o.amount, 0)
  union all
    select 'charge', j.project_id, j.id, coalesce(j.charged, 0), coalesce(c.amount, 0)::bigint
    from jobs j left join charged c on c.job_id = j.id
    where coalesce(j.charged, 0) <> coalesce(c.amount, 0)
  union all
    select 'hold_of_ended_job', o.project_id, o.job_id, 0, o.amount
    from open_holds o left join jobs j on j.id = o.job_id
    where j.id is null or j.stage in ('completed', 'failed', 'canceled', 'expired') or j.round <> o.round
  union all
    select 'job_without_hold', j.project_id, j.id, j.quoted, coalesce(o.amount, 0)
    from jobs j left join open_holds o on o.job_id = j.id and o.round = j.round
    where j.stage not in ('completed', 'failed', 'canceled', 'expired') and j.quoted <> coalesce(o.amount, 0)
) as mismatches
where $1::uuid is null or project_id = $1
order by what, project_id, job_id
limit $2
"""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """`what` names the sum that is wrong:

    `account` (amount against transfers), `books` (accounts against zero), `wallet` (visible against account), `hold`
    (row against transfers), `held_total` (account against open holds), `charge` (job against captures),
    `hold_of_ended_job`, `job_without_hold`.
    """

    what: str
    project_id: UUID
    job_id: UUID | None
    expected: int | None
    found: int | None


async def audit(conn: Conn, project_id: UUID | None = None) -> list[Mismatch]:
    """All that does not add up, at most 100; empty when all is well. One statement, so one snapshot."""
    async with conn.transaction():
        # It reads everything, where all else goes by an index (db/pool.py): joined row by row it would take for ever.
        await conn.execute("set local enable_hashjoin = on; set local enable_seqscan = on")
        rows = await conn.fetch(_AUDIT, project_id, MISMATCHES_MAX)
    return [Mismatch(**dict(row)) for row in rows]
