-- Outlast 8: dead letters: ending their tasks, archiving discarded letters, and choosing the worker that sweeps.
--
-- Lock order in all functions: task, generation, objects by (bucket, path), the generation's row.

select public.outlast_start_change();

-- Periodic jobs: when each is due next, and which worker ran it last.
create table if not exists public.outlast_turns (
  name text primary key,
  next_at timestamptz not null,
  worker text,
  ran_at timestamptz not null
);

create table if not exists public.outlast_dead_archive (
  id uuid primary key,
  letter_id text,
  task_id uuid,
  binding text,
  generation_id text,
  user_id text,
  code text,
  item jsonb not null,  -- the dead letter in the form of GET /dead-letters
  message_type text,
  body text not null,  -- the body of the message in base64
  discarded_by text,
  discarded_at timestamptz not null default now(),
  gone_after timestamptz not null  -- when the row may be deleted
);

select public.outlast_add_column('public.outlast_dead_archive', 'binding', 'text');
select public.outlast_add_index(name, on_columns) from (values
  ('outlast_dead_archive_gone', 'outlast_dead_archive (gone_after)')
) as i (name, on_columns);

select public.outlast_protect_table('public.outlast_turns');
select public.outlast_protect_table('public.outlast_dead_archive');

-- The text as a uuid, or null when it is not one: an undecodable message can contain anything.
create or replace function public.outlast_uuid(p_text text) returns uuid
language sql immutable security definer set search_path = '' as $$
  select case when p_text ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then p_text::uuid end
$$;

-- A failure entry for every file of the task that is neither stored nor recorded as failed.
create or replace function public.outlast_unaccounted(t public.outlast_tasks, p_error text, p_code text) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('url', '', 'error', p_error, 'code', p_code, 'retryable', false,
      'position', coalesce(k.position, 0), 'source_key', k.source_key) order by k.position, k.source_key), '[]')
  from unnest(t.source_keys, t.positions) as k (source_key, position)
  where k.source_key is not null
    and not exists (select from public.outlast_files f
                    where f.binding = t.binding and f.generation_id = t.generation_id and f.source_key = k.source_key
                      and public.outlast_owns(t.user_id, f.user_id))
    and not exists (select from jsonb_array_elements(t.failed) old where old ->> 'source_key' = k.source_key)
$$;

