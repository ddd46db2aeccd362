-- Outlast 22: files that are known by their source. The URL of an immutable source always has the same content, so a
-- file that was stored from it needs no second download. `outlast_begin` tells the worker of such files.

select public.outlast_start_change();

-- Not `user_id` itself: files without a user belong together, and no index helps with `is not distinct from`.
select public.outlast_add_index('outlast_files_by_source',
  'outlast_files (source_key, coalesce(user_id, ''''), profile, updated_at)');

-- The files that this user has stored from these sources with this profile: for each the newest one that is live and
-- complete in Storage. Only the newest three are looked at, so that the time does not grow with their number.
-- Sources of `p_stored` are left out. The ETag is returned as `md5`, so that `outlast_finish` checks the object again.
create or replace function public.outlast_known_sources(
  p_keys jsonb, p_user_id text, p_profile text, p_stored jsonb
) returns jsonb language plpgsql stable security definer set search_path = '' as $$
begin
  return (
    select coalesce(jsonb_agg(public.outlast_file_json(known.file) || jsonb_build_object('md5', known.etag)), '[]')
    from jsonb_array_elements_text(p_keys) as source (key), lateral (
      select earlier.file, btrim(o.metadata ->> 'eTag', '"') as etag from (
        select f as file from public.outlast_files f
        where f.source_key = source.key and coalesce(f.user_id, '') = coalesce(p_user_id, '')
          and f.user_id is not distinct from p_user_id and f.profile = p_profile
        order by f.updated_at desc limit 3
      ) earlier
      join public.outlast_objects x
        on x.bucket = (earlier.file).bucket and x.path = (earlier.file).path and x.state = 'live'
      join storage.objects o on o.bucket_id = x.bucket and o.name = x.path
      where o.metadata ->> 'size' = (earlier.file).file_size::text and o.metadata ->> 'eTag' is not null
        and ((earlier.file).variants is null or public.outlast_has_variants(x.bucket, x.path, (earlier.file).variants))
      order by (earlier.file).updated_at desc limit 1
    ) known
    where not p_stored @> jsonb_build_array(jsonb_build_object('source_key', source.key)));
end $$;

-- A worker asks to run the task. Returns the state run (with the files that are stored already), done, cancelled, busy
-- (another worker's lease is valid), no_generation (`shared`: because several rows have the request id) or row_rejected
-- (the row refuses FAL's result). `bucket` and `folders` say where to store new files, if the binding does. `immutable`
-- of the job lists source keys of files that never change; `known` are the files that this user has from these sources.
create or replace function public.outlast_begin(
  p_job jsonb, p_lease uuid, p_worker text, p_lease_seconds int default 30
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  j public.outlast_tasks := public.outlast_task_of(p_job);
  g record;
  b public.outlast_bindings;
  t public.outlast_tasks;
  v_retry boolean; v_files jsonb; v_written text; v_sees_storage boolean;
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
  v_sees_storage := public.outlast_sees_storage();
  return jsonb_build_object('state', 'run', 'binding', t.binding,
    'generation_id', t.generation_id, 'user_id', t.user_id,
    'total', cardinality(t.source_keys), 'stored', jsonb_array_length(
      case when (j.source_keys, j.profile) = (t.source_keys, t.profile) then v_files
        else public.outlast_stored(t, t) end),
    'files', v_files, 'sees_storage', v_sees_storage)
    || public.outlast_place(b, t.generation_id, t.user_id)
    || case when v_sees_storage and p_job ? 'immutable' then jsonb_build_object('known',
      public.outlast_known_sources(p_job -> 'immutable', t.user_id, j.profile, v_files)) else '{}' end;
end $$;

revoke all on function public.outlast_known_sources(jsonb, text, text, jsonb)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_begin(jsonb, uuid, text, int) from public, anon, authenticated;
grant execute on function public.outlast_begin(jsonb, uuid, text, int) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261130000000')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
