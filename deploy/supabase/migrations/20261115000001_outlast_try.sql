-- Outlast, between 16 and 17: the test generation of `outlast try`.
--
-- The setting `try:<binding>:<generation id>` marks what `outlast try` made, so that nothing else can be removed here.

select public.outlast_start_change();

-- Pre-release versions without the binding.
drop function if exists public.outlast_try_insert(jsonb, jsonb), public.outlast_try_state(text, timestamptz),
  public.outlast_try_remove(text, text);

-- Inserts a completed row with this output, in the first output column, into the table of a binding, and returns its
-- id. Columns without a value get their defaults; `p_values` has values for others. A uuid or text key without a default
-- gets a random id. Raises what the table refuses.
create or replace function public.outlast_try_insert(
  p_output jsonb, p_values jsonb default '{}', p_binding text default 'generations'
) returns jsonb language plpgsql security definer set search_path = '' set lock_timeout = '3s' as $$
declare
  g record;
  v_row jsonb;
  v_names text;
  v_id text;
begin
  select * into g from public.outlast_bound(p_binding);
  if public.outlast_unheard_where(p_binding) is null then
    raise exception 'the table of the binding % is not bound', p_binding using errcode = 'P0001';
  end if;
  v_row := jsonb_build_object(g.output_names[1], case when exists (
      select from pg_attribute a join pg_type t on t.oid = a.atttypid
      where a.attrelid = g.rel and a.attname = g.output_names[1] and t.typcategory = 'A')
    then jsonb_build_array(p_output #>> '{image,url}') else p_output end);
  if g.status_name is not null then
    v_row := v_row || jsonb_build_object(g.status_name, g.completed[1]);
  end if;
  if g.id_type in ('uuid', 'text') and not exists (select from pg_attribute where attrelid = g.rel
      and attname = g.id_name and (atthasdef or attidentity <> '')) then
    v_row := v_row || jsonb_build_object(g.id_name, gen_random_uuid());
  end if;
  v_row := v_row || coalesce(p_values, '{}');
  select string_agg(format('%I', key), ', ') into v_names from jsonb_object_keys(v_row) as key;
  perform set_config('search_path', (
    select public.outlast_search_path(schema) from public.outlast_bindings where name = p_binding), true);
  execute format('insert into %1$s (%2$s) select %2$s from jsonb_populate_record(null::%1$s, $1) returning %3$I::text',
    g.rel, v_names, g.id_name) into v_id using v_row;
  insert into public.outlast_settings (key, value) values (format('try:%s:%s', p_binding, v_id), now()::text)
    on conflict (key) do nothing;
  return jsonb_build_object('generation_id', v_id);
end $$;

-- How far a test generation has come: {"tasks": [{task_id, status, error, error_code}], "files": [{bucket, path,
-- sha256, file_size}], "media_status", "has_media_status", "responses": [...]}. `has_media_status`: the binding names a
-- column for it. `responses` are the last answers that pg_net got since
-- `p_since`, also those to other webhooks: {status_code, error}.
create or replace function public.outlast_try_state(
  p_generation_id text, p_since timestamptz, p_binding text default 'generations'
) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
  v_media_status text;
  v_responses jsonb := '[]';
begin
  select * into g from public.outlast_bound(p_binding);
  if g.media_status_name is not null and exists (
      select from public.outlast_settings where key = format('try:%s:%s', p_binding, p_generation_id)) then
    execute format('select to_jsonb(g) ->> %L from %s g where g.%I = $1::%s', g.media_status_name, g.rel, g.id_name,
      g.id_type) into v_media_status using p_generation_id;
  end if;
  if to_regclass('net._http_response') is not null then
    begin
      execute 'select coalesce(jsonb_agg(jsonb_build_object(''status_code'', r.status_code, ''error'', r.error_msg)),'
        ' ''[]'') from (select * from net._http_response where created >= $1 order by id desc limit 5) r'
        into v_responses using p_since;
    exception when insufficient_privilege or undefined_column then
      null;
    end;
  end if;
  return jsonb_build_object(
    'tasks', (select coalesce(jsonb_agg(jsonb_build_object('task_id', task_id, 'status', status, 'error', error,
      'error_code', error_code)), '[]')
      from public.outlast_tasks where generation_id = p_generation_id and binding = p_binding),
    'files', (select coalesce(jsonb_agg(jsonb_build_object('bucket', bucket, 'path', path, 'sha256', sha256,
      'file_size', file_size)), '[]')
      from public.outlast_files where generation_id = p_generation_id and binding = p_binding),
    'media_status', v_media_status, 'has_media_status', g.media_status_name is not null, 'responses', v_responses);
end $$;

-- Removes a test generation: its row, task and file. Returns the paths of its objects that nothing else references;
-- they are marked `deleting`, for the caller to remove from Storage.
create or replace function public.outlast_try_remove(
  p_generation_id text, p_bucket text, p_binding text default 'generations'
) returns jsonb
language plpgsql security definer set search_path = '' set lock_timeout = '3s' as $$
declare
  g record;
  v_paths text[];
  v_key text := format('try:%s:%s', p_binding, p_generation_id);
  v_has_row boolean := exists (select from public.outlast_settings where key = v_key);
begin
  if not v_has_row and not starts_with(p_generation_id, 'outlast-try-') then
    raise exception 'outlast try has not made the generation %', p_generation_id using errcode = 'P0001';
  end if;
  perform from public.outlast_tasks where generation_id = p_generation_id and binding = p_binding
    order by task_id for update;
  perform public.outlast_lock_generation(p_binding, p_generation_id);
  select array_agg(path) into v_paths from public.outlast_files
    where generation_id = p_generation_id and binding = p_binding and bucket = p_bucket;
  delete from public.outlast_files where generation_id = p_generation_id and binding = p_binding;
  delete from public.outlast_tasks where generation_id = p_generation_id and binding = p_binding;
  if v_has_row then
    select * into g from public.outlast_bound(p_binding);
    perform set_config('search_path', (
      select public.outlast_search_path(schema) from public.outlast_bindings where name = p_binding), true);
    execute format('delete from %s g where g.%I = $1::%s', g.rel, g.id_name, g.id_type) using p_generation_id;
    delete from public.outlast_settings where key = v_key;
  end if;
  -- A job that is still in a queue may store the file again. Then it is released as that of a deleted generation.
  insert into public.outlast_deletions (binding, generation_id) values (p_binding, p_generation_id);
  delete from public.outlast_late_rows where binding = p_binding and generation_id = p_generation_id;
  with taken as (
    update public.outlast_objects set state = 'deleting', updated_at = clock_timestamp()
    where bucket = p_bucket and path = any (v_paths) and refs = 0 and not kept returning path
  )
  select array_agg(path) into v_paths from taken;
  return jsonb_build_object('paths', to_jsonb(coalesce(v_paths, '{}')));
end $$;

revoke all on function public.outlast_try_insert(jsonb, jsonb, text),
  public.outlast_try_state(text, timestamptz, text), public.outlast_try_remove(text, text, text)
  from public, anon, authenticated;
grant execute on function public.outlast_try_insert(jsonb, jsonb, text),
  public.outlast_try_state(text, timestamptz, text), public.outlast_try_remove(text, text, text) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261115000001')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
