-- Outlast: the console's list of tasks with its total and the values of its filters, trends, and
-- pausing of queues.

select public.outlast_start_change();

select public.outlast_add_index('outlast_attempts_host', 'outlast_attempts (host, id) where host is not null');

-- The SQL after `from` for the tasks of a filter. It can have status (several, separated by commas), queue, code,
-- generation, binding, host (of a failed attempt), since, until (exclusive), ended (ended since then) and q, which is the
-- id of a task, generation, request or user. `p_before` is the last row of the previous page: [created_at, task_id]. The
-- statement contains only the given filters, so that the planner finds an index for each combination. `q` and several
-- statuses become a union of index scans, each in the order of the list. Few tasks have the same task, generation or
-- request id, so `offset 0` makes the planner fetch them all by id first. Without `p_limit`, what follows is for counting
-- only, where the order does not matter.
create or replace function public.outlast_tasks_from(p_filter jsonb, p_before jsonb, p_limit int) returns text
language plpgsql stable security definer set search_path = '' as $$
declare
  v_where text := case when p_before is null then 'true' else format(
    '(created_at, task_id) < (%L::timestamptz, %L::uuid)', p_before ->> 0, p_before ->> 1) end;
  v_statuses text[] := string_to_array(p_filter ->> 'status', ',');
  v_column record;
begin
  for v_column in
    select * from (values ('queue', 'queue = %L'), ('code', 'error_code = %L'), ('generation', 'generation_id = %L'),
      ('binding', 'binding = %L'), ('since', 'created_at >= %L::timestamptz'), ('until', 'created_at < %L::timestamptz'),
      ('ended', 'finished_at >= %L::timestamptz'), ('host', 'task_id = any (array(select task_id from'
        ' public.outlast_attempts where host = %L order by id desc limit 5000))')) c (name, condition)
    where p_filter ->> name is not null
  loop
    v_where := v_where || ' and ' || format(v_column.condition, p_filter ->> v_column.name);
  end loop;
  if cardinality(v_statuses) = 1 or (v_statuses is not null and (p_limit is null or p_filter ->> 'q' is not null)) then
    v_where := v_where || format(case cardinality(v_statuses) when 1 then ' and status = %L'
      else ' and status = any (string_to_array(%L, '',''))' end, p_filter ->> 'status');
  end if;
  if p_filter ->> 'q' is not null and p_limit is null then
    return format('public.outlast_tasks where (task_id = public.outlast_uuid(%1$L) or generation_id = %1$L'
      ' or request_id = %1$L or user_id = %1$L) and %2$s', p_filter ->> 'q', v_where);
  elsif p_filter ->> 'q' is not null then
    return (select format('(%s) t', string_agg(format('(select * from (select * from public.outlast_tasks where %s%s)'
        ' found where %s order by created_at desc, task_id desc limit %s)', s.condition, s.fence, v_where, p_limit),
        ' union ')) from (values
      (format('task_id = public.outlast_uuid(%L)', p_filter ->> 'q'), ' offset 0'),
      (format('generation_id = %L', p_filter ->> 'q'), ' offset 0'),
      (format('request_id = %L', p_filter ->> 'q'), ' offset 0'),
      (format('user_id = %L', p_filter ->> 'q'), '')) s (condition, fence));
  elsif cardinality(v_statuses) > 1 and p_limit is not null then
    return (select format('(%s) t', string_agg(format('(select * from public.outlast_tasks where status = %L and %s'
      ' order by created_at desc, task_id desc limit %s)', s, v_where, p_limit), ' union all '))
      from unnest(v_statuses[1:7]) s);
  end if;
  return 'public.outlast_tasks where ' || v_where;
end $$;

-- A page of tasks, newest first.
create or replace function public.outlast_console_tasks(
  p_filter jsonb, p_before jsonb default null, p_limit int default 50
) returns jsonb language plpgsql stable security definer set search_path = '' set jit = off as $$
declare
  v_rows jsonb;
