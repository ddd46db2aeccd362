-- Outlast 15: data of the console: attempts of tasks, operations of operators, notes, and the indexes for its queries.

select public.outlast_start_change();

-- One row per attempt, and one for a task that ended without an attempt. The newest 50 rows of each task are kept.
create table if not exists public.outlast_attempts (
  id bigint primary key generated always as identity,
  task_id uuid not null,
  attempt int not null,
  worker text,
  status text not null,
  code text,
  error text,
  stage text,
  host text,
  began_at timestamptz,
  ended_at timestamptz
);

create table if not exists public.outlast_operations (
  id uuid primary key,
  verb text not null,
  by text not null,
  target jsonb not null default '{}',
  state text not null default 'running' check (state in ('running', 'done', 'aborted', 'failed')),
  matched int not null default 0,
  done int not null default 0,
  kept jsonb not null default '[]',
  detail text,
  abort_asked_by text,
  started_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  ended_at timestamptz
);

create table if not exists public.outlast_notes (
  about text primary key,
  note text not null,
  by text not null,
  updated_at timestamptz not null default now()
);

select public.outlast_add_index(name, on_columns) from (values
  ('outlast_attempts_task', 'outlast_attempts (task_id, id)'),
  ('outlast_operations_newest', 'outlast_operations (started_at desc, id desc)'),
  ('outlast_operations_running', 'outlast_operations (id) where state = ''running'''),
  ('outlast_tasks_newest', 'outlast_tasks (created_at, task_id)'),
  ('outlast_tasks_status_newest', 'outlast_tasks (status, created_at, task_id)'),
  ('outlast_tasks_queue_newest', 'outlast_tasks (queue, created_at, task_id)'),
  ('outlast_tasks_code_newest', 'outlast_tasks (error_code, created_at, task_id) where error_code is not null'),
  ('outlast_files_updated', 'outlast_files (updated_at)'),
  ('outlast_files_task', 'outlast_files (task_id)'),
  ('outlast_dead_archive_newest', 'outlast_dead_archive (discarded_at desc, id desc)')
) as i (name, on_columns);

select public.outlast_protect_table('public.outlast_attempts');
select public.outlast_protect_table('public.outlast_operations');
select public.outlast_protect_table('public.outlast_notes');

-- Trigger function: an attempt begins with a new lease and ends when the task is no longer running. The updating
-- statement has locked the task's row, so this function runs once at a time for each task.
create or replace function public.outlast_note_attempt() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  v_failed boolean := new.status in ('retrying', 'partial', 'failed');
  v_file jsonb := case when v_failed then new.failed -> -1 end;
  v_open bigint;
begin
  if old.status = 'running' or new.status in ('failed', 'partial', 'cancelled') then
    -- A task that ends while it waits for a retry gives its last attempt the final status.
    select id into v_open from public.outlast_attempts where task_id = new.task_id
        and (ended_at is null
             or (status = 'retrying' and new.status in ('failed', 'partial') and attempt = new.attempt))
      order by id desc limit 1;
    if v_open is null then
      insert into public.outlast_attempts (task_id, attempt, status) values (new.task_id, new.attempt, new.status)
        returning id into v_open;
    end if;
    update public.outlast_attempts set ended_at = coalesce(ended_at, clock_timestamp()),
        status = case when new.status = 'running' then 'lost' else new.status end,
        code = case when v_failed then new.error_code end, error = case when v_failed then left(new.error, 1000) end,
        stage = nullif(v_file ->> 'stage', ''), host = substring(v_file ->> 'url' from '^[a-z]+://([^/]+)')
      where id = v_open;
  end if;
  if new.status = 'running' then
    insert into public.outlast_attempts (task_id, attempt, worker, status, began_at)
      values (new.task_id, new.attempt, new.worker, 'running', clock_timestamp());
    delete from public.outlast_attempts where id in (
      select id from public.outlast_attempts where task_id = new.task_id order by id desc offset 50);
  end if;
  return null;
end $$;

select public.outlast_add_trigger('public.outlast_tasks', 'outlast_tasks_attempt', $$
  after update of status, lease on public.outlast_tasks for each row
  when (new.status <> old.status or (new.status = 'running' and new.lease is distinct from old.lease))
  execute function public.outlast_note_attempt()$$);

-- Trigger function: deletes the attempts of deleted tasks.
create or replace function public.outlast_forget_attempts() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  delete from public.outlast_attempts a where a.task_id in (select g.task_id from gone g);
  return null;
end $$;

select public.outlast_add_trigger('public.outlast_tasks', 'outlast_tasks_gone', $$after delete on public.outlast_tasks
  referencing old table as gone for each statement execute function public.outlast_forget_attempts()$$);

revoke all on function public.outlast_note_attempt(), public.outlast_forget_attempts()
  from public, anon, authenticated, service_role;

insert into public.outlast_settings (key, value) values ('version', '20261101000015')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
