-- Outlast 17: recording an attempt, and writing rows again that refused their media.

select public.outlast_start_change();

-- The holder of the lease records the result of an attempt: completed, partial, failed or retrying. The status of the
-- task is derived from all of its files, including those of earlier attempts, and is returned; files with the code
-- `type_skipped` are listed as failed and do not count. A repeated call records nothing. Files with an `md5` have just
-- been uploaded; they are compared with storage.objects here, and the state `object_differs` is returned when one of
-- them is missing or different. `row_rejected` is the reason if the generation's row refused its media.
create or replace function public.outlast_finish(
  p_task_id uuid, p_lease uuid, p_status text, p_files jsonb, p_failed jsonb, p_error jsonb default null,
  p_result jsonb default null
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  t public.outlast_tasks;
  v_ended boolean := p_status <> 'retrying';
  v_ids uuid[]; v_failure jsonb;
begin
  if p_status is null or p_status not in ('completed', 'partial', 'failed', 'retrying') then
    raise exception 'p_status is %, but must be completed, partial, failed or retrying', coalesce(p_status, 'null')
      using errcode = 'invalid_parameter_value';
  end if;
  select * into t from public.outlast_tasks where task_id = p_task_id for update;
  if t.status = 'cancelled' then
    return jsonb_build_object('state', 'cancelled', 'status', t.status);
  end if;
  if t.lease is null and t.last_lease = p_lease and not (t.status = 'retrying' and v_ended) then
    return jsonb_build_object('state', 'recorded', 'status', t.status);
  end if;
  if coalesce(t.lease, t.last_lease) is distinct from p_lease or p_lease is null then
    return jsonb_build_object('state', 'lost', 'status', t.status);
  end if;
  if not public.outlast_all_whole(coalesce(p_files, '[]')) then
    return jsonb_build_object('state', 'object_differs', 'status', t.status);
  end if;
  begin
    perform public.outlast_store_files(t, coalesce(p_files, '[]'));
  exception when sqlstate 'OL001' then
    return jsonb_build_object('state', 'object_deleting', 'status', t.status);
  end;
  t.failed := case when t.failed = '[]' then coalesce(p_failed, '[]')
    else public.outlast_merge_failed(t, coalesce(p_failed, '[]')) end;
  if t.failed <> '[]' then
    v_failure := jsonb_path_query_first(t.failed, '$[*] ? (!(@.code == "type_skipped"))');
  end if;
  v_ids := array(select f.id from public.outlast_files f
                 where f.binding = t.binding and f.generation_id = t.generation_id
                   and (f.source_key = any (t.source_keys) or f.task_id = t.task_id)
                   and public.outlast_owns(t.user_id, f.user_id)
                 order by f.position, f.source_key);
  t.status := case
    when not v_ended then 'retrying'
    when p_status = 'completed' and v_failure is null then 'completed'
    when cardinality(v_ids) > 0 then 'partial'
    else 'failed' end;
  update public.outlast_tasks set status = t.status, failed = t.failed, lease = null, last_lease = p_lease,
      lease_until = null, finished_at = case when v_ended then now() end, updated_at = now(),
      error = case when t.status <> 'completed' then coalesce(p_error ->> 'message', v_failure ->> 'error') end,
      error_code = case when t.status <> 'completed' then coalesce(p_error ->> 'code', v_failure ->> 'code') end,
      progress = jsonb_build_object('completed', cardinality(v_ids), 'failed', jsonb_array_length(t.failed), 'total',
        greatest(cardinality(t.source_keys), cardinality(v_ids)), 'downloaded', 0, 'size', null),
      result = case when v_ended then public.outlast_result(t, v_ids) || coalesce(nullif(p_result, 'null'), '{}') end
    where task_id = p_task_id;
  if v_ended and exists (select from public.outlast_replayed where task_id = p_task_id and outcome is null) then
    perform public.outlast_note_replayed(t.binding, t.generation_id, t.task_id, coalesce(p_failed, '[]'));
  end if;
  perform public.outlast_write_media(t.binding, t.generation_id, false);
  return jsonb_strip_nulls(jsonb_build_object('state', 'recorded', 'status', t.status, 'row_rejected', (
    select format('SQLSTATE %s: %s', r.sqlstate, r.message) from public.outlast_rejected_rows r
    where r.binding = t.binding and r.generation_id = t.generation_id)));
end $$;

-- Writes the row of one rejected generation whose retry is due: `{"retried", "written"}`. One at a time, because locks
-- are held until the end. After ten tries in some three days it is not tried again. The record is kept for 30 days.
create or replace function public.outlast_retry_rejected() returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_binding text;
  v_generation text;
begin
  delete from public.outlast_rejected_rows where created_at < now() - interval '30 days';
  select binding, generation_id into v_binding, v_generation from public.outlast_rejected_rows
    where retry_at <= now() order by retry_at limit 1;
  if v_generation is null then
    return jsonb_build_object('retried', 0, 'written', 0);
  end if;
  perform public.outlast_write_media(v_binding, v_generation, false);
  update public.outlast_rejected_rows set tries = tries + 1,
      retry_at = case when tries >= 9 then 'infinity' else now() + interval '4 minutes' * power(2, tries) end
    where binding = v_binding and generation_id = v_generation;
  return jsonb_build_object('retried', 1, 'written', case when found then 0 else 1 end);
end $$;

revoke all on function public.outlast_finish(uuid, uuid, text, jsonb, jsonb, jsonb, jsonb),
  public.outlast_retry_rejected() from public, anon, authenticated;
grant execute on function public.outlast_finish(uuid, uuid, text, jsonb, jsonb, jsonb, jsonb),
  public.outlast_retry_rejected() to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261129000017')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
