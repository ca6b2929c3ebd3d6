-- The end of a job with results (jobs/settle.py). Every wallet and every job locked by it waits until its commit, so the
-- whole of it is one call: where nothing is to be done in between, one round trip and one commit.

-- Locks the wallets, then those of the jobs that are in one of these stages; what the settling must know of them.
create function settle_lock(p_jobs uuid[], p_stages text[])
    returns table (id uuid, project_id uuid, provider text, endpoint text, model text, attempt int, round int,
        quoted bigint, n int, target jsonb, prompt text, began_at timestamptz)
    language plpgsql as $$
#variable_conflict use_column
begin
    perform 1 from ledger_accounts
    where kind = 'wallet' and project_id in (select j.project_id from jobs j where j.id = any (p_jobs))
    order by project_id for no key update;

    return query
        select j.id, j.project_id, j.provider, j.endpoint, j.model, j.attempt, j.round, j.quoted, j.n, j.target,
            case jsonb_typeof(j.input -> 'prompt') when 'string' then left(j.input ->> 'prompt', 5000) end, a.sent_at
        from jobs j join attempts a on a.job_id = j.id and a.number = j.attempt
        where j.id = any (p_jobs) and j.stage = any (p_stages)
        order by j.id for no key update of j;
end $$;

-- Charge, results, completion, trace. Each of `p_results` is {job_id, attempt, cost, outputs: [{id, output_index, …}]};
-- `p_steps` are trace steps, `p_inbox` the webhooks that told of it. What is charged is the part of the quote that was
-- made. Jobs that have ended or have another attempt are left alone, and so are those with a target unless
-- `p_with_targets` (their caller places the results in the same transaction); what is returned was completed.
-- Raises SL003 where a charge cannot be made; its detail names the jobs at fault.
create function settle(p_results jsonb, p_steps jsonb, p_inbox bigint[], p_stages text[], p_with_targets boolean,
        p_now timestamptz)
    returns table (id uuid, project_id uuid, provider text, endpoint text, target jsonb, began_at timestamptz)
    language plpgsql as $$
#variable_conflict use_column
declare
    ids uuid[];
    projects uuid[];
    rounds int[];
    numbers int[];
    charges bigint[];
    costs jsonb[];
    models text[];
    prompts text[];
    outputs jsonb[];
    providers text[];
    endpoints text[];
    targets jsonb[];
    begins timestamptz[];
    refused jsonb;
begin
    select array_agg(l.id), array_agg(l.project_id), array_agg(l.round), array_agg(l.attempt), array_agg(r.cost),
        array_agg(l.quoted * least(jsonb_array_length(r.outputs), l.n) / l.n), array_agg(l.model),
        array_agg(l.prompt), array_agg(r.outputs), array_agg(l.provider), array_agg(l.endpoint),
        array_agg(l.target), array_agg(l.began_at)
      into ids, projects, rounds, numbers, costs, charges, models, prompts, outputs, providers, endpoints, targets, begins
      from jsonb_to_recordset(p_results) as r (job_id uuid, attempt int, cost jsonb, outputs jsonb)
      join settle_lock(array(select (value ->> 'job_id')::uuid from jsonb_array_elements(p_results)), p_stages) as l
        on l.id = r.job_id and l.attempt = r.attempt
     where p_with_targets or l.target is null;
    if ids is null then
        return;
    end if;

    select jsonb_object_agg(s.job_id, s.outcome) into refused
      from ledger_settle(projects, ids, rounds, charges, true) as s
     where s.outcome not in ('done', 'nothing');
    if refused is not null then
        raise exception 'a charge cannot be made' using errcode = 'SL003', detail = refused::text;
    end if;

    insert into generations (id, project_id, job_id, output_index, kind, mime, width, height, duration_s, bytes,
        sha256, thumbhash, files, meta, prompt, model, created_at)
    select g.id, d.project_id, d.id, g.output_index, g.kind, g.mime, g.width, g.height, g.duration_s, g.bytes,
        g.sha256, g.thumbhash, g.files, g.meta, d.prompt, d.model, p_now
    from unnest(ids, projects, models, prompts, outputs) as d (id, project_id, model, prompt, outputs),
        lateral jsonb_to_recordset(d.outputs) as g (id uuid, output_index int, kind text, mime text, width int,
            height int, duration_s real, bytes bigint, sha256 bytea, thumbhash text, files jsonb, meta jsonb);

    with done as (
        select * from unnest(ids, numbers, charges, costs) as d (id, attempt, charged, cost)
    ), ended as (
        update jobs j set stage = 'completed', charged = d.charged, completed_at = p_now,
            generations = (select array_agg(g.id order by g.output_index) from generations g where g.job_id = j.id)
        from done d where j.id = d.id
    ), answered as (
        update attempts a set state = 'succeeded', ended_at = p_now, cost = coalesce(d.cost, a.cost)
        from done d where a.job_id = d.id and a.number = d.attempt
    ), worked as (
        delete from job_work w where w.job_id = any (ids)
    ), heard as (
        update inbox set processed_at = p_now, outcome = 'settled'
        where id = any (p_inbox) and job_id = any (ids) and processed_at is null
    )
    insert into job_trace (job_id, attempt, step, at, detail)
    select s.job_id, s.attempt, s.step, coalesce(s.at, clock_timestamp()), s.detail
    from jsonb_to_recordset(p_steps) as s (job_id uuid, attempt int, step text, at timestamptz, detail jsonb)
    where s.job_id = any (ids)
    union all select id, attempt, 'committed', clock_timestamp(), null from done;

    -- By a later snapshot than job_work's: a word of progress that held that row (jobs/progress.py) is seen by now.
    delete from job_progress p where p.job_id = any (ids);

    return query select * from unnest(ids, projects, providers, endpoints, targets, begins);
end $$;
