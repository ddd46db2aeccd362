-- Outlast: what NOTIFY_URLS are told, and the sources of files.
--
-- A worker asks what has ended, publishes it, and then notes it here. A crash in between repeats notices with the same
-- ids, and loses none.

select public.outlast_start_change();

-- Ended tasks that were told lately. A task that ends again has another `finished_at`.
create table if not exists public.outlast_noticed (
  task_id uuid not null,
  finished_at timestamptz not null,
  primary key (task_id, finished_at)
);
select public.outlast_protect_table('public.outlast_noticed');

-- How many messages could not be decoded, by the second and their error code. They belong to no task.
create table if not exists public.outlast_undecodable (
  second timestamptz not null,
  code text not null,
  messages int not null default 1,
  primary key (second, code)
);
select public.outlast_protect_table('public.outlast_undecodable');

-- The time in a setting. If it has none, nothing older than now is told: it is set.
create or replace function public.outlast_notice_time(p_key text) returns timestamptz
language plpgsql security definer set search_path = '' as $$
begin
  insert into public.outlast_settings (key, value) values (p_key, clock_timestamp()::text) on conflict (key) do nothing;
  return (select value::timestamptz from public.outlast_settings where key = p_key);
end $$;

create or replace function public.outlast_host(p_url text) returns text
language sql immutable security definer set search_path = '' as $$
  select substring(p_url from '^[a-z]+://([^/?#]+)')
$$;

-- Tasks that ended and were not told, oldest first, at most an hour old: [{"task_id", "finished_at", "binding",
-- "generation_id", "user_id", "request_id", "status", "ended_at", "output", "total", "stored", "failed": [{"code",
-- "stage", "host"}]}]. All but the first two describe the generation: `status` is that of all tasks of the same output,
-- null while one of them has not ended. Transactions commit in another order than they begin, so a minute before the
-- newest task that was told is looked at again.
create or replace function public.outlast_notices(p_limit int default 200) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_after timestamptz := greatest(public.outlast_notice_time('notices_after') - interval '1 minute',
                                  now() - interval '1 hour');
  v_notices jsonb;
begin
  with ended as (
    select * from public.outlast_tasks t
    where t.status in ('completed', 'partial', 'failed') and t.updated_at > v_after and t.finished_at > v_after
      and t.generation_id is not null and not exists (
        select from public.outlast_noticed n where n.task_id = t.task_id and n.finished_at = t.finished_at)
    order by t.finished_at, t.task_id limit p_limit
  )
  select jsonb_agg(jsonb_build_object('task_id', e.task_id, 'finished_at', e.finished_at, 'binding', e.binding,
      'generation_id', e.generation_id, 'user_id', e.user_id, 'request_id', e.request_id, 'output', e.output_key,
      'status', g.status, 'ended_at', g.ended_at, 'total', g.total, 'stored', g.stored, 'failed', g.failed)
      order by e.finished_at, e.task_id) into v_notices
  from ended e cross join lateral (
    select case when bool_or(o.status in ('queued', 'running', 'retrying')) then null
             when bool_and(o.status = 'completed') then 'completed'
             when bool_and(o.status = 'failed') then 'failed' else 'partial' end as status,
      max(o.finished_at) as ended_at, sum((o.result ->> 'total_files')::int) as total,
      sum((o.result ->> 'successful_files')::int) as stored,
      (select coalesce(jsonb_agg(f.file), '[]') from (
         select jsonb_build_object('code', f ->> 'code', 'stage', f ->> 'stage',
           'host', public.outlast_host(f ->> 'url')) as file
         from public.outlast_tasks p, jsonb_array_elements(p.failed) f
         where p.binding = e.binding and p.generation_id = e.generation_id
           and p.output_key is not distinct from e.output_key and p.status <> 'cancelled' limit 20) f) as failed
    from public.outlast_tasks o
    where o.binding = e.binding and o.generation_id = e.generation_id and o.status <> 'cancelled'
      and o.output_key is not distinct from e.output_key
  ) g;
  return coalesce(v_notices, '[]');
end $$;

