-- The end of a job with results (jobs/settle.py), in two round trips: every wallet and every job locked by one of them
-- waits for the caller between two statements, so there are as few as can be.

-- Locks the wallets, then those of the jobs that are in one of these stages; what the settling must know of them.
create function settle_lock(p_jobs uuid[], p_stages text[])
    returns table (id uuid, project_id uuid, provider text, endpoint text, model text, attempt int, round int,
        quoted bigint, n int, target jsonb, prompt jsonb, began_at timestamptz)
    language plpgsql as $$
#variable_conflict use_column
begin
    perform 1 from ledger_accounts
    where kind = 'wallet' and project_id in (select j.project_id from jobs j where j.id = any (p_jobs))
    order by project_id for no key update;

    return query
        select j.id, j.project_id, j.provider, j.endpoint, j.model, j.attempt, j.round, j.quoted, j.n, j.target,
            j.input -> 'prompt', a.sent_at
        from jobs j join attempts a on a.job_id = j.id and a.number = j.attempt
        where j.id = any (p_jobs) and j.stage = any (p_stages)
        order by j.id for no key update of j;
end $$;

-- Charge, results, completion, trace. `p_done`: one record a job; `p_generations`: one a result; `p_steps`: trace steps.
-- Where a charge cannot be made nothing is written, and the rows name the jobs at fault.
create function settle_complete(p_done jsonb, p_generations jsonb, p_steps jsonb, p_now timestamptz)
    returns table (job_id uuid, reason text)
    language plpgsql as $$
#variable_conflict use_column
declare
    jobs_done uuid[];
    projects uuid[];
    rounds int[];
    charges bigint[];
begin
    select array_agg(d.id), array_agg(d.project_id), array_agg(d.round), array_agg(d.charged)
      into jobs_done, projects, rounds, charges
      from jsonb_to_recordset(p_done) as d (id uuid, project_id uuid, round int, charged bigint);

    return query
        select s.job_id, s.outcome from ledger_settle(projects, jobs_done, rounds, charges, true) as s
        where s.outcome not in ('done', 'nothing');
    if found then
        return;
    end if;

    insert into generations (id, project_id, job_id, output_index, kind, mime, width, height, duration_s, bytes,
        sha256, thumbhash, files, meta, prompt, model, created_at)
    select g.id, g.project_id, g.job_id, g.output_index, g.kind, g.mime, g.width, g.height, g.duration_s, g.bytes,
        g.sha256, g.thumbhash, g.files, g.meta, g.prompt, g.model, p_now
    from jsonb_to_recordset(p_generations) as g (id uuid, project_id uuid, job_id uuid, output_index int, kind text,
        mime text, width int, height int, duration_s real, bytes bigint, sha256 bytea, thumbhash text, files jsonb,
        meta jsonb, prompt text, model text);

    with done as (
        select * from jsonb_to_recordset(p_done) as d (id uuid, attempt int, charged bigint, cost jsonb)
    ), ended as (
        update jobs j set stage = 'completed', charged = d.charged, completed_at = p_now,
            generations = (select array_agg(g.id order by g.output_index) from generations g where g.job_id = j.id)
        from done d where j.id = d.id
    ), answered as (
        update attempts a set state = 'succeeded', ended_at = p_now, cost = coalesce(d.cost, a.cost)
        from done d where a.job_id = d.id and a.number = d.attempt
    ), worked as (
        delete from job_work w using done d where w.job_id = d.id
    ), progressed as (
        delete from job_progress p using done d where p.job_id = d.id
    )
    insert into job_trace (job_id, attempt, step, at, detail)
    select s.job_id, s.attempt, s.step, coalesce(s.at, clock_timestamp()), s.detail
    from jsonb_to_recordset(p_steps) as s (job_id uuid, attempt int, step text, at timestamptz, detail jsonb)
    union all select id, attempt, 'committed', clock_timestamp(), null from done;
end $$;
