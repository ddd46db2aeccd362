-- Outlast 12: set-up: the webhook secret, the reports for `outlast doctor`, and rewriting media on request. At the end
-- the generations table is bound, if it exists.

select public.outlast_start_change();

-- Stores the webhook secret: encrypted in Vault where the project has it, otherwise in outlast_settings, which only the
-- service role can read. Returns `vault` or `settings`.
create or replace function public.outlast_set_webhook_secret(p_secret text) returns text
language plpgsql security definer set search_path = '' as $$
declare
  v_id uuid;
  v_place text := 'settings';
begin
  if p_secret is null or p_secret !~ '^whsec_[A-Za-z0-9+/]+=*$' then
    raise exception 'p_secret is not of the form whsec_<base64>' using errcode = 'invalid_parameter_value';
  end if;
  if to_regprocedure('vault.create_secret(text, text, text, uuid)') is not null then
    begin
      execute 'select id from vault.secrets where name = ''outlast_webhook_secret''' into v_id;
      if v_id is null then
        execute 'select vault.create_secret($1, ''outlast_webhook_secret'', ''Signs webhooks to Outlast'')'
          using p_secret;
      else
        execute 'select vault.update_secret($1, $2)' using v_id, p_secret;
      end if;
      v_place := 'vault';
    exception when others then
      raise warning 'outlast: Vault cannot store the webhook secret (%); it is stored in outlast_settings', sqlerrm;
    end;
  end if;
  insert into public.outlast_settings (key, value)
    values ('webhook_secret', case when v_place = 'settings' then p_secret end)
    on conflict (key) do update set value = excluded.value;
  return v_place;
end $$;