-- Notes that these tasks were told: [{"task_id", "finished_at"}].
create or replace function public.outlast_note_notices(p_items jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  insert into public.outlast_noticed (task_id, finished_at)
    select i.task_id, i.finished_at from jsonb_to_recordset(p_items) as i (task_id uuid, finished_at timestamptz)
    order by 1, 2 on conflict do nothing;
  update public.outlast_settings s set value = greatest(s.value::timestamptz, i.newest)::text
    from (select max(finished_at) as newest
          from jsonb_to_recordset(p_items) as i (finished_at timestamptz)) i
    where s.key = 'notices_after' and i.newest is not null;
  delete from public.outlast_noticed where finished_at < now() - interval '2 hours';
  return '{}';
end $$;

-- Counts a message that became a dead letter because it could not be decoded. Counts are kept for two days.
create or replace function public.outlast_note_undecodable(p_code text) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  delete from public.outlast_undecodable where second < now() - interval '2 days';
  insert into public.outlast_undecodable as u (second, code)
    values (date_trunc('second', clock_timestamp()), left(p_code, 100))
    on conflict (second, code) do update set messages = u.messages + 1;
  return '{}';
end $$;

-- The files that failed for good since the last digest, by code and host, most first: {"until", "total", "groups":
-- [{"code", "host", "files", "generation_id"}]}. A message that could not be decoded counts as a file without host and
-- generation. Dead links of `outlast adopt` are no dead letters.
create or replace function public.outlast_digest() returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_after timestamptz := greatest(public.outlast_notice_time('digest_after'), now() - interval '1 day');
  v_until timestamptz := now() - interval '2 seconds';
begin
  return (
    with groups as (
      select f ->> 'code' as code, public.outlast_host(f ->> 'url') as host, count(*) as files,
        min(t.generation_id) as generation_id
      from public.outlast_tasks t, jsonb_array_elements(t.failed) f
      where t.status in ('partial', 'failed') and t.updated_at > v_after
        and t.finished_at > v_after and t.finished_at <= v_until and f ->> 'code' <> 'type_skipped'
        and not (t.source is not distinct from 'adopt'
                 and f ->> 'code' in ('source_gone', 'source_forbidden', 'source_unavailable'))
      group by 1, 2
      union all
      select code, null, sum(messages), null from public.outlast_undecodable
      where second >= date_trunc('second', v_after) and second < date_trunc('second', v_until) group by 1
    )
    select jsonb_build_object('until', v_until, 'total', coalesce(sum(files), 0), 'groups', coalesce((
      select jsonb_agg(g) from (select * from groups order by files desc, code, host limit 10) g), '[]'))
    from groups);
end $$;

create or replace function public.outlast_note_digest(p_until timestamptz) returns jsonb
language sql security definer set search_path = '' as $$
  update public.outlast_settings set value = p_until::text where key = 'digest_after' returning '{}'::jsonb
$$;

-- The ten hosts with the most files in the tasks that ended since then, at most 50,000 tasks, newest first: [{"host",
-- "files", "failed", "codes": {code: files}}].
create or replace function public.outlast_source_hosts(p_since timestamptz) returns jsonb
language sql stable security definer set search_path = '' as $$
  with ended as (
    select * from public.outlast_tasks
    where status in ('completed', 'partial', 'failed') and updated_at >= p_since
    order by updated_at desc limit 50000
  ), files as (
    select f ->> 'source_url' as url, null as code, 1 as file
    from ended, jsonb_array_elements(case when jsonb_typeof(files) = 'array' then files else '[]' end) f
    union all
    select f ->> 'url', f ->> 'code', 0 from ended, jsonb_array_elements(failed) f
  ), codes as (  -- a function for each row would take a second
    select split_part(split_part(url, '/', 3), '?', 1) as host, code, sum(file) as files, count(code) as failed
    from files where url like 'http%' group by 1, 2
  )
  select coalesce(jsonb_agg(h), '[]') from (
    select host, sum(files) as files, sum(failed) as failed,
      coalesce(jsonb_object_agg(code, failed) filter (where code is not null), '{}') as codes
    from codes group by host order by sum(files) desc, host limit 10) h
$$;

revoke all on function public.outlast_notice_time(text), public.outlast_host(text)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_notices(int), public.outlast_note_notices(jsonb), public.outlast_digest(),
  public.outlast_note_digest(timestamptz), public.outlast_note_undecodable(text),
  public.outlast_source_hosts(timestamptz) from public, anon, authenticated;
grant execute on function public.outlast_notices(int), public.outlast_note_notices(jsonb), public.outlast_digest(),
  public.outlast_note_digest(timestamptz), public.outlast_note_undecodable(text),
  public.outlast_source_hosts(timestamptz) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261115000002')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
