-- Outlast 16: queries of the console, and the operations and notes that it records.
select public.outlast_start_change();
-- Tasks, newest first. `p_filter` can have status, queue, code, generation, since, until (exclusive) and q, which is
-- the id of a task, generation, request or user. `p_before` is the last row of the previous page: [created_at,
-- task_id]. The statement contains only the given filters, so that the planner finds an index for each combination. `q`
-- becomes a union of four index scans. Few tasks have the same task, generation or request id, so `offset 0` makes the
-- planner fetch them all by id first. A user can have many tasks, so those are read in order from the index.
create or replace function public.outlast_console_tasks(
  p_filter jsonb, p_before jsonb default null, p_limit int default 50
) returns jsonb language plpgsql stable security definer set search_path = '' as $$
declare
  v_from text := 'public.outlast_tasks';
  v_where text := case when p_before is null then 'true' else format(
    '(created_at, task_id) < (%L::timestamptz, %L::uuid)', p_before ->> 0, p_before ->> 1) end;
  v_limit int := least(p_limit, 500);
  v_column record;
  v_rows jsonb;
begin
  for v_column in
    select * from (values ('status', 'status = %L'), ('queue', 'queue = %L'), ('code', 'error_code = %L'),
      ('generation', 'generation_id = %L'),
      ('since', 'created_at >= %L::timestamptz'), ('until', 'created_at < %L::timestamptz')) c (name, condition)
    where p_filter ->> name is not null
  loop
    v_where := v_where || ' and ' || format(v_column.condition, p_filter ->> v_column.name);
  end loop;
  if p_filter ->> 'q' is not null then
    select format('(%s) t', string_agg(format(
        '(select * from (select * from public.outlast_tasks where %s%s) found where %s'
        ' order by created_at desc, task_id desc limit %s)',
        s.condition, s.fence, v_where, v_limit), ' union ')) into v_from
      from (values
        (format('task_id = public.outlast_uuid(%L)', p_filter ->> 'q'), ' offset 0'),
        (format('generation_id = %L', p_filter ->> 'q'), ' offset 0'),
        (format('request_id = %L', p_filter ->> 'q'), ' offset 0'),
        (format('user_id = %L', p_filter ->> 'q'), '')) s (condition, fence);
  end if;
  execute format($sql$
    select coalesce(jsonb_agg(to_jsonb(r)), '[]') from (
      select task_id, generation_id, user_id, status, queue, attempt, left(error, 300) as error, error_code,
        total_files, created_at, started_at, finished_at
      from %s where %s order by created_at desc, task_id desc limit %s) r
  $sql$, v_from, v_where, v_limit) into v_rows;
  return v_rows;
end $$;