-- Rewrites media and media_status on the generation's row if all of these files are recorded for the generation.
-- Returns the number of files that are not.
create or replace function public.outlast_refresh_media(p_generation_id text, p_files jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_unrecorded int;
begin
  select count(*) into v_unrecorded
    from jsonb_to_recordset(p_files) as f (source_key text, bucket text, path text)
    where not exists (select from public.outlast_files o where o.generation_id = p_generation_id
      and o.source_key = f.source_key and o.bucket = f.bucket and o.path = f.path);
  if v_unrecorded = 0 then
    perform public.outlast_write_media(p_generation_id, false);
  end if;
  return jsonb_build_object('unrecorded', v_unrecorded);
end $$;

-- What a client cannot find out over REST: tables, functions, triggers, grants, versions. The webhook secret is
-- returned as a digest. It shows whether the receiver has the same secret, and does not reveal one of 24 random bytes
-- or more.
create or replace function public.outlast_health() returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  s jsonb := (select coalesce(jsonb_object_agg(key, value), '{}') from public.outlast_settings);
  v_secret text := public.outlast_webhook_secret();
  v_ours oid[] := array(select oid from pg_proc
    where pronamespace = 'public'::regnamespace and starts_with(proname, 'outlast_'));
  g record;
begin
  select * into g from public.outlast_generations();
  return jsonb_build_object(
    'version', s ->> 'version',
    'tables', (select coalesce(jsonb_object_agg(relname, relrowsecurity), '{}') from pg_class
      where relnamespace = 'public'::regnamespace and relkind = 'r' and starts_with(relname, 'outlast_')),
    'functions', (select coalesce(jsonb_agg(distinct proname order by proname), '[]') from pg_proc
      where oid = any (v_ours) and has_function_privilege('service_role', oid, 'execute')),
    'anon_can_execute', (select coalesce(bool_or(has_function_privilege(r, o, 'execute')), false)
      from unnest(v_ours) o, unnest(array['anon', 'authenticated']) r),
    'generations', jsonb_build_object('schema', s ->> 'generations_schema', 'table', s ->> 'generations_table',
      'found', g.rel is not null,
      'columns', jsonb_build_object('id', s ->> 'id_column', 'user', s ->> 'user_column',
        'status', s ->> 'status_column', 'output', s ->> 'output_column', 'request', s ->> 'request_column',
        'created', s ->> 'created_column'),
      'absent', array_remove(array[case when g.id_name is null then 'id' end,
        case when g.user_name is null then 'user' end, case when g.status_name is null then 'status' end,
        case when g.output_name is null then 'output' end, case when g.request_name is null then 'request' end,
        case when g.created_name is null then 'created' end], null),
      'completed', s ->> 'completed_value'),
    'media_columns', (select count(*) = 2 from pg_attribute
      where attrelid = g.rel and attname in ('media', 'media_status') and not attisdropped),
    'trigger', (select count(*) = 2 from pg_trigger
      where tgrelid = g.rel and tgfoid = 'public.outlast_notify'::regproc and tgenabled in ('O', 'A')),
    'deletion_triggers', (select count(*) = 2 from pg_trigger
      where tgrelid = g.rel and tgfoid = 'public.outlast_note_deletions'::regproc and tgenabled in ('O', 'A')),
    'triggers_current', (select count(*) = 4 from public.outlast_triggers_wanted() w join pg_trigger t
      on t.tgrelid = w.rel and t.tgname = w.name and obj_description(t.oid, 'pg_trigger') = w.definition),
    'trigger_signed', coalesce(v_secret ~ '^whsec_[A-Za-z0-9+/]+=*$', false),
    'webhook_url', s ->> 'webhook_url',
    'webhook_secret_digest', left(encode(sha256(convert_to(v_secret, 'UTF8')), 'hex'), 16),
    'webhook_secret_in', case when v_secret is null then null
      when v_secret = s ->> 'webhook_secret' then 'settings' else 'vault' end,
    'pg_net', exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname = 'net' and p.proname = 'http_post'),
    'sweep_index', exists (select from pg_index i join pg_class c on c.oid = i.indexrelid
      where i.indrelid = g.rel and i.indisvalid and c.relname = 'outlast_unheard'
        and obj_description(c.oid, 'pg_class') = public.outlast_index_wanted()),
    'bucket', s ->> 'bucket',
    'storage_policy', exists (select from pg_policies where schemaname = 'storage' and tablename = 'objects'
      and policyname = 'outlast: users read their own folder'
      and strpos(qual, format('''%s''', replace(s ->> 'bucket', '''', ''''''))) > 0),
    'realtime', (select count(*) = 2 from pg_publication_tables where pubname = 'supabase_realtime'
      and schemaname = 'public' and tablename in ('outlast_tasks', 'outlast_files')),
    'now', clock_timestamp());
end $$;

-- Whether values of the generations table can be used: {"status": {"type", "fits", "labels"}, "created": {"type",
-- "fits"}, "output": {"type", "checked", "unreadable"}}; {} when a column is missing. `fits` of the status: a row can
-- have the completed value, as text. `unreadable` counts outputs of type json that jsonb refuses, for example because
-- of \u0000, among the newest 200 that have no final media_status.
create or replace function public.outlast_check_columns() returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
  v_types jsonb;
  v_output text;
  v_status_fits boolean := false;
  v_created_fits boolean := true;
  v_checked int := 0;
  v_unreadable int := 0;
begin
  select * into g from public.outlast_generations();
  if g.id_name is null or g.status_name is null or g.output_name is null or g.created_name is null then
    return '{}';
  end if;
  select jsonb_object_agg(attname, format_type(atttypid, atttypmod)) into v_types
    from pg_attribute where attrelid = g.rel and attnum > 0 and not attisdropped;
  begin
    execute format('select (%1$L::%2$s)::text = %1$L', g.completed, v_types ->> g.status_name) into v_status_fits;
  exception when others then  -- the type refuses the value
    v_status_fits := false;
  end;
  begin
    execute format('select null::%s >= now()', v_types ->> g.created_name);
  exception when undefined_function then
    v_created_fits := false;
  end;
  if v_types ->> g.output_name = 'json' then
    for v_output in execute format('select %I::text from %s where %s and pg_column_size(%I) < 1000000'
        ' order by %I desc limit 200', g.output_name, g.rel, public.outlast_unsettled_where(), g.output_name,
        g.created_name) loop
      v_checked := v_checked + 1;
      begin
        perform v_output::jsonb;
      exception when data_exception then
        v_unreadable := v_unreadable + 1;
      end;
    end loop;
  end if;
  return jsonb_build_object(
    'status', jsonb_build_object('type', v_types ->> g.status_name, 'fits', v_status_fits is true, 'labels', (
      select coalesce(jsonb_agg(l.enumlabel order by l.enumsortorder), '[]') from (
        select e.enumlabel, e.enumsortorder from pg_enum e join pg_attribute a on a.atttypid = e.enumtypid
        where a.attrelid = g.rel and a.attname = g.status_name order by e.enumsortorder limit 20) l)),
    'created', jsonb_build_object('type', v_types ->> g.created_name, 'fits', v_created_fits),
    'output', jsonb_build_object('type', v_types ->> g.output_name, 'checked', v_checked,
      'unreadable', v_unreadable));
end $$;

-- The owner of the project runs the set-up functions in the SQL editor. No role may call them over REST.
revoke all on function public.outlast_set_webhook_secret(text)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_refresh_media(text, jsonb), public.outlast_health(),
  public.outlast_check_columns() from public, anon, authenticated;
grant execute on function public.outlast_refresh_media(text, jsonb), public.outlast_health(),
  public.outlast_check_columns() to service_role;

do $$
begin
  if (select rel from public.outlast_generations()) is not null then
    perform public.outlast_install();
  else
    raise notice 'outlast: the generations table does not exist yet. Name another one with outlast init --table, or '
      'create it and run: select public.outlast_install();';
  end if;
exception when undefined_column or datatype_mismatch or wrong_object_type then
  raise warning 'outlast: the generations table is not bound: %. Correct it and run: select public.outlast_install();',
    sqlerrm;
end $$;

insert into public.outlast_settings (key, value) values ('version', '20261101000012')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
