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

-- The functions of pre-release versions, which had no binding.
drop function if exists public.outlast_refresh_media(text, jsonb), public.outlast_check_columns();

-- Rewrites media and media_status on the generation's row if all of these files are recorded for the generation.
-- Returns the number of files that are not.
create or replace function public.outlast_refresh_media(
  p_generation_id text, p_files jsonb, p_binding text default 'generations'
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_unrecorded int;
begin
  select count(*) into v_unrecorded
    from jsonb_to_recordset(p_files) as f (source_key text, bucket text, path text)
    where not exists (select from public.outlast_files o
      where o.binding = p_binding and o.generation_id = p_generation_id and o.source_key = f.source_key
        and o.bucket = f.bucket and o.path = f.path);
  if v_unrecorded = 0 then
    perform public.outlast_write_media(p_binding, p_generation_id, false);
  end if;
  return jsonb_build_object('unrecorded', v_unrecorded);
end $$;

-- What outlast_health tells of a binding. A binding with several outputs or completed values names them with commas.
create or replace function public.outlast_binding_health(p_binding text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  b public.outlast_bindings;
  g record;
begin
  select * into b from public.outlast_bindings where name = p_binding;
  select * into g from public.outlast_bound(p_binding);
  return jsonb_build_object(
    'binding', b.name,
    'generations', jsonb_build_object('schema', b.schema, 'table', b."table", 'found', g.rel is not null,
      'columns', jsonb_build_object('id', b.id_column, 'user', b.owner_column, 'status', b.status_column,
        'output', array_to_string(b.output_columns, ','), 'request', b.request_column, 'created', b.created_column),
      'absent', array_remove(array[case when g.id_name is null then 'id' end,
        case when g.owner_name is null and b.owner_column is not null then 'user' end,
        case when g.status_name is null and b.status_column is not null then 'status' end,
        case when g.output_names is null then 'output' end,
        case when g.request_name is null and b.request_column is not null then 'request' end,
        case when g.created_name is null and b.created_column is not null then 'created' end], null),
      'completed', array_to_string(b.completed_values, ',')),
    'media_columns', (select count(*) = num_nonnulls(g.media_name, g.media_status_name) from pg_attribute
      where attrelid = g.rel and attname in (g.media_name, g.media_status_name) and not attisdropped),
    'trigger', (select count(*) = 2 from pg_trigger
      where tgrelid = g.rel and tgfoid = 'public.outlast_notify'::regproc and tgenabled in ('O', 'A')),
    'deletion_triggers', (select count(*) = 2 from pg_trigger
      where tgrelid = g.rel and tgfoid = 'public.outlast_note_deletions'::regproc and tgenabled in ('O', 'A')),
    'triggers_current', (select count(*) = 4 from public.outlast_triggers_wanted(p_binding) w join pg_trigger t
      on t.tgrelid = w.rel and t.tgname = w.name and obj_description(t.oid, 'pg_trigger') = w.definition
      where w.name <> 'outlast_keep_media'),
    'sweep_index', exists (select from pg_index i join pg_class c on c.oid = i.indexrelid
      where i.indrelid = g.rel and i.indisvalid and c.relname = public.outlast_index_name(p_binding)
        and obj_description(c.oid, 'pg_class') = public.outlast_index_wanted(p_binding)));
end $$;

-- Whether the policy on storage.objects is in place. The last file creates it, and the functions about it.
create or replace function public.outlast_has_storage_policy() returns boolean
language plpgsql stable security definer set search_path = '' as $$
begin
  if to_regprocedure('public.outlast_policies_wanted()') is null then
    return false;
  end if;
  return coalesce((select bool_and(w.in_place) from public.outlast_policies_wanted() w
    where w.rel = to_regclass('storage.objects')), false);
end $$;

-- What a client cannot find out over REST: tables, functions, triggers, grants, versions; of each binding in
-- `bindings`, and of `generations`, or else the first binding, also at the top. The webhook secret is returned as a
-- digest. It shows whether the receiver has the same secret, and does not reveal one of 24 random bytes or more.
create or replace function public.outlast_health() returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  s jsonb := (select coalesce(jsonb_object_agg(key, value), '{}') from public.outlast_settings);
  v_secret text := public.outlast_webhook_secret();
  v_ours oid[] := array(select oid from pg_proc
    where pronamespace = 'public'::regnamespace and starts_with(proname, 'outlast_'));
  v_bindings jsonb := (select coalesce(jsonb_agg(public.outlast_binding_health(name)
    order by name <> 'generations', name), '[]') from public.outlast_bindings);
begin
  return coalesce(v_bindings -> 0, public.outlast_binding_health(null)) || jsonb_build_object(
    'bindings', v_bindings,
    'version', s ->> 'version',
    'tables', (select coalesce(jsonb_object_agg(relname, relrowsecurity), '{}') from pg_class
      where relnamespace = 'public'::regnamespace and relkind = 'r' and starts_with(relname, 'outlast_')),
    'functions', (select coalesce(jsonb_agg(distinct proname order by proname), '[]') from pg_proc
      where oid = any (v_ours) and has_function_privilege('service_role', oid, 'execute')),
    'anon_can_execute', (select coalesce(bool_or(has_function_privilege(r, o, 'execute')), false)
      from unnest(v_ours) o, unnest(array['anon', 'authenticated']) r),
    'trigger_signed', coalesce(v_secret ~ '^whsec_[A-Za-z0-9+/]+=*$', false),
    'webhook_url', s ->> 'webhook_url',
    'webhook_secret_digest', left(encode(sha256(convert_to(v_secret, 'UTF8')), 'hex'), 16),
    'webhook_secret_in', case when v_secret is null then null
      when v_secret = s ->> 'webhook_secret' then 'settings' else 'vault' end,
    'pg_net', exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname = 'net' and p.proname = 'http_post'),
    'bucket', s ->> 'bucket',
    'public_bucket', (select coalesce(bool_or(public_bucket), false) from public.outlast_bindings where bucket is null),
    'storage_policy', public.outlast_has_storage_policy(),
    'realtime', (select count(*) = 2 from pg_publication_tables where pubname = 'supabase_realtime'
      and schemaname = 'public' and tablename in ('outlast_tasks', 'outlast_files')),
    'now', clock_timestamp());
end $$;

-- The owner of the project runs the set-up functions in the SQL editor. No role may call them over REST.
revoke all on function public.outlast_set_webhook_secret(text), public.outlast_binding_health(text),
  public.outlast_has_storage_policy()
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_refresh_media(text, jsonb, text), public.outlast_health()
  from public, anon, authenticated;
grant execute on function public.outlast_refresh_media(text, jsonb, text), public.outlast_health() to service_role;

do $$
begin
  if exists (select from public.outlast_bindings) or to_regclass('public.generations') is not null then
    perform public.outlast_install();
  else
    raise notice 'outlast: no table is bound. Bind one with outlast init --table, or create the table generations and '
      'run: select public.outlast_install();';
  end if;
exception when undefined_table or undefined_column or datatype_mismatch or wrong_object_type or duplicate_column
    or invalid_parameter_value or insufficient_privilege then
  raise warning 'outlast: a table is not bound: %. Correct it and run: select public.outlast_install();', sqlerrm;
end $$;

insert into public.outlast_settings (key, value) values ('version', '20261101000012')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