-- All data about a task: its row, its attempts and its files; null when the task is unknown.
create or replace function public.outlast_console_task(p_task_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object('task', to_jsonb(t),
    'attempts', (select coalesce(jsonb_agg(to_jsonb(a) order by a.id), '[]')
                 from public.outlast_attempts a where a.task_id = t.task_id),
    'files', (select coalesce(jsonb_agg(to_jsonb(f) order by f.position, f.source_key), '[]') from (
      select * from public.outlast_files f where f.generation_id = t.generation_id
        and (f.source_key = any (t.source_keys) or f.task_id = t.task_id) limit 200) f))
  from public.outlast_tasks t where t.task_id = p_task_id
$$;

-- A generation: its table, its newest tasks, and only those columns of its row that outlast_settings names or that
-- Outlast writes. Other columns may be private. Null when neither a row nor a task has this id.
create or replace function public.outlast_console_generation(p_id text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
  v_row jsonb;
  v_tasks jsonb := public.outlast_console_tasks(jsonb_build_object('generation', p_id), null, 20);
begin
  select * into g from public.outlast_generations();
  if g.id_name is not null then
    begin
      execute format('select to_jsonb(g) from %s g where g.%I = $1::%s', g.rel, g.id_name, g.id_type)
        into v_row using p_id;
    exception when data_exception then
      v_row := null;
    end;
  end if;
  if v_row is null and v_tasks = '[]' then
    return null;
  end if;
  return jsonb_build_object('id', p_id, 'table', g.rel::text, 'oid', g.rel::oid::text, 'id_column', g.id_name,
    'tasks', v_tasks, 'row', case when v_row is not null then jsonb_build_object(
      'user_id', v_row ->> g.user_name, 'request_id', v_row ->> g.request_name, 'status', v_row ->> g.status_name,
      'created_at', v_row ->> g.created_name, 'media_status', v_row ->> 'media_status', 'media', v_row -> 'media') end);
end $$;

-- How many whole minutes ago a one-minute bin ended.
create or replace function public.outlast_minutes(p_bin timestamptz) returns int
language sql stable security definer set search_path = '' as $$
  select greatest(0, round(extract(epoch from now() - p_bin) / 60)::int - 1)
$$;

-- Current state: the numbers of waiting and running tasks; per minute of the last hour, how many tasks arrived and
-- ended and their mean `age` from event to end in seconds; the files stored in the last hour; and the workers.
create or replace function public.outlast_console_now() returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'now', clock_timestamp(),
    'active', (select coalesce(jsonb_object_agg(s.status, s.n), '{}') from (
      select status, count(*) as n from public.outlast_tasks
      where status in ('queued', 'running', 'retrying') group by status) s),
    'oldest', (select min(o.at) from (values ('queued'), ('retrying')) w (status), lateral (
      select created_at as at from public.outlast_tasks where status = w.status order by created_at limit 1) o),
    'arrived', (select coalesce(jsonb_agg(jsonb_build_object('ago', public.outlast_minutes(a.minute), 'n', a.n)), '[]')
      from (select date_bin('1 min', created_at, now()) as minute, count(*) as n
        from public.outlast_tasks where created_at > now() - interval '1 hour' group by 1) a),
    'ended', (select coalesce(jsonb_agg(jsonb_build_object('ago', public.outlast_minutes(e.minute), 'status', e.status,
        'n', e.n, 'age', extract(epoch from e.age))), '[]')
      from (select date_bin('1 min', finished_at, now()) as minute, status, count(*) as n,
          avg(finished_at - event_at) as age
        from public.outlast_tasks where finished_at > now() - interval '1 hour' group by 1, 2) e),
    'files', (select jsonb_build_object('stored', count(*), 'original', coalesce(sum(original_size), 0),
        'bytes', coalesce(sum(file_size), 0), 'deduplicated', count(*) filter (where deduplicated))
      from public.outlast_files where updated_at > now() - interval '1 hour'),
    'workers', public.outlast_worker_stats())
$$;

-- Records an operator's operation and its progress. Returns who asked to abort it. Rows are kept for a year.
create or replace function public.outlast_operation(p_operation jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  o public.outlast_operations := jsonb_populate_record(null::public.outlast_operations, p_operation);
begin
  insert into public.outlast_operations as old (id, verb, by, target, state, matched, done, kept, detail, ended_at)
    values (o.id, o.verb, o."by", coalesce(o.target, '{}'), o.state, coalesce(o.matched, 0), coalesce(o.done, 0),
            coalesce(o.kept, '[]'), o.detail, case when o.state <> 'running' then clock_timestamp() end)
    on conflict (id) do update set state = excluded.state, matched = excluded.matched, done = excluded.done,
      kept = excluded.kept, detail = excluded.detail, updated_at = clock_timestamp(), ended_at = excluded.ended_at
    returning * into o;
  delete from public.outlast_operations where started_at < now() - interval '1 year';
  return jsonb_build_object('abort', o.abort_asked_by);
end $$;

-- Operations, newest first. `p_choice` can have id, running (true), or before: [started_at, id].
create or replace function public.outlast_operations(p_choice jsonb default '{}', p_limit int default 50) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(o)), '[]') from (
    select * from public.outlast_operations
    where (p_choice ->> 'id' is null or id = (p_choice ->> 'id')::uuid)
      and (p_choice ->> 'running' is null or (state = 'running' and updated_at > clock_timestamp() - interval '30 s'))
      and (p_choice -> 'before' is null
           or (started_at, id) < ((p_choice #>> '{before,0}')::timestamptz, (p_choice #>> '{before,1}')::uuid))
    order by started_at desc, id desc limit least(p_limit, 500)) o
$$;

-- Asks to abort a running operation. Returns false when the operation has ended.
create or replace function public.outlast_abort(p_id uuid, p_by text) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  update public.outlast_operations set abort_asked_by = coalesce(abort_asked_by, p_by)
    where id = p_id and state = 'running';
  return to_jsonb(found);
end $$;

-- Writes a note, or deletes it when `p_note` is empty. Returns all notes as an object with `about` as the key.
create or replace function public.outlast_note(
  p_about text default null, p_note text default null, p_by text default null
) returns jsonb language plpgsql security definer set search_path = '' as $$
begin
  if p_note = '' then
    delete from public.outlast_notes where about = p_about;
  elsif p_note is not null then
    insert into public.outlast_notes (about, note, by) values (p_about, p_note, p_by)
      on conflict (about) do update set note = excluded.note, by = excluded.by, updated_at = now();
  end if;
  return (select coalesce(jsonb_object_agg(n.about, to_jsonb(n)), '{}') from public.outlast_notes n);
end $$;

-- Discarded dead letters: without `p_ids`, newest first and without bodies; with `p_ids`, oldest first and with bodies.
create or replace function public.outlast_archived(
  p_ids uuid[] default null, p_before jsonb default null, p_limit int default 50
) returns jsonb language sql stable security definer set search_path = '' as $$
  select coalesce(case when p_ids is null then jsonb_agg(to_jsonb(a) - 'body' order by a.discarded_at desc, a.id desc)
    else jsonb_agg(to_jsonb(a) order by a.item ->> 'failed_at', a.id) end, '[]') from (
    select * from public.outlast_dead_archive
    where gone_after > now() and (p_ids is null or id = any (p_ids)) and (p_before is null
      or (discarded_at, id) < ((p_before ->> 0)::timestamptz, (p_before ->> 1)::uuid))
    order by discarded_at desc, id desc limit least(p_limit, 500)) a
$$;

-- Deletes these letters from the archive, after they have been published to the dead letters again. Returns the count.
create or replace function public.outlast_unarchive(p_ids uuid[]) returns jsonb
language sql security definer set search_path = '' as $$
  with deleted as (delete from public.outlast_dead_archive where id = any (p_ids) returning 1)
  select to_jsonb(count(*)) from deleted
$$;

revoke all on function public.outlast_console_tasks(jsonb, jsonb, int), public.outlast_console_task(uuid),
  public.outlast_console_generation(text), public.outlast_console_now(), public.outlast_operation(jsonb),
  public.outlast_operations(jsonb, int), public.outlast_abort(uuid, text), public.outlast_note(text, text, text),
  public.outlast_archived(uuid[], jsonb, int), public.outlast_unarchive(uuid[]) from public, anon, authenticated;
revoke all on function public.outlast_minutes(timestamptz) from public, anon, authenticated, service_role;
grant execute on function public.outlast_console_tasks(jsonb, jsonb, int), public.outlast_console_task(uuid),
  public.outlast_console_generation(text), public.outlast_console_now(), public.outlast_operation(jsonb),
  public.outlast_operations(jsonb, int), public.outlast_abort(uuid, text), public.outlast_note(text, text, text),
  public.outlast_archived(uuid[], jsonb, int), public.outlast_unarchive(uuid[]) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261101000016')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
