-- Outlast 15: data of the console: attempts of tasks, operations of operators, notes, the indexes for its queries, and
-- the page of a generation.

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

select public.outlast_add_column('public.outlast_operations', 'results', 'jsonb');
select public.outlast_add_index(name, on_columns) from (values
  ('outlast_attempts_task', 'outlast_attempts (task_id, id)'),
  ('outlast_operations_newest', 'outlast_operations (started_at desc, id desc)'),
  ('outlast_operations_running', 'outlast_operations (id) where state = ''running'''),
  ('outlast_tasks_newest', 'outlast_tasks (created_at, task_id)'),
  ('outlast_tasks_status_newest', 'outlast_tasks (status, created_at, task_id)'),
  ('outlast_tasks_queue_newest', 'outlast_tasks (queue, created_at, task_id)'),
  ('outlast_tasks_code_newest', 'outlast_tasks (error_code, created_at, task_id) where error_code is not null'),
  ('outlast_files_updated', 'outlast_files (updated_at) include (original_size, file_size, deduplicated)'),
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
  -- The file that the task's error is about: the first with this code and text.
  v_file jsonb := case when v_failed then (select f from jsonb_array_elements(new.failed) f
    where f ->> 'code' = new.error_code and f ->> 'error' is not distinct from new.error limit 1) end;
  v_at_source boolean := v_failed and new.error_code !~ '^(storage_|database_|row_rejected|disk_full|generation_not_found)';
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
        stage = nullif(v_file ->> 'stage', ''),
        host = case when v_at_source then substring(v_file ->> 'url' from '^[a-z]+://([^/]+)') end
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

-- A generation: its table, its newest tasks, and only those columns of its row that the binding names or that Outlast
-- writes. Other columns may be private. Null when neither a row nor a task has this id.
drop function if exists public.outlast_console_generation(text);  -- of a pre-release version, which had no binding
create or replace function public.outlast_console_generation(p_id text, p_binding text default 'generations')
returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
  v_row jsonb;
  v_owner text;
  v_tasks jsonb := public.outlast_console_tasks(
    jsonb_build_object('generation', p_id, 'binding', p_binding), null, 20);
begin
  select * into g from public.outlast_bound(p_binding);
  if g.id_name is not null then
    begin
      execute format('select to_jsonb(g), %s from %s g where g.%I = $1::%s', g.owner_sql, g.rel, g.id_name, g.id_type)
        into v_row, v_owner using p_id;
    exception when data_exception then
      v_row := null;
    end;
  end if;
  if v_row is null and v_tasks = '[]' then
    return null;
  end if;
  return jsonb_build_object('id', p_id, 'binding', p_binding, 'table', g.rel::text, 'oid', g.rel::oid::text,
    'id_column', g.id_name, 'tasks', v_tasks, 'row', case when v_row is not null then jsonb_build_object(
      'user_id', v_owner, 'request_id', v_row ->> g.request_name, 'status', v_row ->> g.status_name,
      'created_at', v_row ->> g.created_name, 'media_status', v_row ->> g.media_status_name,
      'media', v_row -> g.media_name) end);
end $$;

revoke all on function public.outlast_note_attempt(), public.outlast_forget_attempts()
  from public, anon, authenticated, service_role;

revoke all on function public.outlast_console_generation(text, text) from public, anon, authenticated;
grant execute on function public.outlast_console_generation(text, text) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261101000015')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
