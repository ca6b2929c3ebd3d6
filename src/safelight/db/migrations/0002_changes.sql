-- The change log (S1): one gapless, commit-ordered sequence of entries per project, written by triggers.
-- Two steps. Triggers collect, per statement, which rows were touched; a deferred trigger numbers them at the commit,
-- so that the head of a project is locked only for the commit itself and after every other lock, never while a client
-- thinks between two statements. What was measured, and the lock order: docs/decisions/003-change-log-triggers.md.

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

-- What this transaction touched and has not numbered yet: one row for up to a thousand rows of a statement, written and
-- deleted by the same transaction, so never seen by another and not worth a place in the write-ahead log.
create unlogged table change_pending (
    id       bigint generated always as identity (cache 16) primary key,
    tbl      text not null,
    projects uuid[] not null,
    ids      uuid[] not null,
    ops      text[] not null,
    olds     jsonb[] not null
) with (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0);

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
-- An entry says what the row IS at the commit, looked up by id, and not what the statement remembered: PostgreSQL pools
-- the rows of cascaded statements and runs nested triggers first, so remembered rows may come out of order (a row
-- deleted, then "updated"). A row that is there is logged as it is; one that is gone, or in another project now, only
-- as a delete. So the last entry of a row in a transaction is always its last state.
create function track_changes(
    tbl regclass, project_column text default 'project_id', old_columns text[] default '{}'
) returns void language plpgsql set search_path = pg_catalog, public, pg_temp as $fn$
declare
    table_name text;
    full_name  text;
    old_expr   text := 'null::jsonb';
    part       regclass;
    event      text;
