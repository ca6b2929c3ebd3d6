-- Jobs: what the user asked for (visible), and beside it what only the machinery needs (internal).

-- The lifecycle (J3). jobs/lifecycle.py holds the same table; a test compares the two.
create table job_transitions (
    from_stage text not null,
    to_stage   text not null,
    primary key (from_stage, to_stage)
);
insert into job_transitions (from_stage, to_stage)
select split_part(line, '>', 1), unnest(string_to_array(split_part(line, '>', 2), ','))
from unnest(array[
    'queued>submitting,failed,canceled,expired',
    'submitting>queued,submitted,running,storing,unknown,completed,failed,canceled,expired',
    'unknown>queued,submitted,running,storing,completed,failed,canceled,expired',
    'submitted>queued,running,storing,completed,failed,canceled,expired',
    'running>queued,storing,completed,failed,canceled,expired',
    'storing>queued,completed,failed',
    'failed>queued',
    'canceled>queued',
    'expired>queued'
]) as line;

create table jobs (
    id           uuid primary key,
    project_id   uuid not null references projects on delete cascade,
    stage        text not null default 'queued' check (stage in
        ('queued', 'submitting', 'unknown', 'submitted', 'running', 'storing', 'completed', 'failed', 'canceled', 'expired')),
    status       text not null generated always as (case
        when stage in ('completed', 'failed', 'canceled') then stage
        when stage = 'expired' then 'failed'
        when stage = 'queued' then 'pending'
        else 'processing' end) stored,
    model        text not null,
    provider     text not null,
    endpoint     text not null,
    kind         text not null,
    attempt      int not null default 0 check (attempt >= 0),  -- number of the current attempt; 0 before the first
    tries        int not null default 0,                       -- automatic attempts spent since the last submit or retry
    round        int not null default 1,                       -- hold round: a user's retry opens the next
    input        jsonb not null,
    n            int not null default 1 check (n between 1 and 100),
    target       jsonb,
    template     text,
    variables    jsonb,
    start        text,
    quoted       bigint not null check (quoted >= 0),
    charged      bigint check (charged >= 0),
    priority     int not null default 0,
    error        jsonb,
    generations  uuid[] not null default '{}',
    tags         text[] not null default '{}',
    metadata     jsonb not null default '{}',
    webhook_url  text,
    created_at   timestamptz not null default now(),
    submitted_at timestamptz,
    completed_at timestamptz,
    deadline_at  timestamptz not null,
    cancel_requested_at timestamptz,
    request_hash bytea not null,
    created_by   text not null default '',
    -- A completed job has its results and its charge; no other has a charge (C1).
    check ((stage = 'completed') = (charged is not null)),
    check (stage <> 'completed' or cardinality(generations) > 0),
    check ((stage in ('failed', 'expired')) = (error is not null)),
    check ((stage in ('completed', 'failed', 'canceled', 'expired')) = (completed_at is not null))
);
create index jobs_newest on jobs (project_id, created_at desc, id desc);
create index jobs_unfinished on jobs (project_id, created_at desc) where stage not in ('completed', 'failed', 'canceled', 'expired');
create index jobs_tags on jobs using gin (tags);

create function guard_job_stage() returns trigger language plpgsql as $$
begin
    if not exists (select 1 from job_transitions where from_stage = old.stage and to_stage = new.stage) then
        raise exception 'job % cannot go from % to %', old.id, old.stage, new.stage
            using errcode = 'SL001', hint = 'The lifecycle is the table job_transitions.';
    end if;
    return new;
end $$;
create trigger guard_job_stage before update of stage on jobs
    for each row when (old.stage is distinct from new.stage) execute function guard_job_stage();

create function guard_new_job() returns trigger language plpgsql as $$
begin
    if new.stage <> 'queued' then
        raise exception 'job % must begin queued, not %', new.id, new.stage using errcode = 'SL001';
    end if;
    return new;
