-- Outgoing webhooks (J12). An event is written by the transaction that changes the job, once, with one delivery for each
-- endpoint that wants it; the sender (outgoing/sender.py) does the rest. Internal tables: none of them is in the change
-- log, because an endpoint's address may hold a secret and is for the project's owners only.

create table webhook_endpoints (
    id            uuid primary key default gen_random_uuid(),
    project_id    uuid not null references projects on delete cascade,
    url           text not null check (length(url) between 1 and 2000),
    description   text not null default '' check (length(description) <= 500),
    events        text[] not null check (cardinality(events) > 0), -- '*': every event of jobs
    disabled_at   timestamptz,
    disabled_why  text check (disabled_why in ('by_hand', 'gone', 'failing')),
    failing_since timestamptz,            -- of the first failure that no success has followed
    failures      int not null default 0, -- in a row
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    check ((disabled_at is null) = (disabled_why is null))
);
create index webhook_endpoints_of_project on webhook_endpoints (project_id, created_at desc, id desc);
create index webhook_endpoints_enabled on webhook_endpoints (project_id) where disabled_at is null;

-- What a secret is derived from, with the installation's own key: the secrets themselves are stored nowhere
-- (outgoing/secret.py). A rotated one signs beside the new until it expires. `owner`: an endpoint, or a project.
create table webhook_salts (
    owner      uuid not null,
    salt       bytea not null,
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz,               -- null: the one in force
    primary key (owner, salt)
);
create unique index webhook_salts_in_force on webhook_salts (owner) where expires_at is null;

-- A deleted owner's go with it: nobody could ever be proven anything by them.
create function forget_salts() returns trigger
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
begin
    delete from public.webhook_salts where owner = old.id;
    return null;
end $$;
revoke all on function forget_salts() from public;
create trigger forget_salts after delete on webhook_endpoints for each row execute function forget_salts();
create trigger forget_webhook_salts after delete on projects for each row execute function forget_salts();

-- What happened: the job as it was then, without its input, which never changes and may be large.
create table webhook_events (
    id         uuid primary key default gen_random_uuid(),
    project_id uuid not null,             -- no foreign keys here: writing an event must wait for nobody
    job_id     uuid,
    type       text not null,
    at         timestamptz not null default clock_timestamp(),
    job        jsonb
);
create index webhook_events_age on webhook_events (at);

-- To whom it is told. The id is the `webhook-id` that the receiver sees, the same at every try.
create table webhook_deliveries (
    id          uuid primary key default gen_random_uuid(),
    event_id    uuid not null references webhook_events on delete cascade,
    project_id  uuid not null,
    job_id      uuid,
    type        text not null,
    endpoint_id uuid,                     -- null: the job's own webhook_url
    url         text,
    lane        text not null,            -- what must not be overrun, and must not hold up the others
    state       text not null default 'pending' check (state in ('pending', 'delivered', 'failed', 'stopped')),
    tries       int not null default 0,   -- since it was made, or replayed
    due_at      timestamptz not null default now(), -- of the next try; while one is under way, the end of its lease
    claim       uuid,                     -- whose try is under way
    claimed_at  timestamptz,
    created_at  timestamptz not null default clock_timestamp(),
    ended_at    timestamptz,
    stopped_why text,
    check ((endpoint_id is null) = (url is not null)),
    check ((state = 'pending') = (ended_at is null)),
    unique nulls not distinct (event_id, endpoint_id)
);
create index webhook_deliveries_due on webhook_deliveries (due_at) where state = 'pending';
create index webhook_deliveries_lanes on webhook_deliveries (lane, due_at) where state = 'pending';
create index webhook_deliveries_of_project on webhook_deliveries (project_id, created_at desc, id desc);
create index webhook_deliveries_of_endpoint on webhook_deliveries (endpoint_id, created_at desc, id desc);

create table webhook_tries (
    id          bigint generated always as identity primary key,
    delivery_id uuid not null references webhook_deliveries on delete cascade,
    at          timestamptz not null,
    duration_ms int,
    status      int,                      -- null: no answer
    error       text,                     -- null: delivered
    response    text                      -- the beginning of the answer's body
);
create index webhook_tries_of_delivery on webhook_tries (delivery_id, id);

-- The moments that are told. Nearly every job of nearly every project is told to nobody: that costs one look into an
-- index, twice in the life of a job. Nothing here waits for a lock.
create function announce_job() returns trigger
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    kind text;
begin
    if new.webhook_url is null and not exists (
            select from public.webhook_endpoints w where w.project_id = new.project_id and w.disabled_at is null) then
        return null;
    end if;
    kind := 'job.' || new.status;
    with wanted as (
        select w.id as endpoint_id, null::text as url, w.id::text as lane
        from public.webhook_endpoints w
        where w.project_id = new.project_id and w.disabled_at is null and w.events && array[kind, '*']
        union all
        -- The job's own address hears how it ended. (Whatever somebody wrote there by hand: a job never fails for it.)
        select null, new.webhook_url,
            new.project_id || ' ' || coalesce(lower(substring(new.webhook_url from '^[^/]*//([^/?#]*)')), '')
        where new.webhook_url is not null and new.status <> 'processing'
    ), event as (
        insert into public.webhook_events (project_id, job_id, type, job)
        select new.project_id, new.id, kind, to_jsonb(new) - array['input', 'request_hash', 'created_by', 'webhook_url']
        where exists (select from wanted)
        returning id
    )
    insert into public.webhook_deliveries (event_id, project_id, job_id, type, endpoint_id, url, lane)
    select event.id, new.project_id, new.id, kind, wanted.endpoint_id, wanted.url, wanted.lane from event, wanted;
    return null;
end $$;
revoke all on function announce_job() from public;
create trigger announce_job after update of stage on jobs
    for each row when (old.status is distinct from new.status and new.status <> 'pending')
    execute function announce_job();
