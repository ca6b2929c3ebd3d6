-- Pull workers (P3): attempts that a user's own machine comes for. What people see of them is the job.

-- One row per attempt that is given to pull workers. It is to the adapter `pull` what a provider's own table of tasks is
-- to the others: the truth that is asked.
create table pull_tasks (
    attempt_id   uuid primary key references attempts on delete cascade,
    job_id       uuid not null references jobs on delete cascade,
    project_id   uuid not null,
    number       int not null,
    model        text not null,             -- the route's endpoint: the name that workers ask for
    priority     int not null,
    created_at   timestamptz not null,      -- the job's: another attempt does not go to the end of the queue
    state        text not null default 'waiting' check (state in ('waiting', 'leased', 'done', 'lost', 'canceled')),
    worker       text,
    lease_hash   bytea,                     -- of the lease's token
    claim_hash   bytea,                     -- of the claim's id: a claim that is asked again gets the same answer
    lease_s      float8,
    leased_until timestamptz,
    claims       int not null default 0,    -- how often it was claimed; more than once: it was given back
    stop_asked   boolean not null default false,
    outcome      jsonb,                     -- what the worker said at the end
    ended_at     timestamptz,
    check ((state = 'waiting') = (lease_hash is null) or state in ('done', 'lost', 'canceled')),
    check ((state = 'leased') <= (leased_until is not null)),
    check ((state = 'done') = (outcome is not null)),
    check ((state in ('done', 'lost', 'canceled')) = (ended_at is not null))
);
create index pull_tasks_waiting on pull_tasks (project_id, model, priority desc, created_at, attempt_id)
    where state = 'waiting';
create index pull_tasks_of_job on pull_tasks (job_id);
create unique index pull_tasks_claim on pull_tasks (claim_hash) where claim_hash is not null;
create index pull_tasks_open on pull_tasks (attempt_id) where state in ('waiting', 'leased');
create index pull_tasks_ended on pull_tasks (ended_at) where ended_at is not null;

-- Results as they arrive, before the attempt is done. A row is there before its files are: what a dead process leaves
-- in the storage is known by it and removed.
create table pull_outputs (
    id           uuid primary key,
    attempt_id   uuid not null,             -- no reference: the files outlive a deleted attempt, and must be found
    project_id   uuid not null,
    job_id       uuid not null,
    lease_hash   bytea not null,            -- of the lease under which it came: the next holder begins anew
    output_index int not null check (output_index >= 0),
    stored       jsonb not null,
    is_ready     boolean not null default false,
    created_at   timestamptz not null default now()
);
create index pull_outputs_of_lease on pull_outputs (lease_hash, output_index);
create index pull_outputs_age on pull_outputs (created_at);

-- Parts of a result that is on its way: those that are ready follow each other without a gap, from 0. As above, a row
-- is there before its file.
create table pull_parts (
    id           uuid primary key,
    attempt_id   uuid not null,             -- no reference: the files outlive a deleted attempt, and must be found
    lease_hash   bytea not null,
    output_index int not null check (output_index >= 0),
    begins       bigint not null check (begins >= 0),
    bytes        bigint not null check (bytes > 0),
    total        bigint not null check (begins + bytes <= total), -- of the whole result
    key          text not null,
    is_ready     boolean not null default false,
    created_at   timestamptz not null default now()
);
create index pull_parts_of_lease on pull_parts (lease_hash, output_index, begins);
create index pull_parts_age on pull_parts (created_at);

-- When a project last had a turn at workers that serve several.
create table pull_turns (
    project_id   uuid primary key references projects on delete cascade,
    turn_at      timestamptz not null
);

-- What a worker should do next, best first; several, because others may take the first in the same moment.
-- Most urgent first. Among those: the loaded model, unless others have been patient for too long; the project whose turn
-- is longest ago; then the oldest job, where one of the loaded model counts as older by the same patience.
create function pull_candidates(p_project uuid, p_models text[], p_loaded text, p_patience interval, p_limit int)
    returns setof uuid language plpgsql as $$
declare
    projects uuid[] := '{}';
    began    uuid := gen_random_uuid();
    at       uuid;
begin
    if p_project is not null then
        projects := array[p_project];
    else
        -- From one project that has waiting tasks to the next, by index; from a random place on and round, so that
        -- with more projects than are looked at each gets its share of looks.
        at := began;
        loop
            select t.project_id into at from pull_tasks t
            where t.state = 'waiting' and t.project_id > at order by t.project_id limit 1;
            exit when at is null;
            projects := projects || at;
            exit when cardinality(projects) >= 200;
        end loop;
        at := '00000000-0000-0000-0000-000000000000';
        while cardinality(projects) < 200 loop
            select t.project_id into at from pull_tasks t
            where t.state = 'waiting' and t.project_id > at order by t.project_id limit 1;
            exit when at is null or at > began;
            projects := projects || at;
        end loop;
    end if;
    return query
        select c.attempt_id
        from unnest(projects) as p (id)
        cross join unnest(p_models) as m (name)
        cross join lateral (
            select t.attempt_id, t.priority, t.created_at from pull_tasks t
            where t.state = 'waiting' and t.project_id = p.id and t.model = m.name
            order by t.priority desc, t.created_at, t.attempt_id limit 4) as c
        left join pull_turns u on u.project_id = p.id
        order by c.priority desc, (m.name is not distinct from p_loaded or c.created_at < now() - p_patience) desc,
            u.turn_at nulls first,
            c.created_at - case when m.name is not distinct from p_loaded then p_patience else '0'::interval end,
            c.attempt_id
        limit p_limit;
end $$;
