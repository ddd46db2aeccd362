-- Outlast, between 16 and 17: what `outlast adopt` would take of a binding. outlast_installation.sql says which rows are
-- from before the installation.

select public.outlast_start_change();

-- The functions of pre-release versions, which had no binding.
drop function if exists public.outlast_past(timestamptz, timestamptz, int, bigint), public.outlast_adopted();

-- What `outlast adopt` would take of a binding: {"bindings": [name], "installed_at", "generations", "oldest", "newest",
-- "seconds_per_task", "sample": [...]}. Tasks of a former owner do not count. The sample has the form of the entries of
-- outlast_missing_page; it is the same at every call, and spread over the whole time. `seconds_per_task` is the mean of
-- the tasks that were completed last. PostgREST applies the function's statement_timeout to its call, because counting
-- millions of rows may take longer than a project allows by default.
create or replace function public.outlast_past(
  p_since timestamptz default null, p_until timestamptz default null, p_sample int default 40,
  p_output_bytes bigint default 262144, p_binding text default 'generations'
) returns jsonb language plpgsql stable security definer set search_path = '' set datestyle = 'ISO'
set statement_timeout = '10min' as $$
declare
  g record;
  v_where text := nullif(concat_ws(' or ', public.outlast_age_where(p_binding, true, p_since, p_until),
    public.outlast_undated_where(p_binding, true, p_since, p_until)), '');
  v_created text;
  v_bindings jsonb := (select coalesce(jsonb_agg(name order by name), '[]') from public.outlast_bindings);
  v_count record;
  v_sample jsonb;
begin
  select * into g from public.outlast_bound(p_binding);
  if public.outlast_unheard_where(p_binding) is null then
    return jsonb_build_object('bindings', v_bindings, 'installed_at', public.outlast_installed_at(p_binding),
      'generations', 0, 'sample', '[]'::jsonb);
  end if;
  v_where := format('%s g where (%s) and %s and not %s and length(g.%I::text) <= 256 and not exists (select from'
    ' public.outlast_tasks t where t.generation_id = g.%5$I::text and t.binding = %L'
    ' and public.outlast_owns(%s, t.user_id))', g.rel, coalesce(v_where, 'false'),
    public.outlast_unheard_where(p_binding), g.deleted_sql, g.id_name, p_binding, g.owner_sql);
  v_created := case when g.created_name is null then 'null::text' else format('g.%I', g.created_name) end;
  execute format('select count(*) as generations, min(%1$s)::text as oldest, max(%1$s)::text as newest from %2$s',
    v_created, v_where) into v_count;
  execute format($sql$
    select coalesce(jsonb_agg(jsonb_build_object('binding', %4$L, 'generation_id', s.id, 'user_id', s.user_id,
      'reason', 'no_task', 'output_json', o.output, 'output_bytes', o.bytes)), '[]')
    from (select g.%1$I::text as id, left(%2$s, 257) as user_id from %3$s order by md5(g.%1$I::text) limit $1) s
    cross join lateral public.outlast_output(s.id, $2, %4$L) o
  $sql$, g.id_name, g.owner_sql, v_where, p_binding) into v_sample using p_sample, p_output_bytes;
  return to_jsonb(v_count) || jsonb_build_object('bindings', v_bindings,
    'installed_at', public.outlast_installed_at(p_binding), 'sample', v_sample,
    'seconds_per_task', (select round(avg(extract(epoch from t.finished_at - t.started_at)), 3) from (
      select started_at, finished_at from public.outlast_tasks
      where finished_at is not null and status = 'completed' and started_at is not null
      order by finished_at desc limit 200) t));
end $$;

-- What all runs of `outlast adopt` have done for a binding: {"tasks": {status: number}, "stored_files", "codes": {code:
-- number}}.
create or replace function public.outlast_adopted(p_binding text default 'generations') returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '10min' as $$
  with tasks as materialized (
    select status, result, failed from public.outlast_tasks
    where source = 'adopt' and binding = p_binding
  )
  select jsonb_build_object(
    'tasks', (select coalesce(jsonb_object_agg(status, n), '{}')
      from (select status, count(*) as n from tasks group by status) s),
    'stored_files', (select coalesce(sum((result ->> 'successful_files')::int), 0) from tasks),
    'codes', (select coalesce(jsonb_object_agg(code, n), '{}') from (
      select coalesce(f ->> 'code', 'unknown') as code, count(*) as n
      from tasks, jsonb_array_elements(failed) f group by 1) c))
$$;

revoke all on function public.outlast_past(timestamptz, timestamptz, int, bigint, text), public.outlast_adopted(text)
  from public, anon, authenticated;
grant execute on function public.outlast_past(timestamptz, timestamptz, int, bigint, text), public.outlast_adopted(text)
  to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261115000000')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
