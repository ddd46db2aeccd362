-- Outlast 3: the life cycle of a task: enqueue, begin, progress. All return JSON over /rest/v1/rpc.
-- Lock order in all functions: task, generation, objects by (bucket, path), the generation's row.
select public.outlast_start_change();
-- Converts a job from the queue to a task row. Missing keys become null, empty or a default.
create or replace function public.outlast_task_of(p_job jsonb) returns public.outlast_tasks
language plpgsql stable security definer set search_path = '' as $$
declare
  t public.outlast_tasks := jsonb_populate_record(null::public.outlast_tasks, jsonb_strip_nulls(p_job));
begin
  if t.task_id is null then
    raise exception 'p_job has no task_id' using errcode = 'invalid_parameter_value';
  end if;
  t.binding := coalesce(t.binding, 'generations');
  t.positions := coalesce(t.positions, '{}');
  t.source_keys := coalesce(t.source_keys, '{}');
  t.total_files := coalesce(t.total_files, cardinality(t.positions));
  t.event_at := coalesce(t.event_at, now());
  t.attempt := coalesce(t.attempt, 0);
  return t;
end $$;

-- The files of job `j` that are stored already, with the profile that the job requests.
create or replace function public.outlast_stored(t public.outlast_tasks, j public.outlast_tasks) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  return (select coalesce(jsonb_agg(public.outlast_file_json(f) order by f.position), '[]') from public.outlast_files f
    where f.binding = t.binding and f.generation_id = t.generation_id and f.source_key = any (j.source_keys)
      and f.profile = j.profile and public.outlast_owns(t.user_id, f.user_id));
end $$;

-- Makes an ended task queued again. A worker that still runs it loses its lease.
create or replace function public.outlast_restart_task(p_task_id uuid, p_attempt int) returns public.outlast_tasks
language plpgsql security definer set search_path = '' as $$
declare
  t public.outlast_tasks;
begin
  update public.outlast_tasks set status = 'queued', attempt = p_attempt, lease = null, last_lease = null,
      lease_until = null, worker = null, progress = null, result = null, failed = '[]', error = null, error_code = null,
      started_at = null, finished_at = null, updated_at = now()
    where task_id = p_task_id returning * into t;
  return t;
end $$;

-- Inserts the task unless it exists, and locks its row. Recorded values stay, with two exceptions: a newer event may
-- name the same files as part of another output, or of an earlier one that is current again, or in other fields, or for
-- another owner, and then it starts anew; and a cancel marker, written before the task was known, gets its details.
create or replace function public.outlast_record_task(j public.outlast_tasks) returns public.outlast_tasks
language plpgsql security definer set search_path = '' as $$
declare
  t public.outlast_tasks;
  v_job jsonb := to_jsonb(j);  -- an upgrade adds columns while calls are under way
  v_files jsonb := nullif(v_job -> 'files', 'null');
  v_binding text := coalesce(v_job ->> 'binding', 'generations');
  v_newer boolean;
  v_owner text;
begin
  insert into public.outlast_tasks (task_id, binding, generation_id, request_id, user_id, source, queue, positions,
                                    source_keys, files, total_files, output_key, profile, event_at, attempt)
    values (j.task_id, v_binding, j.generation_id, j.request_id, j.user_id, j.source, j.queue, j.positions,
            j.source_keys, v_files, j.total_files, j.output_key, j.profile, j.event_at, j.attempt)
    on conflict (task_id) do nothing returning * into t;
  if found then return t; end if;
  select * into t from public.outlast_tasks where task_id = j.task_id for update;
  v_newer := t.output_key is null or j.event_at > t.event_at;
  v_owner := t.user_id;
  if t.source is null then
    t.positions := j.positions;
    t.source_keys := j.source_keys;
    t.files := v_files;
    t.source := j.source;
    t.queue := j.queue;
    t.profile := j.profile;
    t.event_at := j.event_at;
  elsif j.event_at <= t.event_at and (t.generation_id is not null or j.generation_id is null) then
    return t;
  end if;
  update public.outlast_tasks set
      positions = t.positions, source_keys = t.source_keys, source = t.source, queue = t.queue, profile = t.profile,
      files = case when v_newer and j.source_keys = t.source_keys then coalesce(v_files, t.files) else t.files end,
      binding = case when t.generation_id is null then v_binding else binding end,
      generation_id = coalesce(t.generation_id, j.generation_id), request_id = coalesce(t.request_id, j.request_id),
      user_id = case when v_newer and not public.outlast_owns(t.user_id, j.user_id) then j.user_id
        else coalesce(t.user_id, j.user_id) end,
      output_key = case when v_newer then j.output_key else t.output_key end,
      total_files = case when v_newer then j.total_files else t.total_files end,
      event_at = greatest(t.event_at, j.event_at)
    where task_id = t.task_id returning * into t;
  if not public.outlast_owns(t.user_id, v_owner) then
    t := public.outlast_restart_task(t.task_id, j.attempt);
  end if;
  return t;
end $$;

