-- Credits (C1): a double-entry ledger that balances by construction.
--
-- A transfer moves an amount between two accounts of one project, so every project's accounts sum to zero for ever.
-- Amounts, holds and the visible wallet are kept by one trigger on the append-only transfers; nothing else can write
-- them. The project's wallet account is the gate: whoever moves credits locks it first (account -> job -> head).
-- Ledger ids follow commit order within a project, because they are drawn behind that gate.

create table ledger_accounts (
    project_id uuid not null references projects on delete cascade,
    kind       text not null check (kind in ('wallet', 'held', 'revenue', 'funding')),
    amount     bigint not null default 0, -- credited minus debited
    primary key (project_id, kind),
    constraint ledger_accounts_never_below_zero check (kind in ('revenue', 'funding') or amount >= 0)
);

-- No foreign key to jobs: the hold comes before its job (lock order), and the books outlive jobs.
create table ledger_transfers (
    id         bigint generated always as identity primary key,
    at         timestamptz not null default now(),
    project_id uuid not null references projects on delete cascade,
    debit      text not null, -- the account it leaves
    credit     text not null, -- the account it enters
    amount     bigint not null,
    reason     text not null,
    job_id     uuid,
    round      int,
    note       text check (length(note) <= 500),
    key        text check (length(key) between 1 and 255),
    -- 10^15: a few of them still add up to an integer that JSON readers hold exactly (2^53).
    constraint ledger_transfers_amount check (amount between 1 and 1000000000000000),
    constraint ledger_transfers_way check ((reason, debit, credit) in (
        ('grant', 'funding', 'wallet'),
        ('adjust', 'funding', 'wallet'), ('adjust', 'wallet', 'funding'),
        ('hold', 'wallet', 'held'), ('capture', 'held', 'revenue'), ('release', 'held', 'wallet'),
        ('refund', 'revenue', 'wallet'))),
    constraint ledger_transfers_job check (
        (reason in ('hold', 'capture', 'release', 'refund') and job_id is not null and round is not null and round >= 1)
        or (reason in ('grant', 'adjust') and job_id is null and round is null)),
    constraint ledger_transfers_keyed check ((reason in ('grant', 'adjust', 'refund')) = (key is not null))
);
create unique index ledger_one_capture_per_job on ledger_transfers (job_id) where reason = 'capture';
create unique index ledger_once_per_round on ledger_transfers (job_id, round, reason) where reason in ('hold', 'capture', 'release');
create unique index ledger_once_per_key on ledger_transfers (project_id, key) where key is not null;
create index ledger_history on ledger_transfers (project_id, id);

-- What became of each hold. It is open, or settled whole in one statement: captured + released = amount.
create table ledger_holds (
    job_id     uuid not null,
    round      int not null,
    project_id uuid not null references projects on delete cascade,
    amount     bigint not null,
    captured   bigint not null default 0,
    released   bigint not null default 0,
    refunded   bigint not null default 0,
    primary key (job_id, round),
    constraint ledger_holds_settled_whole check (captured >= 0 and released >= 0 and captured + released in (0, amount)),
    constraint ledger_holds_refund check (refunded between 0 and captured)
);
create unique index ledger_one_open_hold_per_job on ledger_holds (job_id) where captured + released = 0;
create index ledger_open_holds on ledger_holds (project_id) where captured + released = 0;

-- The wallet as people see it. Its id is the project's, so that the change log can name it.
create table credits (
    id         uuid primary key references projects on delete cascade,
    project_id uuid not null,
    available  bigint not null default 0 check (available >= 0),
    held       bigint not null default 0 check (held >= 0),
    balance    bigint not null generated always as (available + held) stored check (balance <= 9007199254740991),
    updated_at timestamptz not null default now(),
    check (id = project_id)
);
select track_changes('credits'::regclass);

-- Every project has its accounts from the moment it exists.
create function ledger_open_accounts() returns trigger
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    insert into ledger_accounts (project_id, kind)
    select id, unnest(array['wallet', 'held', 'revenue', 'funding']) from new_projects;
    insert into credits (id, project_id) select id, id from new_projects;
    return null;
