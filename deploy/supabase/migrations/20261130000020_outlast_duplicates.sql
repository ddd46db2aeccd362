-- Outlast 23: a task whose files are all known by their source is completed by outlast_begin. The worker has nothing to
-- do for it, so it needs no second call, and the generation's row is written once. A job without FAL's result, which
-- has `fal_result` null, no longer ends the row of a binding with `fal_finishes`.

select public.outlast_start_change();

-- Completes a task that a worker has just begun with files that the user has already, if they are all of the job's
-- files and if the worker would use them. `duplicates` of the job has what the worker knows about them: `files` with
-- the id, position, name, URL and source key of each; `bucket`, where new files are stored unless the binding has its
-- own; and `max_bytes`, the largest file that is stored. Returns null if the worker must run the task: also where the
-- binding has folders, whose names the worker computes, and for files that were stored without a check.
create or replace function public.outlast_finish_known(
  t public.outlast_tasks, p_lease uuid, p_job jsonb, p_known jsonb, p_place jsonb
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_files jsonb;
  r jsonb;
begin
  if not p_job ? 'duplicates' or jsonb_array_length(p_known) < jsonb_array_length(p_job -> 'source_keys')
      or (t.binding, t.generation_id) is distinct from (p_job ->> 'binding', p_job ->> 'generation_id')
      or p_place ->> 'folders' is not null then
    return null;
  end if;
  select jsonb_agg(k.file || f.file || '{"deduplicated": true}') into v_files
    from jsonb_array_elements(p_job -> 'duplicates' -> 'files') f (file)
    join jsonb_array_elements(p_known) k (file) on k.file -> 'source_key' = f.file -> 'source_key'
    where k.file ->> 'bucket' = coalesce(p_place ->> 'bucket', p_job -> 'duplicates' ->> 'bucket')
      and (k.file ->> 'original_size')::bigint <= (p_job -> 'duplicates' ->> 'max_bytes')::bigint
      and k.file ->> 'content_type' <> 'application/octet-stream';
  if jsonb_array_length(v_files) is distinct from jsonb_array_length(p_job -> 'source_keys') then
    return null;
  end if;
  r := public.outlast_finish(t.task_id, p_lease, 'completed', v_files, '[]');
  return case when r ->> 'state' = 'recorded' then r || jsonb_build_object('files', (
    select jsonb_agg(f.file - 'md5') from jsonb_array_elements(v_files) f (file))) end;
end $$;

-- A worker asks to run the task. Returns the state run (with the files that are stored already), done, cancelled, busy
-- (another worker's lease is valid), no_generation (`shared`: because several rows have the request id) or row_rejected
-- (the row refuses FAL's result). `bucket` and `folders` say where to store new files, if the binding does. `immutable`
-- of the job lists source keys of files that never change; `known` are the files that this user has from these sources.
-- If the job also has `duplicates`, and all of its files are known, the task is completed here (outlast_finish_known):
-- the state is recorded, with the files, and with `status` and `row_rejected` of outlast_finish.
create or replace function public.outlast_begin(
  p_job jsonb, p_lease uuid, p_worker text, p_lease_seconds int default 30
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  j public.outlast_tasks := public.outlast_task_of(p_job);
  g record;
  b public.outlast_bindings;
  t public.outlast_tasks;
  v_retry boolean; v_files jsonb; v_written text; v_sees_storage boolean;
  v_place jsonb; v_known jsonb; v_recorded jsonb;
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
  if p_job -> 'fal_result' ->> 'output' is not null
      or (jsonb_typeof(p_job -> 'fal_result') = 'object' and j.source_keys <> '{}') then
    v_written := public.outlast_finish_row(t.binding, t.generation_id, j.request_id, p_job -> 'fal_result');
    if starts_with(v_written, 'rejected') then
      return jsonb_build_object('state', 'row_rejected', 'error', v_written);
    end if;
  end if;
  update public.outlast_tasks set status = 'running', lease = p_lease, last_lease = null, worker = p_worker,
      lease_until = clock_timestamp() + make_interval(secs => p_lease_seconds), attempt = j.attempt, progress = null,
      started_at = coalesce(started_at, now()), finished_at = null, updated_at = now()
    where task_id = t.task_id;
  v_files := public.outlast_stored(t, j);
  v_sees_storage := public.outlast_sees_storage();
  v_place := public.outlast_place(b, t.generation_id, t.user_id);
  if v_sees_storage and p_job ? 'immutable' then
    v_known := public.outlast_known_sources(p_job -> 'immutable', t.user_id, j.profile, v_files);
    v_recorded := public.outlast_finish_known(t, p_lease, p_job, v_known, v_place);
    if v_recorded is not null then
      return v_recorded;
    end if;
  end if;
  perform public.outlast_write_media(t.binding, t.generation_id, v_retry is true);  -- a retry changes no entry
  return jsonb_build_object('state', 'run', 'binding', t.binding,
    'generation_id', t.generation_id, 'user_id', t.user_id,
    'total', cardinality(t.source_keys), 'stored', jsonb_array_length(
      case when (j.source_keys, j.profile) = (t.source_keys, t.profile) then v_files
        else public.outlast_stored(t, t) end),
    'files', v_files, 'sees_storage', v_sees_storage)
    || v_place || case when v_known is null then '{}' else jsonb_build_object('known', v_known) end;
end $$;

revoke all on function public.outlast_finish_known(public.outlast_tasks, uuid, jsonb, jsonb, jsonb)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_begin(jsonb, uuid, text, int) from public, anon, authenticated;
grant execute on function public.outlast_begin(jsonb, uuid, text, int) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261130000020')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
