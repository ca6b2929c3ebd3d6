-- The change log (S1): one gapless, commit-ordered sequence of entries per project, written by triggers.
-- Why statement-level triggers, what was measured, and the lock order: docs/decisions/003-change-log-triggers.md.

create table project_heads (
    project_id uuid primary key, -- no foreign key: the entry that deletes a project is in the log too
    epoch      uuid not null default gen_random_uuid(), -- another life of the log has another epoch
    head       bigint not null check (head >= 0),
    at         timestamptz not null default clock_timestamp() -- of the last entry; never goes back
) with (fillfactor = 25); -- every commit updates a row in place (HOT): leave room for its versions

create table changes (
    project_id uuid not null,
    seq        bigint not null,
    at         timestamptz not null, -- never decreases with seq, so old partitions are a prefix of every log
    tbl        text not null,
    op         text not null check (op in ('insert', 'update', 'delete')),
    id         uuid not null,
    row        jsonb, -- the whole row after; null for a delete
    old        jsonb, -- the whole row before for a delete; for an update the columns named to track_changes
    origin     text,  -- the client instance that caused it (header Safelight-Client)
    primary key (project_id, seq, at)
) partition by range (at);

-- Nobody has to have made partitions for a write to succeed.
create table changes_default partition of changes default;

-- Makes the daily partitions (UTC) from today to `days_ahead` days on; returns the names of those it made.
-- Entries that the default partition caught for such a day move into it.
create function ensure_change_partitions(days_ahead int default 7) returns setof text
language plpgsql set search_path = pg_catalog, public, pg_temp as $fn$
declare
    day  date;
    name text;
