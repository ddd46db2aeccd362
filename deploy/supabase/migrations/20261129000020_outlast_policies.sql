-- Outlast 20: what `outlast doctor` judges of the application's table: its policies, and whether a row accepts our
-- updates. End users get no privileges on sequences.

select public.outlast_start_change();

-- What `outlast doctor` judges: whether the media trigger exists, and who can write which columns of the generations
-- table. `writable`: the settings' names of the columns that a role of end users has the privilege to write.
create or replace function public.outlast_policies() returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
  v_roles name[] := array(select rolname from pg_roles where rolname in ('anon', 'authenticated') order by rolname);
begin
  select * into g from public.outlast_generations();
  if g.rel is null then
    return '{}';
  end if;
  return (select jsonb_build_object(
    'table', g.rel::text,
    'media_kept', (select count(*) = 1 from public.outlast_media_trigger() w join pg_trigger t
      on t.tgrelid = w.rel and t.tgname = w.name and t.tgenabled in ('O', 'A')
        and obj_description(t.oid, 'pg_trigger') = w.definition),
    'row_security', c.relrowsecurity,
    'readable', (select coalesce(jsonb_agg(r), '[]') from unnest(v_roles) r
      where has_schema_privilege(r, c.relnamespace, 'usage') and has_any_column_privilege(r, g.rel, 'select')),
    'writable', (select coalesce(jsonb_agg(jsonb_build_object('role', r, 'command', p, 'columns', k.names)), '[]')
      from unnest(v_roles) r cross join unnest(array['INSERT', 'UPDATE']) p
      cross join lateral (select jsonb_agg(v.key order by v.key) as names from (values ('user', g.user_name),
          ('request', g.request_name), ('status', g.status_name), ('output', g.output_name)) as v (key, name)
        where v.name is not null and has_column_privilege(r, g.rel, v.name, p)) k
      where k.names is not null and has_schema_privilege(r, c.relnamespace, 'usage')),
    'policies', (select coalesce(jsonb_agg(jsonb_build_object('name', policyname, 'command', cmd,
        'permissive', permissive = 'PERMISSIVE', 'roles', roles, 'using', qual, 'check', coalesce(with_check, qual))
        order by policyname), '[]') from pg_policies
      where schemaname = n.nspname and tablename = c.relname and cmd in ('ALL', 'INSERT', 'UPDATE')))
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = g.rel);
end $$;

-- Whether a completed row accepts the updates of media and media_status, for `outlast doctor`: {"id", "sqlstate",
-- "message", "context"}, without `sqlstate` if it does, and {} if there is no completed row. The updates are undone. A
-- row that another transaction holds is not tried.
create or replace function public.outlast_try_update() returns jsonb
language plpgsql security definer set search_path = '' set lock_timeout = '1s' as $$
declare
  g record;
  v_id text;
  v_sqlstate text;
  v_message text;
  v_context text;
begin
  select * into g from public.outlast_generations();
  if g.id_name is null or g.status_name is null then
    return '{}';
  end if;
  execute format('select %I::text from %s where %I::text = %L limit 1 for update skip locked',
                 g.id_name, g.rel, g.status_name, g.completed) into v_id;
  if v_id is null then
    return '{}';
  end if;
  begin
    execute format('update %s set media_status = ''pending'' where %I = $1::%s', g.rel, g.id_name, g.id_type)
      using v_id;
    execute format('update %s set media_status = ''completed'', media = $2 where %I = $1::%s',
                   g.rel, g.id_name, g.id_type)
      using v_id, jsonb_build_array(jsonb_build_object('id', gen_random_uuid()));
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

revoke all on function public.outlast_policies(), public.outlast_try_update() from public, anon, authenticated;
grant execute on function public.outlast_policies(), public.outlast_try_update() to service_role;

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