begin
  execute format($sql$
    select coalesce(jsonb_agg(to_jsonb(r)), '[]') from (
      select task_id, binding, generation_id, user_id, status, queue, attempt, left(error, 300) as error, error_code,
        total_files, created_at, started_at, finished_at
      from %s order by created_at desc, task_id desc limit %s) r
  $sql$, public.outlast_tasks_from(p_filter, p_before, least(p_limit, 500)), least(p_limit, 500)) into v_rows;
  return v_rows;
end $$;

-- The number of tasks of a filter. A number above `p_most` is given as `p_most` + 1.
create or replace function public.outlast_console_count(p_filter jsonb, p_most int default 10000) returns jsonb
language plpgsql stable security definer set search_path = '' set statement_timeout = '3s' set jit = off as $$
declare
  v_number int;
begin
  execute format('select count(*) from (select from %s limit %s) n',
    public.outlast_tasks_from(p_filter, null, null), p_most + 1) into v_number;
  return to_jsonb(least(v_number, p_most + 1));
end $$;

-- The error codes of tasks and the hosts of failed attempts, at most 100 of each, in order. Each value takes one probe
-- of the index, however many rows have it.
create or replace function public.outlast_console_choices() returns jsonb
language sql stable security definer set search_path = '' as $$
  with recursive codes (value) as (
    (select error_code from public.outlast_tasks where error_code is not null order by error_code limit 1)
    union all
    select (select error_code from public.outlast_tasks where error_code > c.value order by error_code limit 1)
    from codes c where c.value is not null
  ), hosts (value) as (
    (select host from public.outlast_attempts where host is not null order by host limit 1)
    union all
    select (select host from public.outlast_attempts where host > h.value order by host limit 1)
    from hosts h where h.value is not null
  )
  select jsonb_build_object(
    'codes', (select coalesce(jsonb_agg(value), '[]') from (
      select value from codes where value is not null limit 100) c),
    'hosts', (select coalesce(jsonb_agg(value), '[]') from (
      select value from hosts where value is not null limit 100) h))
$$;

-- How many tasks were completed, and failed or partial, in each of `p_bins` equal parts of the last `p_hours`: [{"ago":
-- 0 for the newest part, "stored", "failed"}]. Parts without tasks are left out.
create or replace function public.outlast_console_trend(p_hours int, p_bins int) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '3s' set jit = off as $$
  select coalesce(jsonb_agg(jsonb_build_object('ago', p.ago, 'stored', c.stored, 'failed', c.failed)), '[]') from (
    select n as ago, now() - make_interval(secs => (n + 1) * p_hours * 3600.0 / p_bins) as since,
      now() - make_interval(secs => n * p_hours * 3600.0 / p_bins) as until from generate_series(0, p_bins - 1) n) p,
    lateral (select count(*) filter (where status = 'completed') as stored,
        count(*) filter (where status in ('failed', 'partial')) as failed
      from public.outlast_tasks where finished_at > p.since and finished_at <= p.until) c
  where c.stored + c.failed > 0
$$;

-- Pauses a queue, or resumes it. Workers are told by the answer to their next heartbeat.
create or replace function public.outlast_pause(p_queue text, p_by text, p_paused boolean) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  if p_paused then
    insert into public.outlast_paused (queue, by) values (p_queue, p_by) on conflict (queue) do nothing;
  else
    delete from public.outlast_paused where queue = p_queue;
  end if;
  return to_jsonb(found);
end $$;

revoke all on function public.outlast_tasks_from(jsonb, jsonb, int)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_console_tasks(jsonb, jsonb, int), public.outlast_console_count(jsonb, int),
  public.outlast_console_choices(), public.outlast_console_trend(int, int), public.outlast_pause(text, text, boolean)
  from public, anon, authenticated;
grant execute on function public.outlast_console_tasks(jsonb, jsonb, int), public.outlast_console_count(jsonb, int),
  public.outlast_console_choices(), public.outlast_console_trend(int, int), public.outlast_pause(text, text, boolean)
  to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261116000002')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