begin
    perform pg_advisory_xact_lock(5963793, 1); -- two maintainers at once
    for day in select d::date from generate_series(
        (clock_timestamp() at time zone 'UTC')::date::timestamp,
        (clock_timestamp() at time zone 'UTC')::date::timestamp + make_interval(days => days_ahead),
        interval '1 day') as d
    loop
        name := 'changes_' || to_char(day, 'YYYYMMDD');
        continue when to_regclass('public.' || name) is not null;
        execute format('create table public.%I (like public.changes including defaults including constraints)', name);
        lock table public.changes_default in access exclusive mode; -- nothing slips in between move and attach
        execute format(
            'with moved as (delete from public.changes_default where at >= %L and at < %L returning *)
             insert into public.%I select * from moved',
            day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC', name);
        execute format('alter table public.changes attach partition public.%I for values from (%L) to (%L)', name,
            day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
        return next name;
    end loop;
end
$fn$;

create function refuse_truncate() returns trigger language plpgsql as $fn$
begin
    raise exception 'TRUNCATE of % would bypass the change log', tg_table_name
        using errcode = 'feature_not_supported', hint = 'Use DELETE: its rows are logged.';
end
$fn$;

-- Puts a table under the change log. Again with other arguments: replaces what was installed; also to be called
-- again after a partition was added, so that statements aimed at the partition itself are logged too.
--
-- What an entry says is what the row IS when the entry is written, looked up by id, and not what the statement's
-- transition table remembers: PostgreSQL pools the rows of cascaded statements and runs nested triggers first, so
-- remembered rows may come out of order (a row deleted, then "updated"). A row that is there is logged as it is; one
-- that is gone, or in another project now, only as a delete. So the last entry of a row is always its last state.
create function track_changes(
    tbl regclass, project_column text default 'project_id', old_columns text[] default '{}'
) returns void language plpgsql set search_path = pg_catalog, public, pg_temp as $fn$
declare
    table_name text;
    full_name  text;
    fn_name    text;
    old_expr   text := 'null::jsonb';
    part       regclass;
    event      text;
    tail       text;
begin
    select c.relname, format('%I.%I', n.nspname, c.relname) into table_name, full_name
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = tbl;
    fn_name := 'capture_' || table_name;
    if not exists (select from pg_attribute where attrelid = tbl and attname = 'id' and atttypid = 'uuid'::regtype
                      and attnotnull and not attisdropped) then
        raise exception 'track_changes: % needs a column "id uuid not null"', full_name;
    end if;
    if not exists (select from pg_index i join pg_attribute a on a.attrelid = tbl and a.attnum = i.indkey[0]
                    where i.indrelid = tbl and i.indisunique and a.attname = 'id') then
        raise exception 'track_changes: % needs a unique index that begins with "id"', full_name;
    end if;
    if exists (select from pg_attribute where attrelid = tbl and attname in ('_old', '_new', '_now')) then
        raise exception 'track_changes: columns of % must not be called _old, _new or _now', full_name;
    end if;
    if cardinality(old_columns) > 0 then
        select format('jsonb_build_object(%s)', string_agg(format('%L, _old.%I', col, col), ', ' order by ord))
          into old_expr from unnest(old_columns) with ordinality as x(col, ord);
    end if;

    execute format($make$
create or replace function public.%1$I() returns trigger
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $capture$
begin
    -- One statement each: who is concerned (numbered in the statement's own order), what is there now,
    -- the heads in project order (lock order), the entries. Old and new rows pair by position: by id a row that
    -- a cascade changed twice would pair with itself crosswise.
    if tg_op = 'INSERT' then
        with entries as materialized (
            select p.ord, p.project, p.id, to_jsonb(_now) as row
              from (select row_number() over () as ord, _new.%3$I as project, _new.id from new_rows _new) p
              join %2$s _now on _now.id = p.id and _now.%3$I = p.project
        ), heads as (%6$s)
        insert into public.changes (project_id, seq, at, tbl, op, id, row, old, origin)
        select e.project, %7$s, h.at, %4$L, 'insert', e.id, e.row, null, %8$s
          from entries e join heads h on h.project_id = e.project;
    elsif tg_op = 'DELETE' then
        with entries as materialized (
            select p.ord, p.project, p.id, p.old
              from (select row_number() over () as ord, _old.%3$I as project, _old.id, to_jsonb(_old) as old from old_rows _old) p
             where p.project is not null
               and not exists (select from %2$s _now where _now.id = p.id and _now.%3$I = p.project)
        ), heads as (%6$s)
        insert into public.changes (project_id, seq, at, tbl, op, id, row, old, origin)
        select e.project, %7$s, h.at, %4$L, 'delete', e.id, null, e.old, %8$s
          from entries e join heads h on h.project_id = e.project;
    else
        with pairs as materialized (
            select o.ord * 2 as ord, o.id as old_id, o.project as old_project, o.old_row, o.old_part,
                   n.id, n.project, (o.id, o.project) is not distinct from (n.id, n.project) as stays
              from (select row_number() over () as ord, _old.id, _old.%3$I as project, to_jsonb(_old) as old_row,
                           %5$s as old_part, _old as image from old_rows _old) o
              join (select row_number() over () as ord, _new.id, _new.%3$I as project, _new as image
                      from new_rows _new) n
                on n.ord = o.ord
             where o.image *<> n.image
        ), entries as materialized (
            select p.ord, p.old_project as project, 'delete' as op, p.old_id as id, null::jsonb as row, p.old_row as old
              from pairs p
             where not p.stays and p.old_project is not null
               and not exists (select from %2$s _now where _now.id = p.old_id and _now.%3$I = p.old_project)
            union all
            select p.ord + 1, p.project, case when p.stays then 'update' else 'insert' end, p.id, to_jsonb(_now),
                   case when p.stays then p.old_part end
              from pairs p join %2$s _now on _now.id = p.id and _now.%3$I = p.project
        ), heads as (%6$s)
        insert into public.changes (project_id, seq, at, tbl, op, id, row, old, origin)
        select e.project, %7$s, h.at, %4$L, e.op, e.id, e.row, e.old, %8$s
          from entries e join heads h on h.project_id = e.project;
    end if;
    return null;
end
$capture$
$make$,
        fn_name, full_name, project_column, table_name, old_expr,
        -- NOTIFY inside the transaction makes commits wait for each other's flush: off unless the installation
        -- asks for it (alter database … set safelight.notify_in_trigger = on), because others write there by SQL.
        $sql$
            insert into public.project_heads as h (project_id, head)
            select project, count(*) from entries group by project order by project
            on conflict (project_id) do update
               set head = h.head + excluded.head, at = greatest(h.at, clock_timestamp())
            returning h.project_id, h.head, h.at,
                      case current_setting('safelight.notify_in_trigger', true)
                          when 'on' then pg_notify('safelight_hint', h.project_id::text)::text end
        $sql$,
        'h.head - count(*) over (partition by e.project) + row_number() over (partition by e.project order by e.ord)',
        $sql$nullif(current_setting('safelight.origin', true), '')$sql$);
    execute format('revoke all on function public.%I() from public', fn_name);

    for part in select relid from pg_partition_tree(tbl) union select tbl loop
        foreach event in array array['insert', 'update', 'delete'] loop
            tail := case event
                when 'insert' then 'referencing new table as new_rows'
                when 'delete' then 'referencing old table as old_rows'
                else 'referencing old table as old_rows new table as new_rows' end;
            execute format('create or replace trigger %I after %s on %s %s for each statement execute function public.%I()',
                'changes_' || event, event, part, tail, fn_name);
            -- also under session_replication_role = replica
            execute format('alter table %s enable always trigger %I', part, 'changes_' || event);
        end loop;
        execute format('create or replace trigger changes_truncate before truncate on %s
                        for each statement execute function public.refuse_truncate()', part);
        execute format('alter table %s enable always trigger changes_truncate', part);
    end loop;
end
$fn$;

select ensure_change_partitions();
select track_changes('projects', 'id', '{name}');