end $$;
insert into ledger_accounts (project_id, kind) select id, unnest(array['wallet', 'held', 'revenue', 'funding']) from projects;
insert into credits (id, project_id) select id, id from projects;
-- The name sorts behind the change log's own triggers: a project's log begins with the project.
create trigger zz_ledger_open_accounts after insert on projects
    referencing new table as new_projects for each statement execute function ledger_open_accounts();

create function ledger_apply() returns trigger
    language plpgsql security definer set search_path = public, pg_temp as $$
declare
    orphans bigint;
    expected bigint;
    written bigint;
begin
    perform 1 from ledger_accounts
    where kind = 'wallet' and project_id in (select project_id from new_transfers)
    order by project_id for no key update;

    insert into ledger_holds (job_id, round, project_id, amount)
    select job_id, round, project_id, amount from new_transfers where reason = 'hold';

    if exists (select 1 from new_transfers where reason in ('capture', 'release', 'refund')) then
        with moved as (
            select job_id, round, project_id,
                coalesce(sum(amount) filter (where reason = 'capture'), 0)::bigint as captured,
                coalesce(sum(amount) filter (where reason = 'release'), 0)::bigint as released,
                coalesce(sum(amount) filter (where reason = 'refund'), 0)::bigint as refunded
            from new_transfers where reason in ('capture', 'release', 'refund')
            group by job_id, round, project_id
        ), applied as (
            update ledger_holds h
            set captured = h.captured + m.captured, released = h.released + m.released, refunded = h.refunded + m.refunded
            from moved m
            where h.job_id = m.job_id and h.round = m.round and h.project_id = m.project_id
            returning 1
        )
        select (select count(*) from moved) - (select count(*) from applied) into orphans;
        if orphans > 0 then
            raise exception 'a capture, release or refund has no hold' using errcode = 'foreign_key_violation',
                hint = 'Each must name the project, job and round of a hold.';
        end if;
    end if;

    with moves as (
        select project_id, kind, sum(delta)::bigint as delta
        from (select project_id, debit as kind, -amount as delta from new_transfers
              union all select project_id, credit, amount from new_transfers) as both_sides
        group by project_id, kind
    ), applied as (
        update ledger_accounts a set amount = a.amount + m.delta
        from moves m where a.project_id = m.project_id and a.kind = m.kind
        returning 1
    )
    select (select count(*) from moves), (select count(*) from applied) into expected, written;
    if written <> expected then
        raise exception 'a ledger account is missing' using errcode = 'foreign_key_violation';
    end if;

    update credits c set available = wallet.amount, held = held.amount, updated_at = now()
    from ledger_accounts wallet, ledger_accounts held
    where c.id in (select project_id from new_transfers)
        and wallet.project_id = c.id and wallet.kind = 'wallet'
        and held.project_id = c.id and held.kind = 'held';
    return null;
end $$;
create trigger ledger_apply after insert on ledger_transfers
    referencing new table as new_transfers for each statement execute function ledger_apply();

