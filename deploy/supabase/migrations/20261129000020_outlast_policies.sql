-- Outlast 20: what `outlast doctor` judges of the application's table: its policies, and whether a row accepts our
-- updates. End users get no privileges on sequences.

select public.outlast_start_change();

-- The functions of pre-release versions, which had no binding.
drop function if exists public.outlast_policies(), public.outlast_try_update();

-- What `outlast doctor` judges: whether the media trigger exists, and who can write which columns of a bound
-- table. `writable`: the settings' names of the columns that a role of end users has the privilege to write.
create or replace function public.outlast_policies(p_binding text default 'generations') returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
  v_roles name[] := array(select rolname from pg_roles where rolname in ('anon', 'authenticated') order by rolname);
begin
  select * into g from public.outlast_bound(p_binding);
  if g.rel is null then
    return '{}';
  end if;
  return (select jsonb_build_object(
    'table', g.rel::text,
    'media_kept', (select coalesce(bool_and(exists (select from pg_trigger t where t.tgrelid = w.rel
        and t.tgname = w.name and t.tgenabled in ('O', 'A') and obj_description(t.oid, 'pg_trigger') = w.definition)),
        coalesce(g.media_name, g.media_status_name) is null)
      from public.outlast_triggers_wanted(p_binding) w where w.name = 'outlast_keep_media'),
    'row_security', c.relrowsecurity,
    'readable', (select coalesce(jsonb_agg(r), '[]') from unnest(v_roles) r
      where has_schema_privilege(r, c.relnamespace, 'usage') and has_any_column_privilege(r, g.rel, 'select')),
    'writable', (select coalesce(jsonb_agg(jsonb_build_object('role', r, 'command', p, 'columns', k.names)), '[]')
      from unnest(v_roles) r cross join unnest(array['INSERT', 'UPDATE']) p
      cross join lateral (select jsonb_agg(v.key order by v.key) as names from (values ('user', g.owner_name),
          ('request', g.request_name), ('status', g.status_name), 
          ('output', g.output_names[1])) as v (key, name)
        where v.name is not null and has_column_privilege(r, g.rel, v.name, p)) k
      where k.names is not null and has_schema_privilege(r, c.relnamespace, 'usage')),
    'policies', (select coalesce(jsonb_agg(jsonb_build_object('name', policyname, 'command', cmd,
        'permissive', permissive = 'PERMISSIVE', 'roles', roles, 'using', qual, 'check', coalesce(with_check, qual))
        order by policyname), '[]') from pg_policies
      where schemaname = n.nspname and tablename = c.relname and cmd in ('ALL', 'INSERT', 'UPDATE')))
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = g.rel);
end $$;

-- Whether values of a bound table can be used: {"status": {"type", "fits", "problem", "labels"}, "created": {"type",
-- "fits"}, "output": {"type", "checked", "unreadable"}}; {} when a column is missing. `fits` of the status: rows can
-- have all of the completed values, as text; `problem` says why not. `unreadable` counts outputs of type json that
-- jsonb refuses, for example because of \u0000, among the newest 200 that have no final media_status.
create or replace function public.outlast_check_columns(p_binding text default 'generations') returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
  v_types jsonb;
  v_json text;
  v_output text;
  v_problem text;
  v_created_fits boolean := true;
  v_checked int := 0;
  v_unreadable int := 0;
begin
  select * into g from public.outlast_bound(p_binding);
  if public.outlast_unheard_where(p_binding) is null then
    return '{}';
  end if;
  select jsonb_object_agg(attname, format_type(atttypid, atttypmod)) into v_types
    from pg_attribute where attrelid = g.rel and attnum > 0 and not attisdropped;
  select format('%L: %s', v, p) into v_problem
    from unnest(g.completed) v, public.outlast_status_problem(g.rel, g.status_name, v) p where p is not null limit 1;
  begin
    execute format('select null::%s >= now()', coalesce(v_types ->> g.created_name, 'timestamptz'));
  exception when undefined_function then
    v_created_fits := false;
  end;
  select c into v_json from unnest(g.output_names) c where v_types ->> c = 'json' limit 1;
  if v_json is not null then
    for v_output in execute format('select %1$I::text from %2$s where %3$s and pg_column_size(%1$I) < 1000000'
        ' order by %4$I desc limit 200', v_json, g.rel, public.outlast_unsettled_where(p_binding),
        coalesce(g.created_name, g.id_name)) loop
      v_checked := v_checked + 1;
      begin
        perform v_output::jsonb;
      exception when data_exception then
        v_unreadable := v_unreadable + 1;
      end;
    end loop;
  end if;
  return jsonb_build_object(
    'status', jsonb_build_object('type', v_types ->> g.status_name, 'fits', v_problem is null, 'problem', v_problem,
      'labels', (select coalesce(jsonb_agg(l.enumlabel order by l.enumsortorder), '[]') from (
        select e.enumlabel, e.enumsortorder from pg_enum e join pg_attribute a on a.atttypid = e.enumtypid
        where a.attrelid = g.rel and a.attname = g.status_name order by e.enumsortorder limit 20) l)),
    'created', jsonb_build_object('type', v_types ->> g.created_name, 'fits', v_created_fits),
    'output', jsonb_build_object('type', (select string_agg(v_types ->> c, ', ') from unnest(g.output_names) c),
      'checked', v_checked, 'unreadable', v_unreadable));
