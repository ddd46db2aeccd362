-- Outlast 6: finding the work that a sweep (`outlast reconcile`) must enqueue again.

select public.outlast_start_change();

-- The output and the creation time on a generation's row; null when there is no row.
create or replace function public.outlast_row(p_generation_id text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  g record;
  v_row jsonb;
begin
  select * into g from public.outlast_generations();
  if g.id_name is null or g.output_name is null then
    return null;
  end if;
  execute format('select jsonb_build_object(''output'', g.%I, ''created_at'', %s) from %s g where g.%I = $1::%s',
                 g.output_name, case when g.created_name is null then 'null' else format('g.%I', g.created_name) end,
                 g.rel, g.id_name, g.id_type)
    into v_row using p_generation_id;
  return v_row;
exception when data_exception then
  return null;
end $$;

-- Tasks that have not ended, have not changed since `p_before`, and whose lease, if there is one, expired before then.
create or replace function public.outlast_idle(p_since timestamptz, p_before timestamptz, p_limit int)
returns setof public.outlast_tasks language sql stable security definer set search_path = '' as $$
  select * from public.outlast_tasks
  where status in ('queued', 'running', 'retrying') and updated_at < p_before
    and (lease_until is null or lease_until < p_before) and (p_since is null or created_at >= p_since)
  order by created_at limit p_limit
$$;

-- The part of the sweep's condition that does not name the status; null without an output column. The index of
-- outlast_install has this text as its predicate, and the planner uses it only while both are the same.
create or replace function public.outlast_unsettled_where() returns text
language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
begin
  select * into g from public.outlast_generations();
  if g.output_name is null then
    return null;
  end if;
  return format('%I is not null', g.output_name) || case when exists (
      select from pg_attribute where attrelid = g.rel and attname = 'media_status' and not attisdropped
    ) then $sql$ and (media_status in ('completed', 'partial', 'failed')) is not true$sql$ else '' end;
end $$;

-- The SQL condition for rows of the generations table that the sweep must check: completed, with an output, and without
-- a final media_status, which would mean that every file is accounted for. Null when a required column is missing. The
-- status column is cast to text only when it cannot be compared with the completed value otherwise, so that the planner
-- can compare it in the index.
create or replace function public.outlast_unheard_where() returns text
language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
  v_done text;
begin
  select * into g from public.outlast_generations();
  if g.id_name is null or g.status_name is null or g.output_name is null or g.created_name is null then
    return null;
  end if;
  v_done := format('%I = %L', g.status_name, g.completed);
  begin
    execute format('select from %s where %s limit 0', g.rel, v_done);
  exception when others then  -- the completed value cannot be cast to the column's type
    v_done := format('%I::text = %L', g.status_name, g.completed);
  end;
  return format('%s and %s', v_done, public.outlast_unsettled_where());
end $$;

-- The SQL that finds completed generations without a task (reason no_task), and those whose tasks cover fewer positions
-- than the output has files while none of these tasks is active (reason incomplete). Failed and cancelled tasks cover
-- their positions too.
create or replace function public.outlast_unheard_query(p_since timestamptz, p_before timestamptz, p_limit int)
returns text language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
  v_where text := public.outlast_unheard_where();
begin
  select * into g from public.outlast_generations();
  return format($sql$
    select jsonb_build_object('generation_id', g.%1$I::text, 'user_id', %2$s, 'request_id', %3$s, 'output', g.%4$I,
      'created_at', g.%5$I, 'reason', case when known.tasks = 0 then 'no_task' else 'incomplete' end)
    from (select * from %6$s where %7$s) g
    cross join lateral (
      select count(*) as tasks, coalesce(bool_or(t.status in ('queued', 'running', 'retrying')
        and (t.updated_at >= %8$L or t.lease_until >= %8$L)), false) as busy
      from public.outlast_tasks t where t.generation_id = g.%1$I::text
    ) known
    left join lateral (
      select t.output_key, t.source is not distinct from 'fal' as fal from public.outlast_tasks t
      where t.generation_id = g.%1$I::text and t.status <> 'cancelled'
      order by t.source is not distinct from 'fal', t.event_at desc, t.created_at desc limit 1
    ) newest on true
    left join lateral (
      select count(distinct p.position) as covered, max(t.total_files) as total
      from public.outlast_tasks t left join unnest(t.positions) as p (position) on true
      where t.generation_id = g.%1$I::text and t.output_key is not distinct from newest.output_key
        and (t.source is not distinct from 'fal') = newest.fal
    ) part on true
    where %9$s(known.tasks = 0 or (part.covered < part.total and not known.busy))
    order by g.%5$I limit %10$L
  $sql$, g.id_name, public.outlast_column(g.user_name), public.outlast_column(g.request_name), g.output_name,
    g.created_name, g.rel, v_where, p_before,
    case when p_since is not null then format('g.%I >= %L::timestamptz and ', g.created_name, p_since) end, p_limit);
end $$;

-- Runs that SQL. Returns nothing where the generations table lacks a column that it needs.
create or replace function public.outlast_unheard(p_since timestamptz, p_before timestamptz, p_limit int)
returns setof jsonb language plpgsql stable security definer set search_path = '' as $$
begin
  if public.outlast_unheard_where() is not null then
    return query execute public.outlast_unheard_query(p_since, p_before, p_limit);
  end if;
end $$;

-- What a sweep should enqueue: [{generation_id, user_id, request_id, output, created_at, reason}], oldest first. Reason
-- idle is a task that has not changed for `p_idle_seconds`. Its entry also has a `task_id`, and its output is null when
-- the generation has no row.
create or replace function public.outlast_missing(
  p_since timestamptz default null, p_limit int default 500, p_idle_seconds int default 7200
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_before timestamptz := now() - make_interval(secs => p_idle_seconds);
begin
  return (
    with unheard as (
      select entry from public.outlast_unheard(p_since, v_before, p_limit) as entry
    ), idle as (
      select jsonb_build_object('generation_id', t.generation_id, 'user_id', t.user_id, 'request_id', t.request_id,
        'output', null, 'created_at', t.created_at, 'reason', 'idle', 'task_id', t.task_id)
        || coalesce(public.outlast_row(t.generation_id), '{}') as entry
      from public.outlast_idle(p_since, v_before, p_limit) t
      where t.generation_id is null
        or t.generation_id not in (select u.entry ->> 'generation_id' from unheard u)
    ), missing as (
      select entry from unheard union all select entry from idle
    ), oldest as (
      select entry from missing order by (entry ->> 'created_at')::timestamptz nulls last limit p_limit
    )
    select coalesce(jsonb_agg(entry order by (entry ->> 'created_at')::timestamptz nulls last), '[]') from oldest
  );
end $$;

revoke all on function public.outlast_row(text), public.outlast_idle(timestamptz, timestamptz, int),
  public.outlast_unheard(timestamptz, timestamptz, int), public.outlast_unheard_where(),
  public.outlast_unsettled_where(), public.outlast_unheard_query(timestamptz, timestamptz, int)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_missing(timestamptz, int, int) from public, anon, authenticated;
grant execute on function public.outlast_missing(timestamptz, int, int) to service_role;
