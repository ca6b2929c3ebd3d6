-- Failover (P6): who may make a job, how each provider is, what became of attempts that were given up, and models that
-- were defined through the API. Internal tables: none of them is in the change log.

-- The submit named its provider: no other is asked.
alter table jobs add column pinned boolean not null default false;

-- One row for each provider, and for each endpoint of one, that failed of late (jobs/breaker.py). All nodes read it,
-- whoever sees a failure writes it. All times are the database's: nodes' clocks differ.
create table provider_breakers (
    provider   text not null,
    endpoint   text not null default '',     -- '': the provider as a whole
    state      text not null default 'closed' check (state in ('closed', 'open', 'half_open')),
    failures   int not null default 0,       -- in a row
    failed_at  timestamptz,
    trips      int not null default 0,       -- openings since it was last well
    changed_at timestamptz not null default 'epoch',
    until      timestamptz,                  -- of the cool-down, or of the probe
    said       text,                         -- the last failure, in words
    primary key (provider, endpoint),
    check ((state = 'closed') = (until is null))
);

-- Jobs that wait because every provider they may be made by is out of service.
alter table job_work drop constraint job_work_blocked_check;
alter table job_work add constraint job_work_blocked_check
    check (blocked in ('provider', 'project', 'rate', 'paused', 'breaker'));

-- Of an attempt that was given up: it was asked to stop, and it ended well all the same (its result is not shown).
alter table attempts add column stop_asked_at timestamptz;
alter table attempts add column late boolean not null default false;

-- Models by API. They lie over those of the files; `version` is what tells the nodes that something changed.
create table models (
    name       text primary key check (length(name) between 1 and 200),
    body       jsonb not null,
    updated_at timestamptz not null default now(),
    updated_by text not null default ''
);
create table models_version (
    one     boolean primary key default true check (one),
    version bigint not null
);
insert into models_version (version) values (0);
create function models_changed() returns trigger language plpgsql as $$
begin
    update models_version set version = version + 1 where one;
    return null;
end $$;
create trigger models_changed after insert or update or delete on models
    for each statement execute function models_changed();