end $$;

-- Whether a completed row accepts the updates of media and media_status, for `outlast doctor`: {"id", "sqlstate",
-- "message", "context"}, without `sqlstate` if it does, and {} if there is no completed row. The updates are undone. A
-- row that another transaction holds is not tried.
create or replace function public.outlast_try_update(p_binding text default 'generations') returns jsonb
language plpgsql security definer set search_path = '' set lock_timeout = '1s' as $$
declare
  g record;
  v_id text;
  v_set text;
  v_status text;
  v_kept boolean;
  v_sqlstate text;
  v_message text;
  v_context text;
begin
  select * into g from public.outlast_bound(p_binding);
  v_set := concat_ws(', ', quote_ident(g.media_status_name) || ' = $2', quote_ident(g.media_name) || ' = $1');
  if public.outlast_unheard_where(p_binding) is null or v_set = '' then
    return '{}';
  end if;
  execute format('select g.%I::text from %s g where %s limit 1 for update skip locked',
                 g.id_name, g.rel, public.outlast_done_sql('g', g.status_name, g.completed, g.output_names)) into v_id;
  if v_id is null then
    return '{}';
  end if;
  perform set_config('search_path', (
    select public.outlast_search_path(schema) from public.outlast_bindings where name = p_binding), true);
  begin
    foreach v_status in array '{pending,completed}'::text[] loop
      execute format('update %s g set %s where g.%I = $3::%s returning %s', g.rel, v_set, g.id_name, g.id_type,
          coalesce('g.' || quote_ident(g.media_status_name) || ' is not distinct from $2',
            'g.' || quote_ident(g.media_name) || ' is not distinct from $1'))
        into v_kept using jsonb_build_array(jsonb_build_object('id', gen_random_uuid())), v_status, v_id;
      if v_kept is not true then
        raise exception 'a trigger of the table skips or undoes the update' using errcode = 'triggered_action_exception';
      end if;
    end loop;
    set constraints all immediate;
    raise exception 'accepted' using errcode = 'OL003';
  exception
    when sqlstate 'OL003' then
      null;
    when query_canceled or others then
      get stacked diagnostics v_sqlstate = returned_sqlstate, v_message = message_text,
        v_context = pg_exception_context;
  end;
  return jsonb_strip_nulls(jsonb_build_object('id', v_id, 'sqlstate', v_sqlstate, 'message', left(v_message, 300),
    'context', left(split_part(v_context, E'\n', 1), 300)));
end $$;

revoke all on function public.outlast_policies(text), public.outlast_try_update(text),
  public.outlast_check_columns(text) from public, anon, authenticated;
grant execute on function public.outlast_policies(text), public.outlast_try_update(text),
  public.outlast_check_columns(text) to service_role;

-- Supabase's default privileges let anon and authenticated use and change every sequence.
do $$
declare
  v_sequence regclass;
begin
  for v_sequence in select c.oid from pg_class c
      where relnamespace = 'public'::regnamespace and relkind = 'S' and starts_with(relname, 'outlast_')
        and exists (select from aclexplode(c.relacl) a
          where a.grantee in (0, 'anon'::regrole, 'authenticated'::regrole)) loop
    execute format('revoke all on sequence %s from public, anon, authenticated', v_sequence);
  end loop;
end $$;

insert into public.outlast_settings (key, value) values ('version', '20261129000020')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
