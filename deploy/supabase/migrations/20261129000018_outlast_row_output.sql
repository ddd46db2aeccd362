-- Outlast 18: recording an attempt whose row refuses its media, and reading the output of a row.

select public.outlast_start_change();

-- The holder of the lease records the result of an attempt; see Outlast 4. `row_rejected` is the reason if the
-- generation's row refused its media.
create or replace function public.outlast_finish(
  p_task_id uuid, p_lease uuid, p_status text, p_files jsonb, p_failed jsonb, p_error jsonb default null,
  p_result jsonb default null
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  t public.outlast_tasks;
  v_ids uuid[];
  v_ended boolean := p_status <> 'retrying';
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
  t.failed := public.outlast_merge_failed(t, coalesce(p_failed, '[]'));
  v_ids := array(select f.id from public.outlast_files f where f.generation_id = t.generation_id
                 and (f.source_key = any (t.source_keys) or f.task_id = t.task_id) order by f.position, f.source_key);
  t.status := case
    when not v_ended then 'retrying'
    when p_status = 'completed' and t.failed = '[]' then 'completed'
    when cardinality(v_ids) > 0 then 'partial'
    else 'failed' end;
  update public.outlast_tasks set status = t.status, failed = t.failed, lease = null, last_lease = p_lease,
      lease_until = null, finished_at = case when v_ended then now() end, updated_at = now(),
      error = case when t.status <> 'completed' then coalesce(p_error ->> 'message', t.failed -> 0 ->> 'error') end,
      error_code = case when t.status <> 'completed' then coalesce(p_error ->> 'code', t.failed -> 0 ->> 'code') end,
      result = case when v_ended then public.outlast_result(t, v_ids) || coalesce(nullif(p_result, 'null'), '{}') end
    where task_id = p_task_id;
  perform public.outlast_write_media(t.generation_id, false);
  return jsonb_strip_nulls(jsonb_build_object('state', 'recorded', 'status', t.status, 'row_rejected', (
    select format('SQLSTATE %s: %s', r.sqlstate, r.message) from public.outlast_rejected_rows r
    where r.generation_id = t.generation_id)));
end $$;

-- The output of a generation as JSON text, and its size in bytes; both null without a row. The text is null when it has
-- more than `p_max_bytes`. It is text, because a `json` column can contain what jsonb cannot: \u0000, lone surrogates.
create or replace function public.outlast_output(
  p_generation_id text, p_max_bytes bigint, out output text, out bytes bigint
) language plpgsql security definer set search_path = '' as $$
declare
  g record;
  v_text text;
begin
  select * into g from public.outlast_generations();
  if g.id_name is null or g.output_name is null or p_generation_id is null then
    return;
  end if;
  select format(case when t.typcategory <> 'A' and coalesce(nullif(t.typbasetype, 0), t.oid) in (
      'json'::regtype, 'jsonb'::regtype) then 'g.%I::text' else 'to_jsonb(g.%I)::text' end, g.output_name)
    into v_text from pg_attribute a join pg_type t on t.oid = a.atttypid
    where a.attrelid = g.rel and a.attname = g.output_name and not a.attisdropped;
  -- The stored size, which may be compressed, is compared first: a larger value is not even read.
  execute format('select case when pg_column_size(g.%1$I) <= $2 then %2$s end, pg_column_size(g.%1$I) from %3$s g'
                 ' where g.%4$I = $1::%5$s', g.output_name, v_text, g.rel, g.id_name, g.id_type)
    into output, bytes using p_generation_id, p_max_bytes;
  bytes := coalesce(octet_length(output), bytes);
  if bytes > p_max_bytes then
    output := null;
  end if;
exception when data_exception then
  output := null;
  bytes := null;
end $$;

-- The JSON text as jsonb; null if jsonb cannot hold it.
create or replace function public.outlast_to_jsonb(p_text text) returns jsonb
language plpgsql immutable security definer set search_path = '' as $$
begin
  return p_text::jsonb;
exception when data_exception or program_limit_exceeded then
  return null;
end $$;

-- Whether the column with the creation time has a type of date and time.
create or replace function public.outlast_created_is_time() returns boolean
language plpgsql stable security definer set search_path = '' as $$
begin
  return exists (
    select from public.outlast_generations() g join pg_attribute a on a.attrelid = g.rel and a.attname = g.created_name
    where a.atttypid in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype));
end $$;

revoke all on function public.outlast_created_is_time(), public.outlast_to_jsonb(text)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_output(text, bigint),
  public.outlast_finish(uuid, uuid, text, jsonb, jsonb, jsonb, jsonb) from public, anon, authenticated;
grant execute on function public.outlast_output(text, bigint),
  public.outlast_finish(uuid, uuid, text, jsonb, jsonb, jsonb, jsonb) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261129000018')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
