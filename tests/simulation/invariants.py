"""What must be true of an installation at rest, whatever happened to it before. Read by SQL, from outside."""

from __future__ import annotations

from typing import Any

from safelight.credits import audit

VISIBLE = ("projects", "jobs", "generations", "shots", "shot_generations", "nodes", "edges", "credits")


async def broken_promises(conn: Any) -> list[str]:
    """Sentences about what is wrong; empty when all is well."""
    said = [f"ledger: {mismatch}" for mismatch in await audit.audit(conn)]
    said += [
        f"{row['n']} × {row['what']}"
        for row in await conn.fetch(
            """
            select 'a job that is not terminal' as what, count(*) as n from jobs
                where stage not in ('completed', 'failed', 'canceled', 'expired')
            union all select 'work left for a job that has ended', count(*)
                from job_work w join jobs j on j.id = w.job_id
                where j.stage in ('completed', 'failed', 'canceled', 'expired')
            union all select 'a job whose generations are not those it names', count(*) from jobs j
                where j.generations is distinct from coalesce((select array_agg(g.id order by g.output_index)
                    from generations g where g.job_id = j.id), '{}')
            union all select 'a completed job without exactly one capture of what it charged', count(*) from jobs j
                where j.stage = 'completed' and j.charged > 0 and (select array_agg(t.amount) from ledger_transfers t
                    where t.job_id = j.id and t.reason = 'capture') is distinct from array[j.charged]
            union all select 'a charge without a result', count(*)
                from ledger_transfers t join jobs j on j.id = t.job_id
                where t.reason = 'capture' and j.stage <> 'completed'
            union all select 'a hold left open', count(*) from ledger_holds where captured + released = 0 and amount > 0
            union all select 'a webhook left in the inbox', count(*) from inbox where processed_at is null
            union all select 'a log with a hole', count(*) from project_heads h
                where (select count(*) from changes c where c.project_id = h.project_id) <> h.head
                   or (select coalesce(max(seq), 0) from changes c where c.project_id = h.project_id) <> h.head
            """
        )
        if row["n"]
    ]
    for table in VISIBLE:
        wrong = await conn.fetchval(
            f"""
            select count(*) from
                (select distinct on (id) id, op, row from changes where tbl = '{table}'
                 order by id, seq desc) as replica
                full join {table} as real on real.id = replica.id
            where (replica.op is distinct from 'delete' and replica.row is distinct from to_jsonb(real))
               or (replica.op = 'delete' and real.id is not null)
            """
        )
        if wrong:
            said.append(f"{wrong} × a row of {table} that is not what its log says")
    return said