end $$;
create trigger guard_new_job before insert on jobs for each row execute function guard_new_job();

select track_changes('jobs'::regclass, old_columns => array['status', 'stage', 'target']);

create table idempotency_keys (
    project_id   uuid not null references projects on delete cascade,
    key          text not null check (length(key) between 1 and 255),
    job_id       uuid not null,
    request_hash bytea not null,
    created_at   timestamptz not null default now(),
    primary key (project_id, key)
);
create index idempotency_keys_age on idempotency_keys (created_at);

-- One row per request sent (or about to be) to a provider. It exists before the provider is called (P8).
create table attempts (
    id           uuid primary key,
    job_id       uuid not null references jobs on delete cascade,
    project_id   uuid not null,
    number       int not null,
    provider     text not null,
    endpoint     text not null,
    token_hash   bytea not null,          -- of the secret in the webhook's path
    state        text not null default 'sending' check (state in
        ('sending', 'refused', 'unknown', 'accepted', 'succeeded', 'failed', 'canceled', 'abandoned')),
    sent_at      timestamptz not null default now(),
    accepted_at  timestamptz,
    ended_at     timestamptz,
    task_id      text,
    handle       jsonb,
    outputs      jsonb,                   -- what the provider said it made, kept until it is stored
    said         jsonb,                   -- the last word proven by its own signature, where there is none to ask
    failure      jsonb,
    cost         jsonb,
    watched_at   timestamptz,             -- an abandoned one is looked at now and then: what it cost is to be known
    unique (job_id, number)
);
create unique index attempts_task on attempts (provider, task_id) where task_id is not null;
create index attempts_abandoned on attempts (sent_at) where state = 'abandoned';

-- What the machinery must do next for an unfinished job: a lease for whoever does it, and when to look again (P5).
create table job_work (
    job_id      uuid primary key references jobs on delete cascade,
    project_id  uuid not null,
    provider    text not null,
    priority    int not null default 0,
    created_at  timestamptz not null default now(),
    lease_by    text,
    lease_until timestamptz,
    poked       boolean not null default false,  -- a hint came while somebody held the lease
    look_at     timestamptz not null default now(),
    looks       int not null default 0,
    heard_at    timestamptz,                     -- last word from the provider
    cancel_sent_at timestamptz,                  -- the provider answered our wish to stop
    slot        boolean not null default false,  -- counts against the limits
    blocked     text check (blocked in ('provider', 'project', 'rate', 'paused'))
);
create index job_work_due on job_work (look_at);
create index job_work_slots on job_work (provider) where slot;
create index job_work_project_slots on job_work (project_id) where slot;
create index job_work_blocked on job_work (provider, priority desc, created_at) where blocked is not null;

-- Progress is pushed, not logged: a row here is the last word for those who ask.
create table job_progress (
    job_id         uuid primary key references jobs on delete cascade,
    percent        real,
    queue_position int,
    message        text,
    logs           text[] not null default '{}',
    running_at     timestamptz,
    updated_at     timestamptz not null default now()
);

-- Webhooks exactly as they came (P4). The unique key makes a double or a replay one event.
create table inbox (
    id           bigint generated always as identity primary key,
    provider     text not null,
    event_key    text not null,
    attempt_id   uuid not null,
    job_id       uuid not null,
    received_at  timestamptz not null,
    headers      jsonb not null,
    body         bytea not null,
    task_id      text,
    observation  jsonb,                   -- only where the signature covers the body
    is_proven    boolean not null default false, -- it is a result, by its signature, whose files are in our storage
    processed_at timestamptz,
    outcome      text,
    unique (provider, event_key)
);
create index inbox_waiting on inbox (id) where processed_at is null;
create index inbox_age on inbox (received_at);

