-- Outlast 16: queries of the console, and the operations and notes that it records.
select public.outlast_start_change();
-- All data about a task: its row, its attempts and its files; null when the task is unknown.
create or replace function public.outlast_console_task(p_task_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object('task', to_jsonb(t),
    'attempts', (select coalesce(jsonb_agg(to_jsonb(a) order by a.id), '[]')
                 from public.outlast_attempts a where a.task_id = t.task_id),
    'files', (select coalesce(jsonb_agg(to_jsonb(f) order by f.position, f.source_key), '[]') from (
      select * from public.outlast_files f where f.binding = t.binding and f.generation_id = t.generation_id
        and (f.source_key = any (t.source_keys) or f.task_id = t.task_id) limit 200) f))
  from public.outlast_tasks t where t.task_id = p_task_id
$$;

drop function if exists public.outlast_minutes(timestamptz);  -- of a pre-release version

-- Current state: the numbers of waiting and running tasks; per minute of the last hour, how many tasks arrived, and how
-- many ended as completed, failed (or partial) or cancelled; the mean `age` from event to end in seconds, of the last
-- 200 completed tasks of a minute; the files stored in the last hour; paused queues; workers. Each minute is a range of
-- an index, which costs a third of grouping all tasks of the hour by their minute.
create or replace function public.outlast_console_now() returns jsonb
language plpgsql stable security definer set search_path = '' set jit = off as $$
begin
  return (
    with minutes as materialized (
      select m as ago, now() - make_interval(mins => m + 1) as since,
        case m when 0 then 'infinity' else now() - make_interval(mins => m) end as until
      from generate_series(0, 59) m)
    select jsonb_build_object(
      'now', clock_timestamp(),
      'active', (select coalesce(jsonb_object_agg(s.status, s.n), '{}') from (
        select status, count(*) as n from public.outlast_tasks
        where status in ('queued', 'running', 'retrying') group by status) s),
      'oldest', (select min(o.at) from (values ('queued'), ('retrying')) w (status), lateral (
        select created_at as at from public.outlast_tasks where status = w.status order by created_at limit 1) o),
      'arrived', (select coalesce(jsonb_agg(jsonb_build_object('ago', m.ago, 'n', c.n)), '[]')
        from minutes m, lateral (select count(*) as n from public.outlast_tasks
          where created_at > m.since and created_at <= m.until) c where c.n > 0),
      'ended', (select coalesce(jsonb_agg(jsonb_build_object('ago', m.ago) || to_jsonb(s)), '[]')
        from minutes m, lateral (
          select count(*) as n, count(*) filter (where status = 'completed') as completed,
            count(*) filter (where status = 'cancelled') as cancelled
          from public.outlast_tasks where finished_at > m.since and finished_at <= m.until) c, lateral (
          select extract(epoch from avg(l.finished_at - l.event_at)) as age from (
            select finished_at, event_at from public.outlast_tasks
            where finished_at > m.since and finished_at <= m.until and status = 'completed'
            order by finished_at desc limit 200) l) a, lateral (
          values ('completed', c.completed, a.age), ('failed', c.n - c.completed - c.cancelled, null),
            ('cancelled', c.cancelled, null)) s (status, n, age)
        where s.n > 0),
      'files', (select jsonb_build_object('stored', sum(f.n), 'original', coalesce(sum(f.original), 0),
          'bytes', coalesce(sum(f.bytes), 0), 'deduplicated', sum(f.deduplicated))
        from minutes m, lateral (
          select count(*) as n, sum(original_size) as original, sum(file_size) as bytes,
            count(*) filter (where deduplicated) as deduplicated
          from public.outlast_files where updated_at > m.since and updated_at <= m.until) f),
      'paused', public.outlast_paused_queues(),
      'workers', public.outlast_worker_stats()));
end $$;

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
  with gone as (delete from public.outlast_operations where started_at < now() - interval '1 year' returning id)
    delete from public.outlast_replayed r using gone where r.operation_id = gone.id;
  return jsonb_build_object('abort', o.abort_asked_by);
end $$;

-- Operations, newest first, replays with their `results`. `p_choice` can have id, running (true), or before:
-- [started_at, id].
create or replace function public.outlast_operations(p_choice jsonb default '{}', p_limit int default 50) returns jsonb
language plpgsql stable security definer set search_path = '' set jit = off as $$
declare
  v_rows jsonb;
  v_results jsonb;
begin
  select coalesce(jsonb_agg(to_jsonb(o)), '[]') into v_rows from (
    select * from public.outlast_operations
    where (p_choice ->> 'id' is null or id = (p_choice ->> 'id')::uuid)
      and (p_choice ->> 'running' is null or (state = 'running' and updated_at > clock_timestamp() - interval '30 s'))
      and (p_choice -> 'before' is null
           or (started_at, id) < ((p_choice #>> '{before,0}')::timestamptz, (p_choice #>> '{before,1}')::uuid))
    order by started_at desc, id desc limit least(p_limit, 500)) o;
  v_results := public.outlast_replay_results(array(
    select (o ->> 'id')::uuid from jsonb_array_elements(v_rows) o
    where o ->> 'verb' = 'replay' and o ->> 'results' is null));
  return (select coalesce(jsonb_agg(
      o || jsonb_build_object('results', coalesce(nullif(o -> 'results', 'null'), v_results -> (o ->> 'id')))
      order by n), '[]')
    from jsonb_array_elements(v_rows) with ordinality l (o, n));
end $$;

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

revoke all on function public.outlast_console_task(uuid),
  public.outlast_console_now(), public.outlast_operation(jsonb),
  public.outlast_operations(jsonb, int), public.outlast_abort(uuid, text), public.outlast_note(text, text, text),
  public.outlast_archived(uuid[], jsonb, int), public.outlast_unarchive(uuid[]) from public, anon, authenticated;
grant execute on function public.outlast_console_task(uuid),
  public.outlast_console_now(), public.outlast_operation(jsonb),
  public.outlast_operations(jsonb, int), public.outlast_abort(uuid, text), public.outlast_note(text, text, text),
  public.outlast_archived(uuid[], jsonb, int), public.outlast_unarchive(uuid[]) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261101000016')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
