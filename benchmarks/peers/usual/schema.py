"""The one table."""

TABLE = """
create table if not exists results (
    id text primary key, status text not null, key text not null, mime text not null, bytes bigint not null,
    width int not null, height int not null, created_at timestamptz not null default now()
)
"""
INSERT = """
insert into results (id, status, key, mime, bytes, width, height) values ($1, $2, $3, $4, $5, $6, $7)
on conflict do nothing
"""