create table job_trace (
    id      bigint generated always as identity primary key,
    job_id  uuid not null references jobs on delete cascade,
    attempt int not null default 0,
    at      timestamptz not null default clock_timestamp(),
    step    text not null,
    detail  jsonb
);
create index job_trace_of_job on job_trace (job_id, id);

-- What this installation learnt about a model: the last durations, newest last (J10, P5).
create table model_durations (
    provider   text not null,
    endpoint   text not null,
    durations_s real[] not null,
    updated_at timestamptz not null default now(),
    primary key (provider, endpoint)
);

-- Rate limit per provider as a GCRA clock: the theoretical arrival time of the next request.
create table provider_pace (
    provider     text primary key,
    next_at      timestamptz not null default now(),
    paused_until timestamptz,
    paused_why   text
);

-- Who may be sent now (jobs/limits.py says it in words). One round trip; each count is read under the locks.
-- A limit of 5,000 or more is no limit: counting that many rows for every job would cost more than it saves.
create function take_place(
    job uuid, at_provider text, of_project uuid, provider_places int, project_places int, interval_s float8, burst_s float8,
    out why text, out until timestamptz
) language plpgsql as $$
declare
    limited int := coalesce((select concurrency from project_limits where project_id = of_project), project_places);
begin
    select paused_until into until from provider_pace where provider = at_provider and paused_until > now();
    if found then
        why := 'paused';
        return;
    end if;
    -- Provider before project, always: two locks in one order cannot deadlock.
    if provider_places < 5000 then
        perform pg_advisory_xact_lock(23041, hashtext(at_provider));
        if (select count(*) from job_work where slot and provider = at_provider) >= provider_places then
            why := 'provider';
            return;
        end if;
    end if;
    if limited < 5000 then
        perform pg_advisory_xact_lock(23042, hashtext(of_project::text));
        if (select count(*) from job_work where slot and project_id = of_project) >= limited then
            why := 'project';
            return;
        end if;
    end if;
    if interval_s is not null then
        -- GCRA: take a turn, or learn that there is none yet.
        insert into provider_pace as p (provider, next_at) values (at_provider, now() + make_interval(secs => interval_s))
        on conflict (provider) do update
            set next_at = greatest(p.next_at, now()) + make_interval(secs => interval_s)
            where p.next_at <= now() + make_interval(secs => burst_s - interval_s);
        if not found then
            why := 'rate';
            return;
        end if;
    end if;
    update job_work set slot = true, blocked = null where job_id = job;
end $$;

-- take_place for many, in one round trip. Every lock that any of them needs is taken first and in one order:
-- the jobs (whoever cancels one locks it before its work), providers by name, then projects.
create function take_places(
    jobs uuid[], at_providers text[], of_projects uuid[], provider_places int[], project_places int,
    intervals_s float8[], bursts_s float8[]
) returns table (job uuid, why text, until timestamptz) language plpgsql as $$
begin
    perform 1 from public.jobs j where j.id = any (jobs) order by j.id for no key update;
    perform pg_advisory_xact_lock(23041, hash) from (
        select distinct hashtext(a.provider) as hash from unnest(at_providers, provider_places) as a (provider, places)
        where a.places < 5000 order by hash) as providers;
    perform pg_advisory_xact_lock(23042, hash) from (
        select distinct hashtext(a.project::text) as hash from unnest(of_projects) as a (project)
        left join project_limits l on l.project_id = a.project
        where coalesce(l.concurrency, project_places) < 5000 order by hash) as projects;
    return query
        select a.job, t.why, t.until
        from (select * from unnest(jobs, at_providers, of_projects, provider_places, intervals_s, bursts_s)
                  with ordinality as u (job, provider, project, places, interval_s, burst_s, ord) order by u.ord) as a,
            lateral take_place(a.job, a.provider, a.project, a.places, project_places, a.interval_s, a.burst_s) as t;
end $$;

create table project_limits (
    project_id  uuid primary key references projects on delete cascade,
    concurrency int not null check (concurrency between 1 and 10000)
);
