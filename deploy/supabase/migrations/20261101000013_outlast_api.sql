-- Outlast 13: the task API (submit, status, cancel), heartbeats and statistics of workers, and removing old rows.

select public.outlast_start_change();

-- Idempotency keys of submitted tasks, with a fingerprint of each request.
create table if not exists public.outlast_requests (
  key text primary key,
  fingerprint text not null,
  task_id uuid not null,
  created_at timestamptz not null default now()
);

select public.outlast_add_index(name, on_columns) from (values
  ('outlast_requests_age', 'outlast_requests (created_at)')
) as i (name, on_columns);

select public.outlast_protect_table('public.outlast_requests');

-- A task in the form of the task API.
create or replace function public.outlast_task_json(t public.outlast_tasks) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'task_id', t.task_id, 'binding', t.binding, 'generation_id', t.generation_id, 'user_id', t.user_id,
    'status', t.status, 'queue', t.queue, 'attempt', t.attempt, 'progress', t.progress, 'result', t.result,
    'error', t.error, 'error_code', t.error_code, 'created_at', t.created_at, 'updated_at', t.updated_at,
    'started_at', t.started_at, 'finished_at', t.finished_at)
$$;

-- Enqueues a task. With an idempotency key, a repeated request returns the state `again` and the task of the first one,
-- even if that task has ended. The state `conflict` means that the key was used for a different request.
create or replace function public.outlast_submit(
  p_job jsonb, p_key text default null, p_fingerprint text default null
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  r public.outlast_requests;
  v_id uuid := (p_job ->> 'task_id')::uuid;
begin
  if p_key is not null then
    insert into public.outlast_requests (key, fingerprint, task_id) values (p_key, p_fingerprint, v_id)
      on conflict (key) do nothing;
    if not found then
      select * into r from public.outlast_requests where key = p_key;
      if r.fingerprint is distinct from p_fingerprint then
        return jsonb_build_object('state', 'conflict', 'task_id', r.task_id);
      end if;
      -- If the first request could not put its task on the queue, the repeated request does so now.
      if r.task_id is distinct from v_id
        or exists (select from public.outlast_tasks where task_id = v_id and error_code is distinct from 'not_queued')
      then
        return jsonb_build_object('state', 'again', 'task_id', r.task_id,
          'status', (select status from public.outlast_tasks where task_id = r.task_id));
      end if;
    end if;
  end if;
  return jsonb_build_object('state', 'submitted', 'task_id', v_id)
    || jsonb_build_object('status', public.outlast_enqueue(p_job) ->> 'status');
end $$;

-- The tasks with these ids; unknown ids are left out.
create or replace function public.outlast_states(p_task_ids uuid[]) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(public.outlast_task_json(t)), '[]')
  from public.outlast_tasks t where t.task_id = any (p_task_ids)
$$;

-- Records that a worker is alive and renews its leases, including an expired one that no other worker has replaced.
-- Returns the leases that are lost, the tasks that are cancelled and the queues that are paused. A lease that has just
-- recorded a result is not reported as lost, because its worker is about to acknowledge the message.
create or replace function public.outlast_heartbeat(
  p_worker text, p_leases uuid[], p_stats jsonb, p_lease_seconds int default 30
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_leases uuid[] := coalesce(p_leases, '{}');
begin
  insert into public.outlast_workers as w (worker, stats) values (p_worker, coalesce(p_stats, '{}'))
    on conflict (worker) do update set last_seen = clock_timestamp(), stats = coalesce(p_stats, w.stats);
  perform from public.outlast_tasks where lease = any (v_leases) order by task_id for update;
  update public.outlast_tasks set lease_until = clock_timestamp() + make_interval(secs => p_lease_seconds)
    where lease = any (v_leases) and status = 'running';
  return jsonb_build_object(
    'lost', (select coalesce(jsonb_agg(l), '[]') from unnest(v_leases) l
             where not exists (select from public.outlast_tasks where lease = l or last_lease = l)),
    'cancelled', (select coalesce(jsonb_agg(task_id), '[]') from public.outlast_tasks
                  where lease = any (v_leases) and status = 'cancelled'),
    'paused', (select coalesce(jsonb_agg(queue), '[]') from jsonb_object_keys(public.outlast_paused_queues()) queue));
end $$;

-- Workers with a heartbeat in the last `p_seconds`, and the tasks on which each holds a valid lease.
create or replace function public.outlast_worker_stats(p_seconds int default 60) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'workers', coalesce((
      select jsonb_object_agg(w.worker, w.stats - 'active' || jsonb_build_object(
        'started_at', w.started_at, 'last_seen', w.last_seen))
      from public.outlast_workers w where w.last_seen > clock_timestamp() - make_interval(secs => p_seconds)), '{}'),
    'active_tasks', coalesce((
      select jsonb_object_agg(w.worker, coalesce(a.tasks, '[]'))
      from public.outlast_workers w left join lateral (
        select jsonb_agg(jsonb_build_object('task_id', t.task_id, 'binding', t.binding,
          'generation_id', t.generation_id, 'queue', t.queue,
          'attempt', t.attempt, 'progress', t.progress, 'started_at', t.started_at) order by t.started_at) as tasks
        from public.outlast_tasks t
        where t.status = 'running' and t.worker = w.worker and t.lease_until > clock_timestamp()
      ) a on true
      where w.last_seen > clock_timestamp() - make_interval(secs => p_seconds)), '{}'))