-- Enqueues a task on request. A failed, partial or cancelled task is queued again; any other status stays.
create or replace function public.outlast_enqueue(p_job jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  j public.outlast_tasks := public.outlast_task_of(p_job);
  t public.outlast_tasks := public.outlast_record_task(j);
begin
  if t.status in ('failed', 'partial', 'cancelled') then
    t := public.outlast_restart_task(t.task_id, j.attempt);
  end if;
  -- The output may have more tasks now, or may be current again. The sweep relies on media_status, so update it.
  perform public.outlast_write_media(t.binding, t.generation_id, false);
  return jsonb_build_object('task_id', t.task_id, 'status', t.status);
end $$;

-- A worker asks to run the task. Returns the state run (with the files that are stored already), done, cancelled, busy
-- (another worker's lease is valid), no_generation (`shared`: because several rows have the request id) or row_rejected
-- (the row refuses FAL's result). `bucket` and `folders` say where to store new files, if the binding does.
create or replace function public.outlast_begin(
  p_job jsonb, p_lease uuid, p_worker text, p_lease_seconds int default 30
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  j public.outlast_tasks := public.outlast_task_of(p_job);
  g record;
  b public.outlast_bindings;
  t public.outlast_tasks;
  v_retry boolean; v_files jsonb; v_written text;
begin
  select binding, generation_id, status, status = 'retrying' and j.event_at <= event_at
    into t.binding, t.generation_id, t.status, v_retry from public.outlast_tasks where task_id = j.task_id;
  if t.generation_id is not null then
    j.binding := t.binding;
  end if;
  j.generation_id := coalesce(j.generation_id, t.generation_id);
  if j.generation_id is null or j.user_id is null then
    if j.generation_id is null and p_job -> 'named' ->> 'generation_id' is not null then
      select * into g from public.outlast_find_named(p_job -> 'named' ->> 'binding',
        p_job -> 'named' ->> 'generation_id', j.request_id);
    else
      select * into g from public.outlast_find_generation(j.binding, j.generation_id, j.request_id);
    end if;
    j.binding := coalesce(g.binding, j.binding);
    j.generation_id := coalesce(j.generation_id, g.generation_id);
    j.user_id := coalesce(j.user_id, g.user_id);
  end if;
  if j.generation_id is null and t.status is distinct from 'cancelled' then
    return jsonb_build_object('state', 'no_generation', 'shared', g.request_id is not null);
  end if;
  select * into b from public.outlast_bindings where name = j.binding;
  j.profile := public.outlast_profile_of(b, p_job);
  t := public.outlast_record_task(j);
  if t.status in ('completed', 'cancelled') then
    -- A completed task may belong to an output that has just become current again.
    perform public.outlast_write_media(t.binding, t.generation_id, false);
    perform public.outlast_note_replayed(t.binding, t.generation_id, t.task_id, '[]', nullif(t.status, 'completed'));
    return case t.status when 'cancelled' then jsonb_build_object('state', 'cancelled')
      else jsonb_build_object('state', 'done', 'files', public.outlast_stored(t, j)) end;
  end if;
  if t.lease <> p_lease and t.lease_until > clock_timestamp() then
    return jsonb_build_object('state', 'busy',
      'retry_after', round(extract(epoch from t.lease_until - clock_timestamp())::numeric, 3));
  end if;
  if p_job -> 'fal_result' ->> 'output' is not null or (p_job ? 'fal_result' and j.source_keys <> '{}') then
    v_written := public.outlast_finish_row(t.binding, t.generation_id, j.request_id, p_job -> 'fal_result');
    if starts_with(v_written, 'rejected') then
      return jsonb_build_object('state', 'row_rejected', 'error', v_written);
    end if;
  end if;
  update public.outlast_tasks set status = 'running', lease = p_lease, last_lease = null, worker = p_worker,
      lease_until = clock_timestamp() + make_interval(secs => p_lease_seconds), attempt = j.attempt, progress = null,
      started_at = coalesce(started_at, now()), finished_at = null, updated_at = now()
    where task_id = t.task_id;
  perform public.outlast_write_media(t.binding, t.generation_id, v_retry is true);  -- a retry changes no entry
  v_files := public.outlast_stored(t, j);
  return jsonb_build_object('state', 'run', 'binding', t.binding,
    'generation_id', t.generation_id, 'user_id', t.user_id,
    'total', cardinality(t.source_keys), 'stored', jsonb_array_length(
      case when (j.source_keys, j.profile) = (t.source_keys, t.profile) then v_files
        else public.outlast_stored(t, t) end),
    'files', v_files, 'sees_storage', public.outlast_sees_storage())
    || public.outlast_place(b, t.generation_id, t.user_id);
end $$;

-- Records progress of running tasks: [{"task_id", "lease", "progress"}]. Entries without a current lease are ignored.
create or replace function public.outlast_progress(p_items jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_updated int;
begin
  with items as (
    select t.task_id, i.progress from jsonb_to_recordset(p_items) as i (task_id uuid, lease uuid, progress jsonb)
    join public.outlast_tasks t on t.task_id = i.task_id and t.lease = i.lease and t.status = 'running'
    order by t.task_id for update of t
  )
  update public.outlast_tasks t set progress = items.progress, updated_at = now() from items
    where t.task_id = items.task_id;
  get diagnostics v_updated = row_count;
  return jsonb_build_object('updated', v_updated);
end $$;

revoke all on function public.outlast_task_of(jsonb), public.outlast_restart_task(uuid, int),
  public.outlast_stored(public.outlast_tasks, public.outlast_tasks), public.outlast_record_task(public.outlast_tasks)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_enqueue(jsonb), public.outlast_begin(jsonb, uuid, text, int),
  public.outlast_progress(jsonb) from public, anon, authenticated;
grant execute on function public.outlast_enqueue(jsonb), public.outlast_begin(jsonb, uuid, text, int),
  public.outlast_progress(jsonb) to service_role;
