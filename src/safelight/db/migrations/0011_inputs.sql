-- An input of more than 64 kB stands beside its job, because the job's row is in every entry of the change log: there, and
-- wherever jobs are listed or looked at, `input` is what providers/abridged.py makes of it. Internal: not in the log.
create table job_inputs (
    job_id uuid primary key references jobs on delete cascade,
    input  jsonb not null
);
alter table job_inputs alter column input set storage external; -- pictures as base64: packing them costs and saves nothing

-- What of this row is not whole: 'input', or nothing.
alter table jobs add column left_out text[] not null default '{}';