$$;

select public.outlast_add_index(name, on_columns) from (values
  ('outlast_tasks_running', 'outlast_tasks (worker) where status = ''running'''),
  ('outlast_tasks_ended', 'outlast_tasks (finished_at) include (status) where finished_at is not null')
) as i (name, on_columns);

-- Cancels a task. For an unknown task a cancelled row is inserted as a marker, so that it never starts. The lease stays
-- on the row, so that the worker that holds it learns of the cancellation from its next heartbeat.
create or replace function public.outlast_cancel(p_task_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  t public.outlast_tasks;
begin
  insert into public.outlast_tasks (task_id, status, finished_at) values (p_task_id, 'cancelled', now())
    on conflict (task_id) do nothing;
  select * into t from public.outlast_tasks where task_id = p_task_id for update;
  if t.status in ('queued', 'running', 'retrying') then
    update public.outlast_tasks set status = 'cancelled', finished_at = now(), updated_at = now()
      where task_id = p_task_id returning * into t;
    perform public.outlast_note_replayed(t.binding, t.generation_id, t.task_id, '[]', t.status);
    perform public.outlast_write_media(t.binding, t.generation_id, false);
  end if;
  return jsonb_build_object('cancelled', t.status = 'cancelled', 'status', t.status);
end $$;

-- Deletes old rows: tasks that ended more than `p_keep_seconds` ago (0 keeps all; at most `p_limit` per call),
-- idempotency keys older than a day, and workers without a heartbeat for a day. A task is kept while its generation's
-- row has no final media_status, because the sweep would find a generation without tasks and process it again.
create or replace function public.outlast_expire(p_keep_seconds bigint, p_limit int default 5000) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  g record;
  v_final text := 'true';  -- SQL condition: the generation's row, if there is one, has a final media_status
  v_tasks int := 0;
begin
  delete from public.outlast_requests where created_at < now() - interval '1 day';
  delete from public.outlast_workers where last_seen < now() - interval '1 day';
  perform public.outlast_forget_late_rows();
  perform public.outlast_settle_replays();
  for g in select o.* from public.outlast_bindings b, public.outlast_bound(b.name) o where o.id_name is not null loop
    v_final := v_final || format(' and (t.binding <> %L or not exists (select from %s g where g.%I::text ='
      ' t.generation_id%s))', g.binding, g.rel, g.id_name, case when exists (
        select from pg_attribute where attrelid = g.rel and attname = g.media_status_name and not attisdropped
      ) then format(' and (g.%I in (''completed'', ''partial'', ''failed'')) is not true', g.media_status_name) end);
  end loop;
  if p_keep_seconds > 0 then
    execute format($sql$
      delete from public.outlast_tasks where task_id in (
        select t.task_id from public.outlast_tasks t
        where t.finished_at < now() - make_interval(secs => $1) and %s
        order by t.finished_at limit $2 for update skip locked)
    $sql$, v_final) using p_keep_seconds, p_limit;
    get diagnostics v_tasks = row_count;
  end if;
  return jsonb_build_object('tasks', v_tasks);
end $$;

revoke all on function public.outlast_task_json(public.outlast_tasks)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_submit(jsonb, text, text), public.outlast_states(uuid[]),
  public.outlast_heartbeat(text, uuid[], jsonb, int), public.outlast_worker_stats(int), public.outlast_cancel(uuid),
  public.outlast_expire(bigint, int) from public, anon, authenticated;
grant execute on function public.outlast_submit(jsonb, text, text), public.outlast_states(uuid[]),
  public.outlast_heartbeat(text, uuid[], jsonb, int), public.outlast_worker_stats(int), public.outlast_cancel(uuid),
  public.outlast_expire(bigint, int) to service_role;
