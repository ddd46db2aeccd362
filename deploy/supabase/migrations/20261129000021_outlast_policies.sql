-- Outlast 21: what end users may do to Outlast through rows that they can write. A request id that several rows have
-- belongs to none of them; facts about the application's policies for `outlast doctor`; no privileges for users on
-- sequences.

select public.outlast_start_change();

-- The generation with this id or, without an id, the one with this request id. All outputs are null when there is none.
-- A request id that several rows have belongs to none of them, because a user who can write rows could otherwise copy
-- another user's request id and receive that user's files: then only `request_id` is not null. A value that cannot be
-- cast to the column's type matches no row.
create or replace function public.outlast_find_generation(
  p_generation_id text, p_request_id text, out generation_id text, out user_id text, out request_id text
) language plpgsql security definer set search_path = '' as $$
declare
  g record;
  v_by_id boolean := p_generation_id is not null;
  v_matches int;
begin
  select * into g from public.outlast_generations();
  if g.id_name is null or (not v_by_id and (p_request_id is null or g.request_name is null)) then
    return;
  end if;
  execute format(
    'select count(*), min(m.i), min(m.u), min(m.r) from (select g.%I::text as i, %s as u, %s as r from %s g'
    ' where g.%I = $1::%s limit %s) m',
    g.id_name, public.outlast_column(g.user_name), public.outlast_column(g.request_name), g.rel,
    case when v_by_id then g.id_name else g.request_name end,
    case when v_by_id then g.id_type else g.request_type end,
    case when v_by_id then 1 else 2 end
  ) into v_matches, generation_id, user_id, request_id using coalesce(p_generation_id, p_request_id);
  if v_matches > 1 then
    generation_id := null;
    user_id := null;
  end if;
exception when data_exception then
  return;
end $$;

-- A worker asks to run the task. Returns the state run (with the files that are stored already), done, cancelled, busy
-- (another worker's lease is valid) or no_generation (`shared`: because several rows have the request id).
create or replace function public.outlast_begin(
  p_job jsonb, p_lease uuid, p_worker text, p_lease_seconds int default 30
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  j public.outlast_tasks := public.outlast_task_of(p_job);
  g record;
  t public.outlast_tasks;
begin
  select generation_id, status into t.generation_id, t.status from public.outlast_tasks where task_id = j.task_id;
  j.generation_id := coalesce(j.generation_id, t.generation_id);
  if j.generation_id is null or j.user_id is null then
    select * into g from public.outlast_find_generation(j.generation_id, j.request_id);
    j.generation_id := coalesce(j.generation_id, g.generation_id);
    j.user_id := coalesce(j.user_id, g.user_id);
  end if;
  if j.generation_id is null and t.status is distinct from 'cancelled' then
    return jsonb_build_object('state', 'no_generation', 'shared', g.request_id is not null);
  end if;
  t := public.outlast_record_task(j);
  if t.status in ('completed', 'cancelled') then
    -- A completed task may belong to an output that has just become current again: then rewrite the whole media list.
    perform public.outlast_write_media(t.generation_id, t.status = 'cancelled');
    return case t.status
      when 'completed' then jsonb_build_object('state', 'done', 'files', public.outlast_stored(t, j))
      else jsonb_build_object('state', 'cancelled') end;
  end if;
  if t.lease <> p_lease and t.lease_until > clock_timestamp() then
    return jsonb_build_object('state', 'busy', 'retry_after',
      round(extract(epoch from t.lease_until - clock_timestamp())::numeric, 3));
  end if;
  update public.outlast_tasks set status = 'running', lease = p_lease, last_lease = null, worker = p_worker,
      lease_until = clock_timestamp() + make_interval(secs => p_lease_seconds), attempt = j.attempt, progress = null,
      started_at = coalesce(started_at, now()), finished_at = null, updated_at = now()
    where task_id = t.task_id;
  perform public.outlast_write_media(t.generation_id, true);
  return jsonb_build_object('state', 'run', 'generation_id', t.generation_id, 'user_id', t.user_id,
    'total', cardinality(t.source_keys), 'stored', jsonb_array_length(public.outlast_stored(t, t)),
    'files', public.outlast_stored(t, j), 'sees_storage', public.outlast_sees_storage());
end $$;

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

revoke all on function public.outlast_find_generation(text, text) from public, anon, authenticated, service_role;
revoke all on function public.outlast_policies() from public, anon, authenticated;
grant execute on function public.outlast_policies() to service_role;

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

insert into public.outlast_settings (key, value) values ('version', '20261129000021')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
