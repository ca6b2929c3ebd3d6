-- Projects, the people in them, the keys that open them, and the settings of the installation.

create table projects (
    id         uuid primary key default gen_random_uuid(),
    name       text not null check (length(name) between 1 and 200),
    created_at timestamptz not null default now()
);

create table members (
    project_id uuid not null references projects on delete cascade,
    user_id    text not null check (length(user_id) between 1 and 200),
    role       text not null check (role in ('owner', 'editor', 'viewer')),
    created_at timestamptz not null default now(),
    primary key (project_id, user_id)
);
create index members_by_user on members (user_id);

-- A key is kept only as its SHA-256: 32 random bytes need no slow hash.
create table api_keys (
    id           uuid primary key default gen_random_uuid(),
    project_id   uuid references projects on delete cascade, -- null: every project of the installation
    kind         text not null check (kind in ('secret', 'publishable')),
    name         text not null default '',
    hash         bytea not null unique,
    prefix       text not null,
    created_at   timestamptz not null default now(),
    last_used_at timestamptz,
    revoked_at   timestamptz
);

-- A one-time link that a browser trades for a session cookie.
create table studio_links (
    hash       bytea primary key,
    user_id    text not null,
    project_id uuid not null references projects on delete cascade,
    expires_at timestamptz not null,
    used_at    timestamptz
);

create table flags (
    name       text primary key,
    value      jsonb not null,
    updated_at timestamptz not null default now()
);

-- Secrets that the installation made for itself (media signing, session cookies); set ones come from the environment.
create table secrets (
    name       text primary key,
    value      bytea not null,
    created_at timestamptz not null default now()
);

create table audit_log (
    id         bigint generated always as identity primary key,
    at         timestamptz not null default now(),
    actor      text not null,
    action     text not null,
    project_id uuid,
    detail     jsonb not null default '{}'
);

-- `… and (select lazily())` in a statement: its commit does not wait for the disk. For what a crash may forget, such as
-- who held which lease: the next look finds out again.
create function lazily() returns boolean language sql volatile as $$
    select set_config('synchronous_commit', 'off', true) is not null
$$;
