-- Outlast 18: reading the output of a generation's row, and the SQL of the sweep.

select public.outlast_start_change();

-- A function of pre-release versions, which had no binding.
drop function if exists public.outlast_output(text, bigint);

-- SQL for the JSON text of a column of a bound table (alias `g`). It is text, because a `json` column can contain what
-- jsonb cannot: \u0000, lone surrogates.
create or replace function public.outlast_json_text(p_table regclass, p_column text) returns text
language plpgsql stable security definer set search_path = '' as $$
begin
  return (select format(case when t.typcategory <> 'A' and coalesce(nullif(t.typbasetype, 0), t.oid) in (
      'json'::regtype, 'jsonb'::regtype) then 'g.%I::text' else 'to_jsonb(g.%I)::text' end, a.attname)
    from pg_attribute a join pg_type t on t.oid = a.atttypid
    where a.attrelid = p_table and a.attname = p_column and not a.attisdropped);
end $$;

-- The output of a generation as JSON text, and its size in bytes; both null without a row. The text is null when it has
-- more than `p_max_bytes`. Several output columns are one object, by name.
create or replace function public.outlast_output(
  p_generation_id text, p_max_bytes bigint, p_binding text default 'generations', out output text, out bytes bigint
) language plpgsql security definer set search_path = '' as $$
declare
  g record;
  v_text text;
  v_size text;
begin
  select * into g from public.outlast_bound(p_binding);
  if g.id_name is null or g.output_names is null or p_generation_id is null then
    return;
  end if;
  v_size := (select string_agg(format('coalesce(pg_column_size(g.%I), 0)', c), ' + ') from unnest(g.output_names) c);
  v_text := public.outlast_json_text(g.rel, g.output_names[1]);
  if cardinality(g.output_names) = 1 then
    v_size := format('pg_column_size(g.%I)', g.output_names[1]);
  else
    v_text := (select format('''{'' || %s || ''}''', string_agg(format('%L || coalesce(%s, ''null'')',
      to_jsonb(c)::text || ': ', public.outlast_json_text(g.rel, c)), ' || '', '' || ')) from unnest(g.output_names) c);
  end if;
  -- The stored size, which may be compressed, is compared first: a larger value is not even read.
  execute format('select case when %1$s <= $2 then %2$s end, %1$s from %3$s g where g.%4$I = $1::%5$s',
                 v_size, v_text, g.rel, g.id_name, g.id_type)
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

-- The SQL that finds completed generations of a binding that are missing, without their outputs: those without a task,
-- and those whose newest tasks name fewer files than the output has, unless one of them is at work. Tasks of a former
-- owner do not count. A time that no client can represent (infinity, years before 1 or after 9999) is null. A generation
-- with an id of more than 256 characters is left out, because no worker accepts it; other ids are cut to 257, which no
-- worker accepts.
create or replace function public.outlast_missing_rows_query(
  p_binding text, p_condition text, p_kind text, p_before timestamptz, p_limit int
) returns text language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
begin
  select * into g from public.outlast_bound(p_binding);
  return format($sql$
    select %13$L as binding, g.%1$I::text as generation_id, left(own.id, 257) as user_id,
      left(%3$s, 257) as request_id, %4$s as created_at,
      case when known.tasks = 0 then 'no_task' else 'incomplete' end as reason, null::uuid as task_id,
      jsonb_build_object('binding', %13$L, 'kind', %11$L, 'created', g.%5$I::text, 'id', g.%1$I::text) as place
    from (select * from %6$s where %7$s) g
    cross join lateral (select %2$s as id) own
    cross join lateral (
      select count(*) as tasks, coalesce(bool_or(t.status in ('queued', 'running', 'retrying')
        and (t.updated_at >= %8$L or t.lease_until >= %8$L)), false) as busy
      from public.outlast_tasks t
      where t.generation_id = g.%1$I::text and t.binding = %13$L and public.outlast_owns(own.id, t.user_id)
    ) known
    left join lateral (
      select t.output_key, t.source is not distinct from 'fal' as fal from public.outlast_tasks t
      where t.generation_id = g.%1$I::text and t.binding = %13$L and t.status <> 'cancelled'
        and public.outlast_owns(own.id, t.user_id)
      order by t.source is not distinct from 'fal', t.event_at desc, t.created_at desc limit 1
    ) newest on true
    left join lateral (
      select count(distinct p.position) as covered, max(t.total_files) as total
      from public.outlast_tasks t left join unnest(t.positions) as p (position) on true
      where t.generation_id = g.%1$I::text and t.binding = %13$L and t.output_key is not distinct from newest.output_key
        and (t.source is not distinct from 'fal') = newest.fal and public.outlast_owns(own.id, t.user_id)
    ) part on true
    where %9$s and not %12$s and length(g.%1$I::text) <= 256
      and (known.tasks = 0 or (part.covered < part.total and not known.busy))
    order by %14$s limit %10$L
  $sql$, g.id_name, g.owner_sql, public.outlast_column(g.request_name),
    case when public.outlast_created_is_time(p_binding) then format(
      'case when g.%1$I > ''0001-01-02'' and g.%1$I < ''9999-12-30'' then g.%1$I::timestamptz end', g.created_name)
      else 'null::timestamptz' end,
    coalesce(g.created_name, g.id_name), g.rel, public.outlast_unheard_where(p_binding), p_before, p_condition, p_limit,
    p_kind, g.deleted_sql, p_binding, format(case p_kind when 'late' then 'g.%2$I::text collate "C"'
      else 'g.%1$I, g.%2$I' end, coalesce(g.created_name, g.id_name), g.id_name));
end $$;

revoke all on function public.outlast_to_jsonb(text), public.outlast_json_text(regclass, text),
  public.outlast_missing_rows_query(text, text, text, timestamptz, int)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_output(text, bigint, text) from public, anon, authenticated;
grant execute on function public.outlast_output(text, bigint, text) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261129000018')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
