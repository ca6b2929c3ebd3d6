-- The library: what was made, how it is arranged, and what it can be made from.

create table generations (
    id           uuid primary key,       -- uuid5(job id, output index): a client that knows the job knows the tile
    project_id   uuid not null references projects on delete cascade,
    job_id       uuid not null references jobs on delete cascade,
    output_index int not null check (output_index >= 0),
    kind         text not null check (kind in ('image', 'video', 'audio')),
    mime         text not null,
    width        int,
    height       int,
    duration_s   real,
    bytes        bigint not null check (bytes > 0),
    sha256       bytea,
    thumbhash    text,                   -- base64
    files        jsonb not null,         -- storage keys: {original, poster, thumbs: {"256": …, "1024": …}, avif: {…}}
    meta         jsonb not null default '{}',
    starred      boolean not null default false,
    shots        jsonb not null default '[]', -- [{shot_id, position}], kept by the trigger below
    prompt       text,
    model        text not null,
    created_at   timestamptz not null default now(),
    deleted_at   timestamptz,
    unique (job_id, output_index)
);
create index generations_newest on generations (project_id, created_at desc, id desc) where deleted_at is null;
create index generations_starred on generations (project_id, created_at desc, id desc) where starred and deleted_at is null;
create index generations_shots on generations using gin (shots jsonb_path_ops);
-- Slashes and dots apart, or PostgreSQL reads google/nano-banana as one path and finds no part of it.
create index generations_search on generations using gin (
    to_tsvector('simple', translate(coalesce(prompt, '') || ' ' || model, '/-_.:@', '      ')));
select track_changes('generations'::regclass, old_columns => array['starred', 'shots', 'deleted_at']);

create table shots (
    id         uuid primary key default gen_random_uuid(),
    project_id uuid not null references projects on delete cascade,
    name       text not null check (length(name) between 1 and 200),
    position   text not null default 'a0' collate "C", -- fractional index among the project's shots
    settings   jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index shots_of_project on shots (project_id, position, id);
select track_changes('shots'::regclass, old_columns => array['name', 'position']);

create table shot_generations (
    id            uuid primary key default gen_random_uuid(),
    project_id    uuid not null references projects on delete cascade,
    shot_id       uuid not null references shots on delete cascade,
    generation_id uuid not null references generations on delete cascade,
    position      text collate "C",      -- fractional index; null = in the shot, not positioned
    created_at    timestamptz not null default now(),
    unique (shot_id, generation_id)
);
create index shot_generations_of_generation on shot_generations (generation_id);
create index shot_generations_in_order on shot_generations (shot_id, position, id);

-- Keeps generations.shots equal to the join table, whoever writes it.
create function mirror_generation_shots() returns trigger language plpgsql as $$
declare
    touched uuid[];
begin
    if tg_op = 'INSERT' then
        select array_agg(distinct generation_id) into touched from new_rows;
    elsif tg_op = 'DELETE' then
        select array_agg(distinct generation_id) into touched from old_rows;
    else
        select array_agg(distinct generation_id) into touched
        from (select generation_id from new_rows union all select generation_id from old_rows) as both_sides;
    end if;
    update generations g
    set shots = coalesce((
        select jsonb_agg(jsonb_build_object('shot_id', s.shot_id, 'position', s.position) order by s.shot_id)
        from shot_generations s where s.generation_id = g.id), '[]')
    where g.id = any (touched);
    return null;
end $$;
create trigger mirror_insert after insert on shot_generations
    referencing new table as new_rows for each statement execute function mirror_generation_shots();
create trigger mirror_update after update on shot_generations
    referencing old table as old_rows new table as new_rows for each statement execute function mirror_generation_shots();
create trigger mirror_delete after delete on shot_generations
    referencing old table as old_rows for each statement execute function mirror_generation_shots();
select track_changes('shot_generations'::regclass, old_columns => array['shot_id', 'generation_id', 'position']);

create table nodes (
    id         uuid primary key default gen_random_uuid(),
    project_id uuid not null references projects on delete cascade,
    type       text not null check (length(type) between 1 and 50),
    x          double precision not null default 0,
    y          double precision not null default 0,
    width      double precision,
    height     double precision,
    data       jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index nodes_of_project on nodes (project_id, id);
select track_changes('nodes'::regclass);

create table edges (
    id         uuid primary key default gen_random_uuid(),
    project_id uuid not null references projects on delete cascade,
    source     uuid not null references nodes on delete cascade,
    target     uuid not null references nodes on delete cascade,
    data       jsonb not null default '{}',
    created_at timestamptz not null default now(),
    unique (source, target)
);
create index edges_of_project on edges (project_id, id);
create index edges_by_target on edges (target);
select track_changes('edges'::regclass);

create table templates (
    id         uuid primary key default gen_random_uuid(),
    project_id uuid not null references projects on delete cascade,
    slug       text not null check (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name       text not null check (length(name) between 1 and 200),
    model      text not null,
    input      jsonb not null,
    start      text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (project_id, slug)
);

create table uploads (
    id          uuid primary key,
    project_id  uuid not null references projects on delete cascade,
    state       text not null default 'pending' check (state in ('pending', 'ready')),
    filename    text,
    kind        text,
    mime        text,
    width       int,
    height      int,
    duration_s  real,
    bytes       bigint not null,
    received    bigint not null default 0,
    sha256      bytea,
    thumbhash   text,
    storage_key text,
    created_at  timestamptz not null default now(),
    expires_at  timestamptz,             -- of an unfinished one
    check ((state = 'ready') = (storage_key is not null))
);
create unique index uploads_by_hash on uploads (project_id, sha256) where state = 'ready';
create index uploads_unfinished on uploads (expires_at) where state = 'pending';