-- Ends tasks whose message was dead-lettered by the broker, so that no worker recorded it: [{"task_id", "code",
-- "error"}]. A task becomes partial when one of its files is stored, otherwise failed. A task that has ended, that is
-- unknown, or whose lease is valid does not change.
create or replace function public.outlast_bury(p_letters jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  t public.outlast_tasks;
  v_letter record;
  v_generation record;
  v_open uuid[];
  v_ids uuid[];
begin
  -- Lock all tasks, then all generations, each in order, so that two calls cannot deadlock.
  select array_agg(o.task_id) into v_open from (
      select task_id from public.outlast_tasks
      where task_id in (select public.outlast_uuid(l ->> 'task_id') from jsonb_array_elements(p_letters) l)
        and status in ('queued', 'running', 'retrying') and (lease is null or lease_until <= clock_timestamp())
      order by task_id for update
    ) o;
  perform public.outlast_lock_generation(g.binding, g.generation_id) from (
    select distinct binding, generation_id from public.outlast_tasks
    where task_id = any (v_open) and generation_id is not null order by 1, 2) g;
  for v_letter in
    select distinct on (task_id) public.outlast_uuid(l.value ->> 'task_id') as task_id,
      coalesce(l.value ->> 'code', 'unknown') as code,
      coalesce(l.value ->> 'error', l.value ->> 'code', 'unknown') as error
    from jsonb_array_elements(p_letters) with ordinality l
    where public.outlast_uuid(l.value ->> 'task_id') = any (v_open) order by task_id, l.ordinality
  loop
    select * into t from public.outlast_tasks where task_id = v_letter.task_id;
    t.failed := public.outlast_merge_failed(t, public.outlast_unaccounted(t, v_letter.error, v_letter.code));
    v_ids := array(select f.id from public.outlast_files f
                   where f.binding = t.binding and f.generation_id = t.generation_id
                     and (f.source_key = any (t.source_keys) or f.task_id = t.task_id)
                     and public.outlast_owns(t.user_id, f.user_id)
                   order by f.position, f.source_key);
    update public.outlast_tasks set status = case when cardinality(v_ids) > 0 then 'partial' else 'failed' end,
        failed = t.failed, lease = null, lease_until = null, finished_at = now(), updated_at = now(),
        error = v_letter.error, error_code = v_letter.code, result = public.outlast_result(t, v_ids),
        progress = public.outlast_final_progress(t, v_ids)
      where task_id = t.task_id;
    perform public.outlast_note_replayed(t.binding, t.generation_id, t.task_id, '[]', v_letter.code);
  end loop;
  for v_generation in select distinct binding, generation_id from public.outlast_tasks
      where task_id = any (v_open) and generation_id is not null order by 1, 2 loop
    perform public.outlast_write_media(v_generation.binding, v_generation.generation_id, false);
  end loop;
  return jsonb_build_object('changed', to_jsonb(coalesce(v_open, '{}')));
end $$;

-- Whether the caller should run the periodic job `p_name` now. Of all workers that ask, one gets `mine: true` every
-- `p_every_seconds`; the very first call gets it at once. Periods in which no worker asked are not made up for.
create or replace function public.outlast_turn(p_name text, p_every_seconds int, p_worker text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_mine boolean;
begin
  if p_every_seconds is null or p_every_seconds < 1 then
    raise exception 'p_every_seconds must be 1 or more' using errcode = 'invalid_parameter_value';
  end if;
  -- A call that waits for the row lock of another call evaluates the condition again on the row which that call wrote.
  insert into public.outlast_turns as t (name, next_at, worker, ran_at)
    values (p_name, clock_timestamp() + make_interval(secs => p_every_seconds), p_worker, clock_timestamp())
    on conflict (name) do update set worker = excluded.worker, ran_at = clock_timestamp(),
      next_at = clock_timestamp() + make_interval(secs => p_every_seconds)
      where t.next_at <= clock_timestamp();
  v_mine := found;
  return jsonb_build_object('mine', v_mine);
end $$;

-- Archives discarded dead letters for `p_keep_seconds`: [{"id", "item", "message_type", "body"}], body in base64.
-- Expired ones are deleted. A repeated call inserts nothing, and returns the same count.
create or replace function public.outlast_archive(p_letters jsonb, p_keep_seconds bigint, p_by text default null)
returns jsonb language plpgsql security definer set search_path = '' as $$
begin
  delete from public.outlast_dead_archive where id in (
    select id from public.outlast_dead_archive where gone_after <= now() order by id for update skip locked);
  insert into public.outlast_dead_archive (id, letter_id, task_id, binding, generation_id, user_id, code, item,
                                           message_type, body, discarded_by, gone_after)
    select l.id, l.item ->> 'id', public.outlast_uuid(l.item ->> 'task_id'), l.item ->> 'binding',
      l.item ->> 'generation_id', l.item ->> 'user_id', l.item ->> 'code', l.item, l.message_type, l.body, p_by,
      now() + make_interval(secs => p_keep_seconds)
    from jsonb_to_recordset(p_letters) as l (id uuid, item jsonb, message_type text, body text) order by l.id
    on conflict (id) do nothing;
  return jsonb_build_object('archived', (
    select count(*) from public.outlast_dead_archive
    where id in (select l.id from jsonb_to_recordset(p_letters) as l (id uuid))));
end $$;

revoke all on function public.outlast_uuid(text), public.outlast_unaccounted(public.outlast_tasks, text, text)
  from public, anon, authenticated, service_role;
revoke all on function public.outlast_bury(jsonb), public.outlast_turn(text, int, text),
  public.outlast_archive(jsonb, bigint, text) from public, anon, authenticated;
grant execute on function public.outlast_bury(jsonb), public.outlast_turn(text, int, text),
  public.outlast_archive(jsonb, bigint, text) to service_role;

insert into public.outlast_settings (key, value) values ('version', '20261101000008')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';