begin
    select c.relname, format('%I.%I', n.nspname, c.relname) into table_name, full_name
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = tbl;
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

    -- Collect. Old and new rows pair by position: by id, a row that a cascade changed twice would pair crosswise.
    execute format($make$
create or replace function public.%1$I() returns trigger
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $capture$
begin
    if tg_op = 'INSERT' then
        insert into public.change_pending (tbl, projects, ids, ops, olds)
        select %4$L, array_agg(e.project order by e.ord), array_agg(e.id order by e.ord),
               array_agg('insert'::text), array_agg(null::jsonb)
          from (select row_number() over () as ord, _new.%3$I as project, _new.id from new_rows _new) e
         where e.project is not null
         group by e.ord / 1000 order by e.ord / 1000;
    elsif tg_op = 'DELETE' then
        insert into public.change_pending (tbl, projects, ids, ops, olds)
        select %4$L, array_agg(e.project order by e.ord), array_agg(e.id order by e.ord),
               array_agg('delete'::text), array_agg(e.image order by e.ord)
          from (select row_number() over () as ord, _old.%3$I as project, _old.id, to_jsonb(_old) as image
                  from old_rows _old) e
         where e.project is not null
         group by e.ord / 1000 order by e.ord / 1000;
    else
        insert into public.change_pending (tbl, projects, ids, ops, olds)
        select %4$L, array_agg(e.project order by e.ord, e.leaves desc), array_agg(e.id order by e.ord, e.leaves desc),
               array_agg(e.op order by e.ord, e.leaves desc), array_agg(e.image order by e.ord, e.leaves desc)
          from (select row_number() over () as ord, _old.id, _old.%3$I as project, to_jsonb(_old) as whole,
                       %5$s as part, _old as row_image from old_rows _old) o
          join (select row_number() over () as ord, _new.id, _new.%3$I as project, _new as row_image
                  from new_rows _new) n on n.ord = o.ord and n.row_image *<> o.row_image,
          -- another project or another id: it leaves there and enters here
          lateral (select (o.id, o.project) is not distinct from (n.id, n.project) as stays) s,
          lateral (select n.ord, n.id, n.project, false as leaves,
                          case when s.stays then 'update' else 'insert' end as op,
                          case when s.stays then o.part end as image
                   union all
                   select o.ord, o.id, o.project, true, 'delete', o.whole where not s.stays) e
         where e.project is not null
         group by e.ord / 1000 order by e.ord / 1000;
    end if;
    return null;
end
$capture$
$make$, 'capture_' || table_name, full_name, project_column, table_name, old_expr);

    -- Number. One statement: what is there now, the heads in project order (lock order), the entries.
    execute format($make$
create or replace function public.%1$I() returns trigger
language plpgsql security definer
set search_path = pg_catalog, public, pg_temp
set plan_cache_mode = force_generic_plan -- planning anew for each array's length costs half of a commit
as $number$
begin
    delete from public.change_pending where id = new.id;
    with entries as materialized (
        select e.ord, e.project, e.id, e.op, e.old, to_jsonb(_now) as row
          from unnest(new.projects, new.ids, new.ops, new.olds) with ordinality as e (project, id, op, old, ord)
          left join %2$s _now on _now.id = e.id and _now.%3$I = e.project
         where (_now.id is null) = (e.op = 'delete')
    ), heads as (
        insert into public.project_heads as h (project_id, head)
        select project, count(*) from entries group by project order by project
        on conflict (project_id) do update
           set head = h.head + excluded.head, at = greatest(h.at, clock_timestamp())
        returning h.project_id, h.head, h.at,
                  -- NOTIFY inside the transaction makes commits wait for each other's flush: off, unless the
                  -- installation asks for it (alter database … set safelight.notify_in_trigger = on) because
                  -- programs that know nothing of Safelight write there.
                  case current_setting('safelight.notify_in_trigger', true)
                      when 'on' then pg_notify('safelight_hint', h.project_id::text)::text end
    )
    insert into public.changes (project_id, seq, at, tbl, op, id, row, old, origin)
    select e.project,
           h.head - count(*) over (partition by e.project) + row_number() over (partition by e.project order by e.ord),
           h.at, %4$L, e.op, e.id, e.row, e.old, nullif(current_setting('safelight.origin', true), '')
      from entries e join heads h on h.project_id = e.project;
    return null;
end
$number$
$make$, 'number_' || table_name, full_name, project_column, table_name);

    execute format('revoke all on function public.%I(), public.%I() from public',
        'capture_' || table_name, 'number_' || table_name);
    execute format('drop trigger if exists %I on public.change_pending', 'number_' || table_name);
    execute format('create constraint trigger %I after insert on public.change_pending deferrable initially deferred
                    for each row when (new.tbl = %L) execute function public.%I()',
        'number_' || table_name, table_name, 'number_' || table_name);
    execute format('alter table public.change_pending enable always trigger %I', 'number_' || table_name);

    for part in select relid from pg_partition_tree(tbl) union select tbl loop
        foreach event in array array['insert', 'update', 'delete'] loop
            execute format('create or replace trigger changes_%s after %s on %s referencing %s
                            for each statement execute function public.%I()',
                event, event, part,
                case event when 'insert' then 'new table as new_rows' when 'delete' then 'old table as old_rows'
                    else 'old table as old_rows new table as new_rows' end,
                'capture_' || table_name);
            -- also under session_replication_role = replica
            execute format('alter table %s enable always trigger changes_%s', part, event);
        end loop;
        execute format('create or replace trigger changes_truncate before truncate on %s
                        for each statement execute function public.refuse_truncate()', part);
        execute format('alter table %s enable always trigger changes_truncate', part);
    end loop;
end
$fn$;

-- The seq of the last change of the project including this transaction's own, which are numbered now and not at the
-- commit: call it last, because from here on the transaction holds the project's head. Null: no such project.
create function changes_head(project uuid) returns bigint
language plpgsql set search_path = pg_catalog, public, pg_temp as $fn$
begin
    set constraints all immediate;
    set constraints all deferred;
    return (select head from public.project_heads where project_id = project);
end
$fn$;

-- As changes_head, for a transaction that wrote to several projects: their heads are taken in one order.
create function changes_heads(projects uuid[]) returns table (project_id uuid, head bigint)
language plpgsql set search_path = pg_catalog, public, pg_temp as $fn$
#variable_conflict use_column
begin
    perform 1 from public.project_heads where project_id = any (projects) order by project_id for no key update;
    set constraints all immediate;
    set constraints all deferred;
    return query select project_id, head from public.project_heads where project_id = any (projects);
end
$fn$;

select ensure_change_partitions();
select track_changes('projects', 'id', '{name}');
