-- Outlast 7/7: binding your table of generations, and the report that `outlast doctor` reads.

-- Bind a table: set its name (null keeps the one in outlast_settings), add `media` and `media_status`, and put the
-- notify triggers on it; triggers of ours on any other table go. Call it again after changing a setting: the triggers
-- hold the names of the status and output columns and the completed value. Repeatable.
create or replace function public.outlast_install(p_schema text default null, p_table text default null) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  g record;
  v_old record;
begin
  update public.outlast_settings
    set value = coalesce(case key when 'generations_schema' then p_schema else p_table end, value)
    where key in ('generations_schema', 'generations_table');
  select * into g from public.outlast_generations();
  if g.rel is null then
    raise exception 'there is no table %', (select string_agg(format('%I', value), '.' order by key)
      from public.outlast_settings where key in ('generations_schema', 'generations_table'))
      using errcode = 'undefined_table', hint = 'Set the right name in public.outlast_settings.';
  end if;
  if g.id_name is null or g.status_name is null or g.output_name is null or g.created_name is null then
    raise exception '% lacks a column: %', g.rel, (select string_agg(s.key || ' = ' || s.value, ', ')
        from public.outlast_settings s
        where s.key in ('id_column', 'status_column', 'output_column', 'created_column') and not exists (
          select from pg_attribute a where a.attrelid = g.rel and a.attname = s.value and not a.attisdropped))
      using errcode = 'undefined_column', hint = 'Set the right names in public.outlast_settings.';
  end if;
  if (select count(*) from pg_attribute where attrelid = g.rel and attname in ('media', 'media_status')) < 2 then
    -- Asked first: even an ALTER that finds nothing to do waits for everybody who uses the table.
    execute format('alter table %s add column if not exists media jsonb,'
      ' add column if not exists media_status text', g.rel);
  end if;
  if (select atttypid from pg_attribute where attrelid = g.rel and attname = 'media') <> 'jsonb'::regtype then
    raise exception '% has a column media that is not jsonb; rename it', g.rel
      using errcode = 'datatype_mismatch';
  end if;
  for v_old in select tgrelid::regclass as rel, tgname from pg_trigger
      where tgfoid = 'public.outlast_notify'::regproc and tgrelid <> g.rel loop
    execute format('drop trigger %I on %s', v_old.tgname, v_old.rel);
  end loop;
  perform public.outlast_install_triggers();
  return public.outlast_health();
end $$;

-- Two triggers, because the condition of one for INSERT may not look at OLD. They fire when a row becomes completed, or
-- gets another output while it is; our own update of `media` changes neither. `json` knows no equality, its text does.
create or replace function public.outlast_install_triggers() returns void
language plpgsql security definer set search_path = '' as $$
declare
  g record;
  v_done text;
  v_changed text;
begin
  select * into g from public.outlast_generations();
  v_done := format('(new.%I)::text = %L', g.status_name, g.completed);
  v_changed := format('(old.%1$I)::text is distinct from %2$L or (old.%3$I)%4$s is distinct from (new.%3$I)%4$s',
    g.status_name, g.completed, g.output_name, case when exists (
      select from pg_attribute where attrelid = g.rel and attname = g.output_name and atttypid = 'json'::regtype
    ) then '::text' else '' end);
  execute format('create or replace trigger outlast_notify_insert after insert on %s for each row when (%s)'
    ' execute function public.outlast_notify()', g.rel, v_done);
  execute format('create or replace trigger outlast_notify_update after update on %s for each row when (%s and (%s))'
    ' execute function public.outlast_notify()', g.rel, v_done, v_changed);
end $$;

-- What REST cannot see: triggers, grants, versions.
create or replace function public.outlast_health() returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  s jsonb := (select coalesce(jsonb_object_agg(key, value), '{}') from public.outlast_settings);
  g record;
begin
  select * into g from public.outlast_generations();
  return jsonb_build_object(
    'version', s ->> 'version',
    'tables', (select count(*) = 5 from pg_class where relnamespace = 'public'::regnamespace and relrowsecurity
      and relname in ('outlast_settings', 'outlast_tasks', 'outlast_files', 'outlast_objects', 'outlast_workers')),
    'trigger', (select count(*) = 2 from pg_trigger
      where tgrelid = g.rel and tgfoid = 'public.outlast_notify'::regproc and tgenabled in ('O', 'A')),
    'trigger_signed', coalesce(public.outlast_webhook_secret() ~ '^whsec_[A-Za-z0-9+/]+=*$', false),
    'webhook_url', s ->> 'webhook_url',
    'generations', jsonb_build_object('schema', s ->> 'generations_schema', 'table', s ->> 'generations_table',
      'columns', jsonb_build_object('id', s ->> 'id_column', 'user', s ->> 'user_column',
        'status', s ->> 'status_column', 'output', s ->> 'output_column', 'request', s ->> 'request_column',
        'created', s ->> 'created_column'),
      'completed', s ->> 'completed_value'),
    'media_columns', (select count(*) = 2 from pg_attribute
      where attrelid = g.rel and attname in ('media', 'media_status') and not attisdropped),
    'anon_can_execute', (select coalesce(bool_or(has_function_privilege(r, p.oid, 'execute')), false)
      from pg_proc p, unnest(array['anon', 'authenticated']) r
      where p.pronamespace = 'public'::regnamespace and starts_with(p.proname, 'outlast_')),
    'now', clock_timestamp(),
    'pg_net', exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname = 'net' and p.proname = 'http_post'));
end $$;

-- Binding a table is done in the SQL editor by its owner; nobody needs it over REST.
revoke all on function public.outlast_install_triggers(), public.outlast_install(text, text)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_health() from public, anon, authenticated;
grant execute on function public.outlast_health() to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261101000007')
  on conflict (key) do update set value = excluded.value;

do $$
begin
  if (select rel from public.outlast_generations()) is not null then
    perform public.outlast_install();
  else
    raise notice 'Outlast: your table of generations is not there yet. Set generations_schema and generations_table in '
      'public.outlast_settings and run: select public.outlast_install();';
  end if;
exception when undefined_column or datatype_mismatch or wrong_object_type then
  raise warning 'Outlast: your table of generations is not bound: %. Mend that and run: select public.outlast_install();',
    sqlerrm;
end $$;

notify pgrst, 'reload schema';
