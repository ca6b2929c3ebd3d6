-- The fal door (K4): what a client was told a file will be called, and who wants to hear how a request ended.
-- Internal tables: none of them is in the change log. The job and the upload they belong to are rows like any other.

create table fal_files (
    id         uuid primary key,          -- in the file's address, which is given out before the bytes are there
    project_id uuid not null references projects on delete cascade,
    upload_id  uuid not null references uploads on delete cascade,
    created_at timestamptz not null default now()
);
create index fal_files_of_project on fal_files (project_id);
create index fal_files_of_upload on fal_files (upload_id);

create table fal_callbacks (
    job_id     uuid primary key,          -- written before its job is, so no foreign key
    project_id uuid not null,
    url        text not null check (length(url) between 1 and 2000),
    -- What must not be overrun, and must not hold up the others: a project's host.
    lane       text not null generated always as (
        project_id::text || ' ' || coalesce(lower(substring(url from '^[^/]*//([^/?#]*)')), '')) stored,
    created_at timestamptz not null default now(),
    due_at     timestamptz,               -- of the next try; null: the job goes on, or nothing is left to do
    claim      uuid,                      -- whose try is under way
    tries      int not null default 0,
    ended_at   timestamptz,               -- delivered, or given up
    check (due_at is null or ended_at is null)
);
create index fal_callbacks_due on fal_callbacks (due_at) where due_at is not null;
create index fal_callbacks_lanes on fal_callbacks (lane, due_at) where due_at is not null;
create index fal_callbacks_open on fal_callbacks (created_at) where ended_at is null;
create index fal_callbacks_ended on fal_callbacks (ended_at) where ended_at is not null;

-- However a job ends, its callback is due from that commit on. A job that is retried and ends again is told again.
create function fal_call_back() returns trigger
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
begin
    update public.fal_callbacks set due_at = clock_timestamp(), claim = null, tries = 0, ended_at = null
    where job_id = new.id;
    return null;
end $$;
revoke all on function fal_call_back() from public;
create trigger fal_call_back after update of stage on jobs
    for each row when (old.status is distinct from new.status and new.status in ('completed', 'failed', 'canceled'))
    execute function fal_call_back();