-- The guards. A derived table is written at trigger depth 1 or more (by ledger_apply and by the project's birth);
-- at depth 0 it is a hand, and is refused. Rows leave only together with their project.
create function ledger_refuse() returns trigger language plpgsql as $$
begin
    raise exception '% on % is refused: the ledger is append-only', tg_op, tg_table_name
        using errcode = 'restrict_violation', hint = 'Write a transfer that corrects the books (adjust, refund).';
end $$;
create function ledger_refuse_delete() returns trigger
    language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if exists (select 1 from old_rows join projects on projects.id = old_rows.project_id) then
        raise exception 'delete from % is refused: the ledger is append-only', tg_table_name
            using errcode = 'restrict_violation', hint = 'Rows leave only together with their project.';
    end if;
    return null;
end $$;
create trigger ledger_no_update before update or truncate on ledger_transfers
    for each statement execute function ledger_refuse();
create trigger ledger_no_hand before insert or update on ledger_accounts
    for each statement when (pg_trigger_depth() = 0) execute function ledger_refuse();
create trigger ledger_no_hand before insert or update on ledger_holds
    for each statement when (pg_trigger_depth() = 0) execute function ledger_refuse();
create trigger ledger_no_hand before insert or update on credits
    for each statement when (pg_trigger_depth() = 0) execute function ledger_refuse();
create trigger ledger_no_truncate before truncate on ledger_accounts for each statement execute function ledger_refuse();
create trigger ledger_no_truncate before truncate on ledger_holds for each statement execute function ledger_refuse();
create trigger ledger_no_delete after delete on ledger_transfers
    referencing old table as old_rows for each statement execute function ledger_refuse_delete();
create trigger ledger_no_delete after delete on ledger_accounts
    referencing old table as old_rows for each statement execute function ledger_refuse_delete();
create trigger ledger_no_delete after delete on ledger_holds
    referencing old table as old_rows for each statement execute function ledger_refuse_delete();
create trigger ledger_no_delete after delete on credits
    referencing old table as old_rows for each statement execute function ledger_refuse_delete();

-- The three moves, one round trip each. They answer with an outcome instead of raising, so that the caller can say
-- it in its own words; whatever they let through is still judged by the constraints above.

create function ledger_hold(p_project uuid, p_job uuid, p_round int, p_amount bigint, out outcome text, out available bigint)
    language plpgsql as $$
declare
    earlier ledger_holds;
begin
    select a.amount into available from ledger_accounts a
    where a.project_id = p_project and a.kind = 'wallet' for no key update;
    if not found then
        outcome := 'unknown_project';
        return;
    end if;
    select * into earlier from ledger_holds h where h.job_id = p_job and h.round = p_round;
    if found then -- the same hold again is the same hold
        outcome := case when earlier.project_id = p_project and earlier.amount = p_amount
            and earlier.captured + earlier.released = 0 then 'held' else 'conflict' end;
    elsif p_amount = 0 then
        outcome := 'held';
    elsif available < p_amount then
        outcome := 'insufficient';
    else
        insert into ledger_transfers (project_id, debit, credit, amount, reason, job_id, round)
        values (p_project, 'wallet', 'held', p_amount, 'hold', p_job, p_round);
        available := available - p_amount;
        outcome := 'held';
    end if;
end $$;

-- Holds for jobs that are being made, in one round trip: the wallets in one order, then all transfers at once.
-- Where one of them cannot be held none is, and the rows say which project is to blame.
create function ledger_hold_new(p_projects uuid[], p_jobs uuid[], p_amounts bigint[])
    returns table (project_id uuid, outcome text, required bigint, available bigint)
    language plpgsql as $$
#variable_conflict use_column
begin
    perform 1 from ledger_accounts
    where kind = 'wallet' and project_id = any (p_projects) order by project_id for no key update;

    return query
    with asked as (
        select * from unnest(p_projects, p_jobs, p_amounts) as a (project_id, job_id, amount)
    ), judged as (
        select a.project_id, a.amount, w.amount as available,
            case when w.amount is null then 'unknown_project'
                 when w.amount < a.amount then 'insufficient' else 'held' end as outcome
        from (select project_id, sum(amount)::bigint as amount from asked group by project_id) a
        left join ledger_accounts w on w.project_id = a.project_id and w.kind = 'wallet'
    ), moved as (
        insert into ledger_transfers (project_id, debit, credit, amount, reason, job_id, round)
        select project_id, 'wallet', 'held', amount, 'hold', job_id, 1 from asked
        where amount > 0 and not exists (select from judged where outcome <> 'held')
        order by project_id, job_id
    )
    select project_id, outcome, amount, available from judged;
end $$;

-- Settles holds whole: `p_amounts` is captured and the rest released, in one statement for all of them.
-- Strict: if any of them cannot be done, none is. Not strict (release): what is not open is left alone.
create function ledger_settle(p_projects uuid[], p_jobs uuid[], p_rounds int[], p_amounts bigint[], p_strict boolean)
    returns table (job_id uuid, round int, outcome text, captured bigint, released bigint)
    language plpgsql as $$
#variable_conflict use_column
begin
    perform 1 from ledger_accounts
    where kind = 'wallet' and project_id = any (p_projects) order by project_id for no key update;

    return query
    with asked as (
        select * from unnest(p_projects, p_jobs, p_rounds, p_amounts) as a (project_id, job_id, round, amount)
    ), judged as (
        select a.*, h.amount as held,
            case
                when h.job_id is null and a.amount = 0 then 'nothing'
                when h.job_id is null then 'no_hold'
                when h.captured + h.released > 0 then 'settled'
                when a.amount > h.amount then 'exceeds'
                when a.amount > 0 and o.is_charged then 'charged_before'
                else 'done'
            end as outcome
        from asked a
        left join ledger_holds h on h.job_id = a.job_id and h.round = a.round and h.project_id = a.project_id
        left join lateral ( -- not EXISTS, for which the planner may hash all holds there ever were
            select true as is_charged from ledger_holds where job_id = a.job_id and captured > 0 limit 1) as o on true
    ), passed as (
        select * from judged
        where outcome = 'done' and (not p_strict or not exists (
            select 1 from judged where outcome not in ('done', 'nothing')))
    ), moved as (
        insert into ledger_transfers (project_id, debit, credit, amount, reason, job_id, round)
        select project_id, 'held', account, part, reason, job_id, round
        from passed, lateral (values ('capture', 'revenue', passed.amount),
                                     ('release', 'wallet', passed.held - passed.amount)) as m (reason, account, part)
        where part > 0
        order by project_id, job_id, round, reason
        returning 1
    )
    select j.job_id, j.round, j.outcome,
        case when p.job_id is null then 0 else j.amount end,
        case when p.job_id is null then 0 else j.held - j.amount end
    from judged j left join passed p on p.job_id = j.job_id and p.round = j.round;
end $$;

-- Credits that come from or go to the outside, or back from revenue: once per (project, key).
create function ledger_post(p_project uuid, p_reason text, p_amount bigint, p_key text, p_note text, p_actor text,
        p_job uuid default null, p_round int default null, out outcome text, out transfer_id bigint, out available bigint)
    language plpgsql as $$
declare
    way text[];
    earlier ledger_transfers;
begin
    select a.amount into available from ledger_accounts a
    where a.project_id = p_project and a.kind = 'wallet' for no key update;
    if not found then
        outcome := 'unknown_project';
        return;
    end if;
    way := case when p_reason = 'refund' then array['revenue', 'wallet']
                when p_amount < 0 then array['wallet', 'funding']
                else array['funding', 'wallet'] end;
    select * into earlier from ledger_transfers t where t.project_id = p_project and t.key = p_key;
    if found then
        outcome := case when earlier.reason = p_reason and earlier.amount = abs(p_amount) and earlier.debit = way[1]
            and earlier.job_id is not distinct from p_job and earlier.round is not distinct from p_round
            then 'before' else 'conflict' end;
        transfer_id := earlier.id;
        return;
    end if;
    if p_amount < 0 and available < -p_amount then
        outcome := 'insufficient';
        return;
    end if;
    if p_amount > 0 and (select c.balance from credits c where c.id = p_project) > 9007199254740991 - p_amount then
        outcome := 'too_much';
        return;
    end if;
    if p_reason = 'refund' and not exists (
        select 1 from ledger_holds h where h.job_id = p_job and h.round = p_round and h.project_id = p_project
            and h.captured - h.refunded >= p_amount) then
        outcome := 'exceeds';
        return;
    end if;
    insert into ledger_transfers (project_id, debit, credit, amount, reason, job_id, round, note, key)
    values (p_project, way[1], way[2], abs(p_amount), p_reason, p_job, p_round, p_note, p_key)
    returning id into transfer_id;
    insert into audit_log (actor, action, project_id, detail)
    values (p_actor, 'credits.' || p_reason, p_project,
        jsonb_build_object('amount', p_amount, 'key', p_key, 'note', p_note, 'transfer', transfer_id, 'job', p_job));
    available := available + p_amount;
    outcome := 'posted';
end $$;
